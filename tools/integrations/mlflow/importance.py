"""How much a model depends on each column, and its scores on rows whose labels may be missing.

Permutation importance (Breiman 2001; as the difference of losses, Fisher, Rudin and Dominici 2019): with f the model, L
the mean loss of the rows (log loss, or absolute error of a regression), and X_j the rows with column j permuted,

    importance_j = mean over repeats of L(y, f(X_j)) - L(y, f(X))

It is in the loss's unit, about 0 for a column that the model does not use (negative by chance). Of two columns that say
the same each looks less important than both are together, because the other one stands in for it.
"""

import hashlib
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tools.core.contract import CallContext
from tools.core.errors import FixableError
from tools.core.files import write_json
from tools.integrations.mlflow.asking import ask, checked
from tools.integrations.mlflow.models import Models
from tools.integrations.mlflow.spec import ColumnImportance, ColumnImportanceArgs, ScoredRows, ScoreRowsArgs
from tools.integrations.mlflow.tracking import Store
from tools.modeling.data import as_text, check_task, clean_target, load_asked, read_table, require_columns, write_table
from tools.modeling.metrics import row_losses
from tools.modeling.output import labels_of

MAX_ROWS = 2000  # of the file, spread evenly over it
MIN_ROWS = 300  # a table of many columns gets fewer rows, but not fewer than these
REPEATS = 5
PREDICTED_ROWS = 500_000  # about as many predictions in all
NAMED = 5


def column_importance(store: Store, models: Models, args: ColumnImportanceArgs, ctx: CallContext) -> ColumnImportance:
    """The permutation importance of every column, as JSON `{column: importance}`; the same for the same seed.

    Raises:
        FixableError: the data or a column cannot be used.
        FinalError: the model cannot be loaded or does not predict these rows.
    """
    task = check_task(args.task)
    rows, truth = load_asked([ctx.path(args.data)], args.target, args.drop, task)
    names = [str(name) for name in rows.columns if name not in args.drop]
    most = int(np.clip(PREDICTED_ROWS // (REPEATS * len(names)), MIN_ROWS, MAX_ROWS))
    kept = np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)
    rows, labels = rows.iloc[kept].reset_index(drop=True), truth.to_numpy()[kept]
    found: dict[str, float] = {}
    model, _ = models.load(store, args.model_uri, ctx)
    reading, predictions = ask(model, rows, labels, args, task, ctx, [] if task == "regression" else labels_of(truth))
    base = float(row_losses(task, labels, predictions)[0].mean())
    repeated = np.tile(labels, REPEATS)
    for position, name in enumerate(names):
        ctx.progress(position, len(names), f"permuting {name}")
        permuted = pd.concat([rows] * REPEATS, ignore_index=True)
        permuted[name] = rows[name].take(_orders(len(rows), args.seed, position)).to_numpy()
        loss, _ = row_losses(task, repeated, model.predict(permuted, checked(ctx), reading))
        found[name] = float(loss.mean()) - base
    path = ctx.workspace / f"importance_{_digest(args.model_uri, args.data, str(args.seed))}.json"
    write_json(path, found, indent=1)
    ordered = sorted(found, key=lambda name: -found[name])
    used = [name for name in ordered if found[name] > 0]
    named = ", ".join(f"{name} {found[name]:.3g}" for name in used[:NAMED])
    return ColumnImportance(
        importance_path=ctx.show(path),
        most_important=used[:NAMED],
        used_columns=len(used),
        columns=len(found),
        rows=len(rows),
        loss=base,
        message=(
            f"{len(used)} of {len(found)} columns matter to {args.model_uri} on {len(rows)} rows "
            f"(loss {base:.4g}; added by permuting: {named or 'nothing'})."
        ),
    )


def _orders(count: int, seed: int, column: int) -> NDArray[np.int64]:
    """`REPEATS` permutations, one after the other; they depend on nothing but seed and column."""
    random = np.random.default_rng([seed, column])
    return np.concatenate([random.permutation(count) for _ in range(REPEATS)])


def score_rows(store: Store, models: Models, args: ScoreRowsArgs, ctx: CallContext) -> ScoredRows:
    """The model's scores on the files' rows in the order given, labelled or not, as `evaluate_model` writes them.

    Raises:
        FixableError: a file or a column cannot be used, or has no feature column.
        FinalError: the model cannot be loaded or does not predict these rows.
    """
    task = check_task(args.task)
    if not args.data:
        raise FixableError("data is empty; give at least one file")
    frames: list[pd.DataFrame] = []
    labels: list[pd.Series] = []
    for shown in args.data:
        path = ctx.path(shown)
        frame = read_table(path)
        require_columns(frame, args.drop, path)
        known = args.target in frame.columns
        column = cast(pd.Series, frame[args.target]) if known else pd.Series([None] * len(frame), dtype=object)
        labels.append(clean_target(column, task, path).astype(object))
        frames.append(frame.drop(columns=[args.target]) if known else frame)
    rows, truth = pd.concat(frames, ignore_index=True), pd.concat(labels, ignore_index=True)
    model, _ = models.load(store, args.model_uri, ctx)
    ctx.progress(0, 1, f"predicting {len(rows)} rows")
    _, predictions = ask(model, rows, truth, args, task, ctx, positive=args.positive)
    labelled = truth.notna().to_numpy()
    loss = np.full(len(rows), np.nan)
    if labelled.any():
        loss[labelled] = row_losses(task, truth.to_numpy()[labelled], predictions.of(labelled))[0]
    probability = predictions.positive_probability if task == "binary" else None
    if task != "regression":  # files may write the same label in different types
        truth = pd.Series(as_text(truth), dtype=object).where(labelled, None)
    scores = pd.DataFrame(
        {
            "row": np.arange(len(rows)),
            "y_true": truth if task != "regression" else truth.astype("float64"),
            "prediction": predictions.values if task == "regression" else as_text(predictions.values),
            "probability": np.full(len(rows), np.nan) if probability is None else probability,
            "loss": loss,
        }
    )
    out = ctx.workspace / f"scores_of_rows_{_digest(args.model_uri, *args.data)}.parquet"
    write_table(scores, out)
    return ScoredRows(
        scores_path=ctx.show(out),
        rows=len(rows),
        labelled_rows=int(labelled.sum()),
        message=f"{args.model_uri} scored {len(rows)} rows, {int(labelled.sum())} of them labelled.",
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]
