"""Asking a model about rows, with its answers read as they were understood the first time."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from tools.core.contract import CallContext
from tools.core.errors import CallCancelled, FixableError
from tools.integrations.mlflow.spec import AskModelArgs
from tools.modeling.data import Task
from tools.modeling.labels import as_text
from tools.modeling.model_host import IsolatedModel
from tools.modeling.output import Asked, OutputReading, check_order, labels_of
from tools.modeling.output_settings import OutputSettings
from tools.modeling.predictor import Predictions
from tools.modeling.readings import fitting, keep


def ask(
    model: IsolatedModel, rows: pd.DataFrame, truth: Any, args: AskModelArgs, task: Task, ctx: CallContext,
    labels: list[Any] | None = None, positive: str = "",
) -> tuple[OutputReading, Predictions]:  # fmt: skip
    """What a model says about the rows, and how it was read: as it was found out before, or it is found out now.

    Args:
        rows: with the columns of `args.drop`; they are given to a model that was trained on them.
        truth: the label of each row, null where there is none.
        labels: of the data; by default those of `truth`.
        positive: the positive class of a binary task, where the goal states it.

    Raises:
        FixableError: it has to be stated what its answers mean.
        FinalError: it does not predict these rows.
    """
    known = labels_of(truth) if labels is None else labels
    asked = Asked(
        task=task,
        labels=[] if task == "regression" else known,
        stated=OutputSettings.model_validate(args.output),
        drop=args.drop,
    )
    reading = fitting(ctx.home, model.digest, args.target, asked)
    if reading is not None:
        return reading, model.predict(rows, checked(ctx), reading).read_as(known, task, positive)
    reading, predictions = model.understood(rows, asked, checked(ctx))
    predictions = predictions.read_as(known, task, positive)
    if task == "binary":
        labelled = as_text(truth) != ""
        try:
            check_order(reading, pd.Series(truth)[labelled], predictions.of(labelled))
        except FixableError as error:
            raise FixableError(f"{model.name}: {error.message}") from error
    if task == "regression" or len(known) > 1:
        keep(ctx.home, model.digest, args.target, asked, reading)
    return reading, predictions


def checked(ctx: CallContext) -> Callable[[], None]:
    """Ends a call that is being stopped, and with it the model it waits for."""

    def check() -> None:
        if ctx.is_cancelled():
            raise CallCancelled

    return check


def remarks(reading: OutputReading) -> str:
    """What a person should know of how a model was read, as a sentence after others; empty where it says all itself."""
    return f" {reading.message}" if reading.supposed or reading.kind == "labels" else ""
