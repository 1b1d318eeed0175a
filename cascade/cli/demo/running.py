"""Run the three scenes, and print each as it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from tempfile import TemporaryDirectory

from cascade.claude import connect
from cascade.cli.demo import certified, guessed, refused
from cascade.cli.demo.stage import TICKETS, ask_all, demo_policy
from cascade.cli.emulate import synthetic_corpus
from cascade.cli.output import print_json, stderr
from cascade.core.errors import MissingExtra
from cascade.corpora import Corpus, read_corpus

__all__ = ["require", "run_demo", "without_mode_switch"]


def require(needs: Mapping[str, str]) -> None:
    """Raise MissingExtra for the first module that is not installed. `needs`: extras by module."""
    for module, extra in needs.items():
        if find_spec(module) is None:
            raise MissingExtra("the demo", extra)


def run_demo(*, as_json: bool) -> None:
    """Run the demo and print its report. Raises MissingExtra before the first request."""
    require({"h11": "emulator", "numpy": "numbers", "scipy": "numbers"})
    from cascade.emulator import Emulator  # noqa: PLC0415 - needs an extra

    def show(print_scene: Callable[[], None]) -> None:
        if not as_json:
            print_scene()

    started = time.monotonic()
    policy = demo_policy()
    whole = read_corpus(synthetic_corpus("support"))
    corpus = Corpus(whole.manifest, whole.items[:TICKETS], whole.source)
    with without_mode_switch(), Emulator(corpus) as emulator, connect(emulator.base_url, "demo") as client:
        guess = ask_all(policy, client, corpus, "at 0.80")
        outages = guessed.outages(policy, client, emulator, guess)
        show(lambda: guessed.print_scene(guess, outages))
        once = certified.calibrate_tickets(policy, samples=False)
        asked_once = ask_all(once.policy, client, corpus, "as certified")
        found = certified.calibrate_tickets(policy, samples=True)
        voted = ask_all(found.policy, client, corpus, "as certified, with samples")
        show(lambda: certified.print_scene(found, voted, asked_once, guess))
    refusals = refused.refusals()
    show(lambda: refused.print_scene(refusals))
    seconds = time.monotonic() - started
    if as_json:
        print_json({
            **guessed.fields_of(guess, outages),
            "certified": certified.fields_of(found, voted, once, asked_once),
            "refused": refused.fields_of(refusals),
            "seconds": round(seconds, 1),
        })  # fmt: skip
    else:
        stderr.print(f"{seconds:.0f} s, no key, no network beyond this machine", style="dim")


@contextmanager
def without_mode_switch() -> Generator[None]:
    """Ignore this machine's mode switch: the demo always uses the ladder."""
    before = {name: os.environ.get(name) for name in ("CASCADE_HOME", "CASCADE_MODE")}
    with TemporaryDirectory() as home:
        os.environ["CASCADE_HOME"] = home
        os.environ.pop("CASCADE_MODE", None)
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
