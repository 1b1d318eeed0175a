"""`cascade demo`: three scenes on synthetic requests, through the real SDK and the emulator, offline.

    guessed    600 support tickets at thresholds of 0.80, with a storm, and an outage in the middle of a climb
    certified  the same tickets, under samples and thresholds that `calibrate` chose and certified on other customers'
               tickets; beside thresholds alone
    refused    requests to a coding assistant, where `calibrate` finds that a cascade does not pay

The tickets climb as live requests do, the figures are from `replay.figures`, and the thresholds and the refusal from
`calibrate`. Replaying the same corpus gives the same tables (tests hold them equal). The storm guard's clock is the
tickets' arrival time.
"""

from __future__ import annotations

from cascade.cli.demo.running import run_demo
from cascade.cli.demo.stage import TICKETS, demo_policy

__all__ = ["TICKETS", "demo_policy", "run_demo"]
