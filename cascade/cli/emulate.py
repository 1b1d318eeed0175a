"""`cascade emulate`: serve the Messages API from a corpus."""

from __future__ import annotations

import json
import shlex
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cascade.cli.output import stderr
from cascade.core.errors import ConfigurationError, MissingExtra
from cascade.corpora import open_corpus, text_of
from cascade.policy.shipped import find_corpus, shipped

__all__ = ["run_emulator", "synthetic_corpus"]


def synthetic_corpus(name: str) -> Path:
    """A shipped synthetic corpus. Raises ConfigurationError if it is missing."""
    path = shipped("corpora", name)
    if path is None:
        raise ConfigurationError(f"the synthetic corpus `{name}` is missing from this installation (install it again)")
    return path


def run_emulator(corpora: Sequence[Path], *, as_json: bool, **options: Any) -> None:
    """Serve until Ctrl-C; stdout gets only the line with the address. `options` are those of `Emulator`."""
    try:
        from cascade.emulator import Emulator  # noqa: PLC0415 - needs an extra
    except ImportError:
        raise MissingExtra("the emulator", "emulator") from None
    chosen = [find_corpus(path) for path in corpora] or [synthetic_corpus("support")]
    server = Emulator(chosen, **options)
    with server:
        if as_json:
            fields = {"base_url": server.base_url, "api_key": "emulator", "models": list(server.answers.models)}
            sys.stdout.write(json.dumps(fields) + "\n")
        else:
            sys.stdout.write(f"export ANTHROPIC_BASE_URL={server.base_url} ANTHROPIC_API_KEY=emulator\n")
        sys.stdout.flush()
        models, files = ", ".join(server.answers.models), ", ".join(path.name for path in chosen)
        beyond = (
            "anything else gets a canned answer" if options["canned"] else "and nothing else (--any answers all else)"
        )
        stderr.print(f"It answers the texts in {files}, as {models}; {beyond}.")
        stderr.print(f"Rungs of provider openai: export OPENAI_BASE_URL={server.base_url}/v1 OPENAI_API_KEY=emulator")
        stderr.print("In another shell set this address and key, then for example:")
        stderr.print(f"  cascade ask {shlex.quote(_example(chosen[0]))} --explain")
        if options["canned"]:
            stderr.print("A canned answer is no plan: for `cascade run`, see `cascade demo --plan`.")
        stderr.print("Ctrl-C stops it.")
        threading.Event().wait()


def _example(corpus: Path) -> str:
    """A one-line text from the corpus."""
    with open_corpus(corpus) as reader:
        return next((text_of(item.input) for item in reader if "\n" not in text_of(item.input)), "…")
