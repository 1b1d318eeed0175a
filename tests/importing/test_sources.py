"""What is imported comes from elsewhere: pickles stay shut, zips are unpacked within bounds, rubbish is a typed error."""

from __future__ import annotations

import gzip
import json
import pickle
import random
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from cascade.core.errors import CascadeError, CorpusError
from cascade.importing import FORMATS, Options, import_corpus
from cascade.importing.zips import Zip

FIXTURES = Path(__file__).parent / "fixtures"
LOG = FIXTURES / "inspect_haiku.json"
METRIC = Options(metric="match")
MAPS = {"csv": Options(maps=(("id", "id"), ("a.score", "s")))}
ZSTD = 93


class _Boom:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.path, "w"))


def entries_of(log: dict[str, Any]) -> dict[str, bytes]:
    """The entries of an `.eval` file that holds a log."""
    header = {key: value for key, value in log.items() if key != "samples"}
    samples = {f"samples/{s['id']}_epoch_{s['epoch']}.json": json.dumps(s).encode() for s in log["samples"]}
    return {"header.json": json.dumps(header).encode(), "summaries.json": b"[]", **samples}


def zip_with_zstd(path: Path, entries: dict[str, bytes]) -> None:
    """A zip with method 93, written by hand: Python's zipfile cannot write one."""
    zstandard = pytest.importorskip("zstandard")
    body, directory = b"", b""
    for name, data in entries.items():
        packed = zstandard.ZstdCompressor().compress(data)
        common = struct.pack("<HHHHHIII", 63, 0, ZSTD, 0, 33, zlib.crc32(data), len(packed), len(data))
        sizes = struct.pack("<HH", len(name), 0)
        directory += b"PK\x01\x02" + struct.pack("<H", 63) + common + sizes
        directory += struct.pack("<HHHII", 0, 0, 0, 0, len(body)) + name.encode()
        body += b"PK\x03\x04" + common + sizes + name.encode() + packed
    count = len(entries)
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    path.write_bytes(body + directory + end)


@pytest.mark.parametrize("name", ["routerbench_0shot.pkl", "x.pickle", "x.pkl.gz"])
@pytest.mark.parametrize("form", ["routerbench", "csv", "promptfoo", "inspect", "lm-eval"])
def test_a_pickle_is_refused_without_opening_it(tmp_path: Path, name: str, form: str) -> None:
    """Its code does not run; the error says why and how to convert it. It need not even be there."""
    proof, path = tmp_path / "ran", tmp_path / name
    path.write_bytes(pickle.dumps(_Boom(str(proof))))
    for source in (path, tmp_path / "absent" / name):
        rungs = [("a", str(source))] if form == "lm-eval" else []
        sources = [] if rungs else [str(source)]
        with pytest.raises(CorpusError, match=r"loading one runs .*read_pickle\(.*to_parquet\(") as told:
            import_corpus(form, sources, name="c", rungs=rungs, options=MAPS.get(form))
        assert "\n" not in str(told.value)
    assert not proof.exists()


@pytest.mark.parametrize("packing", ["stored", "deflate", "zstd"])
def test_an_eval_zip_says_what_its_json_says(tmp_path: Path, packing: str) -> None:
    """However its entries are packed, zstd through the extra included, the items are those of the JSON log."""
    path, entries = tmp_path / "log.eval", entries_of(json.loads(LOG.read_text()))
    if packing == "zstd":
        zip_with_zstd(path, entries)
    else:
        method = zipfile.ZIP_STORED if packing == "stored" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", method) as written:
            for name, data in entries.items():
                written.writestr(name, data)
    expected = import_corpus("inspect", [str(LOG)], name="c", options=METRIC)
    assert import_corpus("inspect", [str(path)], name="c", options=METRIC).items == expected.items


def test_without_the_extra_a_zstd_zip_says_which_one(tmp_path: Path) -> None:
    """Where zstandard is not installed the error names the extra, and nothing else needs it."""
    path = tmp_path / "log.eval"
    zip_with_zstd(path, entries_of(json.loads(LOG.read_text())))
    code = (
        "import sys; sys.modules['zstandard'] = None\n"
        "from cascade.importing import import_corpus\n"
        "from cascade.core.errors import MissingExtra\n"
        f"try: import_corpus('inspect', [{str(path)!r}], name='c')\n"
        "except MissingExtra as error: print(error, error.extra)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip().endswith("(pip install 'cascade-ladder[zstd]') zstd")


@pytest.mark.parametrize("packing", ["deflate", "zstd"])
def test_a_zip_bomb_stops_at_the_bound(tmp_path: Path, packing: str) -> None:
    """An entry that unpacks to more than the bound is refused, whatever its header says of its size."""
    path, big = tmp_path / "log.eval", b" " * 5_000_000
    if packing == "zstd":
        zip_with_zstd(path, {"a": big})
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
            written.writestr("a", big)
    assert path.stat().st_size < 10_000
    with Zip(str(path), limit=1_000_000) as opened, pytest.raises(CorpusError, match="is larger than 1000000 bytes"):
        opened.read("a")
    with Zip(str(path)) as opened:
        assert opened.read("a") == big


@pytest.mark.parametrize("packing", ["deflate", "zstd"])
def test_a_damaged_zip_is_a_typed_error(tmp_path: Path, packing: str) -> None:
    """Whichever byte is changed, the file is read or refused in our words, never by another error."""
    path, entries = tmp_path / "log.eval", entries_of(json.loads(LOG.read_text()))
    if packing == "zstd":
        zip_with_zstd(path, entries)
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
            for name, data in entries.items():
                written.writestr(name, data)
    whole, chance, refused = path.read_bytes(), random.Random(3), 0
    for _ in range(150):
        broken = bytearray(whole)
        broken[chance.randrange(len(broken))] ^= 1 << chance.randrange(8)
        path.write_bytes(broken[: chance.randrange(len(broken))] if chance.random() < 0.2 else broken)
        try:
            import_corpus("inspect", [str(path)], name="c", options=METRIC)
        except CascadeError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("form", FORMATS)
def test_rubbish_is_a_typed_error_in_every_format(tmp_path: Path, form: str) -> None:
    """Random bytes, JSON of other shapes, empty and absent files: a CascadeError each time."""
    chance = random.Random(5)
    shapes: list[object] = [None, 7, [], {}, [[]], {"results": 3}, {"results": {"results": [1, {}]}}, {"samples": [0]}]
    shapes += [{"eval": {"model": "m", "task": "t"}, "samples": [{"id": 1, "input": 3, "scores": {"a": 1}}, {}]}]
    shapes += [{"doc_id": 1, "acc": 1.0, "arguments": {"gen_args_0": {}}}, {"results": [{"testIdx": 0, "prompt": "x"}]}]
    bodies = [chance.randbytes(200) for _ in range(20)] + [json.dumps(shape).encode() for shape in shapes]
    bodies += [
        b"",
        b"\n\n",
        b"a,a\n1,2\n",
        b'a,"b\n',
        b"\xff\xfe1\n",
        b"[" * 100_000,
        b"id\n\x00\n",
        gzip.compress(b"{}"),
    ]
    endings = (".jsonl", ".json", ".csv", ".tsv", ".eval", ".csv.gz", ".parquet", ".jsonl.gz")
    for number, body in enumerate(bodies):
        for ending in endings:
            path = tmp_path / f"{number}{ending}"
            path.write_bytes(body)
            rungs = [("a", str(path))] if form == "lm-eval" else []
            with pytest.raises(CascadeError) as caught:
                import_corpus(form, [str(path)], name="c", rungs=rungs, options=MAPS.get(form))
            assert "\n" not in str(caught.value)
