"""The command line: `cascade ask | demo | doctor | replay | calibrate | costs | ledger | policy …`.

Exit codes: 0 ok, 1 unexpected, 2 usage, policy or corpus error, 3 not feasible or a requirement not met, 4 upstream
failure, 5 budget exhausted, 130 stopped by Ctrl-C, 141 stdout was closed early. Only the result goes to stdout; an error
is one line on stderr (with `--json`: one JSON object).
"""

from __future__ import annotations

import sys
from pathlib import Path

from cascade.cli.streams import PIPE_CLOSED, flush_streams, is_closed_pipe, open_missing, report_unwritable, unwritable
from cascade.core.errors import CascadeError, MissingExtra

__all__ = ["main", "run_command"]


def main() -> None:
    """Run the command line and exit."""
    open_missing()
    sys.path.append(str(Path.cwd()))  # for a policy's `module:function`, as with `python -m`
    try:
        code = run_command(sys.argv[1:])
    except KeyboardInterrupt:  # before `run_command` could catch it
        code = 130
    sys.exit(flush_streams(code))


def run_command(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        from cascade.cli import output  # noqa: PLC0415 - typer and rich are an extra
        from cascade.cli.app import UsageProblem, app  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        if missing.name not in ("rich", "typer"):
            raise
        print(f"cascade: {MissingExtra('the command line', 'cli')}", file=sys.stderr)  # noqa: T201
        return 2
    if not arguments:
        arguments = ["--help"]
    as_json = "--json" in arguments
    output.configure_logs()
    try:
        code = app(arguments, prog_name="cascade", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except CascadeError as error:
        return output.report(error, error.exit_code, as_json=as_json)
    except UsageProblem as error:
        return output.report(error, 2, as_json=as_json)
    except KeyboardInterrupt:
        print("cascade: stopped", file=sys.stderr)  # noqa: T201
        return 130
    except (OSError, SystemExit) as problem:
        if is_closed_pipe(problem):  # `cascade … | head -1`
            return PIPE_CLOSED
        if isinstance(problem, OSError) and unwritable(problem):
            return report_unwritable(problem)
        raise
