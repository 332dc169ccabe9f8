"""Evaluates parsed PromQL over the store, with the arithmetic of Prometheus 2 (promql/functions.go, quantile.go)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from operator import add, eq, ge, gt, le, lt, mul, ne, sub

from tools.core.errors import FixableError
from tools.integrations.prometheus.promql import (
    Aggregate,
    Binary,
    Negative,
    Node,
    Number,
    Quantile,
    Rate,
    Selector,
)
from tools.integrations.prometheus.store import NAME, Labels, Point, Series, Store

LOOKBACK_MS = 300_000  # how old the last sample of an instant vector may be

Key = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Value:
    """One element of an instant vector."""

    labels: dict[str, str]
    value: float


Vector = list[Value]

_COMPARE: dict[str, Callable[[float, float], bool]] = {"==": eq, "!=": ne, ">": gt, "<": lt, ">=": ge, "<=": le}


def evaluate(node: Node, store: Store, t_ms: int) -> Vector | float:
    """The expression's value at one time: a vector, or a number when no series takes part.

    Raises:
        FixableError: the labels of two vectors do not match one to one, or numbers are compared.
    """
    match node:
        case Number():
            return node.value
        case Negative():
            inner = evaluate(node.operand, store, t_ms)
            return [Value(_without_name(v.labels), -v.value) for v in inner] if isinstance(inner, list) else -inner
        case Selector():
            return _instant(node, store, t_ms)
        case Rate():
            return _rates(node, store, t_ms)
        case Quantile():
            q = evaluate(node.q, store, t_ms)
            if isinstance(q, list):
                raise FixableError("histogram_quantile needs a number as its first argument, as in 0.95")
            return _histogram_quantile(q, _vector(node.vector, store, t_ms))
        case Aggregate():
            return _aggregate(node, _vector(node.vector, store, t_ms))
        case Binary():
            return _binary(node.op, evaluate(node.left, store, t_ms), evaluate(node.right, store, t_ms))


def _vector(node: Node, store: Store, t_ms: int) -> Vector:
    value = evaluate(node, store, t_ms)
    if isinstance(value, list):
        return value
    raise FixableError("expected series, got a number")


def _select(selector: Selector, store: Store, t_min: int, t_max: int) -> list[Series]:
    def accept(labels: Labels) -> bool:
        return all(matcher.accepts(labels.get(matcher.label, "")) for matcher in selector.matchers)

    name = next((m.value for m in selector.matchers if m.label == NAME and m.op == "="), None)
    return store.select(name, accept, t_min, t_max)


def _instant(selector: Selector, store: Store, t_ms: int) -> Vector:
    found = _select(selector, store, t_ms - LOOKBACK_MS, t_ms)
    return [Value(series.labels, series.points[-1].value) for series in found if not series.points[-1].stale]


def _rates(node: Rate, store: Store, t_ms: int) -> Vector:
    start = t_ms - node.selector.range_ms
    result: Vector = []
    for series in _select(node.selector, store, start, t_ms):
        points = [point for point in series.points if not point.stale]
        if len(points) >= 2:
            value = _extrapolated(points, start, t_ms)
            if node.function == "rate":
                value /= node.selector.range_ms / 1000.0
            result.append(Value(_without_name(series.labels), value))
    return result


def _extrapolated(points: list[Point], start_ms: int, end_ms: int) -> float:
    """The counter's increase over the window: resets added up, then extrapolated to the window's edges."""
    first, last = points[0], points[-1]
    increase = last.value - first.value
    for before, after in pairwise(points):
        if after.value < before.value:
            increase += before.value
    to_start = (first.t_ms - start_ms) / 1000.0
    to_end = (end_ms - last.t_ms) / 1000.0
    sampled = (last.t_ms - first.t_ms) / 1000.0
    between = sampled / (len(points) - 1)
    if increase > 0 and first.value >= 0:
        # A counter is never negative: do not extrapolate beyond the time at which it was zero.
        to_start = min(to_start, sampled * (first.value / increase))
    threshold = between * 1.1
    covered = sampled
    covered += to_start if to_start < threshold else between / 2
    covered += to_end if to_end < threshold else between / 2
    return increase * (covered / sampled)


def _aggregate(node: Aggregate, vector: Vector) -> Vector:
    groups: dict[Key, list[float]] = {}
    for element in vector:
        labels = {name: element.labels[name] for name in node.by if element.labels.get(name)}
        groups.setdefault(_key(labels), []).append(element.value)
    return [Value(dict(key), _combine(node.function, values)) for key, values in groups.items()]


def _combine(function: str, values: list[float]) -> float:
    finite = [value for value in values if not math.isnan(value)]
    match function:
        case "sum":
            return math.fsum(values) if all(map(math.isfinite, values)) else sum(values)
        case "avg":
            return sum(values) / len(values)
        case "count":
            return float(len(values))
        case "min":
            return min(finite, default=math.nan)
        case _:
            return max(finite, default=math.nan)


def _histogram_quantile(q: float, vector: Vector) -> Vector:
    groups: dict[Key, list[tuple[float, float]]] = {}
    for element in vector:
        bound = element.labels.get("le")
        if bound is None:
            continue
        try:
            upper = float(bound)
        except ValueError:
            continue
        labels = {name: text for name, text in element.labels.items() if name not in ("le", NAME)}
        groups.setdefault(_key(labels), []).append((upper, element.value))
    return [Value(dict(key), _bucket_quantile(q, buckets)) for key, buckets in groups.items()]


def _bucket_quantile(q: float, raw: list[tuple[float, float]]) -> float:
    if math.isnan(q):
        return math.nan
    if q < 0 or q > 1:
        return math.copysign(math.inf, q - 0.5)
    merged: dict[float, float] = {}
    for upper, count in sorted(raw):
        merged[upper] = merged.get(upper, 0.0) + count
    buckets: list[tuple[float, float]] = []
    highest = -math.inf
    for upper, count in merged.items():
        highest = max(highest, count)  # scrapes of single buckets may be of different moments
        buckets.append((upper, highest))
    if len(buckets) < 2 or buckets[-1][0] != math.inf or buckets[-1][1] == 0:
        return math.nan
    rank = q * buckets[-1][1]
    k = next((i for i, (_, count) in enumerate(buckets[:-1]) if count >= rank), len(buckets) - 1)
    if k == len(buckets) - 1:
        return buckets[-2][0]
    upper, count = buckets[k]
    if k == 0:
        if upper <= 0:
            return upper
        lower = 0.0
    else:
        lower, below = buckets[k - 1]
        count -= below
        rank -= below
    return lower + (upper - lower) * _divide(rank, count)


def _binary(op: str, left: Vector | float, right: Vector | float) -> Vector | float:
    if not isinstance(left, list) and not isinstance(right, list):
        if op in _COMPARE:
            raise FixableError("two numbers cannot be compared in PromQL without bool, which is not supported")
        return _arithmetic(op, left, right)
    if not isinstance(left, list):
        assert isinstance(right, list)
        return _each(op, [(element, left, element.value) for element in right])
    if not isinstance(right, list):
        return _each(op, [(element, element.value, right) for element in left])
    others = _by_labels(right)
    mine = _by_labels(left)
    pairs = [(element, _key(_without_name(element.labels))) for element in left]
    return _each(op, [(element, mine[key], others[key]) for element, key in pairs if key in others])


def _each(op: str, triples: list[tuple[Value, float, float]]) -> Vector:
    """Arithmetic gives the result without the metric's name; a comparison keeps the elements for which it holds."""
    if op in _COMPARE:
        return [element for element, a, b in triples if _COMPARE[op](a, b)]
    return [Value(_without_name(element.labels), _arithmetic(op, a, b)) for element, a, b in triples]


def _by_labels(vector: Vector) -> dict[Key, float]:
    found: dict[Key, float] = {}
    for element in vector:
        key = _key(_without_name(element.labels))
        if key in found:
            raise FixableError(f"several series have the labels {dict(key)}; aggregate with sum by (...) first")
        found[key] = element.value
    return found


def _arithmetic(op: str, a: float, b: float) -> float:
    match op:
        case "+":
            return add(a, b)
        case "-":
            return sub(a, b)
        case "*":
            return mul(a, b)
        case "/":
            return _divide(a, b)
        case "%":
            return math.fmod(a, b) if b and math.isfinite(a) else math.nan
        case _:
            return _power(a, b)


def _divide(a: float, b: float) -> float:
    """IEEE 754, as in Go: x/0 is an infinity, 0/0 NaN."""
    if b:
        return a / b
    if not a or math.isnan(a):
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def _power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except OverflowError:
        return math.inf
    except ValueError:
        return math.inf if a == 0 else math.nan


def _without_name(labels: Labels) -> dict[str, str]:
    return {name: value for name, value in labels.items() if name != NAME}


def _key(labels: Labels) -> Key:
    return tuple(sorted(labels.items()))
