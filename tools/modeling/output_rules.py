"""Finds out how a model's answers are to be read, from many of them, or says in one sentence what has to be stated.

Nothing is supposed but this: numbers from 0 on, -1 and 1, or truth values stand for the labels of the data in sorted
order (as every label encoder has it), and so do columns without names; numbers between 0 and 1 are the probability of
the label that counts as positive. Where the labels of the data contradict that, `output.check_order` says so.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tools.core.errors import FixableError
from tools.modeling.data import as_text
from tools.modeling.output import Answer, Asked, Label, OutputReading, floats, probabilities, quoted
from tools.modeling.output_settings import Column

SUM_TOLERANCE = 0.01  # of the probabilities of one row
SHOWN = 5
_TRUE, _FALSE = ("true", "yes", "y", "on"), ("false", "no", "n", "off")  # what YAML reads as a truth value
_PREFIXES = ("probability", "proba", "prob", "p", "score", "class", "prediction", "pred")


def understand(answer: Answer, asked: Asked) -> OutputReading:
    """How the answers are to be read.

    Raises:
        FixableError: they can be read in several ways, or in none; says what to state.
    """
    if asked.task == "regression":
        return _numbers(answer, asked)
    if len(asked.labels) < 2:
        return OutputReading(drop=asked.drop)  # nothing to compare the answers with
    if answer.classes is not None:
        return _own_classes(answer.classes, asked)
    stated = asked.stated
    if stated.probabilities:
        return _stated_columns(answer, asked)
    if stated.probability is not None:
        return _one_probability(answer, asked, stated.probability)
    if stated.label is not None or (answer.single and stated.labels):
        return _labels(answer, asked, 0 if stated.label is None else stated.label)
    return _single(answer, asked) if answer.single else _several(answer, asked)


def _numbers(answer: Answer, asked: Asked) -> OutputReading:
    column = asked.stated.value
    if column is None:
        if not answer.single:
            raise FixableError(
                f"it answers {answer.told()}; which is the prediction? State `output: {{value: COLUMN}}` in the goal"
            )
        column = 0
    floats(answer.values(column))
    return OutputReading(kind="numbers", columns=[column], drop=asked.drop, message="It answers numbers.")


def _own_classes(classes: np.ndarray, asked: Asked) -> OutputReading:
    """Probabilities of labels that the model itself names."""
    names, supposed = _matched(list(classes), asked, complete=True)
    texts = [str(text) for text in as_text(classes)]
    of = [names.get(text, value) for text, value in zip(texts, classes.tolist(), strict=True)]
    return _probabilities(asked, list(range(len(of))), of, supposed, "It answers probabilities")


def _probabilities(
    asked: Asked, columns: Sequence[Column], of: Sequence[Any], supposed: str, said: str, label: Column | None = None,
    names: Mapping[str, Label] | None = None,
) -> OutputReading:  # fmt: skip
    classes = _sorted(of)
    if asked.task == "binary" and set(as_text(classes)) - set(as_text(asked.labels)):
        raise FixableError(
            f"it answers the classes {_some(classes)}, and the data has {_some(asked.labels)}; say which label each "
            "class stands for: `output: {labels: {CLASS: LABEL}}` in the goal"
        )
    told = ", ".join(f"{column} of {text}" for column, text in zip(columns, as_text(of), strict=True))
    guess = f", taking {supposed}" if supposed else ""
    by_name = any(isinstance(column, str) for column in columns)
    return OutputReading(
        kind="probabilities",
        classes=classes,
        columns=list(columns),
        of=list(of),
        label=label,
        names=dict(names or {}),
        scale=asked.stated.scale,
        drop=asked.drop,
        supposed=supposed,
        message=f"{said}{f' ({told})' if by_name else ''}{guess}.",
    )


def _stated_columns(answer: Answer, asked: Asked) -> OutputReading:
    columns = list(asked.stated.probabilities.values())
    of = [_known(label, asked.labels) for label in asked.stated.probabilities]
    for column in columns:
        probabilities(answer.values(column), asked.stated.scale)
    if len(columns) == 1 and len(asked.labels) == 2:
        return _one_probability(answer, asked, columns[0], of=of[0])
    names, _ = _stated_label(answer, asked)
    return _probabilities(asked, columns, of, "", "It answers probabilities", asked.stated.label, names)


def _stated_label(answer: Answer, asked: Asked) -> tuple[Mapping[str, Label], str]:
    """What the column of the label holds, where one is stated beside probabilities."""
    if asked.stated.label is None:
        return {}, ""
    return _matched(_distinct(answer.values(asked.stated.label)), asked)


def _one_probability(
    answer: Answer, asked: Asked, column: Column, of: Any = None, label: Column | None = None,
    names: Mapping[str, Label] | None = None,
) -> OutputReading:  # fmt: skip
    """A column that holds the probability of one of two labels."""
    if len(asked.labels) != 2:
        raise FixableError(
            f"it answers one probability a row, and the data has {len(asked.labels)} labels; state the column of each: "
            "`output: {probabilities: {LABEL: COLUMN}}` in the goal"
        )
    probabilities(answer.values(column), asked.stated.scale)
    supposed = ""
    if of is None:
        stated = asked.stated.of
        of = asked.labels[-1] if stated is None else _known(stated, asked.labels)
        supposed = "" if stated is not None else f"the numbers as the probability of {of}"
    other = next(name for name in asked.labels if name != of)
    if label is None and asked.stated.label is not None:
        label = asked.stated.label
        names, _ = _stated_label(answer, asked)
    shown = f" in the column {column}" if answer.names is not None else ""
    return OutputReading(
        kind="probability",
        classes=[other, of],
        columns=[column],
        label=label,
        names=dict(names or {}),
        scale=asked.stated.scale,
        drop=asked.drop,
        supposed=supposed,
        message=f"It answers the probability of {of}{shown}.",
    )


def _labels(answer: Answer, asked: Asked, column: Column) -> OutputReading:
    names, supposed = _matched(_distinct(answer.values(column)), asked)
    said = f", taking {supposed}" if supposed else ""
    return OutputReading(
        kind="labels",
        classes=asked.labels,
        columns=[column],
        names=dict(names),
        drop=asked.drop,
        supposed=supposed,
        message=f"It answers labels without probabilities{said}: each counts as certain, so a metric of probabilities "
        "says little of it.",
    )


def _single(answer: Answer, asked: Asked) -> OutputReading:
    """One value a row: a label, or the probability of one."""
    values = answer.values(0)
    if asked.stated.scale != "probability" or _between(values, asked.labels):
        return _one_probability(answer, asked, 0)
    return _labels(answer, asked, 0)


def _several(answer: Answer, asked: Asked) -> OutputReading:
    """Several values a row, and nothing stated."""
    width = len(answer.columns)
    parts = {column: answer.values(column) for column in (answer.names or range(width))}
    chances = {column: numbers for column, values in parts.items() if (numbers := _chances(values)) is not None}
    if answer.names is None:
        if width == len(asked.labels) and len(chances) == width and _sums_to_one(list(chances.values())):
            told = ", ".join(f"column {k} as {text}" for k, text in enumerate(as_text(asked.labels)))
            return _probabilities(asked, list(range(width)), asked.labels, told, "It answers probabilities")
        raise _unclear(answer, asked)
    labels = [column for column, values in parts.items() if _are_labels(values, asked)]
    of = {column: label for column in chances if (label := _named_after(str(column), asked.labels)) is not None}
    label = labels[0] if len(labels) == 1 else None
    names, _ = ({}, "") if label is None else _matched(_distinct(parts[label]), asked)
    if label is not None:
        of.pop(label, None)  # a column that holds the label is none of its probability
    each = len(of) == len(asked.labels) == len({str(name) for name in of.values()})
    if each and _sums_to_one([chances[column] for column in of]):
        return _probabilities(asked, list(of), list(of.values()), "", "It answers probabilities", label, names)
    left = [column for column in chances if column != label]
    if label is not None and len(left) == 1 and len(asked.labels) == 2:
        found = _whose(parts[label], chances[left[0]], names, asked.labels)
        if found is not None:
            return _one_probability(answer, asked, left[0], found, label, names)
    if label is not None and not left and len(parts) == 1:
        return _labels(answer, asked, label)
    raise _unclear(answer, asked)


def _whose(said: np.ndarray, chances: np.ndarray, names: Mapping[str, Label], labels: Sequence[Any]) -> Any:
    """Which of two labels a probability beside the label is of: the one that is said where it is high. None: neither,
    for example where it is the probability of whatever label is said."""
    texts = np.array([str(as_text([names.get(text, text)])[0]) for text in as_text(said)])
    low, high = (texts == str(name) for name in as_text(labels))
    if not low.any() or not high.any():
        return None
    if chances[low].max() <= chances[high].min():
        return labels[1]
    return labels[0] if chances[high].max() <= chances[low].min() else None


def _unclear(answer: Answer, asked: Asked) -> FixableError:
    example = next((name for name in answer.names or () if name), 0)
    pairs = ", ".join(f"{quoted(label)}: COLUMN" for label in asked.labels[:3])
    one = f"`output: {{probability: {example}, of: {quoted(asked.labels[-1])}}}`, " if len(asked.labels) == 2 else ""
    return FixableError(
        f"it answers {answer.told()}, and the data has the labels {_some(asked.labels)}: what is what? State "
        f"{one}`output: {{label: COLUMN}}` or `output: {{probabilities: {{{pairs}}}}}` in the goal"
    )


def _matched(answers: Sequence[Any], asked: Asked, *, complete: bool = False) -> tuple[dict[str, Any], str]:
    """Answer, as text -> label of the data, for those that are written differently; and what was supposed for it.

    Args:
        complete: the answers are all that the model can give.
    """
    labels, texts = asked.labels, [str(text) for text in as_text(answers)]
    if asked.stated.labels:
        names = {key: _known(label, labels) for key, label in asked.stated.labels.items()}
        folded = {key.casefold(): label for key, label in names.items()}
        unknown = [t for t in texts if t.casefold() not in folded and t not in {str(x) for x in as_text(labels)}]
        if unknown:
            raise FixableError(
                f"it answers {_some(unknown)}, which `output.labels` of the goal does not name; it has {_some(names)}"
            )
        return {text: folded[text.casefold()] for text in texts if text.casefold() in folded}, ""
    known = {str(text): label for text, label in zip(as_text(labels), labels, strict=True)}
    places = _places(answers, len(labels))
    if set(texts) & known.keys():
        if complete and places is not None and set(texts) - known.keys() and known.keys() - set(texts):
            raise _strange(answers, asked)  # 0 and 1, where the data says 1 and 2: which is which?
        return {}, ""
    folded = {text.casefold(): label for text, label in known.items()}
    if len(folded) == len(known) and any(text.casefold() in folded for text in texts):
        return {text: folded[text.casefold()] for text in texts if text.casefold() in folded}, ""
    if places is None or (complete and len(texts) != len(labels)):
        raise _strange(answers, asked)
    order = {text: labels[place] for text, place in zip(texts, places, strict=True)}
    return order, " and ".join(f"{text} as {label}" for text, label in order.items())


def _places(answers: Sequence[Any], count: int) -> list[int] | None:
    """Where numbers that stand for `count` sorted labels stand in them; None where they do not."""
    numbers: list[float] = []
    for answer in answers:
        try:
            numbers.append(float(answer))
        except (TypeError, ValueError):
            return None
    found = set(numbers)
    if found <= set(range(count)):
        return [int(number) for number in numbers]
    return [int(number > 0) for number in numbers] if count == 2 and found <= {-1.0, 1.0} else None


def _strange(answers: Sequence[Any], asked: Asked) -> FixableError:
    pairs = ", ".join(f"{quoted(answer)}: LABEL" for answer in list(answers)[:3])
    return FixableError(
        f"it answers {_some(answers)}, and the data has the labels {_some(asked.labels)}: say which stands for which, "
        f"`output: {{labels: {{{pairs}}}}}` in the goal"
        + (", or `output: {scale: logit}` where they are log odds" if _fractions(answers) else "")
    )


def _fractions(answers: Sequence[Any]) -> bool:
    try:
        return any(float(answer) % 1 for answer in answers)
    except (TypeError, ValueError):
        return False


def _known(stated: str, labels: Sequence[Any]) -> Any:
    """The label of the data that a goal names.

    Raises:
        FixableError: there is none.
    """
    for label, text in zip(labels, as_text(labels), strict=True):
        if str(text) == stated:
            return label
    words = {"true": _TRUE, "false": _FALSE}.get(stated.casefold(), (stated.casefold(),))
    found = [label for label, text in zip(labels, as_text(labels), strict=True) if str(text).casefold() in words]
    if len(found) == 1:
        return found[0]
    raise FixableError(f"`output` of the goal names the label {stated!r}; the data has {_some(labels)}")


def _between(values: np.ndarray, labels: Sequence[Any]) -> bool:
    """Whether these are numbers from 0 to 1 that are no labels."""
    numbers = _chances(values)
    if numbers is None or set(as_text(values)) <= set(as_text(labels)):
        return False
    return bool(((numbers > 0) & (numbers < 1)).any())


def _chances(values: np.ndarray) -> np.ndarray | None:
    """Numbers from 0 to 1; None where one is none."""
    try:
        numbers = floats(values)
    except FixableError:
        return None
    inside = (numbers >= -1e-6) & (numbers <= 1 + 1e-6)
    return numbers if inside.all() else None


def _are_labels(values: np.ndarray, asked: Asked) -> bool:
    found = _distinct(values)
    if len(found) > len(asked.labels):
        return False
    try:
        _matched(found, asked)
    except FixableError:
        return False
    return True


def _sums_to_one(columns: Sequence[np.ndarray]) -> bool:
    return bool((np.abs(np.sum(columns, axis=0) - 1.0) <= SUM_TOLERANCE).all())


def _named_after(column: str, labels: Sequence[Any]) -> Any:
    """The label that a column is named after: yes, P(yes), prob_yes, class 1; None where there is none."""
    plain = "".join(letter if letter.isalnum() else " " for letter in column.casefold()).split()
    for count in (0, 1, 2):  # words before the label's own
        if any(word not in _PREFIXES for word in plain[:count]):
            break
        for label, text in zip(labels, as_text(labels), strict=True):
            words = "".join(letter if letter.isalnum() else " " for letter in str(text).casefold()).split()
            if words and words == plain[count:]:
                return label
    return None


def _distinct(values: np.ndarray) -> list[Any]:
    """Different values in sorted order of their text, without nulls."""
    found = dict(zip(as_text(values), values, strict=True))
    found.pop("", None)
    return [found[text] for text in sorted(found)]


def _sorted(labels: Sequence[Any]) -> list[Any]:
    kinds = {type(label) for label in labels}
    return list(np.unique(np.array(list(labels) if len(kinds) == 1 else as_text(list(labels)))).tolist())


def _some(values: Any) -> str:
    texts = [str(text) for text in as_text(list(values))]
    return ", ".join(texts[:SHOWN]) + (f" and {len(texts) - SHOWN} more" if len(texts) > SHOWN else "")
