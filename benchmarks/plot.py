"""Cost against quality on a recorded corpus, as an SVG: single models, the cascade's frontier, the certified point.

    python benchmarks/plot.py [CORPUS] [--max-risk 0.1] [-o docs/assets/cost-quality.svg]

All points are measured on the certify half. The curve is the tuning half's frontier (on a learned score), with each of
its thresholds replayed on the certify half, so that it shows held-out quality. The dashed line is random routing between
two single models.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

from cascade.calibration.proof.pareto_testing import Target
from cascade.calibration.run import Calibration, CalibrationOptions, calibrate
from cascade.replay.run import ReplayOptions, replay_corpus

HERE = Path(__file__).resolve().parent
RECORDED = HERE.parents[1] / "shared" / "corpora" / "mmlupro-gpt41.jsonl.gz"
WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 24, 52
POINTS = 60
Place = Callable[[float, float], tuple[float, float]]

STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #24292f }
  .axis { stroke: #8c959f; fill: none } .grid { stroke: #d0d7de; stroke-width: .6 }
  .curve { stroke: #0969da; fill: none; stroke-width: 2.5 } .mix { stroke: #8c959f; fill: none; stroke-dasharray: 5 4 }
  .single { fill: #57606a } .guess { fill: #cf222e } .certified { fill: #0969da }
  .small { font-size: 12px; fill: #57606a }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .grid { stroke: #30363d } .small { fill: #9198a1 } .single { fill: #9198a1 }
    .curve { stroke: #4493f8 } .certified { fill: #4493f8 } .guess { fill: #f85149 }
  }
"""


def main() -> None:
    """Draw one corpus."""
    parser = argparse.ArgumentParser(description="Cost against quality on a recorded corpus, as an SVG.")
    parser.add_argument("corpus", nargs="?", type=Path, default=RECORDED)
    parser.add_argument("--max-risk", type=float, default=0.1)
    parser.add_argument("-o", "--output", type=Path, default=HERE.parent / "docs" / "assets" / "cost-quality.svg")
    options = parser.parse_args()
    result = calibrate(
        [options.corpus], CalibrationOptions(Target("false_confident", options.max_risk, 0.05), scorer="right")
    )
    guess = replay_corpus(options.corpus, ReplayOptions(part="certify")).figures
    svg = draw(result, (1e3 * guess.cost_per_request_usd, guess.quality), options.max_risk)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(svg, encoding="utf-8")
    print(options.output)


def draw(result: Calibration, guess: tuple[float, float], risk: float) -> str:
    """The picture; `guess`: USD per 1,000 requests and quality at 0.80 on every rung."""
    held, choice = result.held_out, result.choice
    singles = {
        name: (1e3 * one.figures.cost_per_request_usd, one.figures.quality) for name, one in choice.singles.items()
    }
    step = max(1, len(choice.frontier) // POINTS)
    halves = [held.figures(point, "false_confident") for point in (*choice.frontier[::step], choice.frontier[-1])]
    curve = [(1e3 * half.cost_per_request_usd, half.quality) for half in halves]
    marks = [(*at, f"{name} alone", "single") for name, at in singles.items()]
    marks.append((*guess, "threshold 0.80, a guess", "guess"))
    if choice.certify is not None:
        at = 1e3 * choice.certify.cost_per_request_usd, choice.certify.quality
        marks.append((*at, f"certified: ≤ {risk:.0%} confidently wrong", "certified"))
    xs = [x for x, *_ in (*marks, *curve)]
    ys = [y for _, y, *_ in (*marks, *curve)]
    x_most, low, high = max(xs) * 1.12, min(ys) - 0.02, max(ys) + 0.02

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + x / x_most * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t">',
        f"<title id='t'>{escape(result.manifest.name)}: cost against quality on {len(held):,} held-out items</title>",
        f"<style>{STYLE}</style>",
        *_axes(x_most, low, high, place),
        _line("mix", [place(*at) for at in sorted(singles.values())]),
        _line("curve", [place(*at) for at in curve]),
    ]
    for x, y, label, kind in marks:
        across, down = place(x, y)
        left = kind == "single" and across > LEFT + 120  # they stand above and left of what mixes them
        side, anchor, lower = (-11, "end", -10) if left else (11, "start", 18)
        text = f'<text x="{across + side}" y="{down + lower}" text-anchor="{anchor}">{escape(label)}</text>'
        parts += [f'<circle class="{kind}" cx="{across}" cy="{down}" r="6"/>', text]
    foot = f"{result.manifest.name} (real, recorded), {len(held):,} items the search never saw"
    parts.append(f'<text class="small" x="{LEFT + 8}" y="{TOP - 6}">{escape(foot)}</text>')
    return "\n".join((*parts, "</svg>")) + "\n"


def _axes(x_most: float, low: float, high: float, place: Place) -> Iterable[str]:
    bottom = HEIGHT - BOTTOM
    for tick in _ticks(0, x_most):
        across, _ = place(tick, low)
        yield f'<text class="small" x="{across}" y="{bottom + 18}" text-anchor="middle">${tick:g}</text>'
    for tick in _ticks(low, high):
        _, down = place(0, tick)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down}" y2="{down}"/>'
        yield f'<text class="small" x="{LEFT - 8}" y="{down + 4}" text-anchor="end">{tick:.0%}</text>'
    yield f'<path class="axis" d="M{LEFT},{TOP}V{bottom}H{WIDTH - RIGHT}"/>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">cost of 1,000 requests, USD</text>'
    yield f'<text transform="translate(16,{(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">right answers</text>'


def _ticks(low: float, high: float) -> list[float]:
    step = next(one for one in (0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10) if (high - low) / one <= 6)
    first = -(-low // step)
    return [round((first + number) * step, 6) for number in range(int((high - first * step) / step) + 1)]


def _line(kind: str, points: Iterable[tuple[float, float]]) -> str:
    path = "L".join(f"{x},{y}" for x, y in points)
    return f'<path class="{kind}" d="M{path}"/>'


if __name__ == "__main__":
    main()
