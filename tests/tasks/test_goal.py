"""A goal's sections that depend on each other."""

import pytest

from tasks.goal import METRICS, CanarySection, Goal
from tools.judge.estimates import METRICS_OF
from tools.modeling.metrics import METRICS as COMPUTED


def test_a_table_of_labels_needs_the_delay_after_which_they_are_due():
    assert CanarySection(labels="labels.csv", label_delay_requests=500).min_label_share == 0.9
    with pytest.raises(ValueError, match="label_delay_requests"):
        CanarySection(labels="labels.csv")


def test_every_metric_of_a_goal_can_be_computed_and_judged_and_another_is_refused_with_what_is_valid():
    assert {task: set(names) for task, names in METRICS.items()} == {t: set(names) for t, names in METRICS_OF.items()}
    assert all(task in COMPUTED[name].tasks for task, names in METRICS.items() for name in names)
    fields = {"name": "g", "task": "multiclass", "target": "y", "data": {"source": "a.csv"}}
    with pytest.raises(ValueError, match="'roc_auc' is not one of a multiclass model; valid: accuracy"):
        Goal.model_validate(fields | {"metric": "roc_auc"})
