"""Reads what the judge judges: scores, evidence of a canary, units and design of an A/B test, times, importance.

Must not: judge anything; a file that is not what it should be is refused here, with its path and what is missing.
"""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tools.core.arguments import split_column
from tools.core.contract import CallContext
from tools.core.errors import FixableError
from tools.integrations.judge.ab_spec import AbJudgeArgs, AbPlanArgs
from tools.integrations.judge.canary_spec import CanaryJudgeArgs
from tools.judge.ab.outcomes import Design, Units
from tools.judge.canary.proxies import Holdout
from tools.judge.canary.quality import Evidence
from tools.judge.estimates import Scores, Task, positive_class
from tools.modeling.data import POSITIVE, as_text, read_table, require_columns
from tools.modeling.series import read_times

GUARDRAIL = "guardrail_"  # prefix of their columns in the units file
NOT_ASKED = 0  # status of a model that was not asked, or whose shadow score was left out
MIN_HISTORY = 30


def read_scores(path: Path, task: Task) -> Scores:
    """Scored rows with a label, in order.

    Raises:
        FixableError: missing, empty or foreign file; no labelled row.
    """
    return _scores(read_table(path), path, task)


def read_probes(path: Path, task: Task) -> dict[str, Scores]:
    """Window -> scored rows of the quick model trained on it, in the order of the file.

    Raises:
        FixableError: missing, empty or foreign file; no labelled row.
    """
    frame = read_table(path)
    require_columns(frame, ["window"], path)
    if frame.empty:
        raise FixableError(f"{path} has no row")
    windows = frame["window"].astype(str)
    return {name: _scores(cast(pd.DataFrame, frame[windows == name]), path, task) for name in windows.unique()}


def _scores(frame: pd.DataFrame, path: Path, task: Task) -> Scores:
    require_columns(frame, ["y_true", "prediction", "loss"], path)
    frame = frame.dropna(subset=["y_true", "loss"])
    if frame.empty:
        raise FixableError(f"{path} has no row with both a label (y_true) and a loss")
    loss = _numbers(frame, "loss", path)
    if task == "regression":
        return Scores(_numbers(frame, "y_true", path), _numbers(frame, "prediction", path), loss)
    y_true, prediction = as_text(frame["y_true"]), as_text(frame["prediction"])
    probability = positive = None
    if task == "binary":
        classes = sorted({*y_true, *prediction})
        if len(classes) > 2:
            raise FixableError(f"{path} has the labels {', '.join(classes[:5])}: not a binary task")
        if "probability" in frame.columns and not bool(frame["probability"].isna().any()):
            probability = _numbers(frame, "probability", path)
            positive = positive_class(y_true, prediction, probability)
        else:
            positive = str(frame.attrs.get(POSITIVE) or classes[-1])
    return Scores(y_true, prediction, loss, probability, positive)


def read_losses(path: Path) -> NDArray[np.float64]:
    """Loss of each row that has a label, in order.

    Raises:
        FixableError: missing, empty or foreign file; a loss that is no number.
    """
    frame = read_table(path)
    require_columns(frame, ["y_true", "loss"], path)
    return _numbers(frame.dropna(subset=["y_true", "loss"]), "loss", path)


def read_unlabelled(path: Path, task: Task, positive: str | None) -> tuple[Scores, NDArray[np.bool_]]:
    """Scored rows in order, and which of them have a label; the loss is NaN and the label null where they have not.

    Raises:
        FixableError: missing, empty or foreign file.
    """
    frame = read_table(path)
    require_columns(frame, ["prediction"], path)
    for name in ("y_true", "loss"):
        if name not in frame.columns:
            frame[name] = np.nan
    labelled = (frame["y_true"].notna() & frame["loss"].notna()).to_numpy()
    loss = _numbers(frame, "loss", path)
    if task == "regression":
        return Scores(_numbers(frame, "y_true", path), _numbers(frame, "prediction", path), loss), labelled
    probability = None
    if task == "binary" and "probability" in frame.columns and not bool(frame["probability"].isna().any()):
        probability = _numbers(frame, "probability", path)
    return Scores(as_text(frame["y_true"]), as_text(frame["prediction"]), loss, probability, positive), labelled


def read_labelled_positions(path: Path) -> NDArray[np.int64]:
    """Position in the scored file of each row that `read_scores` returns.

    Raises:
        FixableError: missing, empty or foreign file.
    """
    frame = read_table(path)
    require_columns(frame, ["row", "y_true", "loss"], path)
    return np.asarray(frame["row"][frame[["y_true", "loss"]].notna().all(axis=1)])


def read_clock(reference: str, ctx: CallContext, last: int) -> NDArray[np.float64] | None:
    """Times of a file's rows, in Unix seconds, up to at least row `last`; None where the column holds no times.

    Args:
        reference: `file:column`.

    Raises:
        FixableError: the file has fewer rows, so it is another one than the scores were made of.
    """
    file, column = split_column(reference)
    times = read_times(ctx.path(file), column)
    if times is not None and len(times) <= last:
        raise FixableError(f"{file} has {len(times)} rows, the scores reach row {last}: of another file")
    return times


def read_evidence(path: Path, task: Task) -> Evidence:
    """Evidence of a canary, one row per request in order.

    Raises:
        FixableError: missing, empty or foreign file; an unknown variant in `served_by`.
    """
    frame = read_table(path)
    pairs = [
        f"{who}_{what}" for who in ("champion", "challenger") for what in ("error", "loss", "status", "latency_ms")
    ]
    require_columns(frame, ["served_by", "y_true", *pairs], path)
    served_by = frame["served_by"].astype(str)
    unknown = sorted(set(served_by) - {"champion", "challenger"})
    if unknown:
        raise FixableError(f"{path}: served_by is {unknown[0]!r}; valid: champion, challenger")
    columns = {name: _numbers(frame, name, path) for name in pairs}
    labelled = frame["y_true"].notna().to_numpy()
    for name in ("champion_error", "challenger_error", "champion_loss", "challenger_loss"):
        columns[name] = np.where(labelled, columns[name], np.nan)
    positive = y_true = label = None
    if task == "regression":
        y_true = _numbers(frame, "y_true", path)
    elif task == "multiclass":
        label = as_text(frame["y_true"])
    scores = ("champion_probability", "challenger_probability")
    if task == "binary":
        columns |= {name: _numbers(frame, name, path) for name in scores if set(scores) <= set(frame.columns)}
        positive = _positive(frame, labelled, columns.get("champion_probability"))
    for who in ("champion", "challenger"):
        if f"{who}_prediction" in frame.columns:
            said = f"{who}_prediction"
            columns[said] = _numbers(frame, said, path) if task == "regression" else as_text(frame[said])
    for name in ("labelled_after", "label_batch"):
        if name in frame.columns:
            columns[name] = _numbers(frame, name, path)
    segment = frame["segment"].astype(str).to_numpy() if "segment" in frame.columns else None
    for who in ("champion", "challenger"):
        asked = columns[f"{who}_status"] != NOT_ASKED
        for name in ("status", "latency_ms"):
            columns[f"{who}_{name}"] = np.where(asked, columns[f"{who}_{name}"], np.nan)
    if {"routed_to", "late"} <= set(frame.columns):
        columns["routed_to_challenger"] = (frame["routed_to"] == "challenger").to_numpy()
        columns["late"] = _numbers(frame, "late", path)
    return Evidence(
        served_by_challenger=(served_by == "challenger").to_numpy(),
        positive=positive,
        y_true=y_true,
        label=label,
        segment=segment,
        **columns,
    )


def _positive(frame: pd.DataFrame, labelled: NDArray[np.bool_], probability: Any) -> NDArray[np.float64]:
    """Whether each label is the positive class; NaN where there is none. Without probabilities it is the last class."""
    known = labelled if probability is None else labelled & np.isfinite(probability)
    if not known.any():
        return np.full(len(frame), np.nan)
    labels = as_text(frame["y_true"])
    said = as_text(frame["champion_prediction"]) if "champion_prediction" in frame.columns else labels
    if probability is None:
        name = max(str(each) for each in (*labels[known], *said[known]))
    else:
        name = positive_class(labels[known], said[known], probability[known])
    return np.where(labelled, (labels == name).astype(float), np.nan)


def read_holdout(args: CanaryJudgeArgs, task: Task, ctx: CallContext) -> Holdout | None:
    """Both models' holdout scores; None where none are given.

    Raises:
        FixableError: only one is given, or a file is unusable.
    """
    if not args.champion_holdout and not args.challenger_holdout:
        return None
    if not args.champion_holdout or not args.challenger_holdout:
        raise FixableError("give both champion_holdout and challenger_holdout, or neither")
    champion = read_scores(ctx.path(args.champion_holdout), task)
    challenger = read_scores(ctx.path(args.challenger_holdout), task)
    try:
        return Holdout(champion, challenger)
    except ValueError as error:
        raise FixableError(str(error)) from error


def read_history(args: AbPlanArgs, ctx: CallContext) -> NDArray[np.float64]:
    """Past outcomes, one a unit where the unit column is named.

    Without it each row is taken for a unit: the mean of several outcomes varies less, so this errs to the safe side.
    """
    path = ctx.path(args.history or "")
    frame = read_table(path)
    require_columns(frame, [args.outcome, *([args.unit] if args.unit else [])], path)
    column = frame[args.outcome]
    if column.dtype.kind not in "iufb":
        raise FixableError(f"{path}: the outcome {args.outcome!r} must be numeric, it is {column.dtype}")
    known = frame.loc[column.notna(), :]
    values = np.asarray(known[args.outcome], dtype="float64")
    if args.unit:
        values = np.asarray(known.groupby(args.unit)[args.outcome].mean(), dtype="float64")
    if len(values) < MIN_HISTORY:
        raise FixableError(
            f"{path}: {len(values)} past outcomes; at least {MIN_HISTORY} are needed to know their noise"
        )
    return values


def read_design(args: AbJudgeArgs, ctx: CallContext) -> Design:

    path = ctx.path(args.design)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))["definition"]
        return Design(
            share=float(content["percent"]) / 100.0,
            mde=float(content["mde"]),
            alpha=float(content["alpha"]),
            minimize=bool(content["minimize"]),
            upper=content["upper"],
            variance=content["variance"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FixableError(
            f"{args.design} is not the test JSON that the ab_test integration wrote: {type(error).__name__}: {error}"
        ) from error


def read_units(args: AbJudgeArgs, ctx: CallContext) -> Units:

    path = ctx.path(args.units)
    frame = read_table(path)
    require_columns(frame, ["variant", "outcome"], path)
    unknown = sorted(set(frame["variant"].astype(str)) - {"champion", "challenger", "mixed"})
    if unknown:
        raise FixableError(f"{path}: variant is {unknown[0]!r}; valid: champion, challenger, mixed")
    mixed = (frame["variant"] == "mixed").to_numpy()
    kept = frame.loc[~mixed, :]

    def numbers(name: str) -> Any:
        return np.asarray(kept[name], dtype="float64")

    return Units(
        challenger=(kept["variant"] == "challenger").to_numpy(),
        value=numbers("outcome"),
        segment=kept["segment"].astype(str).to_numpy(dtype=object) if "segment" in kept.columns else None,
        covariate=numbers("covariate") if "covariate" in kept.columns else None,
        guardrails={
            str(name).removeprefix(GUARDRAIL): numbers(str(name))
            for name in kept.columns
            if str(name).startswith(GUARDRAIL)
        },
        mixed=int(np.sum(mixed)),
    )


def read_importance(path: Path) -> dict[str, float]:
    """Column -> importance for a model, from a JSON object.

    Raises:
        FixableError: not such a file.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise FixableError(f'cannot read {path}: {error}; expected JSON like {{"age": 0.12}}') from error
    numbers = isinstance(content, dict) and all(
        isinstance(value, int | float) and np.isfinite(value) for value in content.values()
    )
    if not content or not numbers:
        raise FixableError(f'{path} must hold one finite number per column, like {{"age": 0.12}}')
    return {str(name): float(value) for name, value in content.items()}


def _numbers(frame: pd.DataFrame, column: str, path: Path) -> Any:

    try:
        return cast(pd.Series, pd.to_numeric(frame[column])).astype("float64").to_numpy()
    except (ValueError, TypeError) as error:
        raise FixableError(f"{path}: the column {column!r} must be numeric: {error}") from error
