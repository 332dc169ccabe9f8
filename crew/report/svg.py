"""Small pieces of SVG: scales, ticks, marks. Every text is escaped.

Colours are CSS classes of the report's style sheet, so that a chart follows its light, dark and print form.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape


@dataclass(frozen=True)
class Scale:
    """Maps a range of values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return round(self.start + (value - self.low) / span * (self.end - self.start), 2)

    def clamp(self, value: float) -> float:
        return self(min(max(value, self.low), self.high))


def padded(values: Sequence[float], share: float = 0.08) -> tuple[float, float]:
    """The range of the values with room around it."""
    low, high = min(values), max(values)
    room = (high - low) * share or abs(high) * share or 1.0
    return low - room, high + room


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers inside a range, about `count` of them."""
    span = high - low
    if span <= 0 or not math.isfinite(span):
        return [low]
    raw = span / count
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9) * step
    found = [first + i * step for i in range(int((high - first) / step + 1e-9) + 1)]
    return [0.0 if abs(tick) < step / 1e6 else tick for tick in found]


def label(value: float) -> str:
    """A tick's text."""
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> Markup:
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(x1, y1, x2, y2, css)


def rect(x: float, y: float, width: float, height: float, css: str, told: str = "") -> Markup:
    """A rectangle; `told` appears when pointed at."""
    title = Markup("<title>{}</title>").format(told) if told else Markup("")
    return Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="1.5" class="{}">{}</rect>').format(
        round(x, 2), round(y, 2), round(max(width, 0.5), 2), round(max(height, 0), 2), css, title
    )


def dot(x: float, y: float, radius: float, css: str, told: str = "") -> Markup:
    title = Markup("<title>{}</title>").format(told) if told else Markup("")
    return Markup('<circle cx="{}" cy="{}" r="{}" class="{}">{}</circle>').format(x, y, radius, css, title)


def text(x: float, y: float, content: str, css: str = "", anchor: str = "start") -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}" class="{}">{}</text>').format(
        round(x, 2), round(y, 2), anchor, css, content
    )


def path(points: Sequence[tuple[float, float]], css: str, *, step: bool = False, close: bool = False) -> Markup:
    """A line through the points; `step` keeps the value until the next point."""
    if not points:
        return Markup("")
    parts = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for x, y in points[1:]:
        parts.append(f"H{x:g}V{y:g}" if step else f"L{x:g} {y:g}")
    return Markup('<path d="{}" class="{}"/>').format("".join(parts) + ("Z" if close else ""), css)


def figure(width: float, height: float, told: str, parts: Sequence[Markup], css: str = "") -> Markup:
    """An SVG that screen readers announce as one picture with the text `told`."""
    return Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}" class="{}" preserveAspectRatio="xMinYMin meet">{}</svg>'
    ).format(round(width), round(height), told, f"chart {css}".strip(), Markup("").join(parts))


def y_axis(scale: Scale, left: float, right: float, count: int = 4) -> list[Markup]:
    """Grid lines with their values at the left."""
    parts: list[Markup] = []
    for tick in ticks(scale.low, scale.high, count):
        y = scale(tick)
        parts += [line(left, y, right, y, "grid"), text(left - 6, y + 4, label(tick), "tick", "end")]
    return parts


def x_axis(scale: Scale, y: float, name: str, count: int = 5) -> list[Markup]:
    """Values under the bottom line, and what they are."""
    parts = [line(scale.start, y, scale.end, y, "axis")]
    parts += [text(scale(tick), y + 15, label(tick), "tick", "middle") for tick in ticks(scale.low, scale.high, count)]
    return [*parts, text(scale.end, y + 30, name, "tick", "end")]


def key(items: Sequence[tuple[str, str]]) -> Markup:
    """A legend as HTML: (css class of the colour, words)."""
    shown = [Markup('<li><span class="swatch {}"></span>{}</li>').format(css, escape(words)) for css, words in items]
    return Markup('<ul class="key">{}</ul>').format(Markup("").join(shown))
