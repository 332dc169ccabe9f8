"""The goals shown in docs/goal.md are goals."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.goal import Goal

TEXT = (Path(__file__).parents[1] / "docs" / "goal.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
BASE: dict[str, Any] = {
    "name": "churn",
    "task": "binary",
    "target": "churned",
    "metric": "roc_auc",
    "data": {"reference": "a.csv", "current": "b.csv"},
}


@pytest.mark.parametrize("shown", BLOCKS, ids=lambda text: text.splitlines()[0])
def test_each_section_shown_belongs_into_a_goal(shown: str) -> None:
    sections = yaml.safe_load(shown)
    goal = Goal.model_validate({**BASE, **sections, "data": {**BASE["data"], **sections.get("data", {})}})
    assert goal.name == "churn"


def test_every_section_of_a_goal_is_shown_somewhere() -> None:
    shown = {key for block in BLOCKS for key in yaml.safe_load(block)}
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    missing = [name for name in Goal.model_fields if name not in shown and f"{name}:" not in readme]
    assert missing == ["direction"]  # explained in words
