"""A batch run on the disk: its folder under `CASCADE_HOME/batches`, with all that it needs to go on after a restart.

The policy is stored with its values, so that a changed file changes nothing of a run that has begun. Prompts and answers stand in the
folder: only its owner may read it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cascade.batch.calls import encode_json, pages
from cascade.batch.database import is_made, lock_folder, make_folder, unlock
from cascade.batch.items import ITEMS_FILE, ItemStore
from cascade.batch.store import CALLS_FILE
from cascade.core.changing import changed
from cascade.core.errors import ConfigurationError
from cascade.core.messages import Request
from cascade.core.policy import Policy
from cascade.core.policy.operations import Mode
from cascade.core.text.suggestions import did_you_mean, listed
from cascade.home import home

__all__ = [
    "InputsDigest",
    "Run",
    "RunSettings",
    "find_run",
    "has_run",
    "is_begun",
    "list_runs",
    "make_run",
    "new_run_id",
    "remove_run",
    "runs_folder",
]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,40}\Z")


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What a run is begun with. `mode`: the one in force then. `ratchet`: the step that the audit had reached. `limit`: in nano-USD."""

    policy: Policy
    mode: Mode = "enforce"
    ratchet: int = 0
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A run: its name and its folder."""

    id: str
    folder: Path

    def settings(self, store: ItemStore) -> RunSettings:
        """What it was begun with. Raises ConfigurationError if its inputs were not read to their end."""
        if not store.meta("loaded"):
            hint = "nothing was sent: submit them again under this name"
            raise ConfigurationError(f"batch run {self.id}: its inputs were not read to their end ({hint})")
        policy = Policy.model_validate(store.meta("policy"), by_alias=True, by_name=False)
        return RunSettings(policy, store.meta("mode"), store.meta("ratchet"), store.meta("limit"))


def runs_folder() -> Path:
    """Where runs are. It need not exist yet."""
    return home() / "batches"


def new_run_id() -> str:
    """A name for a new run, unique to the account: it stands in every custom_id."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"


def make_run(name: str, settings: RunSettings, inputs: Iterable[tuple[str | None, Request]]) -> Run:
    """Store a new run, with the inputs: their names, None for `item-N`, and requests. Nothing is sent.

    Raises ConfigurationError if the name is not one or is taken, if an input's name occurs twice, or if there is no input.
    """
    if not _NAME.match(name):
        raise ConfigurationError(f"run {name!r}: a name has 1 to 40 letters, digits, `_` and `-`")
    folder = runs_folder() / name
    make_folder(folder)
    lock = lock_folder(folder)
    try:
        store = ItemStore(folder)
        if store.meta("loaded"):  # made by another process, a moment ago
            store.close()
            raise ConfigurationError(f"batch run {name}: there is one already (resume it, or choose another name)")
        try:
            store.clear()
            _load(store, name, settings, inputs)
        except BaseException:
            store.close()
            if not (folder / CALLS_FILE).exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        store.close()
    finally:
        unlock(lock)
    return Run(name, folder)


def _load(store: ItemStore, name: str, settings: RunSettings, inputs: Iterable[tuple[str | None, Request]]) -> None:
    policy = settings.policy.model_dump(mode="json", by_alias=True, exclude_unset=True)
    store.set_meta({
        "loaded": False, "policy": policy, "policy_name": settings.policy.name, "policy_hash": settings.policy.hash,
        "mode": settings.mode, "ratchet": settings.ratchet, "limit": settings.limit, "created_at": time.time(),
    })  # fmt: skip
    digest, count = InputsDigest(name), 0
    read = (digest.add(number, named, request) for number, (named, request) in enumerate(inputs))
    for items in pages(read, lambda item: len(item[2])):
        store.add(items)
        count += len(items)
    if not count:
        raise ConfigurationError("batch: there is no input")
    store.set_meta({"loaded": True, "inputs": digest.value, "items": count})


class InputsDigest:
    """Gives inputs their names and ids, and tells whether they are those that a run was begun with."""

    def __init__(self, run: str) -> None:
        self._run, self._digest = run, hashlib.sha256()

    def add(self, number: int, name: str | None, request: Request) -> tuple[int, str, bytes]:
        """The next input as it is stored: number, name and request. Its request's id follows from run and number."""
        named = name if name is not None else f"item-{number + 1}"
        written = encode_json(changed(request, id=f"casc_{self._run}_{number}"))
        self._digest.update(f"{len(named)} {len(written)} {named}".encode("utf-8", "replace"))
        self._digest.update(written)
        return number, named, written

    @property
    def value(self) -> str:
        """Of the inputs so far."""
        return self._digest.hexdigest()


def has_run(name: str) -> bool:
    """Whether there is a run of this name."""
    return _NAME.match(name) is not None and is_made(runs_folder() / name / ITEMS_FILE)


def is_begun(name: str) -> bool:
    """Whether there is a run of this name whose inputs were read to their end."""
    if not has_run(name):
        return False
    store = ItemStore(runs_folder() / name, read_only=True)
    try:
        return bool(store.meta("loaded"))
    finally:
        store.close()


def find_run(name: str) -> Run:
    """The run of this name. Raises ConfigurationError if there is none."""
    folder = runs_folder() / name
    if not has_run(name):
        names = [run.id for run in list_runs()]
        raise ConfigurationError(
            f"batch run {name!r}: there is none in {runs_folder()}"
            f" ({did_you_mean(name, names)}there are: {listed(names)}; `cascade batch status` lists them)"
        )
    return Run(name, folder)


def list_runs() -> list[Run]:
    """All runs, by name."""
    if not runs_folder().is_dir():
        return []
    found = sorted(runs_folder().iterdir())
    return [Run(folder.name, folder) for folder in found if is_made(folder / ITEMS_FILE)]


def remove_run(run: Run) -> None:
    """Remove a run's folder, with the prompts and answers in it. Raises ConfigurationError if a process is driving it."""
    lock = lock_folder(run.folder)
    try:
        shutil.rmtree(run.folder)
    finally:
        unlock(lock)
