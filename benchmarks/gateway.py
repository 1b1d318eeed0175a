"""What the gateway costs: `python benchmarks/gateway.py [--quick] [--json] [--only PART] [--no-peers]`.

latency      added to a direct SDK call, in interleaved pairs against the same endpoint: by a climb that ends on its first
             rung, and of it the share of a bare handler that only calls by the SDK; by a pass-through, and of it the share
             of a bare handler that only relays
throughput   requests/s and processor time a request at 16 and 128 connections, beside LiteLLM's proxy and firstpass
first_token  time to the first piece of the answer of a streamed climb, beside a direct stream and its tokens of confidence
idle         resident memory with many silent streams open, over time

Endpoint, gateway, peers and load are processes of their own on the loopback, and share the machine's cores: only ratios and
paired differences mean something. Peers are installed into .cache/peers, and run as benchmarks/peers/ and
benchmarks/gateway_servers.py say.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import anthropic
from gateway_servers import (
    MODEL,
    Load,
    Running,
    Unavailable,
    bare_handler,
    cascade_gateway,
    firstpass,
    litellm,
    redis,
    started,
    upstream,
    version_of,
)
from gateway_upstream import ENVELOPE, tokens_before_answer

PARTS = ("latency", "throughput", "first_token", "idle")
_CLIMB = "claude-cascade-default"
_QUESTION = "Where is my order? The customer wrote that the parcel had not arrived. " * 4
_TOKEN_MS = 8.0
_BLOCK = 25  # pairs of one way before the next: a process that runs often is not measured cold


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    blocks: int  # of latency, of _BLOCK pairs each way
    seconds: float  # of one load
    repeats: int  # of each load
    streams: int  # of first_token, each way
    idle_s: float
    connections: tuple[int, ...]
    workers: tuple[int, ...]


FULL = Sizes(blocks=20, seconds=2.0, repeats=2, streams=40, idle_s=60.0, connections=(16, 128), workers=(1, 2))
QUICK = Sizes(blocks=6, seconds=1.5, repeats=1, streams=20, idle_s=5.0, connections=(16,), workers=(1,))
IDLE_CONNECTIONS = 500


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="less of everything, in under a minute")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--only", action="append", choices=PARTS, help="one part (may be given more than once)")
    parser.add_argument("--no-peers", action="store_true", help="without LiteLLM and firstpass")
    options = parser.parse_args()
    sizes = QUICK if options.quick else FULL
    say: Callable[[str], None] = (lambda _: None) if options.json else (lambda line: print(line, flush=True))
    results: dict[str, Any] = {"cores": os.cpu_count(), "load_average": os.getloadavg()[0]}
    say(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the start; `durability: batched`")
    for part in options.only or PARTS:
        if part == "latency":
            results[part] = latency(sizes, say)
        elif part == "throughput":
            results[part] = throughput(sizes, say, peers=not options.no_peers)
        elif part == "first_token":
            results[part] = first_token(sizes, say)
        else:
            results[part] = idle(sizes, say)
    if options.json:
        print(json.dumps(results, indent=1))


def latency(sizes: Sizes, say: Callable[[str], None]) -> dict[str, Any]:
    """The SDK's synchronous client calls one way and directly, in pairs, in blocks that take turns; what each way adds."""
    with ExitStack() as stack:
        endpoint = stack.enter_context(started(upstream()))
        servers = {
            "direct": endpoint,
            "sdk": stack.enter_context(started(bare_handler(endpoint.url, "sdk"))),
            "climb": stack.enter_context(started(cascade_gateway(endpoint.url))),
            "relay": stack.enter_context(started(bare_handler(endpoint.url, "relay"))),
            "pass": stack.enter_context(
                started(cascade_gateway(endpoint.url))
            ),  # its own process: its time is told apart
        }

        def caller(name: str) -> Callable[[], None]:
            url = servers[name].url
            client = stack.enter_context(anthropic.Anthropic(base_url=url, api_key="none", max_retries=0))

            def call() -> None:
                messages: Any = [{"role": "user", "content": _QUESTION}]
                model = _CLIMB if name == "climb" else MODEL
                message = client.messages.create(model=model, max_tokens=500, messages=messages)
                assert message.stop_reason == "end_turn", message

            return call

        calls = {name: caller(name) for name in servers}
        ways = [name for name in calls if name != "direct"]
        differences: dict[str, list[float]] = {name: [] for name in ways}
        by_block: dict[str, list[float]] = {name: [] for name in ways}
        direct: list[float] = []
        cpu = dict.fromkeys(ways, 0.0)
        for block in range(sizes.blocks + 1):
            for name in ways[block % len(ways) :] + ways[: block % len(ways)]:  # the order favours none
                before = servers[name].cpu_s()
                pairs = [_pair(calls[name], calls["direct"], number) for number in range(_BLOCK)]
                if block:  # the first warms up
                    cpu[name] += servers[name].cpu_s() - before
                    differences[name] += [(ours - theirs) * 1e3 for ours, theirs in pairs]
                    by_block[name].append(statistics.median(differences[name][-_BLOCK:]))
                    direct += [theirs * 1e3 for _, theirs in pairs]
    count = sizes.blocks * _BLOCK
    cpu_ms = {name: cpu[name] / count * 1e3 for name in ways}
    added = {name: statistics.quantiles(differences[name], n=4) for name in ways}
    for name, ours, theirs in (("climb_over_sdk", "climb", "sdk"), ("pass_over_relay", "pass", "relay")):
        shares = [one - other for one, other in zip(by_block[ours], by_block[theirs], strict=True)]
        added[name] = statistics.quantiles(shares, n=4)
        cpu_ms[name] = cpu_ms[ours] - cpu_ms[theirs]
    say(f"\nlatency: {count} interleaved pairs each; the median of the paired difference, with its quartiles")
    say(f"  {'direct call':<40} {statistics.median(direct):7.3f} ms")
    for name, told in (
        ("climb", "a climb of one rung adds"),
        ("sdk", "  a bare handler that calls by the SDK"),
        ("climb_over_sdk", "  our share: the climb over that"),
        ("pass", "a pass-through adds"),
        ("relay", "  a bare handler that relays by aiohttp"),
        ("pass_over_relay", "  our share: the pass-through over that"),
    ):
        low, middle, high = added[name]
        say(f"  {told:<40} {middle:7.3f} ms   [{low:.3f}, {high:.3f}]   processor {cpu_ms[name]:.3f} ms")
    return {
        "pairs": count,
        "direct_ms": statistics.median(direct),
        "added_ms": {name: dict(zip(("q1", "median", "q3"), values, strict=True)) for name, values in added.items()},
        "processor_ms": cpu_ms,
    }


def _pair(ours: Callable[[], None], theirs: Callable[[], None], number: int) -> tuple[float, float]:
    """Seconds of one call each, A B or B A in turn."""
    began = time.perf_counter()
    (ours if number % 2 else theirs)()
    middle = time.perf_counter()
    (theirs if number % 2 else ours)()
    first, second = middle - began, time.perf_counter() - middle
    return (first, second) if number % 2 else (second, first)


@dataclass(frozen=True)
class Contender:
    """Where the load goes."""

    name: str
    server: Running
    body: Mapping[str, Any]
    path: str = "/v1/messages"


def throughput(sizes: Sizes, say: Callable[[str], None], *, peers: bool) -> dict[str, Any]:
    """Every contender in turn, over and over; medians of requests/s, and processor time by request."""
    results: dict[str, Any] = {}
    versions: dict[str, str] = {}
    say(f"\nthroughput: {sizes.repeats} interleaved loads of {sizes.seconds:g} s each; medians")
    for workers in sizes.workers:
        try:
            with _contenders(workers, peers=peers, say=say) as (contenders, found), Load() as load:
                versions |= found
                for connections in sizes.connections if workers == 1 else sizes.connections[-1:]:
                    table = _loads(contenders, load, connections, sizes)
                    results[f"{workers} worker(s), {connections} connections"] = table
                    _tell(f"{workers} worker(s), {connections} connections", table, say)
        except Unavailable as error:
            say(f"  {error}")
    say(f"  versions: {', '.join(f'{name} {version}' for name, version in versions.items()) or 'no peers'};")
    say(
        "  × its: over LiteLLM's own Messages endpoint, × raw: over its pass-through to Anthropic; firstpass is one process of threads"
    )
    return {"versions": versions, "loads": results}


_LITELLM = {"its": "litellm, /v1/messages", "raw": "litellm, /anthropic (raw)"}


def _tell(title: str, table: Mapping[str, Mapping[str, float]], say: Callable[[str], None]) -> None:
    heads = "".join(f"{head:>12}" for head in ("requests/s", *(f"× {short}" for short in _LITELLM), "p50 ms", "p99 ms"))
    say(f"  {title:<32}{heads}   processor ms/request")
    for name, row in table.items():
        ratios = [f"{row['per_s'] / table[peer]['per_s']:.1f}" if peer in table else "–" for peer in _LITELLM.values()]
        values = (f"{row['per_s']:.0f}", *ratios, f"{row['p50_ms']:.1f}", f"{row['p99_ms']:.1f}")
        say(f"    {name:<30}{''.join(f'{value:>12}' for value in values)}   {row['cpu_ms']:20.3f}")


@contextmanager
def _contenders(
    workers: int, *, peers: bool, say: Callable[[str], None]
) -> Iterator[tuple[list[Contender], dict[str, str]]]:
    plain = {"model": MODEL, "max_tokens": 500, "messages": [{"role": "user", "content": _QUESTION}]}
    versions: dict[str, str] = {}
    with ExitStack() as stack:
        endpoint = stack.enter_context(started(upstream()))
        state = stack.enter_context(started(redis())).url.replace("http:", "redis:") if workers > 1 else None
        gateway = stack.enter_context(started(cascade_gateway(endpoint.url, workers, state)))
        found = [
            Contender("cascade, climb", gateway, {**plain, "model": _CLIMB}),
            Contender("cascade, pass-through", gateway, plain),
        ]
        if peers:
            try:
                server = stack.enter_context(started(litellm(endpoint.url, workers)))
                versions["litellm"] = version_of("litellm")
                found.append(Contender(_LITELLM["its"], server, plain))
                found.append(Contender("litellm, /chat/completions", server, plain, "/chat/completions"))
                found.append(Contender(_LITELLM["raw"], server, plain, "/anthropic/v1/messages"))
            except (Unavailable, RuntimeError) as error:
                say(f"  {error}")
            try:
                server = stack.enter_context(started(firstpass(endpoint.url)))
                versions["firstpass"] = version_of("firstpass")
                found.append(Contender("firstpass, enforce", server, plain))
            except (Unavailable, RuntimeError) as error:
                say(f"  {error}")
        bare = stack.enter_context(started(bare_handler(endpoint.url, "sdk")))
        found.append(Contender("bare SDK handler, 1 worker", bare, plain))
        found.append(Contender("the endpoint itself", endpoint, plain))
        yield found, versions


def _loads(contenders: list[Contender], load: Load, connections: int, sizes: Sizes) -> dict[str, dict[str, Any]]:
    rows: dict[str, list[dict[str, Any]]] = {one.name: [] for one in contenders}
    for repeat in range(-1, sizes.repeats):  # the first warms up
        for one in contenders if repeat % 2 else reversed(contenders):
            cpu = one.server.cpu_s()
            row = load(
                "load",
                url=one.server.url,
                path=one.path,
                headers={"authorization": "Bearer none", "anthropic-version": "2026-10-21"},
                body=one.body,
                connections=connections,
                seconds=sizes.seconds if repeat >= 0 else 0.5,
            )
            if set(row["statuses"]) != {"200"}:
                raise SystemExit(f"{one.name}: {row['statuses']}: only 200 counts")
            row["cpu_ms"] = (one.server.cpu_s() - cpu) / row["requests"] * 1e3
            if repeat >= 0:
                rows[one.name].append(row)
    return {
        name: {key: statistics.median(row[key] for row in got) for key in ("per_s", "p50_ms", "p99_ms", "cpu_ms")}
        for name, got in rows.items()
    }


def first_token(sizes: Sizes, say: Callable[[str], None]) -> dict[str, Any]:
    """The first piece of text of a climb's stream, and of the same endpoint's own stream of a plain answer."""
    job: dict[str, Any] = {"path": "/v1/messages", "headers": {"authorization": "Bearer none"}, "marker": "text_delta"}
    body = {"max_tokens": 500, "stream": True, "messages": [{"role": "user", "content": _QUESTION}]}
    with (
        started(upstream(token_ms=_TOKEN_MS)) as endpoint,
        started(cascade_gateway(endpoint.url)) as gateway,
        Load() as load,
    ):
        times: dict[str, list[float]] = {"direct": [], "pass": [], "climb": []}
        for number in range(sizes.streams // 5 + 1):
            for name, url, model in (
                ("direct", endpoint.url, MODEL),
                ("pass", gateway.url, MODEL),
                ("climb", gateway.url, _CLIMB),
            ):
                got = load("first_token", url=url, body={**body, "model": model}, times=5, **job)
                times[name] += got if number else []
    direct, passed, climbed = (statistics.median(times[name]) * 1e3 for name in ("direct", "pass", "climb"))
    tokens = tokens_before_answer()
    over = climbed - direct - tokens * _TOKEN_MS
    say(f"\nfirst_token: {sizes.streams} streams each way, {_TOKEN_MS:g} ms a token; medians")
    say(f"  direct {direct:.2f} ms; pass-through {passed:.2f} ms (+{passed - direct:.2f}); climb {climbed:.2f} ms")
    say(f"  the climb's tokens before its answer: {tokens}, of {ENVELOPE[:32]!r}…: {tokens * _TOKEN_MS:.0f} ms")
    say(f"  over direct and those tokens: {over:.2f} ms")
    return {"direct_ms": direct, "pass_ms": passed, "climb_ms": climbed, "tokens": tokens, "over_ms": over}


def idle(sizes: Sizes, say: Callable[[str], None]) -> dict[str, Any]:
    """Resident memory of the gateway with silent streams open: before, when all have begun, and from then on."""
    body = {"model": _CLIMB, "max_tokens": 500, "stream": True, "messages": [{"role": "user", "content": _QUESTION}]}
    with (
        started(upstream(hold_s=sizes.idle_s + 120)) as endpoint,
        started(cascade_gateway(endpoint.url)) as gateway,
        Load() as load,
    ):
        job = {"url": gateway.url, "path": "/v1/messages", "headers": {"authorization": "Bearer none"}, "body": body}
        load("load", connections=4, seconds=0.5, **{**job, "body": {**body, "stream": False}})  # all is imported
        before = gateway.memory_mb()
        begun = load("open", connections=IDLE_CONNECTIONS, **job)["begun"]
        began = time.monotonic()
        samples: list[tuple[float, float]] = []
        while (at := time.monotonic() - began) <= sizes.idle_s:
            samples.append((at, gateway.memory_mb()))
            time.sleep(sizes.idle_s / 12)
        closed = load("close")
        time.sleep(1.0)
        after = gateway.memory_mb()
    settled = samples[2:]  # the first pings are written once
    slope = statistics.linear_regression(*zip(*settled, strict=True)).slope * 60 * 1024
    say(f"\nidle: {begun} of {IDLE_CONNECTIONS} streams open for {sizes.idle_s:g} s, {closed['lost']} lost")
    say(f"  resident: {before:.1f} MB before, {samples[0][1]:.1f} MB with all open, {samples[-1][1]:.1f} MB at the end")
    say(f"  slope {slope:+.0f} KB a minute over all streams; {after:.1f} MB after they were closed")
    return {
        "streams": begun, "lost": closed["lost"], "before_mb": before, "after_mb": after,
        "samples_mb": [round(value, 2) for _, value in samples], "slope_kb_per_minute": slope,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
