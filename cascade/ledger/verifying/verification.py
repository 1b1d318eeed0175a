"""`ledger verify`: checks that everything recorded is as it was written.

It walks each writer's chain and computes its digests again (`chain`), compares texts with the digests in their entries, and the sums with
those of the entries. A changed, missing, moved, swapped or copied entry is named. A chain cannot show its own end: heads exported earlier
and kept elsewhere reveal a tail that was cut, a writer that is gone, and a chain that was rewritten as a whole. An entry right after
a gap cannot be checked itself.

A chain that `ledger prune` has shortened begins at its anchor: what follows is checked as ever. An entry that was left before it is checked
with the digest that the anchor holds of the one before. The sums of what is gone have nothing that they could be compared with.

The file of heads: `{"version": 1, "heads": {"<writer>": {"seq": 120, "digest": "<64 hex digits>"}}}`, each writer's
last entry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from cascade.core.errors import LedgerError
from cascade.ledger.chain import content_digest, link, start
from cascade.ledger.records import ASKED_PART, Anchor, Batch, Entry, Kind, OpenBody, OutcomeBody, RequestBody, StepBody
from cascade.ledger.stores import Reader
from cascade.ledger.sums import add_outcome, add_step
from cascade.ledger.utc_months import is_month_start
from cascade.ledger.verifying.mismatches import Explanation, Mismatch, explain
from cascade.ledger.verifying.totals import compare

__all__ = ["Finding", "FindingKind", "Head", "Verification", "heads", "read_heads", "verify", "write_heads"]

FindingKind = Literal[
    "changed", "missing", "swapped", "moved", "duplicate", "unreadable", "orphan", "text", "sum", "cut", "gone", "rewritten",
    "inserted",
]  # fmt: skip

_MOST = 1_000  # findings kept, and mismatches of one writer explained; the rest is counted
_TEXTS_AT_ONCE = 200
_PROGRESS_EVERY = 10_000


class Head(msgspec.Struct, frozen=True):
    """A writer's last entry: its seq, and its digest in hex."""

    seq: int
    digest: str


class _Heads(msgspec.Struct, frozen=True):
    version: Literal[1]
    heads: dict[str, Head]


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference from what was written; `message` is one line. `last`: the last seq of a run of entries."""

    kind: FindingKind
    message: str
    writer: str | None = None
    seq: int | None = None
    last: int | None = None
    request: str | None = None
    entry: Kind | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What was checked, and what was found; `more`: findings beyond those kept.

    `unsettled`: announced calls without a step (`durability: commit`): their process was killed, or they are still running.
    They are not findings, because nothing was tampered with. `pruned`: entries that `ledger prune` has dropped; they were older than
    `pruned_before` (Unix seconds), the sums before which are as they are.
    """

    where: str
    writers: int
    entries: int
    texts: int
    unsettled: int
    findings: tuple[Finding, ...]
    more: int
    heads: Mapping[str, Head]
    pruned: int = 0
    pruned_before: float | None = None

    @property
    def is_sound(self) -> bool:
        """Whether there are no findings."""
        return not self.findings


def heads(reader: Reader) -> Mapping[str, Head]:
    """Every writer's last entry; nothing is checked."""
    with reader.snapshot():
        anchors = reader.anchors()
        last = {writer: deque(reader.chain(writer), maxlen=1) for writer in reader.writers()}
    found = {writer: _head(anchor) for writer, anchor in anchors.items()}
    for writer, ends in last.items():
        if ends and (writer not in found or ends[0].seq > found[writer].seq):
            found[writer] = _head(ends[0])
    return found


def _head(end: Entry | Anchor) -> Head:
    return Head(end.seq, end.digest.hex())


def read_heads(text: bytes, where: str) -> Mapping[str, Head]:
    """Heads from their file's bytes. Raises LedgerError."""
    try:
        return msgspec.json.decode(text, type=_Heads).heads
    except msgspec.MsgspecError as error:
        raise LedgerError(f"{where}: not a file of heads: {error} (`ledger verify --write-heads` makes one)") from None


def write_heads(found: Mapping[str, Head]) -> bytes:
    """The bytes of a file of heads."""
    return msgspec.json.format(msgspec.json.encode(_Heads(1, dict(found))), indent=2) + b"\n"


def verify(
    reader: Reader, against: Mapping[str, Head] | None = None, *, progress: Callable[[int], object] | None = None
) -> Verification:
    """Check everything as of one moment, and the heads in `against`. Raises LedgerDown.

    `progress` is called now and then with the number of entries checked.
    """
    walk = _Walk(reader, against or {}, progress)
    with reader.snapshot():
        writers = tuple(reader.writers())
        walk.anchors = reader.anchors()
        for writer in writers:
            walk.chain(writer)
        for writer in walk.against.keys() - set(walk.heads):
            head = walk.against[writer]
            walk.found("gone", f"{writer}: is gone with its {head.seq} entries", writer=writer, last=head.seq)
        for writer, anchor in walk.anchors.items():
            if not is_month_start(anchor.ends):  # else it could keep sums from being compared
                walk.found("changed", f"{writer}: its anchor was changed: no month begins where it ends", writer=writer)
        ends = max((one.ends for one in walk.anchors.values() if is_month_start(one.ends)), default=None)
        for message in compare(reader, walk.sums, int(ends or 0)):
            walk.found("sum", message)
    return Verification(
        reader.where, len(writers), walk.entries, walk.texts, walk.unsettled, tuple(walk.findings), walk.more, walk.heads,
        sum(anchor.entries for anchor in walk.anchors.values()), ends,
    )  # fmt: skip


@dataclass(slots=True)
class _OpenRequest:
    """A request without an outcome so far: its body, the digests of its texts, its announced calls."""

    seq: int
    body: RequestBody
    texts: dict[str, str]
    opens: set[int]


class _Walk:
    """The state of one verification."""

    __slots__ = (
        "_mismatches", "_open_requests", "_progress", "_reader", "_texts_to_check", "against", "anchors", "entries",
        "findings", "heads", "more", "sums", "texts", "unsettled",
    )  # fmt: skip

    def __init__(self, reader: Reader, against: Mapping[str, Head], progress: Callable[[int], object] | None) -> None:
        self._reader, self.against, self._progress = reader, against, progress
        self.anchors: Mapping[str, Anchor] = {}
        self.findings: list[Finding] = []
        self.heads: dict[str, Head] = {}
        self.sums = Batch()
        self.entries = self.texts = self.unsettled = self.more = 0
        self._open_requests: dict[str, _OpenRequest] = {}
        self._texts_to_check: dict[str, _OpenRequest] = {}
        self._mismatches: list[Mismatch] = []

    def found(self, kind: FindingKind, message: str, **where: object) -> None:
        """Keep a finding, or only count it."""
        if len(self.findings) < _MOST:
            self.findings.append(Finding(kind, message, **where))  # type: ignore[arg-type]
        else:
            self.more += 1

    def chain(self, writer: str) -> None:
        """Walk one writer's entries."""
        self._mismatches = []
        last = self._check_digests(writer)
        self._explain(writer)
        for request, request_state in self._open_requests.items():
            self._close(writer, request, request_state)
        self._check_texts(writer)
        self._open_requests = {}
        head = self.against.get(writer)
        if head is not None and last is not None and last < head.seq:
            message = f"{writer}: its tail is cut, the last entry is seq {last}, the head's {head.seq}"
            self.found("cut", message, writer=writer, seq=last + 1, last=head.seq)

    def _check_digests(self, writer: str) -> int | None:
        """Check the digests and add up the sums; returns the last seq."""
        last, before, anchor = 0, start(writer), self.anchors.get(writer)
        left: dict[int, bytes] = {}
        if anchor is not None:
            last, before, left = anchor.seq, anchor.digest, dict(anchor.kept)
            self._compare_head(writer, anchor, f"seq {anchor.seq}, the last that was pruned,")
        earlier = before
        for entry in self._reader.chain(writer):
            self.entries += 1
            self._tell_progress()
            seq = entry.seq
            if anchor is not None and seq <= anchor.seq:
                self._check_kept(writer, entry, left.pop(seq, None))
                continue
            if seq > last + 1:
                message = f"{writer}: {_span(last + 1, seq - 1)} missing, before {_describe(entry)}"
                self.found("missing", message, writer=writer, seq=last + 1, last=seq - 1)
            elif seq <= last:
                message = f"{writer}: {_describe(entry)} occurs twice"
                self.found("duplicate", message, writer=writer, seq=seq, request=entry.request, entry=entry.kind)
                continue
            elif link(before, seq, entry.at, entry.kind, entry.request, entry.body) != entry.digest:
                if len(self._mismatches) < _MOST:
                    self._mismatches.append(Mismatch(entry, before, earlier))
                else:
                    self.more += 1
            self._compare_head(writer, entry, _describe(entry))
            self._count(writer, entry)
            last, earlier, before = seq, before, entry.digest
        self._check_left(writer, left)
        if not last:
            return None
        self.heads[writer] = Head(last, before.hex())
        return last

    def _check_kept(self, writer: str, entry: Entry, previous: bytes | None) -> None:
        """Check an entry from before the anchor. `previous`: what the anchor holds of it."""
        where = {"writer": writer, "seq": entry.seq, "request": entry.request, "entry": entry.kind}
        if previous is None:
            message = f"{writer}: {_describe(entry)} is older than what was pruned, and was not left then"
            self.found("inserted", message, **where)
            return
        before = previous or start(writer)
        if link(before, entry.seq, entry.at, entry.kind, entry.request, entry.body) != entry.digest:
            self.found("changed", f"{writer}: {_describe(entry)} was changed", **where)
        self._count(writer, entry)

    def _tell_progress(self) -> None:
        if self._progress is not None and self.entries % _PROGRESS_EVERY == 0:
            self._progress(self.entries)

    def _check_left(self, writer: str, left: Mapping[int, bytes]) -> None:
        for seq in sorted(left):
            message = f"{writer}: {_span(seq, seq)} missing, which was left when the entries before it were pruned"
            self.found("missing", message, writer=writer, seq=seq, last=seq)

    def _compare_head(self, writer: str, end: Entry | Anchor, what: str) -> None:
        due = self.against.get(writer)
        if due is not None and end.seq == due.seq and end.digest.hex() != due.digest:
            message = f"{writer}: up to {what} it is not what the head was taken of: the chain was made anew"
            self.found("rewritten", message, writer=writer, seq=end.seq)

    def _explain(self, writer: str) -> None:
        if not self._mismatches:
            return
        places: dict[bytes, list[int]] = {one.entry.digest: [] for one in self._mismatches}
        for entry in self._reader.chain(writer):
            if entry.digest in places:
                places[entry.digest].append(entry.seq)
        for one in explain(self._mismatches, places):
            where = {"writer": writer, "seq": one.entry.seq, "last": one.last, "request": one.entry.request}
            self.found(one.kind, f"{writer}: {_describe_explanation(one)}", **where, entry=one.entry.kind)

    def _count(self, writer: str, entry: Entry) -> None:
        """Add an entry to the sums, and note its texts and calls."""
        try:
            match entry.kind:
                case "request":
                    body = _DECODE_REQUEST(entry.body)
                    self._open_requests[entry.request] = _OpenRequest(entry.seq, body, dict(body.content), set())
                    return
                case "open":
                    if (request_state := self._open_requests.get(entry.request)) is not None:
                        request_state.opens.add(_DECODE_OPEN(entry.body).number)
                case "step":
                    step = _DECODE_STEP(entry.body)
                    if (request_state := self._open_requests.get(entry.request)) is not None:
                        add_step(self.sums, entry.at, request_state.body, step)
                        request_state.opens.discard(step.number)
                        request_state.texts |= step.digests
                case _:
                    outcome = _DECODE_OUTCOME(entry.body)
                    if (request_state := self._open_requests.pop(entry.request, None)) is not None:
                        add_outcome(self.sums, entry.at, request_state.body, outcome)
                        request_state.texts |= {} if outcome.asked is None else {ASKED_PART: outcome.asked}
                        self._close(writer, entry.request, request_state)
        except msgspec.MsgspecError:
            message = f"{writer}: {_describe(entry)} does not hold what such an entry holds"
            self.found("unreadable", message, writer=writer, seq=entry.seq, request=entry.request, entry=entry.kind)
            return
        if request_state is None:
            message = f"{writer}: {_describe(entry)} is of a request that is not on record, or was over"
            self.found("orphan", message, writer=writer, seq=entry.seq, request=entry.request, entry=entry.kind)

    def _close(self, writer: str, request: str, request_state: _OpenRequest) -> None:
        self.unsettled += len(request_state.opens)
        self._texts_to_check[request] = request_state
        if len(self._texts_to_check) >= _TEXTS_AT_ONCE:
            self._check_texts(writer)

    def _check_texts(self, writer: str) -> None:
        due, self._texts_to_check = self._texts_to_check, {}
        for content in self._reader.contents(tuple(due)):
            self.texts += 1
            request_state = due[content.request]
            if request_state.texts.get(content.part) != content_digest(content.salt, content.text):
                why = "was changed" if content.part in request_state.texts else "is of no entry"
                message = (
                    f"{writer}: the text {content.part} of request {content.request} (seq {request_state.seq}) {why}"
                )
                self.found("text", message, writer=writer, seq=request_state.seq, request=content.request)


_DECODE_REQUEST = msgspec.json.Decoder(RequestBody).decode
_DECODE_OPEN = msgspec.json.Decoder(OpenBody).decode
_DECODE_STEP = msgspec.json.Decoder(StepBody).decode
_DECODE_OUTCOME = msgspec.json.Decoder(OutcomeBody).decode


def _span(first: int, last: int) -> str:
    return f"seq {first} is" if first == last else f"seq {first} to {last} are"


def _describe(entry: Entry) -> str:
    return f"seq {entry.seq} ({entry.kind} of request {entry.request})"


def _describe_explanation(one: Explanation) -> str:
    message = _describe(one.entry)
    match one.kind:
        case "swapped":
            return f"{message} and seq {one.other} were swapped"
        case "moved" if one.last > one.entry.seq:
            return f"{message} to seq {one.last} were moved, they began at seq {one.other}"
        case "moved":
            return f"{message} was moved, it stood at seq {one.other}"
        case "duplicate":
            return f"{message} is a copy of seq {one.other}"
        case "missing":
            return f"{one.other} missing before {message}, the rest was numbered anew"
        case _:
            return f"{message} was changed, or the one before it and its digest"
