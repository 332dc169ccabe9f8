"""One reading of labels: which texts are one label, in a file, in two files and in what a model answers.

Checks, training, evaluation and serving compare labels by `as_text` and bring other spellings to the reference's by
`match`. Light: pandas and numpy, no model library.
"""

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

from tools.core.errors import FixableError

TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})
FALSE = frozenset({"false", "f", "no", "n", "off", "0"})
RARE_SPELLING = 0.1  # of the usual one's rows; a spelling that is more frequent may be a class of its own
MAX_LABELS = 1000  # a column of more different values holds no classes, whatever the goal says
SHOWN = 6

Kind = Literal["binary", "multiclass", "regression"]


def as_text(values: Any) -> np.ndarray:
    """Values as text that survives a change of type on the way: 1, 1.0 and "1 " are "1"; null and blank are ""."""
    codes, uniques = pd.factorize(pd.Series(values).astype(object), use_na_sentinel=True)
    texts = np.array([_text(value) for value in uniques] + [""], dtype=object)
    return texts[codes]  # the sentinel -1 of a null is the last entry, ""


def is_blank(values: Any) -> np.ndarray:
    """Where `as_text` is "", without making texts of numbers; shape (n,)."""
    column = pd.Series(values)
    return column.isna().to_numpy() if pd.api.types.is_numeric_dtype(column.dtype) else as_text(column) == ""


def as_numbers(values: Any) -> np.ndarray:
    """Values as float64, NaN where they are no numbers; infinite ones stay; shape (n,)."""
    column = pd.Series(values)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype="float64", na_value=np.nan)
    return np.asarray(pd.to_numeric(column.astype(object), errors="coerce"), dtype="float64")


def _text(value: object) -> str:
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def skeleton(text: str) -> str:
    """What is left of a label when its spelling is taken away: case, spaces, quotes, a dot at the end, 1.0 for 1."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    plain = "".join(letter for letter in plain if unicodedata.category(letter) != "Cf")  # zero width, byte order mark
    plain = " ".join(plain.split()).strip("'\"`").strip()
    plain = plain.rstrip(".").rstrip() or plain
    try:
        number = float(plain)
    except ValueError:
        return plain
    return f"{number:.12g}" if math.isfinite(number) else plain


def truth(text: str) -> bool | None:
    """What a word for true or false means; None: it is neither."""
    plain = skeleton(text)
    return True if plain in TRUE else False if plain in FALSE else None


def match(labels: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Label -> the known label that it spells. What spells none, or more than one, is left out.

    A label spells the known one that has its `skeleton`. Where all labels and all known ones are words for true and
    false (True, yes, t, 1), they go by that.
    """
    labels, known = list(labels), list(dict.fromkeys(known))
    by_skeleton: dict[str, list[str]] = {}
    for text in known:
        by_skeleton.setdefault(skeleton(text), []).append(text)
    found: dict[str, str] = {}
    for text in labels:
        if text in by_skeleton.get(skeleton(text), []):
            found[text] = text
        elif len(same := by_skeleton.get(skeleton(text), [])) == 1:
            found[text] = same[0]
    if len(found) < len(set(labels)):
        meant = {truth(text): text for text in known}
        if None not in meant and len(meant) == len(known) and None not in map(truth, labels):
            found = {text: found.get(text) or meant[truth(text)] for text in labels if truth(text) in meant}
    return found


def merged(counts: Mapping[str, int], task: Kind) -> dict[str, str]:
    """Label of one file -> the most frequent spelling of it in the file.

    In a binary task all that differ in spelling alone are one label. Of more classes, two may differ in nothing else
    ("a" and "A"): there only a spelling that is rare beside the usual one is taken for an error.
    """
    by_skeleton: dict[str, list[str]] = {}
    for text in sorted(counts, key=lambda text: (-counts[text], text)):
        by_skeleton.setdefault(skeleton(text), []).append(text)
    if task == "binary" and len(by_skeleton) > 2 and all(truth(text) is not None for text in counts):
        by_skeleton = {}
        for text in sorted(counts, key=lambda text: (-counts[text], text)):
            by_skeleton.setdefault(str(truth(text)), []).append(text)
    found: dict[str, str] = {}
    for usual, *others in by_skeleton.values():
        found[usual] = usual
        for text in others:
            rare = counts[text] <= RARE_SPELLING * counts[usual]
            found[text] = usual if task == "binary" or rare else text
    return found


def read_labels(
    columns: Mapping[str, pd.Series], task: Kind, meanings: Mapping[str, str] | None = None
) -> tuple[dict[str, pd.Series], list[str]]:
    """The target of several files with one spelling for each label: the one of the first file, with its type.

    Labels that the first file does not have stay as they are: what to do about them is for the checks to say.

    Args:
        columns: file -> its target; the first is the reference.
        meanings: label as written -> the label that it means, as the goal states it (`data.labels`).

    Returns:
        The columns, and what was changed in words.
    """
    texts = {source: as_text(column) for source, column in columns.items()}
    counts = {source: _counted(values) for source, values in texts.items()}
    if task == "regression" or any(len(found) > MAX_LABELS for found in counts.values()):
        return dict(columns), []
    stated, notes = _stated(counts, meanings or {})
    known: list[str] = []
    spelled: dict[str, dict[str, str]] = {}
    for source, found in counts.items():
        meant: dict[str, int] = {}
        for text, count in found.items():
            meant[stated.get(text, text)] = meant.get(stated.get(text, text), 0) + count
        own = merged({text: count for text, count in meant.items() if text not in known}, task)
        to_known = match(meant, known) if known else {}
        known = known or list(dict.fromkeys(own.values()))
        spelled[source] = {
            text: to_known.get(stated.get(text, text)) or own.get(stated.get(text, text), text) for text in found
        }
    notes += [note for source in columns if (note := _changed(source, counts[source], spelled[source]))]
    return _respelled(columns, texts, spelled, bool(stated)), notes


def _counted(texts: np.ndarray) -> dict[str, int]:
    values, counts = np.unique(texts.astype(str), return_counts=True)
    return {str(text): int(count) for text, count in zip(values, counts, strict=True) if text}


def _stated(counts: Mapping[str, Mapping[str, int]], meanings: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Label as it is in a file -> what the goal says that it means; and what is stated of labels that are in none."""
    present = list(dict.fromkeys(text for found in counts.values() for text in found))
    stated: dict[str, str] = {}
    notes: list[str] = []
    for written, meant in meanings.items():
        spelled = [written] if written in present else [text for text in present if match([written], [text])]
        if not spelled:
            notes.append(f"data.labels: {written!r} is no label of the data; labels: {_some(present)}")
        stated |= dict.fromkeys(spelled, meant)
    return stated, notes


def _changed(source: str, counts: Mapping[str, int], spelled: Mapping[str, str]) -> str:
    changed = [(text, label) for text, label in spelled.items() if text != label]
    if not changed:
        return ""
    shown = ", ".join(f"{text!r} ({counts[text]} rows) as {label!r}" for text, label in changed[:SHOWN])
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return f"{source}: labels in another spelling are read as one: {shown}{more}"


def _respelled(
    columns: Mapping[str, pd.Series],
    texts: Mapping[str, np.ndarray],
    spelled: Mapping[str, Mapping[str, str]],
    stated: bool,
) -> dict[str, pd.Series]:
    """The columns with the labels of `spelled`; a column that has them already stays the one it was."""
    first = next(iter(columns.values()))
    native = {text: value for text, value in zip(as_text(first.unique()), first.unique(), strict=True) if text}
    labels = {label for found in spelled.values() for label in found.values()}
    typed = not stated and labels <= native.keys() and not any(isinstance(value, str) for value in native.values())
    made: dict[str, pd.Series] = {}
    for source, column in columns.items():
        if not stated and _as_is(column, spelled[source], typed, first):
            made[source] = column
            continue
        value = {text: native[label] if typed else label for text, label in spelled[source].items()}
        filled = pd.Series([value.get(text) for text in texts[source]], index=column.index, name=column.name)
        made[source] = filled if typed else filled.astype(object)
    if len({_family(column) for column in made.values()}) > 1:  # numbers here and text there: text in all
        return {source: _texts_of(column) for source, column in made.items()}
    return made


def _as_is(column: pd.Series, spelled: Mapping[str, str], typed: bool, first: pd.Series) -> bool:
    if any(text != label for text, label in spelled.items()):
        return False
    written = [value for value in column.dropna().unique() if isinstance(value, str)]
    return all(text == text.strip() for text in written) and (not typed or _family(column) == _family(first))


def _family(column: pd.Series) -> str:
    present = column.dropna()
    if pd.api.types.is_bool_dtype(present) or pd.api.types.infer_dtype(present) == "boolean":
        return "boolean"
    return "number" if pd.api.types.is_numeric_dtype(present.infer_objects()) else "text"


def _texts_of(column: pd.Series) -> pd.Series:
    texts = pd.Series(as_text(column), index=column.index, name=column.name, dtype=object)
    return texts.where(texts != "", None)


def positive_label(labels: Iterable[Any], stated: str = "") -> Any:
    """The label that "positive" means in a binary task: the stated one, else the last of the sorted labels (yes, 1,
    True, UP), which is the rule of scikit-learn's `classes_[-1]`.

    Raises:
        FixableError: there is no label, or the stated one is not among them.
    """
    found = np.unique(np.asarray(list(labels)))
    if not len(found):
        raise FixableError("no label to choose the positive one from")
    chosen = found[-1]
    if stated:
        texts = as_text(found).tolist()
        meant = match([stated], texts).get(stated)
        if meant is None:
            raise FixableError(
                f"positive: {stated!r} is no label of the target; labels: {_some(texts)}"
                + (" (YAML reads yes and no without quotes as true and false)" if truth(stated) is not None else "")
            )
        chosen = found[texts.index(meant)]
    return chosen.item() if isinstance(chosen, np.generic) else chosen


def positive_text(labels: Any, stated: str = "") -> str:
    """`positive_label` as text, where the labels may be of rows that happen not to have the stated one."""
    if not stated:
        return str(as_text([positive_label(labels)])[0])
    known = [str(text) for text in pd.unique(as_text(labels))]
    return match([stated], known).get(stated, stated)


def spelled_as(values: np.ndarray, known: Sequence[str]) -> np.ndarray:
    """Labels as `known` spells them, as text where one is spelled otherwise; the array itself where none is."""
    texts = as_text(values)
    present = [str(text) for text in pd.unique(texts)]
    found = {text: label for text, label in match(present, known).items() if text != label}
    return np.array([found.get(text, text) for text in texts], dtype=object) if found else values


def told_positive(target: pd.Series, stated: str) -> str:
    """Which class is the positive one and why, in words, and how many rows it has."""
    texts = as_text(target)
    label = str(as_text([positive_label(texts[texts != ""], stated)])[0])
    share = float(np.mean(texts[texts != ""] == label))
    if stated:
        return f"The positive class is {label!r} ({share:.1%} of the rows), as stated."
    others = sorted(set(cast(Any, texts[texts != ""])) - {label})
    other = f"; `positive: {others[0]}` in the goal makes it the other one" if others else ""
    return f"The positive class is {label!r} ({share:.1%} of the rows), the last in sorted order{other}."


def _some(texts: Sequence[str]) -> str:
    shown = ", ".join(repr(text) for text in texts[:SHOWN])
    return shown + (f", and {len(texts) - SHOWN} more" if len(texts) > SHOWN else "")
