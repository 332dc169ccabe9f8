"""What the answers of a model mean, whoever made it: the one place that turns them into labels and probabilities.

A model may answer labels, the probability of one label, a column for each label, or a table of several of these, and it
may write 0 and 1 where the data says no and yes. `tools.modeling.output_rules` finds out once, on many rows, which it
is; `read_answer` reads every answer so, one row's too, for evaluation, explanation, serving and canary alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from sklearn.metrics import roc_auc_score

from tools.core.errors import FixableError, shorten
from tools.modeling.data import Task, as_text
from tools.modeling.output_settings import Column, OutputSettings
from tools.modeling.predictor import Predictions

Label = StrictBool | StrictInt | StrictFloat | StrictStr
MIN_CONTRADICTION = 6.0  # standard errors below chance from which a supposed order of two labels is contradicted


class Asked(BaseModel):
    """What is to be found out of a model's answers.

    Args:
        labels: of the data, sorted as `positive_label` sorts; empty for a regression.
        stated: the goal's `output`.
        drop: columns that are not given to a model that does not say which it takes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Task
    labels: list[Label] = Field(default_factory=list[Label])
    stated: OutputSettings = OutputSettings()
    drop: list[str] = Field(default_factory=list[str])


class OutputReading(BaseModel):
    """How the answers of one model are read.

    `kind`: `own`: as the model itself says; `labels`; `probability`: of the last of `classes`; `probabilities`: of the
    label at the same place in `of`; `numbers`. `columns`: where in the answer, by name or position. `label`: the column
    of the label, where there is one beside probabilities. `names`: what the model answers, as text -> the label of the
    data; what is not there stands for itself. `supposed`: what was neither stated nor said by the model, in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["own", "labels", "probability", "probabilities", "numbers"] = "own"
    classes: list[Label] = Field(default_factory=list[Label])
    columns: list[Column] = Field(default_factory=list[Column])
    of: list[Label] = Field(default_factory=list[Label])
    label: Column | None = None
    names: dict[str, Label] = Field(default_factory=dict[str, Label])
    scale: Literal["probability", "percent", "logit"] = "probability"
    drop: list[str] = Field(default_factory=list[str])
    supposed: str = ""
    message: str = ""


AS_IT_IS = OutputReading()


@dataclass(frozen=True)
class Answer:
    """What a model returned for n rows.

    Args:
        columns: k arrays of shape (n,).
        names: of the k columns; None: it has none, as an array.
        classes: the k labels, where the model itself says that the columns are their probabilities.
    """

    columns: list[np.ndarray]
    names: tuple[str, ...] | None = None
    classes: np.ndarray | None = None

    @property
    def single(self) -> bool:
        return len(self.columns) == 1

    def values(self, column: Column) -> np.ndarray:
        """A column's values, shape (n,).

        Raises:
            FixableError: there is no such column.
        """
        if self.names is not None and str(column) in self.names:
            return self.columns[self.names.index(str(column))]
        if not isinstance(column, int) or not 0 <= column < len(self.columns):
            raise FixableError(f"its answers have no column {column!r}; they have {self.told()}")
        return self.columns[column]

    def told(self) -> str:
        """Its columns, for people."""
        if self.names is not None:
            return f"the columns {', '.join(self.names[:12])}"
        width = len(self.columns)
        return "one column without a name" if width == 1 else f"{width} columns without names, 0 to {width - 1}"


def labels_of(truth: Any) -> list[Any]:
    """The labels among these, sorted as `positive_label` sorts; nulls are none."""
    present = [value for value in pd.unique(pd.Series(truth).astype(object)) if not pd.isna(value)]
    mixed = len({type(value) for value in present}) > 1
    return [
        label for label in np.unique(np.asarray(list(as_text(present)) if mixed else present)).tolist() if label != ""
    ]


def as_answer(returned: Any, rows: int) -> Answer:
    """What a model returned, as a table.

    Raises:
        FixableError: it holds no answer for each row.
    """
    names: tuple[str, ...] | None = None
    if isinstance(returned, Mapping):
        returned = pd.DataFrame({str(name): list(np.asarray(part).ravel()) for name, part in returned.items()})
    elif isinstance(returned, list | tuple) and returned and all(isinstance(item, Mapping) for item in returned):
        returned = pd.DataFrame(list(returned))
    if isinstance(returned, pd.DataFrame):
        columns = [returned.iloc[:, place].to_numpy() for place in range(returned.shape[1])]
        names = tuple(str(name) for name in returned.columns)
        if names == tuple(str(place) for place in range(len(names))):
            names = None  # an array that became a table
    else:
        values = returned.to_numpy() if isinstance(returned, pd.Series) else np.asarray(returned)
        if values.ndim not in (1, 2):
            raise FixableError(f"it does not answer with one prediction a row: an array of shape {values.shape}")
        columns = [values] if values.ndim == 1 else [values[:, place] for place in range(values.shape[1])]
    if not columns or len(columns[0]) != rows:
        count = len(columns[0]) if columns else 0
        raise FixableError(f"it does not answer with one prediction a row: {count} answers for {rows} rows")
    return Answer(columns, names)


def read_answer(answer: Answer, reading: OutputReading) -> Predictions:
    """The answers, read so. A label without a probability counts as certain.

    Raises:
        FixableError: they are not what they were when the reading was found.
    """
    if reading.kind == "own":
        return _as_it_says(answer)
    if reading.kind == "numbers":
        return Predictions(floats(answer.values(reading.columns[0])))
    classes = np.array(reading.classes)
    place = {text: number for number, text in enumerate(as_text(classes))}
    column = reading.columns[0] if reading.kind == "labels" else reading.label
    said = None if column is None else _said(answer.values(column), reading.names, classes, place)
    chances = np.zeros((len(answer.columns[0]), len(classes)))
    if reading.kind == "labels":
        for row, text in enumerate(as_text(said)):
            if text in place:
                chances[row, place[text]] = 1.0
    elif reading.kind == "probability":
        chances[:, 1] = probabilities(answer.values(reading.columns[0]), reading.scale)
        chances[:, 0] = 1.0 - chances[:, 1]
    else:
        for column, label in zip(reading.columns, as_text(reading.of), strict=True):
            chances[:, place[label]] += probabilities(answer.values(column), reading.scale)
    return Predictions(classes[chances.argmax(axis=1)] if said is None else said, chances, classes)


def _as_it_says(answer: Answer) -> Predictions:
    if answer.classes is not None:
        chances = np.column_stack(answer.columns).astype("float64")
        return Predictions(answer.classes[chances.argmax(axis=1)], chances, answer.classes)
    if not answer.single and answer.names is None:
        raise FixableError(f"it does not answer with one prediction a row: {answer.told()}")
    return Predictions(answer.columns[0])


def _said(values: np.ndarray, names: Mapping[str, Any], classes: np.ndarray, place: Mapping[str, int]) -> np.ndarray:
    """The labels that were said, as the data writes them; one that the data does not have stays as it is."""
    known = classes.tolist()
    found: dict[str, Any] = {}
    texts = as_text(values)
    for value, text in zip(values, texts, strict=True):
        if text not in found:
            label = names.get(text, value)
            spelled = str(as_text([label])[0])
            found[text] = known[place[spelled]] if spelled in place else spelled
    labels = [found[text] for text in texts]
    same = len({type(label) for label in labels}) == 1
    return np.array(labels if same else [str(label) for label in labels])


def floats(values: np.ndarray) -> np.ndarray:
    """Numbers, shape (n,).

    Raises:
        FixableError: one of them is none.
    """
    numbers = cast(pd.Series, pd.to_numeric(pd.Series(values), errors="coerce")).to_numpy("float64", na_value=np.nan)
    wrong = np.isnan(numbers) & ~np.asarray(pd.isna(values))
    if wrong.any():
        example = shorten(str(values[wrong][0]), 80)
        raise FixableError(f"{int(wrong.sum())} of {len(values)} answers are no number, for example {example!r}")
    return numbers


def probabilities(values: np.ndarray, scale: str) -> np.ndarray:
    """Probabilities of what was written as probabilities, percentages or log odds; shape (n,).

    Raises:
        FixableError: they lie outside 0 to 1.
    """
    numbers = floats(values)
    if scale == "percent":
        numbers = numbers / 100.0
    elif scale == "logit":
        numbers = 1.0 / (1.0 + np.exp(-np.clip(numbers, -500.0, 500.0)))
    wrong = (numbers < -1e-6) | (numbers > 1.0 + 1e-6)
    if wrong.any():
        raise FixableError(
            f"{int(wrong.sum())} of {len(numbers)} answers are no probability, for example {numbers[wrong][0]:.4g}; "
            "where they are percentages or log odds, state `output: {scale: percent}` or `output: {scale: logit}`"
        )
    return np.clip(numbers, 0.0, 1.0)


def check_order(reading: OutputReading, truth: Any, predictions: Predictions) -> None:
    """Raise `FixableError` where a supposed order of two labels says the opposite of the labelled rows.

    The area under the ROC curve of a useless model is 1/2, with a standard error of sqrt((n+m+1) / (12 n m)) for n and
    m rows of each label (Mann and Whitney 1947).
    """
    score = predictions.positive_probability
    if not reading.supposed or score is None:
        return
    low, high = (str(text) for text in as_text(reading.classes))
    is_high = as_text(truth) == high
    n, m = int(is_high.sum()), int((~is_high).sum())
    if not n or not m:
        return
    area = float(roc_auc_score(is_high, score))
    if (0.5 - area) / np.sqrt((n + m + 1) / (12 * n * m)) < MIN_CONTRADICTION:
        return
    other = {high: low, low: high}
    swapped = {text: other[str(as_text([label])[0])] for text, label in reading.names.items()}
    if reading.kind == "probability" and not swapped:
        stated = f"probability: {reading.columns[0]}, of: {quoted(low)}"
    else:
        stated = f"labels: {{{', '.join(f'{quoted(key)}: {quoted(label)}' for key, label in swapped.items())}}}"
    raise FixableError(
        f"taking {reading.supposed}, it says the opposite of the labels (roc_auc {area:.3f} on {n + m} rows); state "
        f"what its answers mean, probably `output: {{{stated}}}`, in the goal"
    )


def quoted(text: object) -> str:
    """A label as a goal would write it."""
    return '"' + str(text).replace('"', '\\"') + '"'
