"""Sampled traffic to be audited: an emulator with a script, a policy, requests put through the real engine, and the audit's run."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anthropic

from cascade import Cascade
from cascade.audit.controls import first_controls, judge_id
from cascade.audit.worker import AuditRun, AuditSettings, AuditWorker
from cascade.core.control_items import FEWEST
from cascade.core.policy import Policy
from cascade.core.prompts.audit_judge import RUBRIC
from cascade.emulator import Emulator
from cascade.emulator.scripting import ScriptedReply
from cascade.ledger.audit import AuditTables, Control, Sample
from cascade.ledger.opening import open_ledger

HAIKU, SONNET, OPUS = "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"
YAML: dict[str, Any] = {
    "version": 1,
    "name": "shop",
    "ladder": [
        {"rung": "haiku", "model": HAIKU, "threshold": 0.8, "max_tokens": 64, "thinking": "disabled"},
        {"rung": "sonnet", "model": SONNET, "threshold": 0.8, "max_tokens": 64, "effort": "low"},
        {"rung": "opus", "model": OPUS, "max_tokens": 64, "effort": "low"},
    ],
    "ledger": {"content": True},
    "audit": {"sample": 1.0, "lowest_confidence": 0, "daily_usd": None},
    "retry": {"attempts": 1},
    "deadline_s": 60,
}

Judge = Callable[[Mapping[str, Any]], list[dict[str, Any]] | ScriptedReply]
"""What a judge replies to what it is shown (question, reference, answer)."""


def policy(**changed: Any) -> Policy:
    """The policy, with these keys changed; keys of `audit` are added to its own."""
    return Policy.model_validate({**YAML, **changed, "audit": {**YAML["audit"], **changed.get("audit", {})}})


def said(relation: str, reason: str = "so it is") -> list[dict[str, Any]]:
    """A judge's reply."""
    return [{"type": "text", "text": json.dumps({"reason": reason, "relation": relation})}]


_KNOWN = {(item.question, item.answer): item.is_right for item in first_controls()}


def fair(shown: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A judge that knows: of the built-in items what they are, of others whether the words are the same."""
    question = shown["question"]
    known = _KNOWN.get((question, shown["answer"])) if isinstance(question, str) else None
    same = shown["answer"].split() == shown["reference"].split()
    return said("agree" if (same if known is None else known) else "disagree")


class Scripted(Emulator):
    """Answers "right N" to "question N"; below the top rung "wrong N" where the question says wrong, and it declines "hard" ones.

    `judge`: what a judge replies. `shadow`: what the top rung replies to a question, if not the right answer. `sampled`: the answers
    below it, one after the other. `asked`: how often the shadow, the judge of a question and the control items were asked.
    """

    def __init__(
        self,
        judge: Judge = fair,
        shadow: Callable[[str], Any] | None = None,
        sampled: Callable[[], str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(script=self._reply, **options)
        self.asked: Counter[tuple[str, str]] = Counter()
        self._judge, self._shadow, self._sampled = judge, shadow, sampled

    def _reply(self, body: dict[str, Any], _: Mapping[str, str]) -> Any:
        content = body["messages"][-1]["content"]
        if body.get("system") == RUBRIC:
            shown = json.loads(content)
            question = shown["question"]
            if isinstance(question, str):
                self.asked["control", question] += 1
            else:
                self.asked["judge", question[-1]["content"]] += 1
            return self._judge(shown)
        question = content if isinstance(content, str) else content[0]["text"]
        number = question.split()[1]
        if body["model"] != OPUS:
            if "hard" in question:
                return ScriptedReply((), confidence=0.1)
            text = f"wrong {number}" if "wrong" in question else f"right {number}"
            text = '{"n": 1, "city": "Zürich"}' if "json" in question else text
            text = self._sampled() if self._sampled is not None else text
            return ScriptedReply([{"type": "text", "text": text}], confidence=0.9)
        self.asked["top", question] += 1
        if self._shadow is not None and (found := self._shadow(question)) is not None:
            return found
        return ScriptedReply([{"type": "text", "text": f"right {number}"}], usage={"output_tokens": 400})


@dataclass
class Scene:
    """A ledger with sampled traffic, and an emulator. `now`: Unix seconds, as the audit sees them."""

    path: Path
    emulator: Scripted
    policy: Policy = field(default_factory=policy)
    now: float = 0.0
    ids: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        self.tables = AuditTables(str(self.path))

    def ship(self, *questions: str, policy: Policy | None = None, **asked: Any) -> None:
        """Answer these by the engine."""
        with self.client() as client, Cascade(policy or self.policy, client=client, ledger=self.path) as driver:
            for question in questions:
                self.ids[driver.ask(question, **asked).request_id] = question
        assert open_ledger(self.path, (policy or self.policy).ledger).flush(60)
        self.now = max(one.at for one in self.tables.samples()) + 1

    def trust(self, judge: str) -> None:
        """Put control items on record that this judge got right: it is not tested again for now."""
        for item in first_controls()[:FEWEST]:
            control = Control(
                judge_id(self.policy, judge), item.is_right, "agree" if item.is_right else "disagree", time.time()
            )
            self.tables.add_control(self.policy.name, control)

    def client(self) -> anthropic.Anthropic:
        """The SDK's client of the emulator. It loads no certificates, which takes longer than most tests."""
        return anthropic.Anthropic(
            base_url=self.emulator.base_url, api_key="test", http_client=anthropic.DefaultHttpxClient(verify=False)
        )

    def async_client(self) -> anthropic.AsyncAnthropic:
        """The same, async."""
        return anthropic.AsyncAnthropic(
            base_url=self.emulator.base_url, api_key="test", http_client=anthropic.DefaultAsyncHttpxClient(verify=False)
        )

    def audit(self, **options: Any) -> AuditRun:
        """One run of the audit; `settings=` are for `AuditSettings`, the rest for the worker."""
        settings = AuditSettings(options.pop("policy", self.policy), str(self.path), **options.pop("settings", {}))

        async def go() -> AuditRun:
            async with self.async_client() as client:
                return await AuditWorker(settings, client=client, wall=lambda: self.now, **options).run()

        return asyncio.run(go())

    @property
    def samples(self) -> dict[str, Sample]:
        """By question what was found."""
        return {self.ids[one.request]: one for one in self.tables.samples()}
