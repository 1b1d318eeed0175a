"""`python -m cascade` is `cascade`."""

from __future__ import annotations

from cascade.cli import main

__all__: list[str] = []

main()
