"""A scripted provider on the loopback: it knows which sample of which rung it is asked for, and can hang, break off or refuse."""

from __future__ import annotations

import itertools
import json
import select
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from cascade import Policy
from cascade.corpora import RecordedReply
from cascade.emulator.prompts import NAMES, answers_to_group, group_answers, variant_of
from tests.live.conftest import HAIKU, SONNET, error_body, ladder, message_body, verdict

HANG = "hang"
"""The connection stays open, without a byte, until the client closes it."""
RESET = "reset"
"""The connection is closed without a byte."""

Said = tuple[int, Any] | str
"""A status and a body, or HANG or RESET."""


@dataclass(frozen=True)
class Asked:
    """One request. `variant`: of triage, None if the prompt is none of those known. `turn`: how many like it came before."""

    model: str
    text: str
    variant: str | None
    to_group: tuple[str, ...] | None
    key: str | None
    turn: int


class Provider:
    """An endpoint that says to each request what `say` says. `asked`: the requests, in the order of their arrival.

    `names`: further triage prompts, by their text. A hung request is in `hanging` until its client is gone.
    """

    def __init__(self, say: Callable[[Asked], Said], names: dict[str, str] | None = None) -> None:
        self.asked: list[Asked] = []
        self.hanging = threading.Semaphore(0)
        self.gone = threading.Semaphore(0)
        self._names = {**NAMES, **(names or {})}
        self._turns: Counter[tuple[str, str, str | None, bool]] = Counter()
        self._lock = threading.Lock()
        provider, ended = self, threading.Event()
        self._ended = ended

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                said = say(provider.take(body, self.headers["x-api-key"] or self.headers["authorization"]))
                if said == HANG:
                    provider.hanging.release()
                    waiting = select.poll()  # unlike select, it takes any number of open files
                    waiting.register(self.connection, select.POLLIN)
                    while not ended.is_set() and not waiting.poll(10):
                        pass
                    provider.gone.release()
                if isinstance(said, str):
                    self.close_connection = True
                    return
                status, value = said
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(content)

            def handle(self) -> None:
                with suppress(ConnectionError):
                    super().handle()

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, body: dict[str, Any], key: str | None) -> Asked:
        """Note a request."""
        text, system = body["messages"][-1]["content"], body.get("system")
        text = text if isinstance(text, str) else text[-1]["text"]
        model, variant, to_group = body["model"], variant_of(system, self._names), answers_to_group(system, text)
        with self._lock:
            like = (model, text, variant, to_group is not None)
            asked = Asked(model, text, variant, to_group, key, self._turns[like])
            self._turns[like] += 1
            self.asked.append(asked)
        return asked

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


BUSY: tuple[Said, ...] = (
    (429, error_body("rate_limit_error")),
    (500, error_body("api_error")),
    (529, error_body("overloaded_error")),
    (408, error_body("timeout_error")),
    RESET,
)
"""What an outage looks like."""

TOO_LONG: Said = (400, error_body("invalid_request_error", "prompt is too long: 300000 tokens > 200000 maximum"))


def message_of(reply: RecordedReply, model: str, *, bare: bool = False) -> Said:
    """A recorded reply as a message. `bare`: without the triage envelope, as the last rung answers."""
    kind = reply.failed
    more: dict[str, Any] = {"model": model, "usage": reply.usage}
    if kind == "overflow":
        return TOO_LONG
    if kind == "refused":
        return 200, message_body("", **more, stop_reason="refusal")
    if kind == "truncated":
        return 200, message_body('{"confidence": 0.9, "ans', **more, stop_reason="max_tokens")
    if kind == "malformed":
        return 200, message_body("Let me think about that.", **more)
    if bare:
        return 200, message_body(reply.answer or "", **more)
    return 200, message_body(json.dumps({"confidence": reply.confidence, "answer": reply.answer}), **more)


def grouping_of(asked: Asked, model: str, usage: Any) -> Said:
    """What a judge says that compares words and numbers."""
    assert asked.to_group is not None
    return 200, message_body(json.dumps(group_answers(asked.to_group)), model=model, usage=usage)


def says(confidence: float | None, answer: str | None) -> Said:
    """A reply in the triage envelope; it costs COST of its rung."""
    return 200, message_body(verdict(confidence, answer))


def in_turn(*haiku: Said, above: Said | None = None) -> Callable[[Asked], Said]:
    """Haiku says these in turn, the last one for ever; Sonnet "sonnet's" and Opus "opus's", or both `above`."""
    turns = itertools.count()

    def say(asked: Asked) -> Said:
        if asked.model == HAIKU:
            return haiku[min(next(turns), len(haiku) - 1)]
        if above is not None:
            return above
        return says(0.9, "sonnet's") if asked.model == SONNET else (200, message_body("opus's"))

    return say


def asked_often(*, most: int = 5, agree: int = 4, samples: dict[str, Any] | None = None, **more: Any) -> Policy:
    """Haiku is asked until `agree` of at most `most` answers are the same, which alone decides. `more`: keys of the policy."""
    values = ladder(**more).model_dump(mode="json", exclude_defaults=True)
    values["ladder"][0]["samples"] = {"max": most, "agree": agree, **(samples or {})}
    del values["ladder"][0]["threshold"]
    return Policy.model_validate(values)
