"""`cascade demo`: three scenes on synthetic requests, through the real SDK and the emulator, offline.

    guessed    600 support tickets at 0.80, as everyone ships it; its storm; an outage in the middle of a climb
    certified  the same tickets under thresholds that `calibrate` proved on other tickets, of other customers
    refused    requests to a coding assistant, where `calibrate` says that a cascade does not pay

Nothing here decides anything: the tickets climb as live requests do, the figures are those of `corpora.figures`, the
thresholds and the refusal are `calibrate`'s. The same corpus replayed by the rule gives the same tables (tests hold
them equal). The storm guard's clock is the tickets' own arrival time.
"""

from __future__ import annotations

from cascade.cli.demo.running import run_demo
from cascade.cli.demo.stage import TICKETS, demo_policy

__all__ = ["TICKETS", "demo_policy", "run_demo"]
