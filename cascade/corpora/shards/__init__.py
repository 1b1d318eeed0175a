"""A corpus in many Parquet files: a folder of shards, or a pattern.

Read in this order: `finding` (which files, and the manifest they share), `reading` (all of them as one corpus, which is what `open_corpus`
gives), `writing` (cut a corpus into shards), `identity` (no id twice, out of core).
"""

from __future__ import annotations

from cascade.corpora.shards.finding import Shards, files_of, find_shards
from cascade.corpora.shards.writing import write_shards

__all__ = ["Shards", "files_of", "find_shards", "write_shards"]
