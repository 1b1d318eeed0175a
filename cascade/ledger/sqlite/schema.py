"""The SQLite ledger's schema as ordered migrations; `user_version` is the number applied.

A released migration is never changed; changes are appended. The views are for people:
`SELECT rung, sum(cost_usd) FROM steps GROUP BY rung`.
"""

from __future__ import annotations

from cascade.ledger.records import BUCKET_S, DAY_S

__all__ = ["APPLICATION_ID", "MIGRATIONS"]

APPLICATION_ID = 0x43415343
"""Marks a file as a ledger ("CASC"), so that no other program's database is written to."""

_TABLES = (
    "CREATE TABLE writers (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, at REAL NOT NULL) STRICT",
    """CREATE TABLE entries (
        id INTEGER PRIMARY KEY, writer INTEGER NOT NULL, seq INTEGER NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL,
        request TEXT NOT NULL, body TEXT NOT NULL, digest BLOB NOT NULL, UNIQUE (writer, seq)) STRICT""",
    # Not WITHOUT ROWID: texts are only appended, so no page is split and no copy of a text remains elsewhere.
    """CREATE TABLE contents (
        request TEXT NOT NULL, part TEXT NOT NULL, at REAL NOT NULL, salt BLOB NOT NULL, text TEXT NOT NULL,
        PRIMARY KEY (request, part)) STRICT""",
    "CREATE INDEX contents_at ON contents (at)",
    """CREATE TABLE spend (
        bucket INTEGER NOT NULL, policy TEXT NOT NULL, task TEXT NOT NULL, workflow TEXT NOT NULL, key TEXT NOT NULL,
        arm TEXT NOT NULL, rung TEXT NOT NULL, model TEXT NOT NULL, steps INTEGER NOT NULL, escalated INTEGER NOT NULL,
        cost INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,
        PRIMARY KEY (bucket, policy, task, workflow, key, arm, rung, model)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE traffic (
        bucket INTEGER NOT NULL, policy TEXT NOT NULL, task TEXT NOT NULL, workflow TEXT NOT NULL, arm TEXT NOT NULL,
        rung TEXT NOT NULL, slot INTEGER NOT NULL, requests INTEGER NOT NULL, answers INTEGER NOT NULL,
        resolved INTEGER NOT NULL, escalated INTEGER NOT NULL, cost INTEGER NOT NULL, cost_squared REAL NOT NULL,
        estimate INTEGER NOT NULL, estimated INTEGER NOT NULL,
        PRIMARY KEY (bucket, policy, task, workflow, arm, rung, slot)) STRICT, WITHOUT ROWID""",
    # Daily sums: a month of quarters of an hour is many rows.
    """CREATE TABLE spend_days (
        bucket INTEGER NOT NULL, policy TEXT NOT NULL, task TEXT NOT NULL, workflow TEXT NOT NULL, key TEXT NOT NULL,
        arm TEXT NOT NULL, rung TEXT NOT NULL, model TEXT NOT NULL, steps INTEGER NOT NULL, escalated INTEGER NOT NULL,
        cost INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,
        PRIMARY KEY (bucket, policy, task, workflow, key, arm, rung, model)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE traffic_days (
        bucket INTEGER NOT NULL, policy TEXT NOT NULL, task TEXT NOT NULL, workflow TEXT NOT NULL, arm TEXT NOT NULL,
        rung TEXT NOT NULL, slot INTEGER NOT NULL, requests INTEGER NOT NULL, answers INTEGER NOT NULL,
        resolved INTEGER NOT NULL, escalated INTEGER NOT NULL, cost INTEGER NOT NULL, cost_squared REAL NOT NULL,
        estimate INTEGER NOT NULL, estimated INTEGER NOT NULL,
        PRIMARY KEY (bucket, policy, task, workflow, arm, rung, slot)) STRICT, WITHOUT ROWID""",
)


def _view(name: str, kind: str, columns: str, fields: tuple[str, ...]) -> str:
    """One kind's entries as columns. An omitted field has the default given as `name=default`."""
    parts: list[str] = []
    for field in fields:
        name_of, _, default = field.partition("=")
        read = f"json_extract(e.body, '$.{name_of.strip()}')"
        parts.append(f"coalesce({read}, {default}) AS {name_of}" if default else f"{read} AS {name_of}")
    shown = f"e.request, datetime(e.at, 'unixepoch') AS time, e.at, {columns}{', '.join(parts)}"
    head = f"CREATE VIEW {name} AS SELECT {shown}, w.name AS writer, e.seq, e.id"
    return f"{head} FROM entries e JOIN writers w ON w.id = e.writer WHERE e.kind = '{kind}'"


_TOKENS = (
    "input_tokens=0",
    "output_tokens=0",
    "cache_write_5m=0",
    "cache_write_1h=0",
    "cache_read=0",
    "thinking_tokens=0",
)
_STEP = "json_extract(e.body, '$.index') AS step, "
_USD = "json_extract(e.body, '$.cost') / 1e9 AS cost_usd, "
_STEP_FIELDS = (
    "rung", "model", "verdict", "cost", *_TOKENS, "confidence", "source", "self_reported", "reason",
    "failed_checks='[]'", "detail=''", "repaired=0", "attempts=1", "latency_ms=0.0", "upstream_id",
)  # fmt: skip
_VIEWS = (
    _view(
        "requests", "request",
        "json_extract(e.body, '$.metadata.workflow') AS workflow, json_extract(e.body, '$.metadata.customer') AS customer, ",
        ("policy", "policy_hash", "prompt_hash", "task", "arm", "metadata='{}'", "flags='[]'", "observed_as"),
    ),
    _view("opens", "open", _STEP, ("rung", "model", "bound=0")),
    _view("steps", "step", _STEP + _USD, _STEP_FIELDS),
    _view(
        "outcomes", "outcome", _USD,
        (
            "arm", "cost", "steps", "latency_ms", "rung", "model", "confidence", "source", "degraded", "abstained",
            "error", "resolved=0", "certificate='uncertified'", "estimate", "slot=0",
        ),
    ),
    # Finds the most expensive requests without a scan.
    "CREATE INDEX entries_cost ON entries (json_extract(body, '$.cost')) WHERE kind = 'outcome'",
)  # fmt: skip

# Announced calls without a step: they are running, or their process was killed.
_CALLS = (
    """CREATE TABLE calls (
        writer INTEGER NOT NULL, request TEXT NOT NULL, step INTEGER NOT NULL, at REAL NOT NULL, policy TEXT NOT NULL,
        task TEXT NOT NULL, workflow TEXT NOT NULL, key TEXT NOT NULL, arm TEXT NOT NULL, bound INTEGER NOT NULL,
        PRIMARY KEY (writer, request, step)) STRICT, WITHOUT ROWID""",
)

# Whether a step's tokens and cost are an estimate.
_ESTIMATES = ("DROP VIEW steps", _view("steps", "step", _STEP + _USD, (*_STEP_FIELDS, "is_estimate=0")))


def _errors(table: str, length: int) -> tuple[str, str]:
    """Failed steps, counted apart from escalated ones; for existing rows they are counted from the entries."""
    keys = "policy, task, workflow, key, arm, rung, model"
    return (
        f"ALTER TABLE {table} ADD COLUMN errors INTEGER NOT NULL DEFAULT 0",
        f"""UPDATE {table} SET errors = found.errors FROM (
            SELECT CAST(s.at AS INTEGER) / {length} * {length} AS bucket, json_extract(r.body, '$.policy') AS policy,
            json_extract(r.body, '$.task') AS task, coalesce(json_extract(r.body, '$.metadata.workflow'), '') AS workflow,
            coalesce(json_extract(r.body, '$.metadata.key'), '') AS key, json_extract(r.body, '$.arm') AS arm,
            json_extract(s.body, '$.rung') AS rung, json_extract(s.body, '$.model') AS model, count(*) AS errors
            FROM entries s JOIN entries r ON r.kind = 'request' AND r.writer = s.writer AND r.request = s.request
            WHERE s.kind = 'step' AND instr(s.body, '"reason":"error"') GROUP BY 1, 2, 3, 4, 5, 6, 7, 8) AS found
            WHERE {" AND ".join(f"{table}.{key} = found.{key}" for key in ("bucket", *keys.split(", ")))}""",  # noqa: S608 - constants
    )


# Of a rung that is asked more than once each call is a row; `more`: not the last one of its step.
_VOTE = (
    "json_extract(e.body, '$.vote.agree') AS needed, json_extract(e.body, '$.vote.asked') AS asked,"
    " json_array_length(e.body, '$.vote.members') AS agreed, "
)
_SAMPLES = (
    "DROP VIEW steps",
    _view(
        "steps", "step", _STEP + _USD + _VOTE,
        (*_STEP_FIELDS, "is_estimate=0", "call=0", "sample", "variant", "judge=0", "more=0"),
    ),
    "DROP VIEW opens",
    _view("opens", "open", _STEP, ("rung", "model", "bound=0", "call=0")),
)  # fmt: skip

# A gateway's keys, and what callers said of answers (`ledger.gateway`).
_GATEWAY = (
    "CREATE TABLE gateway_keys (id TEXT PRIMARY KEY, at REAL NOT NULL, body TEXT NOT NULL) STRICT",
    """CREATE TABLE feedback (
        id INTEGER PRIMARY KEY, request TEXT NOT NULL, at REAL NOT NULL, score REAL NOT NULL, note TEXT, key TEXT NOT NULL)
        STRICT""",
    "CREATE INDEX feedback_request ON feedback (request)",
)

# What the audit keeps (`ledger.audit`). A sample is its outcome's twin; `owner` and `leased_until`: who grades it.
_AUDIT = (
    """CREATE TABLE audit_samples (
        request TEXT PRIMARY KEY, at REAL NOT NULL, policy TEXT NOT NULL, epoch TEXT NOT NULL, task TEXT NOT NULL,
        workflow TEXT NOT NULL, why TEXT NOT NULL, rung TEXT NOT NULL, place INTEGER NOT NULL, is_top INTEGER NOT NULL,
        confidence REAL, source TEXT, cost INTEGER NOT NULL, estimate INTEGER, flags TEXT NOT NULL, degraded TEXT,
        has_content INTEGER NOT NULL, state TEXT NOT NULL DEFAULT 'open', owner TEXT NOT NULL DEFAULT '',
        leased_until REAL NOT NULL DEFAULT 0, bound INTEGER NOT NULL DEFAULT 0, tries INTEGER NOT NULL DEFAULT 0,
        graded_at REAL NOT NULL DEFAULT 0, number INTEGER NOT NULL DEFAULT 0, grader TEXT NOT NULL DEFAULT '', score REAL,
        relation TEXT, reason TEXT, skipped TEXT, grading_cost INTEGER NOT NULL DEFAULT 0, shadow TEXT,
        shadow_cost INTEGER NOT NULL DEFAULT 0) STRICT""",
    "CREATE INDEX audit_samples_open ON audit_samples (policy, state, at)",
    "CREATE INDEX audit_samples_number ON audit_samples (policy, number)",
    "CREATE INDEX audit_samples_at ON audit_samples (at)",
    """CREATE TABLE audit_controls (
        id INTEGER PRIMARY KEY, policy TEXT NOT NULL, judge TEXT NOT NULL, is_right INTEGER NOT NULL, relation TEXT,
        at REAL NOT NULL, cost INTEGER NOT NULL) STRICT""",
    """CREATE TABLE audit_ratchets (
        policy TEXT PRIMARY KEY, certificate TEXT NOT NULL, step INTEGER NOT NULL, at REAL NOT NULL) STRICT""",
    """CREATE TABLE audit_marks (
        id INTEGER PRIMARY KEY, policy TEXT NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, details TEXT NOT NULL) STRICT""",
)

# Answers that a cheaper rung wrote by the plan of the one that answered are graded apart.
_HANDED = ("ALTER TABLE audit_samples ADD COLUMN executed_by TEXT NOT NULL DEFAULT ''",)

# What `ledger prune` leaves of a writer's chain (`verifying.anchors`).
_ANCHORS = (
    """CREATE TABLE anchors (
        writer INTEGER PRIMARY KEY, seq INTEGER NOT NULL, digest BLOB NOT NULL, entries INTEGER NOT NULL, ends REAL NOT NULL,
        at REAL NOT NULL) STRICT""",
    """CREATE TABLE anchored (
        writer INTEGER NOT NULL, seq INTEGER NOT NULL, previous BLOB NOT NULL, PRIMARY KEY (writer, seq)) STRICT""",
)

# What happened beside the requests (`ledger.marks`); `name` says what it is, so that it is put on record once. And a request is found by its id.
_MARKS = (
    """CREATE TABLE marks (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, at REAL NOT NULL, policy TEXT NOT NULL, kind TEXT NOT NULL,
        details TEXT NOT NULL) STRICT""",
    "CREATE INDEX marks_at ON marks (at)",
    "CREATE INDEX entries_request ON entries (request) WHERE kind = 'request'",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _TABLES, _VIEWS, _CALLS, _ESTIMATES, (*_errors("spend", BUCKET_S), *_errors("spend_days", DAY_S)), _SAMPLES,
    _GATEWAY, _AUDIT, _HANDED, _ANCHORS, _MARKS,
)  # fmt: skip
