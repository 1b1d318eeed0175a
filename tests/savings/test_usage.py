"""Usage exports: what they are called, what they hold, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.core.errors import UsageExportError
from cascade.core.messages import Usage
from cascade.savings import read_map, read_usage

CONSOLE = (
    "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
    "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
    "usage_output_tokens,web_search_count,inference_geo,speed\n"
    '2026-11-01,claude-opus-5-5,"key, one",Default,standard,≤ 200k,1000,20,3,400,50,0,global,\n'
    "2026-11-03,claude-opus-5-5,key,Default,batch,≤ 200k,100,0,0,0,5,0,global,\n"
)


def written(folder: Path, name: str, text: str) -> Path:
    """A file with this text."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_consoles_csv_is_read_as_it_is(tmp_path: Path) -> None:
    """Every token column of the Console's usage export is found; batch is told apart; requests are not made up."""
    export = read_usage(written(tmp_path, "console.csv", "\ufeff" + CONSOLE))
    assert [(part.model, part.batch, part.requests) for part in export.slices] == [
        ("claude-opus-5-5", False, None),
        ("claude-opus-5-5", True, None),
    ]
    assert export.slices[0].usage == Usage(1000, 50, 20, 3, 400)
    assert (export.days, export.requests, export.rows) == (3, None, 2)


def test_the_admin_apis_report_is_read_as_it_is(tmp_path: Path) -> None:
    """Buckets with their results, as a document and as lines."""
    bucket = {
        "starting_at": "2026-11-01T00:00:00Z",
        "ending_at": "2026-11-02T00:00:00Z",
        "results": [
            {
                "model": "claude-haiku-5-5",
                "uncached_input_tokens": 10,
                "cache_read_input_tokens": 4,
                "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 1},
                "output_tokens": 3,
                "service_tier": "batch",
                "server_tool_use": {"web_search_requests": 0},
            }
        ],
    }
    report = {"data": [bucket, {**bucket, "results": []}], "has_more": False}
    for name, text in (("report.json", json.dumps(report)), ("report.jsonl", json.dumps(bucket) + "\n")):
        export = read_usage(written(tmp_path, name, text))
        (part,) = export.slices
        assert (part.usage, part.batch, export.days) == (Usage(10, 3, 2, 1, 4), True, 1)


def test_openais_api_report_is_read_as_it_is(tmp_path: Path) -> None:
    """Its input includes the cached tokens, a batch is told by a truth; what is mapped by hand is taken as it is said."""
    result = {
        "object": "organization.usage.completions.result", "input_tokens": 1000, "output_tokens": 500,
        "input_cached_tokens": 800, "num_model_requests": 5, "project_id": None, "model": "m", "batch": True,
        "service_tier": "default",
    }  # fmt: skip
    page = {"object": "page", "data": [{"object": "bucket", "start_time": 1730419200, "results": [result]}]}
    path = written(tmp_path, "usage.json", json.dumps(page))
    (part,) = read_usage(path).slices
    assert (part.usage, part.requests, part.batch) == (Usage(200, 500, 0, 0, 800), 5, True)
    assert read_usage(path, {"input": "input_tokens"}).usage == Usage(1000, 500, 0, 0, 800)


def test_a_column_that_sounds_like_cached_tokens_or_requests_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    """Its name is told; not one that is known, and not that of searches; once the requests are known, nothing of them."""
    header = "model,input_tokens,output_tokens,CacheHits,prompt_tokens,requests made,web_search_requests"
    path = written(tmp_path, "usage.csv", f"{header}\nm,1,2,3,4,5,6\n")
    assert read_usage(path).unread == ("CacheHits", "requests made")
    assert read_usage(path, {"requests": "requests made", "cache_read": "CacheHits"}).unread == ()


@pytest.mark.parametrize("row", ["Total,,300,30", "GRAND TOTAL:,,300,30", "sum,,300,30", ",Total,300,30"])
def test_a_total_is_not_counted_again(tmp_path: Path, row: str) -> None:
    """A row that says it is the sum is left out and told; any other that has tokens and no model stays an error."""
    text = "date,model,input_tokens,output_tokens\n2026-11-01,a,100,10\n2026-11-02,b,200,20\n"
    export = read_usage(written(tmp_path, "usage.csv", f"{text}{row}\n"))
    assert (export.usage, export.rows, export.totals) == (Usage(300, 30), 2, 1)
    with pytest.raises(UsageExportError, match=r"usage.csv:4: .*model"):
        read_usage(written(tmp_path, "usage.csv", f"{text}2026-11-03,,300,30\n"))


@pytest.mark.parametrize(
    ("header", "row", "usage", "requests"),
    [
        (  # LiteLLM's daily table: prompt_tokens has the cached tokens in it
            "id,date,model,prompt_tokens,completion_tokens,cache_read_input_tokens,cache_creation_input_tokens,spend,api_requests",
            "x1,2026-11-01,anthropic/claude-sonnet-5-5,1000,70,300,100,0.1,7",
            Usage(600, 70, 100, 0, 300),
            7,
        ),
        (  # LiteLLM's spend logs: a row is a request
            "request_id,startTime,model,prompt_tokens,completion_tokens",
            "r1,2026-11-01 10:00:00,claude-sonnet-5-5,1000,70",
            Usage(1000, 70),
            1,
        ),
        (  # Helicone: prompt_tokens has them not
            "request_id,request_created_at,request_model,prompt_tokens,completion_tokens,prompt_cache_read_tokens,prompt_cache_write_tokens",
            "r1,2026-11-01T10:00:00Z,claude-sonnet-5-5,1000,70,3000,100",
            Usage(1000, 70, 100, 0, 3000),
            1,
        ),
        (  # OpenRouter's activity
            "Date,Slug,Usage,BYOK Usage,Requests,Prompt Tokens,Completion Tokens,Reasoning Tokens",
            '"2026-11-01 00:00:00",claude-sonnet-5-5,0.2,0,4,"1,000",70,0',
            Usage(1000, 70),
            4,
        ),
        (  # Langfuse: the usage is one cell of JSON, and `input` is what the user wrote
            "id,trace_id,start_time,provided_model_name,input,usage_details",
            '1,t1,2026-11-01 10:00:00.000000,claude-sonnet-5-5,hello,"{""input"": 1000, ""output"": 70, ""input_cache_read"": 5}"',
            Usage(1000, 70, 0, 0, 5),
            1,
        ),
        (  # OpenAI's CSV: input_tokens has the cached tokens in it
            "start_time,start_time_iso,project_id,num_model_requests,model,batch,input_tokens,output_tokens,input_cached_tokens",
            "1793491200,2026-11-01T00:00:00+00:00,p,7,claude-sonnet-5-5,false,1000,70,300",
            Usage(700, 70, 0, 0, 300),
            7,
        ),
        (  # the same where it also tells what was not cached
            "start_time,num_model_requests,model,input_tokens,output_tokens,input_cached_tokens,input_uncached_tokens",
            "1793491200,7,claude-sonnet-5-5,1000,70,300,700",
            Usage(700, 70, 0, 0, 300),
            7,
        ),
        ("Date;Model;Requests;Input Tokens;Output Tokens", "2026/11/01;claude-sonnet-5-5;2;10;4", Usage(10, 4), 2),
    ],
    ids=[
        "litellm daily",
        "litellm logs",
        "helicone",
        "openrouter",
        "langfuse",
        "openai",
        "openai uncached",
        "semicolons",
    ],
)
def test_common_exports_are_read_as_they_are(
    tmp_path: Path, header: str, row: str, usage: Usage, requests: int | None
) -> None:
    """Their names are known, and whether their prompt includes what came from the cache."""
    export = read_usage(written(tmp_path, "usage.csv", f"{header}\n{row}\n"))
    assert (export.usage, export.requests, export.days) == (usage, requests, 1)


def test_a_key_that_only_a_later_row_has_is_not_overlooked(tmp_path: Path) -> None:
    """JSON rows need not have the same keys; a trace's other spans are skipped and counted."""
    rows = [
        {"name": "retriever", "latency": 2},
        {"model": "m", "input_tokens": 1, "output_tokens": 2},
        {"model": "m", "input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 30},
    ]
    path = written(tmp_path, "usage.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    export = read_usage(path)
    assert (export.usage, export.rows, export.skipped) == (Usage(2, 4, 0, 0, 30), 2, 1)


def test_a_column_of_any_name_can_be_mapped(tmp_path: Path) -> None:
    """`--map` beats the known names, and a column that is mapped is nothing else any more."""
    path = written(tmp_path, "own.csv", "m,model,in,out,output\na,b,1,2,3\n")
    export = read_usage(path, read_map(["model=m", "input=in", "output=out"]))
    assert (export.slices[0].model, export.usage) == ("a", Usage(1, 2))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b\n1,2\n", "no column is known to be 'model', 'output', 'input'; name it with --map model=COLUMN (it has: a, b)"),
        ("model,output_tokens\nm,2\n", "no column is known to be 'input'"),
        ("model,input_tokens,output_tokens\nm,1.5,2\n", "usage.csv:2: 'input_tokens' is not a whole number"),
        ("model,input_tokens,output_tokens\nm,-1,2\n", "'input_tokens' is not a whole number"),
        ('model,input_tokens,output_tokens\nm,"1,5",2\n', "'input_tokens' is not a whole number"),
        ("model,input_tokens,output_tokens\nm,1.200,2\n", "'input_tokens' is not a whole number"),
        ("model,input_tokens,output_tokens\nm,nan,2\n", "'input_tokens' is not a whole number"),
        ("model,input_tokens,output_tokens\nm,1e400,2\n", "'input_tokens' is not a whole number"),
        ("model,input_tokens,output_tokens\n,1,2\n", "usage.csv:2: has tokens but no model"),
        ("model,input_tokens,output_tokens\nm,1\n", "usage.csv:2: has 2 cells, the header 3"),
        ("model,input_tokens,output_tokens,date\nm,1,2,yesterday\n", "'date' is not a date"),
        ("model,prompt_tokens,output_tokens,cached_tokens\nm,1,2,5\n", "is less than the cached tokens"),
        ("model,input_tokens,output_tokens\n", "usage.csv: has no rows with token counts"),
        ("", "usage.csv: is empty"),
        ("usage_date_utc,model,token_type,cost_usd\n2026-11-01,Claude Opus,output,1\n", "this is a cost export"),
        ('{"model": "m"', "is not JSON"),
        ('{"model": "m"}\n[1]\n', "no column is known to be 'output', 'input'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_place_and_mend(tmp_path: Path, text: str, told: str) -> None:
    """The file, the line, what is missing; nothing is guessed."""
    with pytest.raises(UsageExportError) as caught:
        read_usage(written(tmp_path, "usage.csv", text))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_opened_or_decoded_is_told(tmp_path: Path) -> None:
    """A path that is not there, bytes that are not text, a column and a field that there are not."""
    (tmp_path / "packed.csv").write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")
    with pytest.raises(UsageExportError, match="is not UTF-8"):
        read_usage(tmp_path / "packed.csv")
    with pytest.raises(UsageExportError, match="cannot be read"):
        read_usage(tmp_path / "none.csv")
    with pytest.raises(UsageExportError, match=r"'tokens=x' is not FIELD=COLUMN"):
        read_map(["tokens=x"])
    with pytest.raises(UsageExportError, match=r"--map: 'model' is mapped twice"):
        read_map(["model=x", "model=y"])
    path = written(tmp_path, "a.csv", "model,input_tokens,output_tokens\nm,1,2\n")
    with pytest.raises(UsageExportError, match="has no column 'reads'"):
        read_usage(path, read_map(["cache_read=reads"]))


@given(text=st.one_of(st.text(max_size=200), st.text(alphabet='{}[]",:\n01model', max_size=200)))
def test_hostile_text_is_usage_or_a_typed_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    """Whatever the file holds, it is read or refused in our own words."""
    path = tmp_path_factory.mktemp("hostile") / "usage.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        told = read_usage(path).source
    except UsageExportError as error:
        told = str(error)
    assert told.startswith(str(path))
    assert "\n" not in told


HEAD = "model,input_tokens,output_tokens,cache_read_input_tokens,total_tokens"


@pytest.mark.parametrize(
    ("header", "row", "usage"),
    [
        (HEAD, "m,129213,1000,128955,130213", Usage(258, 1000, 0, 0, 128_955)),  # input includes what was read
        (HEAD, "m,258,1000,128955,130213", Usage(258, 1000, 0, 0, 128_955)),  # it does not
        (HEAD, "m,258,1000,128955,1258", Usage(258, 1000, 0, 0, 128_955)),  # the total does not either
        (HEAD, "m,258,1000,128955,", Usage(258, 1000, 0, 0, 128_955)),  # no total: by the column's name
        (HEAD.replace("input_tokens", "prompt_tokens", 1), "m,258,1000,128955,130213", Usage(258, 1000, 0, 0, 128_955)),
        (
            HEAD.replace("cache_read", "cache_creation_input_tokens,cache_read"),
            "m,1000,70,100,300,1070",
            Usage(600, 70, 100, 0, 300),
        ),
    ],
    ids=["includes", "excludes", "total excludes", "no total", "prompt excludes", "with writes"],
)
def test_the_rows_own_total_settles_whether_input_includes_cached_tokens(
    tmp_path: Path, header: str, row: str, usage: Usage
) -> None:
    """Cached tokens are counted once, whatever the input's column is called; `--map` still decides where it is given."""
    path = written(tmp_path, "usage.csv", f"{header}\n{row}\n")
    assert read_usage(path).usage == usage
    column = header.split(",")[1]
    first, out, *rest = (int(cell or 0) for cell in row.split(",")[1:-1])
    assert read_usage(path, {"input": column}).usage.prompt_tokens == first + sum(rest)
    assert read_usage(path, {"input": column}).usage.output_tokens == out


def test_a_total_that_settles_nothing_is_refused_with_the_columns(tmp_path: Path) -> None:
    """It fits neither reading, or two rows of one file say different things: the columns, the line, and what to write."""
    with pytest.raises(UsageExportError) as caught:
        read_usage(written(tmp_path, "usage.csv", f"{HEAD}\nm,1000,70,300,1200\n"))
    told = str(caught.value)
    for named in ("usage.csv:2", "'input_tokens'", "'output_tokens'", "'cache_read_input_tokens'", "'total_tokens'"):
        assert named in told
    assert "--map prompt=input_tokens" in told
    assert "--map input=input_tokens" in told
    for rows in ("m,1000,70,300,1070\nm,1000,70,300,1370\n", "m,1000,70,300,\nm,1000,70,300,1070\n"):
        path = written(tmp_path, "usage.csv", f"{HEAD}\n{rows}")
        with pytest.raises(UsageExportError, match=r"usage.csv:3: 'input_tokens' .* at .*usage.csv:2"):
            read_usage(path)
        assert read_usage(path, {"prompt": "input_tokens"}).usage == Usage(1400, 140, 0, 0, 600)
