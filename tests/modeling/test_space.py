"""Search spaces and the configs in them."""

import json

import pytest

from tools.core.errors import FixableError
from tools.modeling.data import (
    TASKS,
    Task,
)
from tools.modeling.models import (
    FAMILIES,
    complete_config,
    default_config,
)
from tools.modeling.space import (
    ChosenValues,
    architecture_values,
    sample_architecture,
    sample_tuning,
    spread_tuning,
)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ({}, "family"),
        ({"family": "svm"}, "hist_gradient_boosting, random_forest"),
        ({"family": "mlp", "windows": "all"}, "keys family"),
        ({"family": "mlp", "window": "newest"}, "all, recent"),
        ({"family": "mlp", "params": {"depth": 3}}, "unknown parameter 'depth'"),
        ({"family": "mlp", "params": {"layers": 9}}, "layers=9, valid: 2, 1, 3, 4"),
        ({"family": "mlp", "params": {"width": 1.5}}, "width=1.5, valid: int from 8 to 128"),
        ({"family": "mlp", "params": {"l2": "high"}}, "l2='high', valid: float"),
    ],
)
def test_a_wrong_config_is_refused_with_what_is_valid(config: object, words: str) -> None:
    with pytest.raises(FixableError, match=words):
        complete_config(config, "binary")  # type: ignore[arg-type]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_default_config_lies_in_both_search_spaces(family: str, task: Task) -> None:
    config = default_config(task, family, "recent")
    chosen = ChosenValues(architecture_values(config))
    assert sample_architecture(chosen, task) == config
    assert sample_tuning(chosen, config, task) == config
    assert complete_config(json.dumps(config), task) == config


def test_spread_configs_repeat_by_seed_stay_in_range_and_keep_the_architecture() -> None:
    start = default_config("binary", "mlp")
    configs = spread_tuning(start, "binary", 20, seed=5)
    assert configs == spread_tuning(start, "binary", 20, seed=5)
    assert configs != spread_tuning(start, "binary", 20, seed=6)
    for config in configs:
        assert complete_config(config, "binary") == config
        assert {k: config["params"][k] for k in ("layers", "activation", "encode")} == {
            k: start["params"][k] for k in ("layers", "activation", "encode")
        }
    rates = sorted(config["params"]["learning_rate"] for config in configs)
    assert rates[0] < 2e-4, "a Latin hypercube reaches both ends"
    assert rates[-1] > 5e-3
