"""Scoring a logged or registered model on labelled rows."""

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from tools.core.contract import CallContext
from tools.core.errors import FinalError, FixableError
from tools.integrations.mlflow.spec import EvaluateModelArgs, Evaluation
from tools.integrations.mlflow.tracking import Store
from tools.modeling.data import as_text, check_task, load_xy, positive_label, read_table, write_table
from tools.modeling.fairness import Audit, get_measure, make_audit
from tools.modeling.metrics import Metric, get_metric, row_losses, score
from tools.modeling.predictor import Predictions, Predictor, fetch_model, open_predictor

if TYPE_CHECKING:
    from tools.modeling.data import Task

LATENCY_CALLS = 50
WARM_UP_CALLS = 3
MAX_SEGMENTS = 50


def evaluate(store: Store, args: EvaluateModelArgs, ctx: CallContext) -> Evaluation:
    """The metric over all rows (and per segment), the rows' scores as Parquet, and the time of one prediction.

    Raises:
        FixableError: the data, a column or the metric cannot be used.
        FinalError: the model cannot be loaded or does not predict these rows.
    """
    task = check_task(args.task)
    metric = get_metric(args.metric, task)
    path = ctx.path(args.data)
    # A segment column that the model does not use is read all the same, and taken away again.
    dropped = [name for name in args.drop if name != args.segment]
    rows, truth = load_xy([path], args.target, dropped, task)
    groups = _segments(rows, args)
    if args.gap:
        get_measure(args.gap, task)
        if groups is None:
            raise FixableError(f"gap {args.gap!r} is between segments: name the column in segment")
    if args.segment in args.drop:
        rows = rows.drop(columns=args.segment)
    ctx.progress(0, 3, f"loading {args.model_uri}")
    # One thread, as in training and serving: more of them only fight over a busy machine's cores for one row.
    with fetched(store, args.model_uri) as (predictor, size), threadpool_limits(1):
        ctx.progress(1, 3, f"predicting {len(rows)} rows")
        predictions = predict(predictor, rows, args.model_uri)
        latency = _latencies_ms(predictor, rows)
    loss, error = row_losses(task, truth, predictions)
    probability = predictions.positive_probability if task == "binary" else None
    scores = pd.DataFrame(
        {
            "row": _labelled_rows(path, args.target),
            "y_true": truth.to_numpy(),
            "prediction": predictions.values,
            "probability": np.full(len(rows), np.nan) if probability is None else probability,
            "loss": loss,
            "error": error,
        }
    )
    out = ctx.workspace / f"scores_{path.stem}_{_digest(args)}.parquet"
    ctx.progress(2, 3, "writing the scores")
    write_table(scores, out)
    value = score(metric, truth, predictions, task)
    audit = _audit(args.gap, groups, truth, predictions, task)
    gap = audit.gap(predictions) if audit else None
    return Evaluation(
        model_uri=args.model_uri,
        metric=args.metric,
        value=value,
        rows=len(rows),
        latency_ms_p50=float(np.percentile(latency, 50)),
        latency_ms_p95=float(np.percentile(latency, 95)),
        size_bytes=size,
        scores_path=ctx.show(out),
        segments=None if groups is None else _per_segment(groups, metric, truth, predictions, task),
        fairness_gap=gap,
        message=f"{args.model_uri}: {args.metric} {value:.4g} on {len(rows)} rows of {path.name}."
        + (f" {_gap_words(args, audit, gap)}" if audit else ""),
    )


def _labelled_rows(path: Path, target: str) -> np.ndarray:
    """Positions in the file of the rows that `load_xy` keeps; shape (labelled rows,)."""
    labels = read_table(path)[target]
    return np.flatnonzero(labels.notna().to_numpy() & (as_text(labels) != ""))


@contextlib.contextmanager
def fetched(store: Store, model_uri: str) -> Generator[tuple[Predictor, int]]:
    """A model as a predictor, and its bytes.

    Raises:
        RetryableError: the server does not answer.
        FinalError: it does not exist or cannot be loaded.
    """
    store.client()  # says within seconds that the server does not answer
    with tempfile.TemporaryDirectory() as folder:
        local = fetch_model(model_uri, store.tracking_uri, store.registry_uri, Path(folder))
        size = sum(file.stat().st_size for file in local.rglob("*") if file.is_file())
        yield open_predictor(local, model_uri), size


def predict(predictor: Predictor, rows: pd.DataFrame, model_uri: str) -> Predictions:
    """What the model says about the rows.

    Raises:
        FinalError: it does not predict them.
    """
    try:
        return predictor.predict(rows)
    except (ValueError, TypeError, KeyError) as error:
        text = " ".join(str(error).split())[:300]
        raise FinalError(f"{model_uri} does not predict these rows: {type(error).__name__}: {text}") from error


def _latencies_ms(predictor: Predictor, rows: pd.DataFrame) -> np.ndarray:
    """Milliseconds of predicting one row, over rows spread evenly; shape (at most LATENCY_CALLS,)."""
    chosen = np.linspace(0, len(rows) - 1, min(LATENCY_CALLS, len(rows))).astype(int)
    for _ in range(WARM_UP_CALLS):
        predictor.predict(rows.iloc[[0]])
    laps: list[float] = []
    for position in chosen:
        row = rows.iloc[[position]]
        started = time.perf_counter()
        predictor.predict(row)
        laps.append(1000.0 * (time.perf_counter() - started))
    return np.array(laps)


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
    return make_audit(measure, groups, truth, task, positive_label(classes) if task == "binary" else None)


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
