"""A goal's sections that depend on each other."""

import pytest

from tasks.goal import CanarySection


def test_a_table_of_labels_needs_the_delay_after_which_they_are_due():
    assert CanarySection(labels="labels.csv", label_delay_requests=500).min_label_share == 0.9
    with pytest.raises(ValueError, match="label_delay_requests"):
        CanarySection(labels="labels.csv")
