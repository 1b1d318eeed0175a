"""The corpus format: recorded requests with every rung's reply, as JSON lines (also `.gz`) or Parquet.

Read in this order: `items` (what a corpus holds), `reading`, `writing`, `splits` (tune and certify), `grading`.
"""

from __future__ import annotations

from cascade.corpora.items import NOT_RECORDED, Corpus, Item, LadderEntry, Manifest, RecordedReply, text_of
from cascade.corpora.reading import CorpusReader, open_corpus, read_corpus
from cascade.corpora.writing import write_corpus

__all__ = [
    "NOT_RECORDED",
    "Corpus",
    "CorpusReader",
    "Item",
    "LadderEntry",
    "Manifest",
    "RecordedReply",
    "open_corpus",
    "read_corpus",
    "text_of",
    "write_corpus",
]
