"""Labels that come after the answers: a table of request_id and label is joined to the evidence when it is there.

A team has such a table anyway: who churned, which payment was charged back. The embedded simulation makes one too, and
uses the same way: `hide` keeps the labels back, `deliver` publishes those whose time has come, `record` is for both.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tools.core.errors import FixableError
from tools.integrations.serving.routing import CHALLENGER, CHAMPION
from tools.modeling.data import Task, write_table
from tools.modeling.labels import as_text, match
from tools.modeling.metrics import row_losses
from tools.modeling.predictor import Predictions

OK = 200


@dataclass(frozen=True)
class Recorded:
    """The evidence with the labels in it, and what became of them."""

    table: pd.DataFrame
    recorded: int
    unknown: int
    changed: int


def hide(rows: pd.DataFrame, future: Path) -> pd.DataFrame:
    """The evidence without labels and what follows from them; the labels are added to the file `future`."""
    labels = pd.DataFrame({"request_id": rows["request_id"], "label": rows["y_true"]})
    if future.exists():
        earlier = pd.read_parquet(future)
        others = ~earlier["request_id"].isin(list(labels["request_id"]))
        labels = pd.concat([earlier.loc[others, :], labels], ignore_index=True)
    write_table(labels, future)
    hidden = [f"{variant}_{what}" for variant in (CHAMPION, CHALLENGER) for what in ("loss", "error")]
    unknown = pd.Series([None] * len(rows), dtype="object", index=rows.index)
    return rows.assign(y_true=unknown, labelled_after=np.nan, label_batch=np.nan, **dict.fromkeys(hidden, np.nan))


def deliver(request_ids: list[str], delay: int, future: Path, labels: Path) -> None:
    """Write the labels of the requests that at least `delay` others have followed."""
    old = request_ids[: max(0, len(request_ids) - delay)]
    known = pd.read_parquet(future)
    write_table(known.loc[known["request_id"].isin(old), :], labels)


def record(table: pd.DataFrame, labels: pd.DataFrame, task: Task) -> Recorded:
    """Join labels to the evidence by request id, and compute what each model lost on them.

    The first label of a request stands: the judge has seen it. `labelled_after` is the number of requests there were
    when it was recorded, `label_batch` counts the recordings.

    Raises:
        FixableError: a request has two labels in the table, or two rows in the evidence, or a regression's label is no
            number.
    """
    told = _as_answered(_told(labels, task), table, task)
    ids = [str(request_id) for request_id in table["request_id"]]
    twice = next((name for name, count in Counter(ids).items() if count > 1), None)
    if twice is not None:
        raise FixableError(f"the evidence holds the request {twice} twice, so a label cannot be told to belong to one")
    before = _values(table["y_true"], task)
    had = np.array([value is not None for value in before], dtype=bool)
    after = [value if value is not None else told.get(name) for value, name in zip(before, ids, strict=True)]
    new = np.array([value is not None for value in after], dtype=bool) & ~had
    changed = sum(told.get(name, value) != value for value, name in zip(before, ids, strict=True) if value is not None)
    unknown = len(told.keys() - set(ids))
    if not new.any():
        return Recorded(table, 0, unknown, changed)
    truth = np.array(after, dtype="float64" if task == "regression" else object)
    full = table.assign(y_true=truth)
    for name, value in (("labelled_after", float(len(full))), ("label_batch", _next_batch(table))):
        earlier = full[name].to_numpy(dtype="float64") if name in full.columns else np.full(len(full), np.nan)
        full[name] = np.where(new, value, earlier)
    for variant in (CHAMPION, CHALLENGER):
        rows = np.flatnonzero(new & (full[f"{variant}_status"].to_numpy() == OK))
        if len(rows):
            lost = row_losses(task, truth[rows], _predictions(full, variant, rows, task).read_as(truth[rows], task))
            for what, values in zip(("loss", "error"), lost, strict=True):
                column = full[f"{variant}_{what}"].to_numpy(dtype="float64").copy()
                column[rows] = values
                full[f"{variant}_{what}"] = column
    return Recorded(full, int(new.sum()), unknown, changed)


def _told(labels: pd.DataFrame, task: Task) -> dict[str, Any]:
    """Request id -> label."""
    told: dict[str, Any] = {}
    for request_id, value in zip(labels["request_id"], _values(labels["label"], task), strict=True):
        if value is not None and told.setdefault(str(request_id), value) != value:
            raise FixableError(f"the table has two labels of request {request_id}: {told[str(request_id)]} and {value}")
    return told


def _as_answered(told: dict[str, Any], table: pd.DataFrame, task: Task) -> dict[str, Any]:
    """The labels as the evidence spells them so far, else as the champion does: another program wrote this table."""
    if task == "regression":
        return told
    known = [text for text in _values(table["y_true"], task) if text]
    for classes in table[f"{CHAMPION}_classes"] if f"{CHAMPION}_classes" in table.columns else ():
        if classes is not None:
            known += [text for text in as_text(list(classes)).tolist() if not match([text], known)]
            break
    spelled = match(dict.fromkeys(told.values()), dict.fromkeys(known))
    return {name: spelled.get(value, value) for name, value in told.items()}


def _next_batch(table: pd.DataFrame) -> float:
    numbers = table["label_batch"].to_numpy(dtype="float64") if "label_batch" in table.columns else np.array([])
    known = numbers[np.isfinite(numbers)]
    return float(known.max()) + 1.0 if len(known) else 0.0


def _values(labels: Any, task: Task) -> list[Any]:
    """Labels as text, or as numbers for a regression; None where there is none."""
    if task != "regression":
        return [text or None for text in as_text(labels)]
    try:
        numbers = labels.astype("float64").tolist()
    except (ValueError, TypeError) as error:
        raise FixableError(f"the labels of a regression must be numbers: {error}") from error
    return [None if np.isnan(number) else number for number in numbers]


def _predictions(table: pd.DataFrame, variant: str, rows: Any, task: Task) -> Predictions:
    said = table[f"{variant}_prediction"].to_numpy()[rows]
    if task == "regression":
        return Predictions(values=said.astype("float64"))
    known = f"{variant}_classes" in table.columns
    classes = table[f"{variant}_classes"].to_numpy()[rows[0]] if known else None
    if classes is None:
        return Predictions(values=said.astype(str))
    probabilities = np.array(table[f"{variant}_probabilities"].to_numpy()[rows].tolist(), dtype="float64")
    return Predictions(values=said.astype(str), probabilities=probabilities, classes=np.array(list(classes)))
