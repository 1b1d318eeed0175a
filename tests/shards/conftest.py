"""A recorded corpus in 50 shards, and small ones of a test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cascade.corpora import open_corpus

pytest.importorskip("pyarrow")


@pytest.fixture(scope="session")
def recorded_shards(real_corpus: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`mmlupro-gpt41`, 6,651 items, in 50 shards. Not to be changed."""
    from cascade.corpora.shards import write_shards  # noqa: PLC0415 - after the extra is known to be there

    folder = tmp_path_factory.mktemp("recorded") / "shards"
    with open_corpus(real_corpus("mmlupro-gpt41")) as reader:
        written = write_shards(folder, reader.manifest, reader, items_per_shard=134)
    assert len(written) == 50
    return folder
