"""The audit's benchmarks: `python benchmarks/audit.py PART [arguments]`; each part is a file `audit_PART.py` that runs by itself too."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

_PARTS = {path.stem.removeprefix("audit_"): path for path in sorted(Path(__file__).parent.glob("audit_*.py"))}


def main() -> None:
    """Run one part."""
    if len(sys.argv) < 2 or sys.argv[1] not in _PARTS:
        sys.exit(f"{(__doc__ or '').strip()} Parts: {', '.join(_PARTS)}")
    part = str(_PARTS[sys.argv[1]])
    sys.argv[:] = [part, *sys.argv[2:]]
    runpy.run_path(part, run_name="__main__")


if __name__ == "__main__":
    main()
