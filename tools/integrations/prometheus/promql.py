"""Parser of the supported subset of PromQL: text to a small tree."""

import re
from dataclasses import dataclass
from typing import Literal

from tools.core.errors import FixableError, shorten

SUPPORTED = (
    'numbers; selectors name{label="x", label!="x", label=~"re", label!~"re"}; rate() and increase() over '
    "[5m]-style ranges (ms, s, m, h, d); sum, avg, min, max, count with or without by (labels); "
    "histogram_quantile(q, ...); + - * / % ^ and == != > < >= <= between vectors with equal labels and numbers"
)
AGGREGATIONS = ("sum", "avg", "min", "max", "count")
RATES = ("rate", "increase")
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)(?![\w:]))
  | (?P<duration>(?:\d+(?:ms|s|m|h|d|w))+(?!\w))
  | (?P<name>[A-Za-z_:][\w:]*)
  | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
  | (?P<op>=~|!~|==|!=|>=|<=|[-+*/%^<>=(){}\[\],:@])
)""",
    re.VERBOSE,
)
MAX_TOKENS = 1_000
MAX_DEPTH = 60
MAX_RANGE_MS = 10 * 366 * 86_400_000
MAX_PATTERN_CHARS = 300
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
# A repeated group can take exponential time here (Prometheus' own engine cannot), many repetitions nearly as much.
_COSTLY = re.compile(r"\)[*+{]|\(\?[^:]|(?:[*+{][^*+{]*){5}", re.DOTALL)
_PRECEDENCE = {
    **dict.fromkeys(("==", "!=", ">", "<", ">=", "<="), 1),
    **dict.fromkeys(("+", "-"), 2),
    **dict.fromkeys(("*", "/", "%"), 3),
    "^": 5,
}
_UNARY = 4


@dataclass(frozen=True)
class Number:
    value: float


@dataclass(frozen=True)
class Matcher:
    """A condition on a label; an absent label counts as empty. Regular expressions match whole values."""

    label: str
    op: Literal["=", "!=", "=~", "!~"]
    value: str

    def accepts(self, value: str) -> bool:
        match self.op:
            case "=":
                return value == self.value
            case "!=":
                return value != self.value
            case "=~":
                return re.fullmatch(self.value, value) is not None
            case "!~":
                return re.fullmatch(self.value, value) is None


@dataclass(frozen=True)
class Selector:
    """Series by their labels; the metric's name is the matcher on `__name__`. `range_ms` 0: an instant vector."""

    matchers: tuple[Matcher, ...]
    range_ms: int = 0


@dataclass(frozen=True)
class Rate:
    function: str
    selector: Selector


@dataclass(frozen=True)
class Quantile:
    q: "Node"
    vector: "Node"


@dataclass(frozen=True)
class Aggregate:
    function: str
    by: tuple[str, ...]
    vector: "Node"


@dataclass(frozen=True)
class Binary:
    op: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True)
class Negative:
    operand: "Node"


Node = Number | Selector | Rate | Quantile | Aggregate | Binary | Negative


def parse(text: str) -> Node:
    """The tree of an expression.

    Raises:
        FixableError: not PromQL, or outside the subset; says what is supported.
    """
    parser = _Parser(text)
    node = parser.expression(0)
    parser.end()
    if isinstance(node, Selector) and node.range_ms:
        raise parser.error("a range needs rate() or increase() around it")
    return node


def quoted(value: str) -> str:
    """A value as a PromQL string, whatever is in it."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        self.at = 0
        self.depth = 0
        position = 0
        body = text.rstrip()
        while position < len(body):
            match = _TOKEN.match(body, position)
            if match is None or match.lastgroup is None:
                raise self.error(f"cannot read {body[position : position + 20]!r}")
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()
            if len(self.tokens) > MAX_TOKENS:
                raise self.error(f"it is too long: more than {MAX_TOKENS} words and signs")

    def error(self, what: str) -> FixableError:
        shown = shorten(self.text, 120)
        return FixableError(f"PromQL {shown!r}: {what}. The embedded store supports {SUPPORTED}")

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self, kind: str | None = None, value: str | None = None) -> str:
        found = self.peek()
        if (kind is not None and found[0] != kind) or (value is not None and found[1] != value):
            raise self.error(f"expected {value or kind}, got {found[1] or 'the end'!r}")
        self.at += 1
        return found[1]

    def accept(self, value: str) -> bool:
        if self.peek()[1] == value and self.peek()[0] in ("op", "name"):
            self.at += 1
            return True
        return False

    def end(self) -> None:
        if self.peek()[0] != "end":
            raise self.error(f"{self.peek()[1]!r} is not supported here")

    def expression(self, minimum: int) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"it is nested deeper than {MAX_DEPTH}")
        left = self.operand()
        chained = 0
        while (op := self.peek()[1]) in _PRECEDENCE and self.peek()[0] == "op" and _PRECEDENCE[op] >= minimum:
            self.take()
            if self.peek()[1] in ("bool", "on", "ignoring"):
                raise self.error(f"the modifier {self.peek()[1]} is not supported")
            # ^ groups to the right, everything else to the left.
            right = self.expression(_PRECEDENCE[op] + (0 if op == "^" else 1))
            for side in (left, right):
                if isinstance(side, Selector) and side.range_ms:
                    raise self.error("a range needs rate() or increase() around it")
            left = Binary(op, left, right)
            chained += 1
            if chained > MAX_DEPTH:
                raise self.error(f"it combines more than {MAX_DEPTH} values in a row")
        self.depth -= 1
        return left

    def operand(self) -> Node:
        kind, value = self.peek()
        if kind == "op" and value in "+-":
            self.take()
            operand = self.expression(_UNARY)
            return operand if value == "+" else Negative(operand)
        if self.accept("("):
            inner = self.expression(0)
            self.take(value=")")
            return inner
        if kind == "number":
            return Number(float(self.take()))
        if kind == "name":
            following = self.tokens[self.at + 1][1] if self.at + 1 < len(self.tokens) else ""
            if value.lower() in ("inf", "nan") and following not in ("{", "["):
                return Number(float(self.take()))
            if value in AGGREGATIONS and following in ("(", "by"):
                return self.aggregate()
            if following == "(":
                return self.function()
            return self.selector()
        if value == "{":
            return self.selector()
        raise self.error(f"expected a number, a selector or a function, got {value or 'the end'!r}")

    def aggregate(self) -> Node:
        function = self.take("name")
        by = self.labels() if self.accept("by") else None
        self.take(value="(")
        vector = self.vector()
        self.take(value=")")
        if by is None and self.accept("by"):
            by = self.labels()
        return Aggregate(function, by or (), vector)

    def labels(self) -> tuple[str, ...]:
        self.take(value="(")
        names: list[str] = []
        while not self.accept(")"):
            names.append(self.take("name"))
            if self.peek()[1] != ")":
                self.take(value=",")
        return tuple(names)

    def function(self) -> Node:
        name = self.take("name")
        if name not in (*RATES, "histogram_quantile"):
            raise self.error(f"the function {name} is not supported")
        self.take(value="(")
        node: Node
        if name == "histogram_quantile":
            q = self.expression(0)
            self.take(value=",")
            node = Quantile(q, self.vector())
        else:
            selector = self.selector()
            if not selector.range_ms:
                raise self.error(f"{name} needs a range, as in {name}(metric[5m])")
            node = Rate(name, selector)
        self.take(value=")")
        return node

    def vector(self) -> Node:
        node = self.expression(0)
        if isinstance(node, Number) or (isinstance(node, Selector) and node.range_ms):
            raise self.error("expected an instant vector")
        return node

    def selector(self) -> Selector:
        matchers: list[Matcher] = []
        if self.peek()[0] == "name":
            matchers.append(Matcher("__name__", "=", self.take()))
        if self.accept("{"):
            while not self.accept("}"):
                matchers.append(self.matcher())
                if self.peek()[1] != "}":
                    self.take(value=",")
        if all(matcher.accepts("") for matcher in matchers):
            raise self.error("a selector needs a name or a matcher that does not match the empty value")
        range_ms = 0
        if self.accept("["):
            text = self.take("duration")
            range_ms = sum(int(n) * _UNIT_MS[unit] for n, unit in re.findall(r"(\d+)(ms|s|m|h|d|w)", text))
            if range_ms > MAX_RANGE_MS:
                raise self.error("a range may reach ten years back at most")
            if self.peek()[1] == ":":
                raise self.error("subqueries are not supported")
            self.take(value="]")
        if self.peek()[1] in ("offset", "@"):
            raise self.error(f"{self.peek()[1]} is not supported")
        return Selector(tuple(matchers), range_ms)

    def matcher(self) -> Matcher:
        label = self.take("name")
        op = self.take("op")
        if op not in ("=", "!=", "=~", "!~"):
            raise self.error(f"{op!r} is no label matcher")
        raw = self.take("string")[1:-1]
        value = re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), raw)
        if op in ("=~", "!~"):
            if len(value) > MAX_PATTERN_CHARS or _COSTLY.search(re.sub(r"\\.", "", value, flags=re.DOTALL)):
                raise self.error(
                    "a regular expression that repeats a group, repeats more than four times or looks around can take "
                    "for ever; write a simpler one"
                )
            try:
                re.compile(value)
            except re.error as error:
                raise self.error(f"{value!r} is no regular expression ({error})") from error
        return Matcher(label, op, value)
