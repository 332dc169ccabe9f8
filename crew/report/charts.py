"""The charts of what was measured: drift, metric over time, trials, comparison. Facts in (`evidence`), inline SVG out.

Each returns an empty string when there is nothing to draw. The call timeline and the canary are in `timeline`.
"""

from typing import Any

from markupsafe import Markup

from crew.report import svg
from crew.report.svg import Scale
from crew.words import number, one_line

Facts = dict[str, Any]
WIDTH = 480  # of a chart that shares its row with another, in pixels
WIDE = 1080  # of one that has a row for itself
MOST_STRENGTH = 4.0  # bars end here: how far beyond its threshold a score is matters little by then
MOST_COLUMNS = 30
ENGINE_CSS = ("c1", "c2", "c3")


def drift_bars(columns: list[Facts]) -> Markup:
    """One bar per column, in units of its threshold."""
    shown = [column for column in columns if column["strength"] is not None][:MOST_COLUMNS]
    if not shown:
        return Markup("")
    top, step, left = 24, 22, 150
    height = top + step * len(shown) + 26
    scale = Scale(0, min(max(1.25, max(c["strength"] for c in shown) * 1.05), MOST_STRENGTH), left, WIDTH - 46)
    bottom = top + step * len(shown)
    parts: list[Markup] = []
    for i, column in enumerate(shown):
        y = top + i * step
        name, strength = str(column["column"]), column["strength"]
        told = (
            f"{name}: {column.get('method')} {number(column.get('score'))}, threshold {number(column.get('threshold'))}"
        )
        css = "bar-drifted" if column.get("drifted") else "bar-quiet"
        end = scale.clamp(strength)
        parts += [
            svg.text(left - 8, y + 14, one_line(name, 22), "name", "end"),
            svg.rect(left, y + 3, end - left, step - 8, css, told),
            svg.text(end + 5, y + 14, number(column.get("score")), "value"),
        ]
    limit = scale(1)
    parts += [
        svg.line(limit, top - 6, limit, bottom, "threshold"),
        svg.text(limit, top - 11, "threshold", "tick", "middle"),
        svg.text(left, bottom + 18, "score of the drift test, in units of its threshold", "tick"),
    ]
    drifted = [str(c["column"]) for c in shown if c.get("drifted")]
    told = f"Drift per column. Beyond the threshold: {', '.join(drifted) or 'none'}."
    return svg.figure(WIDTH, height, told, parts)


def histogram(name: str, profile: Facts) -> Markup:
    """Shares of the reference and the current rows per bin or value."""
    before, now = _shares(profile.get("reference")), _shares(profile.get("current"))
    if not before or len(before) != len(now):
        return Markup("")
    width, height, left, bottom, top = 300, 170, 34, 138, 10
    scale = Scale(0, max(*before, *now, 1e-9) * 1.08, bottom, top)
    slot = (width - left - 6) / len(before)
    category = profile.get("kind") == "category"
    parts = svg.y_axis(scale, left, width - 6, 3)
    edges, values = profile.get("edges") or [], profile.get("values") or []
    for i, (a, b) in enumerate(zip(before, now, strict=True)):
        x = left + i * slot
        what = str(values[i]) if i < len(values) else _bin(edges, i)
        wide = slot * 0.42
        parts += [
            svg.rect(x + slot * 0.06, scale(a), wide, bottom - scale(a), "reference", f"{what}: reference {a:.1%}"),
            svg.rect(x + slot * 0.52, scale(b), wide, bottom - scale(b), "current", f"{what}: current {b:.1%}"),
        ]
        if category:
            room = max(int(slot / 5.6), 3)
            parts.append(
                svg.text(x + slot / 2, bottom + 13 + (i % 2) * 12, one_line(what, room * 2 - 1), "tick", "middle")
            )
    parts.append(svg.line(left, bottom, width - 6, bottom, "axis"))
    if not category and len(edges) == len(before) + 1:
        x = Scale(float(edges[0]), float(edges[-1]), left, width - 6)
        parts += [
            svg.text(x(tick), bottom + 14, svg.label(tick), "tick", "middle") for tick in svg.ticks(x.low, x.high, 4)
        ]
    return svg.figure(width, height, f"Distribution of {name}, reference and current, as shares of the rows.", parts)


def _shares(counts: Any) -> list[float]:
    if not isinstance(counts, list) or not all(isinstance(count, int | float) for count in counts):
        return []
    total = sum(counts) or 1
    return [count / total for count in counts]


def _bin(edges: list[Any], i: int) -> str:
    return f"{number(edges[i])} to {number(edges[i + 1])}" if i + 1 < len(edges) else f"bin {i + 1}"


def metric_over_time(points: list[Facts], marks: list[tuple[float, str]], metric: str, floor: float | None) -> Markup:
    """Evaluations in the order they were made, one line per model; dashed lines where something was decided.

    The same model on the same rows with the same value is one measurement, however many tasks asked for it.
    """
    measured = [point for point in points if point["value"] is not None]
    points = [*{(p["model"], p["data"], p["value"]): p for p in reversed(measured)}.values()][::-1]
    if not points:
        return Markup("")
    events: list[tuple[float, Facts | str]] = [(p["at_s"], p) for p in points]
    events += [(at, words) for at, words in marks]
    events.sort(key=lambda event: event[0])
    left, top, bottom = 46, 34, 218
    slot = max(96, (WIDE - left - 20) / len(events))
    width = left + slot * len(events) + 20
    values = [p["value"] for p in points] + ([floor] if floor is not None else [])
    scale = Scale(*svg.padded(values, 0.15), bottom, top)
    parts = svg.y_axis(scale, left, width - 10)
    if floor is not None:
        y = scale(floor)
        parts += [svg.line(left, y, width - 10, y, "threshold"),
                  svg.text(width - 12, y - 5, f"goal's minimum {number(floor)}", "tick", "end")]  # fmt: skip
    models = list(dict.fromkeys(p["model"] for p in points))
    lines: dict[str, list[tuple[float, float]]] = {model: [] for model in models}
    above: list[Markup] = []
    for i, (_, event) in enumerate(events):
        x = left + slot * (i + 0.5)
        if isinstance(event, str):
            parts += [svg.line(x, top - 8, x, bottom, "decision"), svg.text(x, top - 14, event, "mark", "middle")]
            continue
        y, css = scale(event["value"]), f"c{models.index(event['model']) % 3 + 1}"
        lines[event["model"]].append((x, y))
        told = f"{event['model']} on {event['data']}: {metric} {number(event['value'])}"
        above += [
            svg.dot(x, y, 5, f"{css} halo", told),
            svg.text(x, y - 11, number(event["value"]), "value strong", "middle"),
            svg.text(x, bottom + 17, one_line(str(event["model"]), 17), "name", "middle"),
            svg.text(x, bottom + 31, one_line(f"on {event['data']}", 17), "tick", "middle"),
        ]  # fmt: skip
    parts += [svg.path(line, f"c{i % 3 + 1} stroke") for i, line in enumerate(lines.values())]
    parts += [svg.line(left, bottom, width - 10, bottom, "axis"), svg.text(left - 36, top - 14, metric, "tick")]
    told = "; ".join(f"{p['model']} on {p['data']}: {number(p['value'])}" for p in points)
    return svg.figure(width, bottom + 40, f"{metric} over the run. {told}.", [*parts, *above], "wide")


def forecast(found: Facts) -> Markup:
    """The batches so far, the level expected after them with its interval, the threshold and when it is crossed."""
    course = found["course"]
    readings = _rows(course.get("readings"), 2)
    ahead = _rows(course.get("ahead"), 4)
    threshold = course.get("threshold")
    if len(readings) < 2 or not isinstance(threshold, int | float):
        return Markup("")
    now = readings[-1][0]
    end = max(t for t, *_ in [*readings, *ahead])
    size, unit = _time_unit(end - readings[0][0], str(found.get("unit")))
    left, top, bottom, right = 52, 30, 196, WIDTH - 8
    levels = [v for _, v in readings] + [v for _, *band in ahead for v in band] + [threshold]
    x = Scale((readings[0][0] - now) / size, (end - now) / size, left, right)
    y = Scale(*svg.padded(levels), bottom, top)

    def at(t: float) -> float:
        return x.clamp((t - now) / size)

    lower, upper = [(at(t), y(low)) for t, low, _, _ in ahead], [(at(t), y(high)) for t, _, _, high in ahead]
    name = str(found["measure"])
    parts = [
        *svg.y_axis(y, left, right),
        svg.path([*upper, *lower[::-1]], "band", close=True),
        svg.path([(at(t), y(middle)) for t, _, middle, _ in ahead], "c2 stroke"),
        *[svg.dot(at(t), y(v), 2.6, "c1 soft", f"{name} {number(v)}") for t, v in readings],
        svg.line(at(now), top - 4, at(now), bottom, "decision"),
        svg.text(at(now), top - 8, "now", "tick", "middle"),
        svg.line(left, y(threshold), right, y(threshold), "threshold"),
        svg.text(left + 4, y(threshold) - 5, f"threshold {number(threshold)}", "tick"),
        *svg.x_axis(x, bottom, f"{unit} from the newest row"),
        svg.text(left - 40, top - 14, name, "tick"),
    ]
    expected, earliest = found.get("expected_at_s"), found.get("earliest_at_s")
    if found.get("outlook") == "crossing" and expected is not None and earliest is not None:
        latest = found.get("latest_at_s")
        parts += [
            svg.line(at(earliest), y(threshold), at(end if latest is None else latest), y(threshold), "whisker bad"),
            svg.dot(at(expected), y(threshold), 5, "bad halo", "expected crossing"),
        ]
    return svg.figure(WIDTH, bottom + 36, f"Forecast of {name}. {found.get('message')}", parts)


def _rows(value: Any, width: int) -> list[tuple[float, ...]]:
    """The rows of a list that hold `width` numbers."""
    rows = value if isinstance(value, list) else []
    return [
        tuple(row)
        for row in rows
        if isinstance(row, list) and len(row) == width and all(isinstance(item, int | float) for item in row)
    ]


def _time_unit(span: float, unit: str) -> tuple[float, str]:
    """What a span of time is best counted in: its seconds (or rows), and its name."""
    if unit == "rows":
        return 1.0, "rows"
    known = ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes"))
    return next(((size, name) for size, name in known if span >= 3 * size), (1.0, "seconds"))


def trials(studies: list[Facts]) -> Markup:
    """Value of every trial over all searches, and the best so far."""
    studies = [study for study in studies if any(t["value"] is not None for t in study["trials"])]
    if not studies:
        return Markup("")
    values = sorted(t["value"] for s in studies for t in s["trials"] if t["value"] is not None)
    high_is_good = studies[0]["direction"] == "maximize"
    # The worst tenth would squeeze the rest into a line; those trials are drawn at the edge.
    tenth = len(values) // 10
    low, high = svg.padded(values[tenth:] if high_is_good else values[: len(values) - tenth or None])
    left, top, bottom, right = 52, 26, 196, WIDTH - 8
    count = sum(len(study["trials"]) for study in studies)
    x, y = Scale(0, max(count - 1, 1), left + 8, right - 8), Scale(low, high, bottom, top)
    parts = svg.y_axis(y, left, right)
    best: float | None = None
    course: list[tuple[float, float]] = []
    dots: list[Markup] = []
    at = 0
    for s, study in enumerate(studies):
        css = ENGINE_CSS[s % len(ENGINE_CSS)]
        parts.append(svg.text(x(at) - 4, top - 10, f"{study['engine']}", "mark"))
        if at:
            border = (x(at) + x(at - 1)) / 2
            parts.append(svg.line(border, top - 4, border, bottom, "decision"))
        for trial in study["trials"]:
            value = trial["value"]
            if value is None:
                dots.append(svg.text(x(at), bottom - 4, "\N{MULTIPLICATION SIGN}", "failed", "middle"))
            else:
                told = f"{study['engine']} trial {trial['number']}: {trial['family']} {number(value)}"
                dots.append(svg.dot(x(at), y.clamp(value), 3.2, f"{css} soft", told))
                best = value if best is None else (max if high_is_good else min)(best, value)
            if best is not None:
                course.append((x(at), y.clamp(best)))
            at += 1
    parts += [*dots, svg.path(course, "best", step=True), *svg.x_axis(x, bottom, "trial")]
    told = f"{count} trials; best {studies[0]['metric']} {number(best)}."
    return svg.figure(WIDTH, bottom + 36, told, parts)


_COSTS = {
    "latency": ("latency_ms", 1.0, "latency, ms per prediction"),
    "size": ("size_bytes", 2.0**20, "size, MiB"),
    "fairness": ("fairness_gap", 1.0, "fairness gap"),
}


def front(facts: Facts, chosen: str) -> list[Markup]:
    """A picture for each objective beside the metric: every trial, the options by their names, the chosen one apart."""
    names = {number: name for name, number in (facts.get("options") or {}).items()}
    pictures: list[Markup] = []
    for objective in facts.get("objectives") or ():
        if objective not in _COSTS:
            continue
        key, unit, words = _COSTS[objective]
        points = [
            (trial[key] / unit, trial["value"], names.get(int(trial["number"])))
            for trial in facts["trials"]
            if trial["value"] is not None and trial[key] is not None and trial["number"] is not None
        ]
        if points:
            pictures.append(_front(points, facts["metric"], words, chosen))
    return pictures


def _front(points: list[tuple[float, float, str | None]], metric: str, words: str, chosen: str) -> Markup:
    left, top, bottom, right = 52, 34, 206, WIDTH - 14
    x = Scale(*svg.padded([p[0] for p in points]), left, right)
    y = Scale(*svg.padded([p[1] for p in points], 0.12), bottom, top)
    parts = [*svg.y_axis(y, left, right), *svg.x_axis(x, bottom, words), svg.text(left - 40, top - 18, metric, "tick")]
    for cost, value, name in sorted(points, key=lambda p: (p[2] is not None, p[2] == chosen)):
        told = f"{name or 'trial'}: {metric} {number(value)}, {words} {number(cost)}"
        css = "c2 soft" if name is None else "good halo" if name == chosen else "c1 halo"
        parts.append(svg.dot(x(cost), y(value), 3.2 if name is None else 6, css, told))
        if name is not None:
            anchor = "end" if x(cost) > (left + right) / 2 else "start"
            parts.append(svg.text(x(cost), y(value) - 11, name, "value strong", anchor))
    options = "; ".join(f"{name}: {number(value)} at {number(cost)}" for cost, value, name in points if name)
    return svg.figure(WIDTH, bottom + 36, f"{metric} against {words}. {options}.", parts)


def interval(low: Any, value: Any, high: Any, name: str) -> Markup:
    """A difference with its interval, and zero: where the two models are equal."""
    if not all(isinstance(v, int | float) for v in (low, value, high)):
        return Markup("")
    start, end = svg.padded([low, high, 0.0], 0.15)
    x, y = Scale(start, end, 14, WIDTH - 14), 46
    proven = low > 0 or high < 0
    css = "good" if low > 0 else "bad" if high < 0 else "unsure"
    parts = [
        *svg.x_axis(x, 74, name),
        svg.line(x(0), 18, x(0), 74, "threshold"),
        svg.text(x(0), 12, "equal", "tick", "middle"),
        svg.line(x(low), y, x(high), y, f"whisker {css}"),
        svg.dot(x(value), y, 6, f"{css} halo", number(value)),
        svg.text(x(value), y - 12, f"{number(value)}", "value strong", "middle"),
    ]
    told = (
        f"{name}: {number(value)}, between {number(low)} and {number(high)}; {'' if proven else 'not '}beyond chance."
    )
    return svg.figure(WIDTH, 108, told, parts)
