"""Corpora: recorded requests with every rung's reply. Read them, write them, replay them.

Read in this order: `items` (what a corpus holds), `reading`, `writing`, `replaying`; `importing` makes one of what other
tools recorded.
"""

from __future__ import annotations

from cascade.corpora.items import NOT_RECORDED, Corpus, Item, LadderEntry, Manifest, RecordedReply, text_of
from cascade.corpora.reading import CorpusReader, open_corpus, read_corpus
from cascade.corpora.writing import write_corpus
from cascade.replay.driver import replay_item, request_of

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
    "replay_item",
    "request_of",
    "text_of",
    "write_corpus",
]
