"""Scoring a logged or registered model on labelled rows."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from tools.core.contract import CallContext
from tools.core.errors import FixableError
from tools.integrations.mlflow.asking import ask, checked, remarks
from tools.integrations.mlflow.models import Models
from tools.integrations.mlflow.spec import EvaluateModelArgs, Evaluation, ReadOutput, ReadOutputArgs
from tools.integrations.mlflow.tracking import Store
from tools.modeling.data import (
    MODEL_DIGEST,
    POSITIVE,
    ROWS_DIGEST,
    check_task,
    clean_target,
    file_digest,
    load_asked,
    read_table,
    unify,
    write_table,
)
from tools.modeling.fairness import Audit, get_measure, make_audit
from tools.modeling.labels import as_text, positive_text
from tools.modeling.metrics import Metric, get_metric, row_losses, score
from tools.modeling.model_host import IsolatedModel
from tools.modeling.output import OutputReading, labels_of
from tools.modeling.predictor import Predictions
from tools.modeling.readings import kept_reading
from tools.modeling.too_good import too_good

if TYPE_CHECKING:
    from tools.modeling.data import Task

LATENCY_CALLS = 50
MAX_SEGMENTS = 50
KEPT_EVALUATIONS = 50
READ_ROWS = 5000  # of the file, spread evenly over it, tell what the answers mean


@dataclass(frozen=True)
class _Asked:
    """What an evaluation follows from: the same of it is the same evaluation."""

    args: str
    model_digest: str
    rows_digest: str
    scores: Path
    reading: str


class Evaluations:
    """What was found out in this process, by what it follows from. Several tasks ask the same of the champion."""

    def __init__(self) -> None:
        self._known: dict[_Asked, tuple[Evaluation, str]] = {}

    def get(self, asked: _Asked) -> Evaluation | None:
        """The evaluation; None: there is none, or its scores are not there as they were written."""
        found, digest = self._known.get(asked, (None, ""))
        return found if asked.scores.is_file() and file_digest(asked.scores) == digest else None

    def keep(self, asked: _Asked, found: Evaluation) -> None:
        """Keep an evaluation whose scores were just written."""
        self._known[asked] = found, file_digest(asked.scores)
        while len(self._known) > KEPT_EVALUATIONS:
            del self._known[next(iter(self._known))]


def evaluate(store: Store, models: Models, known: Evaluations, args: EvaluateModelArgs, ctx: CallContext) -> Evaluation:
    """The metric over all rows (and per segment), the rows' scores as Parquet, and the time of one prediction.

    The same model asked about the same rows in the same way is not asked again; the answer is the same.

    Raises:
        FixableError: the data, a column or the metric cannot be used.
        FinalError: the model cannot be loaded or does not predict these rows, or it must be said what it answers.
    """
    task = check_task(args.task)
    metric = get_metric(args.metric, task)
    path = ctx.path(args.data)
    rows, truth = load_asked([path], args.target, args.drop, task)
    groups = _segments(rows, args)
    if args.gap:
        get_measure(args.gap, task)
        if groups is None:
            raise FixableError(f"gap {args.gap!r} is between segments: name the column in segment")
    ctx.progress(0, 3, f"loading {args.model_uri}")
    model, size = models.load(store, args.model_uri, ctx)
    rows_digest, out = file_digest(path), ctx.workspace / f"scores_{path.stem}_{_digest(args)}.parquet"

    def asked() -> _Asked:
        how = kept_reading(ctx.home, model.digest).model_dump_json()
        return _Asked(args.model_dump_json(), model.digest, rows_digest, out, how)

    if (before := known.get(asked())) is not None:
        return before
    ctx.progress(1, 3, f"predicting {len(rows)} rows")
    reading, predictions = ask(model, rows, truth, args, task, ctx, positive=args.positive)
    latency = _latencies_ms(model, rows, reading, ctx)
    loss, error = row_losses(task, truth, predictions)
    probability = predictions.positive_probability if task == "binary" else None
    scores = pd.DataFrame(
        {
            "row": _labelled_rows(path, args.target, task),
            "y_true": truth.to_numpy(),
            "prediction": predictions.values,
            "probability": np.full(len(rows), np.nan) if probability is None else probability,
            "loss": loss,
            "error": error,
        }
    )
    classes = truth if predictions.classes is None else predictions.classes
    positive = positive_text(classes, predictions.positive) if task == "binary" else ""
    of_class = f" (positive class {positive!r})" if positive else ""
    # Kept in the file: what was scored on what, and of which class.
    scores.attrs |= {MODEL_DIGEST: model.digest, ROWS_DIGEST: rows_digest, POSITIVE: positive}
    ctx.progress(2, 3, "writing the scores")
    write_table(scores, out)
    value = score(metric, truth, predictions, task)
    audit = _audit(args.gap, groups, truth, predictions, task)
    gap = audit.gap(predictions) if audit else None
    found = Evaluation(
        model_uri=args.model_uri,
        metric=args.metric,
        value=value,
        rows=len(rows),
        latency_ms_p50=float(np.percentile(latency, 50)),
        latency_ms_p95=float(np.percentile(latency, 95)),
        size_bytes=size,
        model_digest=model.digest,
        rows_digest=rows_digest,
        scores_path=ctx.show(out),
        segments=None if groups is None else _per_segment(groups, metric, truth, predictions, task),
        fairness_gap=gap,
        positive=positive,
        too_good=too_good(task, truth, predictions),
        message=f"{args.model_uri}: {args.metric} {value:.4g}{of_class} on {len(rows)} rows of {path.name}."
        + (f" {_gap_words(args, audit, gap)}" if audit else "")
        + remarks(reading),
    )
    known.keep(asked(), found)
    return found


def read_output(store: Store, models: Models, args: ReadOutputArgs, ctx: CallContext) -> ReadOutput:
    """Find out how a model's answers are read, on rows of the first file and the labels of all of them; it stands from
    then on for whatever asks the model.

    Raises:
        FixableError: the data or a column cannot be used, or it must be said what the model answers.
        FinalError: the model cannot be loaded or does not predict these rows.
    """
    task = check_task(args.task)
    if not args.data:
        raise FixableError("data is empty; give at least one file")
    parts = [load_asked([ctx.path(shown)], args.target, args.drop, task) for shown in args.data]
    rows, truth = parts[0]
    kept = np.linspace(0, len(rows) - 1, min(len(rows), READ_ROWS)).astype(int)
    labels = [] if task == "regression" else labels_of(unify([labels for _, labels in parts]))
    model, _ = models.load(store, args.model_uri, ctx)
    reading, _ = ask(model, rows.iloc[kept].reset_index(drop=True), truth.to_numpy()[kept], args, task, ctx, labels)
    return ReadOutput(
        model_uri=args.model_uri,
        kind=reading.kind,
        labels=[str(text) for text in as_text(reading.classes)],
        supposed=reading.supposed,
        message=reading.message or "It says itself what it answers.",
    )


def _labelled_rows(path: Path, target: str, task: "Task") -> np.ndarray:
    """Positions in the file of the rows that `load_xy` keeps; shape (labelled rows,)."""
    return np.flatnonzero(clean_target(cast(pd.Series, read_table(path)[target]), task, path).notna().to_numpy())


def _latencies_ms(model: IsolatedModel, rows: pd.DataFrame, reading: OutputReading, ctx: CallContext) -> np.ndarray:
    """Milliseconds of predicting one row, over rows spread evenly; shape (at most LATENCY_CALLS,)."""
    chosen = np.linspace(0, len(rows) - 1, min(LATENCY_CALLS, len(rows))).astype(int)
    return model.latencies_ms(rows.iloc[chosen], checked(ctx), reading)


def _segments(rows: pd.DataFrame, args: EvaluateModelArgs) -> pd.Series | None:
    if not args.segment:
        return None
    if args.segment not in rows:
        raise FixableError(f"{args.data} has no feature column {args.segment!r}; columns: {', '.join(rows)}")
    groups = pd.Series(rows[args.segment].astype(str))
    if (count := groups.nunique()) > MAX_SEGMENTS:
        raise FixableError(f"segment {args.segment!r} has {count} values; at most {MAX_SEGMENTS} are reported")
    return groups


def _audit(
    measure: str, groups: pd.Series | None, truth: pd.Series, predictions: Predictions, task: "Task"
) -> Audit | None:
    if not measure or groups is None:
        return None
    classes = truth if predictions.classes is None else predictions.classes
    positive = positive_text(classes, predictions.positive) if task == "binary" else None
    return make_audit(measure, groups, truth, task, positive)


def _gap_words(args: EvaluateModelArgs, audit: Audit, gap: float | None) -> str:
    value = "cannot be computed" if gap is None else f"{gap:.3g}"
    return f"Fairness gap ({args.gap} by {args.segment}): {value}. {audit.note}".strip()


def _per_segment(
    groups: pd.Series, metric: Metric, truth: pd.Series, predictions: Predictions, task: "Task"
) -> dict[str, float | None]:
    values: dict[str, float | None] = {}
    for name in sorted(groups.unique()):
        chosen = (groups == name).to_numpy()
        try:
            values[name] = score(metric, truth.to_numpy()[chosen], predictions.of(chosen), task)
        except FixableError:  # not defined on these rows, for example one class only
            values[name] = None
    return values


def _digest(args: EvaluateModelArgs) -> str:
    """Tells scores of different models and files apart."""
    return hashlib.sha256(f"{args.model_uri}\0{args.data}".encode()).hexdigest()[:10]
