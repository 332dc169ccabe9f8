"""A model of MLflow, whatever library it was logged with: which columns it takes, and what it answers.

Where the library can give probabilities it is asked for them; a model of any other kind is asked through MLflow's
common interface. What the answers mean is `tools.modeling.output`'s.
"""

import importlib
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from tools.core.errors import FinalError, FixableError, shorten
from tools.modeling.made_with import other_versions
from tools.modeling.model_input import ModelInput
from tools.modeling.output import AS_IT_IS, Answer, Asked, OutputReading, as_answer, read_answer
from tools.modeling.output_rules import understand
from tools.modeling.predictor import Predictions

NATIVE = ("sklearn", "xgboost", "lightgbm", "catboost")
SHOWN = 5


class OpenedModel:
    """A loaded model. May be used from several threads at once where the model may.

    Args:
        answers: rows -> whatever the model returns.
        takes: the columns that it takes.
        classes: the labels of what it returns, where that is one column of probabilities for each of them.

    `made_with` names the libraries that it was logged with in another version than is here.
    """

    made_with: str = ""

    def __init__(
        self, answers: Callable[[pd.DataFrame], Any], takes: ModelInput, classes: np.ndarray | None = None
    ) -> None:
        self._answers = answers
        self._takes = takes
        self._classes = classes

    def predict(self, frame: pd.DataFrame, reading: OutputReading = AS_IT_IS) -> Predictions:
        """What it says about the rows, read so.

        Raises:
            FixableError: it cannot answer these rows, or the answers are not what they were; says why.
        """
        return read_answer(self._asked(frame, reading.drop), reading)

    def understood(self, frame: pd.DataFrame, asked: Asked) -> tuple[OutputReading, Predictions]:
        """How its answers are to be read, found out on these rows, and what it says about them.

        Raises:
            FixableError: it cannot answer these rows, or it has to be stated what its answers mean.
        """
        answer = self._asked(frame, asked.drop)
        reading = understand(answer, asked)
        return reading, read_answer(answer, reading)

    def _asked(self, frame: pd.DataFrame, drop: list[str]) -> Answer:
        rows = self._takes.taken(frame, drop)
        try:
            return self._answered(rows)
        except Exception as error:  # a foreign model may raise anything
            why = self._missing(frame, drop) or self._nulls(rows) or _aged(error, self.made_with)
            if not why:
                raise
            raise FixableError(why) from error

    def _answered(self, rows: pd.DataFrame) -> Answer:
        parts = self._takes.parts(rows)
        answers = [self._part(rows if len(parts) == 1 else rows.iloc[part]) for part in parts]
        if len(parts) == 1:
            return answers[0]
        order = np.argsort(np.concatenate(parts))
        columns = [np.concatenate(together)[order] for together in zip(*(a.columns for a in answers), strict=True)]
        return Answer(columns, answers[0].names, answers[0].classes)

    def _part(self, rows: pd.DataFrame) -> Answer:
        found = as_answer(self._answers(self._takes.typed(rows)), len(rows))
        if self._classes is None:
            return found
        if len(found.columns) != len(self._classes):
            raise FixableError(f"it answers {found.told()}, and names {len(self._classes)} classes")
        return Answer(found.columns, None, self._classes)

    def _missing(self, frame: pd.DataFrame, drop: list[str]) -> str:
        names = self._takes.missing(frame)
        if not names:
            return ""
        named = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
        if len(names) == 1:
            return f"it was trained on the column {named}, which is not in these rows; the data needs it"
        return f"it was trained on the columns {named}, which are not in these rows; the data needs them"

    def _nulls(self, rows: pd.DataFrame) -> str:
        """Why it cannot answer, where it is the nulls: it answers the rows without."""
        with_null = rows.isna()
        found = with_null.to_numpy().any(axis=1)
        if not found.any():
            return ""
        if not found.all():
            try:
                self._answered(rows.iloc[np.flatnonzero(~found)])
            except Exception:  # noqa: BLE001 - then nulls are not why
                return ""
        names = [str(name) for name in rows.columns[with_null.any(axis=0)]]
        refused = [name for name in names if self._refuses(rows, name)] or names
        count = int(with_null[refused].to_numpy().any(axis=1).sum())
        kinds = {name: self._takes.types.get(name, "") for name in refused}
        whole = [name for name, kind in kinds.items() if kind in ("integer", "long")]
        signed = f" (by its signature {', '.join(whole)} holds whole numbers, which cannot be null)" if whole else ""
        return (
            f"it cannot answer the {count} of {len(rows)} rows where {' or '.join(refused[:SHOWN])} is null{signed}; "
            "set `data: {max_null_share: 0, on_bad_rows: quarantine}` in the goal to leave such rows out, or register "
            "a version that takes nulls"
        )

    def _refuses(self, rows: pd.DataFrame, name: str) -> bool:
        """Whether a null in this column alone is too much."""
        others = [other for other in rows.columns if other != name]
        alone = np.flatnonzero(rows[name].isna().to_numpy() & rows[others].notna().to_numpy().all(axis=1))
        if not len(alone):
            return False
        try:
            self._answered(rows.iloc[alone[:1]])
        except Exception:  # noqa: BLE001 - whatever it raised, it does not answer this row
            return True
        return False


def open_model(folder: Path) -> OpenedModel:
    """A model from its files, which must stay where they are.

    Runs code of the model's author: to be called in a process that `tools.core.isolation` confined.

    Raises:
        FinalError: it cannot be loaded; says why.
    """
    made_with = other_versions(folder)
    opened = _opened(folder, made_with)
    opened.made_with = made_with
    return opened


def _opened(folder: Path, made_with: str) -> OpenedModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's first import warns of its own type hints
        import mlflow.pyfunc
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model

    path = str(folder)
    try:
        described: Any = Model.load(path)
        types = _signature(described)
        for flavor in NATIVE:
            if flavor in described.flavors:
                native = importlib.import_module(f"mlflow.{flavor}").load_model(path)
                return _native(native, types)
        loaded: Any = mlflow.pyfunc.load_model(path)
        if types:
            loaded.metadata.signature = None  # `ModelInput` does what it asks for
        return OpenedModel(loaded.predict, ModelInput(tuple(types), types))
    except (
        MlflowException,
        OSError,
        ImportError,
        AttributeError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        raise FinalError(_aged(error, made_with) or _why(error)) from error


def _signature(described: Any) -> dict[str, str]:
    """Column -> type of the signature's input; empty where it has none, or none of plain columns with names."""
    schema = described.get_input_schema()
    columns: list[Any] = [] if schema is None or schema.is_tensor_spec() else list(schema.inputs)
    types = {str(column.name): getattr(column.type, "name", "") for column in columns if column.name}
    plain = {*_PLAIN} >= set(types.values()) and len(types) == len(columns)
    return types if plain else {}


_PLAIN = ("boolean", "integer", "long", "float", "double", "string", "binary", "datetime")


def _native(model: Any, types: dict[str, str]) -> OpenedModel:
    """A model of a library whose own interface gives more than MLflow's."""
    takes = ModelInput(_names(model) or tuple(types), types, _categories(model))
    kind = type(model)
    if kind.__module__.startswith("xgboost") and kind.__name__ == "Booster":
        matrix: Any = importlib.import_module("xgboost").DMatrix
        return OpenedModel(lambda rows: model.predict(matrix(rows, enable_categorical=True)), takes)
    classes = getattr(model, "classes_", None)
    if hasattr(model, "predict_proba") and classes is not None and np.ndim(classes) == 1:
        return OpenedModel(model.predict_proba, takes, np.asarray(classes))
    return OpenedModel(model.predict_proba if hasattr(model, "predict_proba") else model.predict, takes)


def _names(model: Any) -> tuple[str, ...]:
    for name in ("feature_names_in_", "feature_names_", "feature_names"):
        found = getattr(model, name, None)
        if found is not None and not callable(found) and len(found) and isinstance(found[0], str):
            return tuple(str(column) for column in found)
    told: Any = getattr(model, "feature_name", None)  # a LightGBM booster
    found = cast(Any, told)() if callable(told) else ()
    return tuple(str(column) for column in found)


def _categories(model: Any) -> dict[str, list[Any] | None]:
    """The columns that the library wants as categories."""
    booster = model.get_booster() if hasattr(model, "get_booster") else getattr(model, "booster_", model)
    kinds = getattr(booster, "feature_types", None)
    names = _names(model) or _names(booster)
    if kinds and len(kinds) == len(names):  # XGBoost keeps the values itself
        return {name: None for name, kind in zip(names, kinds, strict=True) if kind == "c"}
    values = getattr(booster, "pandas_categorical", None)
    if not values or not hasattr(booster, "dump_model"):
        return {}
    infos = booster.dump_model()["feature_infos"]
    found = [name for name in names if infos.get(name, {}).get("values")]
    return dict(zip(found, values, strict=False)) if len(found) == len(values) else {}


def _aged(error: Exception, made_with: str) -> str:
    """Why it fails, where it was logged with other versions of its libraries; empty where it was not."""
    if not made_with or isinstance(error, (FixableError, FinalError, PermissionError, ModuleNotFoundError)):
        return ""
    return (
        f"it was logged with {made_with}, and fails with what is here ({_why(error)}); log and register it again with "
        "the versions that are here, or install those it was logged with"
    )


def _why(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"it needs the module {error.name}, which is not installed here"
    if isinstance(error, PermissionError):
        return f"it tried to open a file or a connection that models may not ({error.filename or 'unnamed'})"
    return shorten(" ".join(str(error).split()), 300) or f"its files cannot be read ({type(error).__name__})"
