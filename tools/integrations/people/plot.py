"""The plot of a trade-off as an SVG file of its own: every candidate, and the options by their numbers. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from tools.integrations.people.tradeoff import COSTS, Candidate

PANEL_WIDTH, HEIGHT = 460, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 44, 54
UNITS = {"latency": "latency, ms per prediction", "size": "size, MiB", "fairness": "fairness gap"}
MIB = 2**20
STYLE = (
    "svg{font:13px system-ui,sans-serif;background:#fff}text{fill:#333}.axis{stroke:#999}.grid{stroke:#e4e4e4}"
    ".trial{fill:#9aa7b4}.option{fill:#1f6feb}.number{fill:#fff;font-weight:600}.tick{fill:#777;font-size:11px}"
)


@dataclass(frozen=True)
class _Axis:
    """Values to pixels; the costs that span a large range by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (
            (math.log(v) for v in (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        )
        return round(self.start + (at - low) / ((high - low) or 1.0) * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Both ends and the middle of the data."""
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return [self.low, middle, self.high]


def front_svg(
    candidates: Sequence[Candidate],
    chosen: Sequence[Candidate],
    titles: Sequence[str],
    metric: str,
    costs: Sequence[str],
) -> str:
    """A panel for each cost with the metric over it, and a legend of the options.

    Args:
        candidates: every trial that was weighed.
        chosen, titles: the options in their order, and what each is called.
        costs: objectives but for quality, at least one.
    """
    width, legend = PANEL_WIDTH * len(costs), 22 * len(titles) + 12
    parts = [_panel(candidates, chosen, metric, cost, PANEL_WIDTH * place, titles) for place, cost in enumerate(costs)]
    for place, title in enumerate(titles):
        y = HEIGHT + 18 + 22 * place
        parts += [_dot(LEFT - 20, y - 4, place + 1), f'<text x="{LEFT - 4}" y="{y}">{escape(title)}</text>']
    told = f"{metric} against {' and '.join(costs)}: {len(candidates)} trials; options: {'; '.join(titles)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT + legend}" role="img" '
        f'viewBox="0 0 {width} {HEIGHT + legend}"><title>{escape(told)}</title><style>{STYLE}</style>'
        f"{''.join(parts)}</svg>\n"
    )


def _panel(
    candidates: Sequence[Candidate],
    chosen: Sequence[Candidate],
    metric: str,
    cost: str,
    shift: float,
    titles: Sequence[str],
) -> str:
    xs = [_shown(c, cost) for c in candidates]
    ys = [c.value for c in candidates]
    log = min(xs) > 0 and cost != "fairness"
    x = _Axis(min(xs), max(xs), LEFT + 12, PANEL_WIDTH - RIGHT - 12, log)
    y = _Axis(min(ys), max(ys), HEIGHT - BOTTOM - 10, TOP + 10)
    floor = HEIGHT - BOTTOM
    parts = [f'<line x1="{LEFT}" y1="{floor}" x2="{PANEL_WIDTH - RIGHT}" y2="{floor}" class="axis"/>']
    for tick in dict.fromkeys(y.ticks()):
        at = y(tick)
        parts.append(f'<line x1="{LEFT}" y1="{at}" x2="{PANEL_WIDTH - RIGHT}" y2="{at}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4}" text-anchor="end" class="tick">{tick:.4g}</text>')
    for tick in dict.fromkeys(x.ticks()):
        parts.append(f'<text x="{x(tick)}" y="{floor + 17}" text-anchor="middle" class="tick">{tick:.3g}</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 18}">{escape(metric)}</text>')
    parts.append(f'<text x="{PANEL_WIDTH - RIGHT}" y="{floor + 38}" text-anchor="end">{escape(UNITS[cost])}</text>')
    for candidate in candidates:
        told = f"trial {candidate.number + 1}, {candidate.family}: {metric} {candidate.value:.4g}, {COSTS[cost]} "
        told += f"{candidate.costs[cost]:.4g}"
        at = f'cx="{x(_shown(candidate, cost))}" cy="{y(candidate.value)}"'
        parts.append(f'<circle {at} r="4" class="trial"><title>{escape(told)}</title></circle>')
    for place, candidate in enumerate(chosen):
        parts.append(_dot(x(_shown(candidate, cost)), y(candidate.value), place + 1))
    return f'<g transform="translate({shift} 0)">{"".join(parts)}</g>'


def _shown(candidate: Candidate, cost: str) -> float:
    return candidate.costs[cost] / MIB if cost == "size" else candidate.costs[cost]


def _dot(x: float, y: float, number: int) -> str:
    return (
        f'<circle cx="{x}" cy="{y}" r="9" class="option"/>'
        f'<text x="{x}" y="{y + 4.5}" text-anchor="middle" class="number">{number}</text>'
    )
