"""The charts over time: the canary's evidence, latency per batch, and the timeline of calls. Inline SVG."""

import math
from typing import Any

from markupsafe import Markup

from crew.report import svg
from crew.report.charts import WIDTH
from crew.report.collect import RecordedRun
from crew.report.evidence import number_of
from crew.report.svg import Scale
from crew.words import duration, number, one_line

Facts = dict[str, Any]
MOST_EVIDENCE = 3.0  # times what is needed; beyond it a course says nothing more
CHECK_CSS = ("c1", "c2", "c3", "c4", "c5")
LEFT, TOP, BOTTOM, RIGHT = 52, 24, 190, WIDTH - 8


def confidence(trajectory: Facts, measure: str) -> Markup:
    """The confidence sequence of the difference over the requests; it may be looked at any time."""
    looks = [
        (int(look["requests"]), low, high)
        for look in trajectory.get("looks", [])
        if (low := number_of(look.get("difference_low"))) is not None
        and (high := number_of(look.get("difference_high"))) is not None
        and number_of(look.get("requests"))
    ]
    if len(looks) < 2:
        return Markup("")
    # The first looks know next to nothing; their width would hide the rest.
    later = looks[len(looks) // 8 :]
    low, high = svg.padded([v for _, a, b in later for v in (a, b)] + [0.0])
    x, y = Scale(0, looks[-1][0], LEFT, RIGHT), Scale(low, high, BOTTOM, TOP)
    upper = [(x(n), y.clamp(b)) for n, _, b in looks]
    lower = [(x(n), y.clamp(a)) for n, a, _ in looks]
    parts = [
        *svg.y_axis(y, LEFT, RIGHT),
        svg.path([*upper, *lower[::-1]], "band", close=True),
        svg.path(upper, "c1 stroke"),
        svg.path(lower, "c1 stroke"),
        svg.line(LEFT, y(0), RIGHT, y(0), "threshold"),
        svg.text(LEFT + 4, y(0) + 13, "equal", "tick"),
        svg.text(LEFT, TOP - 10, f"{measure}: challenger better above, worse below", "tick"),
        *svg.x_axis(x, BOTTOM, "requests"),
    ]
    n, a, b = looks[-1]
    told = f"Confidence sequence of the difference. After {n} requests between {number(a)} and {number(b)}."
    return svg.figure(WIDTH, BOTTOM + 36, told, parts)


def evidence_course(trajectory: Facts) -> tuple[Markup, list[tuple[str, str]]]:
    """Evidence over the requests, as a share of what each verdict needs; and what the colours mean."""
    looks = [look for look in trajectory.get("looks", []) if number_of(look.get("requests"))]
    limits = trajectory.get("rollback_at_log_e")
    alpha = number_of(trajectory.get("alpha"))
    if len(looks) < 2 or not isinstance(limits, dict) or not alpha:
        return Markup(""), []
    needed = math.log(1 / alpha)
    lines: list[tuple[str, str, list[tuple[int, float]]]] = [
        ("good", "proof of no loss (promote)",
         [(look["requests"], (number_of(look.get("log_e_within_tolerance")) or 0.0) / needed) for look in looks])
    ]  # fmt: skip
    for i, (name, limit) in enumerate(limits.items()):
        if not number_of(limit):
            continue
        course = [(look["requests"], (number_of((look.get("log_e") or {}).get(name)) or 0.0) / limit) for look in looks]
        lines.append((CHECK_CSS[(i + 1) % len(CHECK_CSS)], f"proof of harm: {name} (roll back)", course))
    most = max(value for *_, course in lines for _, value in course)
    top = min(max(1.3, most * 1.05), MOST_EVIDENCE)
    cut = f" (drawn up to {MOST_EVIDENCE:g})" if most > top else ""
    x, y = Scale(0, looks[-1]["requests"], LEFT, RIGHT), Scale(0, top, BOTTOM, TOP)
    parts = [*svg.y_axis(y, LEFT, RIGHT), svg.line(LEFT, y(1), RIGHT, y(1), "threshold"),
             svg.text(RIGHT - 2, y(1) - 5, "enough to decide", "tick", "end"),
             svg.text(LEFT, TOP - 10, f"log e-value, as a share of what the verdict needs{cut}", "tick")]  # fmt: skip
    parts += [svg.path([(x(n), y.clamp(v)) for n, v in course], f"{css} stroke") for css, _, course in lines]
    parts += svg.x_axis(x, BOTTOM, "requests")
    told = "; ".join(f"{name}: {course[-1][1]:.0%} of what is needed" for _, name, course in lines)
    return svg.figure(WIDTH, BOTTOM + 36, f"Evidence at the last look. {told}.", parts), [(c, n) for c, n, _ in lines]


def latency(batches: list[Facts]) -> Markup:
    """95th percentile of the scoring latency per batch, of both variants."""
    courses = {
        variant: [(i, value) for i, batch in enumerate(batches)
                  if (value := number_of((batch.get(variant) or {}).get("latency_p95_ms"))) is not None]
        for variant in ("champion", "challenger")
    }  # fmt: skip
    values = [value for course in courses.values() for _, value in course]
    if not values:
        return Markup("")
    x, y = Scale(0, max(len(batches) - 1, 1), LEFT + 14, RIGHT - 14), Scale(0, max(values) * 1.15, BOTTOM, TOP)
    parts = [*svg.y_axis(y, LEFT, RIGHT), svg.line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis"),
             svg.text(LEFT, TOP - 10, "p95 latency of scoring one row, ms", "tick")]  # fmt: skip
    for css, (variant, course) in zip(("c1", "c2"), courses.items(), strict=True):
        points = [(x(i), y(value)) for i, value in course]
        parts.append(svg.path(points, f"{css} stroke"))
        parts += [
            svg.dot(px, py, 4, css, f"{variant}, batch {i + 1}: {number(value)} ms")
            for (px, py), (i, value) in zip(points, course, strict=True)
        ]
    parts += [svg.text(x(i), BOTTOM + 16, str(i + 1), "tick", "middle") for i in range(len(batches))]
    parts.append(svg.text(RIGHT, BOTTOM + 30, "batch", "tick", "end"))
    told = "; ".join(f"{name} {number(course[-1][1])} ms" for name, course in courses.items() if course)
    return svg.figure(WIDTH, BOTTOM + 36, f"Latency per batch; at the end {told}.", parts)


def gantt(run: RecordedRun) -> Markup:
    """Every call as a bar: one row per task, time to the right."""
    steps = [step for step in run.steps if step.state != "skipped"]
    rows = [(step.task, f"{step.title}") for step in steps]
    known = {task for task, _ in rows}
    if any(call.task not in known for call in run.calls):
        rows.append(("", "outside a task"))
    ends = [call.start_s + (call.duration_s or 0.0) for call in run.calls]
    if not ends:
        return Markup("")
    left, top, height, width = 216, 14, 24, 1060
    bottom = top + height * len(rows)
    x = Scale(0, max(max(ends), 0.1), left, width - 14)
    parts: list[Markup] = []
    for tick in svg.ticks(x.low, x.high, 8):
        parts += [
            svg.line(x(tick), top, x(tick), bottom, "grid"),
            svg.text(x(tick), bottom + 16, duration(tick) if tick else "0", "tick", "middle"),
        ]
    for i, (task, name) in enumerate(rows):
        y = top + i * height
        parts += [
            svg.text(left - 10, y + 16, one_line(name, 32), "name", "end"),
            svg.line(left, y + height, width - 14, y + height, "row"),
        ]
        for call in run.calls:
            if call.task != task and (task or call.task in known):
                continue
            took = call.duration_s or 0.0
            told = f"{call.id} {call.name}: {call.status}, {duration(call.duration_s)}. {one_line(call.message, 120)}"
            bar = svg.rect(
                x(call.start_s),
                y + 5,
                max(x(call.start_s + took) - x(call.start_s), 2.5),
                height - 10,
                _css(call.status, call.effect),
                told,
            )
            parts.append(Markup('<a href="#{}" tabindex="-1">{}</a>').format(f"call-{call.id}", bar))
    return svg.figure(width, bottom + 24, f"Timeline of {len(run.calls)} calls in {len(rows)} tasks.", parts, "gantt")


def _css(status: str, effect: str) -> str:
    if status not in ("ok", "no_data"):
        return "call-failed"
    return {"read": "call-read", "risky": "call-risky"}.get(effect, "call-write")
