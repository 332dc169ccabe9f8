"""Model families, their parameters, and how a config becomes a scikit-learn pipeline.

A config is JSON: `{"family": "hist_gradient_boosting", "window": "all", "params": {...}}`. Its parameters are the
dimensions of the family, so that search, tuning, validation and building read one table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from tools.core.bounds import parse_json
from tools.core.errors import FixableError
from tools.modeling.columns import (
    ColumnReader,
    category_features,
    infer_schema,
    number_features,
)
from tools.modeling.data import Task
from tools.modeling.windows import check_window

MAX_CATEGORIES = 30
Config = dict[str, Any]


@dataclass(frozen=True)
class Dimension:
    """One parameter of a family: its range or choices, and the value that the family starts from.

    Args:
        kind: "float" and "int" are continuous hyperparameters (tuned); "choice" belongs to the architecture.
        low, high: inclusive range of a number.
        log: whether a number is searched on the logarithmic scale.
        classification_only: not a parameter of the regression model.
    """

    name: str
    kind: Literal["float", "int", "choice"]
    default: Any
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()
    classification_only: bool = False

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, or None."""
        if self.kind == "choice":
            valid = value in self.choices and not isinstance(value, bool)
            return None if valid else f"{self.name}={value!r}, valid: {', '.join(map(str, self.choices))}"
        number = isinstance(value, int) or (self.kind == "float" and isinstance(value, float))
        if number and not isinstance(value, bool) and self.low <= value <= self.high:
            return None
        return f"{self.name}={value!r}, valid: {self.kind} from {self.low:g} to {self.high:g}"


def _choice(name: str, *choices: Any, **more: Any) -> Dimension:
    return Dimension(name, "choice", choices[0], choices=choices, **more)


_WEIGHT = _choice("class_weight", "none", "balanced", classification_only=True)
_IMPUTE = _choice("impute", "median", "mean", "indicator")
_SCALE = _choice("scale", "standard", "robust", "quantile")
_FOREST = (
    _choice("impute", "median", "indicator"),
    _choice("encode", "ordinal", "onehot", "target"),
    Dimension("trees", "int", 100, 30, 200),
    Dimension("max_depth", "int", 16, 3, 24),
    Dimension("min_samples_leaf", "int", 5, 1, 50, log=True),
    Dimension("max_features", "float", 0.5, 0.1, 1.0),
    _WEIGHT,
)

FAMILIES: dict[str, tuple[Dimension, ...]] = {
    "hist_gradient_boosting": (
        _choice("impute", "none", "indicator"),
        _choice("encode", "ordinal", "onehot", "target"),
        Dimension("learning_rate", "float", 0.1, 0.01, 0.3, log=True),
        Dimension("iterations", "int", 100, 30, 300),
        Dimension("leaves", "int", 31, 4, 63, log=True),
        Dimension("min_samples_leaf", "int", 20, 5, 200, log=True),
        Dimension("l2", "float", 1e-3, 1e-6, 10.0, log=True),
        _WEIGHT,
    ),
    "random_forest": _FOREST,
    "extra_trees": _FOREST,
    "linear": (
        _IMPUTE,
        _SCALE,
        _choice("encode", "onehot", "target"),
        Dimension("strength", "float", 1.0, 1e-3, 1e3, log=True),
        _WEIGHT,
    ),
    "mlp": (
        _IMPUTE,
        _SCALE,
        _choice("encode", "onehot", "target"),
        _choice("layers", 2, 1, 3, 4),
        _choice("activation", "relu", "tanh"),
        Dimension("width", "int", 32, 8, 128, log=True),
        Dimension("l2", "float", 1e-4, 1e-6, 1e-1, log=True),
        Dimension("learning_rate", "float", 1e-3, 1e-4, 1e-2, log=True),
        Dimension("epochs", "int", 30, 10, 60),
    ),
}
"""Family -> its parameters. "linear" is logistic regression or ridge, by task."""


def dimensions(family: str, task: Task) -> tuple[Dimension, ...]:
    """The parameters of a family in a task.

    Raises:
        FixableError: no such family; names the valid ones.
    """
    if family not in FAMILIES:
        raise FixableError(f"unknown model family {family!r}; valid families: {', '.join(FAMILIES)}")
    return tuple(d for d in FAMILIES[family] if task != "regression" or not d.classification_only)


def default_config(task: Task, family: str = "hist_gradient_boosting", window: str = "all") -> Config:
    """The config that a family starts from."""
    return {"family": family, "window": window, "params": {d.name: d.default for d in dimensions(family, task)}}


def complete_config(config: Mapping[str, Any] | str, task: Task) -> Config:
    """A config (mapping or JSON text), checked, with the defaults of what it leaves out.

    Raises:
        FixableError: no JSON, or an unknown key, family, window or parameter, or a value outside its range; names the
            valid ones.
    """
    if isinstance(config, str):
        try:
            config = parse_json(config)
        except FixableError as error:
            raise FixableError(f"the config is {error.message}; got {str(config)[:80]!r}") from error
    if not isinstance(config, Mapping):
        raise FixableError(f"the config must be an object with family, window and params, got {config!r}")
    unknown = set(config) - {"family", "window", "params"}
    if unknown or "family" not in config:
        got = ", ".join(sorted(map(str, config))) or "nothing"
        raise FixableError(f"a config has the keys family (required), window and params; got {got}")
    window = check_window(config.get("window", "all"))
    full = default_config(task, str(config["family"]), window)
    known = {d.name: d for d in dimensions(full["family"], task)}
    given = config.get("params") or {}
    if not isinstance(given, Mapping):
        raise FixableError(f"params of a config must be an object, got {given!r}")
    problems = [known[k].problem(v) if k in known else f"unknown parameter {k!r}" for k, v in given.items()]
    problems = [p for p in problems if p]
    if problems:
        raise FixableError(f"{full['family']}: {'; '.join(map(str, problems))}. Parameters: {', '.join(known)}")
    full["params"].update(given)
    return full


def build(config: Mapping[str, Any], task: Task, X: pd.DataFrame, seed: int = 0) -> Pipeline:
    """The unfitted pipeline of a config: takes raw DataFrames (numbers, text, booleans, times, nulls, new categories).

    Args:
        config: completed by `complete_config`.
        X: the rows it will be trained on; they decide what each column holds.
        seed: of everything random in it. One thread only, so the same seed gives the same model.

    Raises:
        FixableError: the config or the rows cannot be used.
    """
    config = complete_config(config, task)
    params: dict[str, Any] = config["params"]
    schema = infer_schema(X)
    steps: list[tuple[str, Any, list[str]]] = []
    if numbers := number_features(schema):
        steps.append(("numbers", _number_steps(params, len(X), seed), numbers))
    if categories := category_features(schema):
        steps.append(("categories", _encoder(params["encode"], task, seed), categories))
    prepare = ColumnTransformer(steps, sparse_threshold=0.0, n_jobs=1)
    return Pipeline(
        [
            ("read", ColumnReader(schema)),
            ("prepare", prepare),
            ("model", _estimator(config["family"], params, task, seed)),
        ]
    )


def _number_steps(params: Mapping[str, Any], rows: int, seed: int) -> Any:
    steps: list[tuple[str, Any]] = []
    if params["impute"] != "none":
        strategy = "mean" if params["impute"] == "mean" else "median"
        imputer = SimpleImputer(
            strategy=strategy, add_indicator=params["impute"] == "indicator", keep_empty_features=True
        )
        steps.append(("impute", imputer))
    match params.get("scale"):
        case "standard":
            steps.append(("scale", StandardScaler()))
        case "robust":
            steps.append(("scale", RobustScaler()))
        case "quantile":
            scaler = QuantileTransformer(
                n_quantiles=min(500, rows), output_distribution="normal", subsample=100_000, random_state=seed
            )
            steps.append(("scale", scaler))
        case _:
            pass
    return Pipeline(steps) if steps else "passthrough"


def _encoder(name: str, task: Task, seed: int) -> BaseEstimator:
    match name:
        case "onehot":
            return OneHotEncoder(
                handle_unknown="infrequent_if_exist", max_categories=MAX_CATEGORIES, sparse_output=False
            )
        case "ordinal":
            return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        case _:
            # The type is told, not guessed: integer targets of a regression look like classes.
            told: dict[str, Any] = {"target_type": "continuous" if task == "regression" else task, "random_state": seed}
            return TargetEncoder(**told)


def _estimator(family: str, params: Mapping[str, Any], task: Task, seed: int) -> Any:
    classify = task != "regression"
    weight: dict[str, Any] = {}
    if "class_weight" in params:
        weight["class_weight"] = "balanced" if params["class_weight"] == "balanced" else None
    match family:
        case "linear":
            if classify:
                return LogisticRegression(C=1.0 / params["strength"], max_iter=500, **weight)
            return Ridge(alpha=params["strength"])
        case "random_forest" | "extra_trees":
            forest: dict[str, Any] = {
                "n_estimators": params["trees"],
                "max_depth": params["max_depth"],
                "min_samples_leaf": params["min_samples_leaf"],
                "max_features": float(params["max_features"]),
                "random_state": seed,
                "n_jobs": 1,
                **weight,
            }
            if family == "random_forest":
                return RandomForestClassifier(**forest) if classify else RandomForestRegressor(**forest)
            return ExtraTreesClassifier(**forest) if classify else ExtraTreesRegressor(**forest)
        case "hist_gradient_boosting":
            boosting: dict[str, Any] = {
                "learning_rate": params["learning_rate"],
                "max_iter": params["iterations"],
                "max_leaf_nodes": params["leaves"],
                "min_samples_leaf": params["min_samples_leaf"],
                "l2_regularization": params["l2"],
                "early_stopping": False,
                "random_state": seed,
                **weight,
            }
            return HistGradientBoostingClassifier(**boosting) if classify else HistGradientBoostingRegressor(**boosting)
        case _:
            network: dict[str, Any] = {
                "hidden_layer_sizes": (params["width"],) * params["layers"],
                "activation": params["activation"],
                "alpha": params["l2"],
                "learning_rate_init": params["learning_rate"],
                "max_iter": params["epochs"],
                "random_state": seed,
            }
            if classify:
                return MLPClassifier(**network)
            return TransformedTargetRegressor(MLPRegressor(**network), transformer=StandardScaler())
