"""`cascade demo`: three scenes, each of them what the product's own functions say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cascade.cli.demo import TICKETS, demo_policy
from cascade.cli.demo.certified import TARGET, CertifiedPolicy, calibrate_tickets
from cascade.core.policy import Samples
from cascade.corpora import Item, RecordedReply, read_corpus, write_corpus
from cascade.corpora.splits import group_key
from cascade.policy.shipped import shipped
from cascade.replay.run import Replay, ReplayOptions, replay_corpus
from tests.cli.conftest import Ran, Run, Runner


@pytest.fixture(scope="module")
def shown(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `cascade demo --json` prints."""
    return runner(tmp_path_factory.mktemp("demo"))("demo", "--json").json


@pytest.fixture(scope="module")
def printed(printed_demo: subprocess.CompletedProcess[str]) -> Ran:
    """What `cascade demo` prints."""
    return Ran(printed_demo.returncode, printed_demo.stdout, printed_demo.stderr)


@pytest.fixture(scope="module")
def asked(support: Path) -> tuple[Item, ...]:
    """The tickets of the first two scenes."""
    return read_corpus(support).items[:TICKETS]


@pytest.fixture(scope="module")
def tickets(support: Path, asked: tuple[Item, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, as a corpus of their own."""
    path = tmp_path_factory.mktemp("tickets") / "tickets.jsonl"
    write_corpus(path, read_corpus(support).manifest, asked)
    return path


@pytest.fixture(scope="module")
def found() -> CertifiedPolicy:
    """What `calibrate --samples auto` makes of the policy and the history."""
    return calibrate_tickets(demo_policy(), samples=True)


@pytest.fixture(scope="module")
def once() -> CertifiedPolicy:
    """The same without samples."""
    return calibrate_tickets(demo_policy(), samples=False)


def holds(scene: dict[str, Any], replay: Replay) -> None:
    """A scene's figures are the replay's, to the last bit."""
    figures, interval = replay.figures, replay.intervals[""]
    assert interval is not None
    counted = ("items", "quality", "cost_usd", "shipped", "reached", "reasons", "false_confident", "wrong", "degraded")
    assert {key: scene[key] for key in counted} == {key: getattr(figures, key) for key in counted}
    assert scene["quality_ci95"] == list(interval)
    changes = [(change["item"], change["limit"], change["samples"]) for change in replay.storms["changes"]]
    assert [(f"s-{one['ticket'] - 1:04d}", one["limit"], one["samples"]) for one in scene["storms"]] == changes
    for rung, single in figures.singles.items():
        told = scene["baselines"][f"single:{rung}"]
        assert (told["quality"], told["cost_usd"], told["wrong"]) == (single.quality, single.cost / 1e9, single.wrong)


@pytest.mark.parametrize("exact", [True, False])
def test_the_guessed_scene_is_the_pure_rules(shown: dict[str, Any], tickets: Path, exact: bool) -> None:
    """What is printed of 0.80 equals the rule replayed on the same tickets, guard and all."""
    assert (shown["synthetic"], shown["items"], shown["certificate"]) == (True, TICKETS, "uncertified")
    holds(shown, replay_corpus(tickets, ReplayOptions(demo_policy(), reprice=True, exact=exact)))


@pytest.mark.parametrize("exact", [True, False])
def test_the_certified_scene_is_the_pure_rules(
    shown: dict[str, Any], tickets: Path, found: CertifiedPolicy, once: CertifiedPolicy, exact: bool
) -> None:
    """So does what is printed of the certified thresholds, asked with samples and once."""
    scene = shown["certified"]
    replay = replay_corpus(tickets, ReplayOptions(found.policy, reprice=True, exact=exact))
    holds(scene, replay)
    for rung, (interval, _) in replay.beside.items():
        assert interval is not None
        assert scene["baselines"][f"single:{rung}"]["quality_ci95"] == list(interval)
    without = replay_corpus(tickets, ReplayOptions(once.policy, reprice=True, exact=exact))
    holds({**scene["once"], "baselines": scene["baselines"]}, without)


def test_the_certified_answers_carry_what_was_proved(
    shown: dict[str, Any], found: CertifiedPolicy, once: CertifiedPolicy
) -> None:
    """Thresholds and certificate are `calibrate`'s; every one of the 600 answers names it."""
    hashes = {shown["policy_hash"]}
    for scene, proved in ((shown["certified"], found), (shown["certified"]["once"], once)):
        assert scene["thresholds"] == proved.result.thresholds
        assert scene["certificate"] == proved.certificate.model_dump(mode="json")
        assert scene["certificate"]["upper_bound"] <= TARGET.alpha
        assert scene["answers"] == {proved.certificate.summary: TICKETS}
        assert scene["policy_hash"] == proved.policy.hash
        hashes.add(scene["policy_hash"])
    assert len(hashes) == 3


def test_the_vote_wins_as_it_says(shown: dict[str, Any], printed: Ran) -> None:
    """It costs less than every single model that may meet the bound and than asking once; if it did not, it would say so."""
    scene = shown["certified"]
    rivals = [one for one in scene["baselines"].values() if one["meets"] is not False]
    assert len(rivals) == 2
    assert scene["advice"] == "cascade"
    assert all(scene["cost_usd"] < one["cost_usd"] for one in rivals)
    assert "less than every single model that is not shown to miss the bound" in printed.out
    assert "it does not win" not in printed.out
    assert scene["cost_usd"] < scene["once"]["cost_usd"]
    assert scene["quality"] > scene["once"]["quality"]


def test_the_mechanism_is_told_in_figures_of_the_trail(
    shown: dict[str, Any], found: CertifiedPolicy, asked: tuple[Item, ...], printed: Ran
) -> None:
    """Samples asked, votes that agree and how many of them are right, counted again from the corpus alone."""
    told, vote = shown["certified"]["votes"], found.result.samples["haiku"]
    ends = [curtailed(item.reply("haiku"), vote) for item in asked]
    agreed = [answer == item.expected for item, (_, answer) in zip(asked, ends, strict=True) if answer is not None]
    assert told["asked_per_ticket"] == sum(count for count, _ in ends) / TICKETS
    assert told["agreed"] == len(agreed) / TICKETS
    assert told["right_if_agreed"] == sum(agreed) / len(agreed)
    why, source = printed.out.split("\nWhy: ")[1].splitlines()[:2]
    assert why.startswith(f"haiku is asked {told['asked_per_ticket']:.1f} times a ticket")
    assert "simulated as measured on other data" in source


def curtailed(reply: RecordedReply, vote: Samples) -> tuple[int, str | None]:
    """How many samples are asked, and the answer that enough of them gave; None if they do not agree."""
    by_variant = {sample.variant: sample.answer for sample in reply.every}
    answers: list[str] = []
    for number in range(vote.max):
        if (answer := by_variant[vote.variant(number).label("")]) is not None:
            answers.append(answer)
        most = max(answers, key=answers.count, default="")
        if answers.count(most) == vote.agree:
            return number + 1, most
        if answers.count(most) + vote.max - number - 1 < vote.agree:
            break
    return number + 1, None


def test_nothing_that_is_asked_had_a_part_in_the_thresholds(found: CertifiedPolicy, asked: tuple[Item, ...]) -> None:
    """No ticket and no customer of the 600 is in the corpus that tunes and certifies."""
    path = shipped("corpora", "history")
    assert path is not None
    others = read_corpus(path).items
    assert len(others) == found.items
    assert {group_key(item) for item in others}.isdisjoint(map(group_key, asked))
    assert {str(item.input) for item in others}.isdisjoint(str(item.input) for item in asked)


def test_certified_thresholds_ship_fewer_confident_mistakes(shown: dict[str, Any], printed: Ran) -> None:
    """That is what they are for: fewer than the guess, and no more than was proved. What it costs is said, too."""
    scene = shown["certified"]
    assert scene["false_confident"] < shown["false_confident"]
    assert scene["false_confident_rate"] <= TARGET.alpha < shown["false_confident_rate"]
    assert scene["cost_usd"] > shown["cost_usd"]
    assert scene["once"]["false_confident"] < shown["false_confident"]
    assert f"{scene['cost_usd'] / shown['cost_usd'] - 1:.0%} dearer" in printed.out


def test_the_refused_scene_is_what_calibrate_says(shown: dict[str, Any], run: Run) -> None:
    """Both attempts equal the command's own JSON, its words and its exit code: a single model, then nothing certified."""
    advised, refused = shown["refused"]["attempts"]
    assert (advised["advice"], advised["feasible"], refused["feasible"]) == ("single:opus", True, False)
    assert refused["refusal"]["further_units_needed"] > 0
    for attempt, risk in ((advised, "0.1"), (refused, "0.05")):
        command = ("calibrate", "coding", "--policy", "coding", "--max-risk", risk)
        ran = run(*command, "--json")
        own = {key: value for key, value in attempt.items() if key not in ("told", "exit_code")}
        assert own.items() <= ran.json.items()
        assert attempt["exit_code"] == ran.code
        told = run(*command)
        assert attempt["told"] in told.out + told.err


def test_the_demo_shows_a_storm_and_an_outage(shown: dict[str, Any]) -> None:
    """One storm trips and releases; an outage climbs, then ships the best held, then says that nothing is left."""
    assert [storm["event"] for storm in shown["storms"]] == ["storm_tripped", "storm_released"]
    assert shown["reasons"]["storm"] > 0
    one, two, three = shown["outages"]
    assert one["answer"]["rung"] == "opus"
    assert [step["reason"] for step in one["steps"]] == ["low_confidence", "error", None]
    assert two["answer"]["rung"] == "haiku"
    assert two["answer"]["degraded"] == "error"
    assert three["answer"] is None
    assert {step["verdict"] for step in three["steps"]} == {"failed"}


def test_the_demo_says_synthetic_and_where_to_see_more(printed: Ran) -> None:
    """Every table says that it is synthetic, and each part names a command that exists."""
    assert printed.code == 0
    assert sum(line.startswith("synthetic ") for line in printed.out.splitlines()) == 3
    assert "uncertified" in printed.out
    for command in ("cascade demo --json", "cascade policy show support", "cascade ask --explain", "cascade emulate",
                    "cascade calibrate history --policy support --max-risk 0.1 --samples auto",
                    "cascade calibrate history --policy support --max-risk 0.1\n",
                    "cascade calibrate coding --policy coding --max-risk 0.1"):  # fmt: skip
        assert command in printed.out


@pytest.mark.parametrize("options", [(), ("--samples", "auto")], ids=["once", "samples"])
def test_the_demos_own_hints_find_the_same(run: Run, shown: dict[str, Any], options: tuple[str, ...]) -> None:
    """The commands it names make the same proofs from the shipped policy."""
    again = run("calibrate", "history", "--policy", "support", "--max-risk", "0.1", *options, "--json").json
    scene = shown["certified"] if options else shown["certified"]["once"]
    assert again["thresholds"] == scene["thresholds"]
    assert again["certificate"] == scene["certificate"]
    assert again.get("samples", {}) == (shown["certified"]["samples"] if options else {})


@pytest.mark.parametrize(("module", "extra"), [("numpy", "numbers"), ("scipy", "numbers"), ("h11", "emulator")])
def test_without_an_extra_the_demo_says_what_to_install(module: str, extra: str) -> None:
    """Before anything is asked, in one line."""
    code = f"import sys; sys.modules[{module!r}] = None; from cascade.cli import run_command; sys.exit(run_command(['demo']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"cascade: the demo needs an optional dependency (pip install 'cascade-ladder[{extra}]')\n"
