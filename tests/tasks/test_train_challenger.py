"""The challenger is compared on rows later than all it was trained on."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tasks import train_challenger
from tests.conftest import Project
from tests.helpers.drifting_story import Story, drifting_rows

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def story(project: Project, mlflow_database: Path) -> Callable[..., Story]:
    store = project.ctx.home / "mlflow"
    store.mkdir(parents=True)
    (store / "mlflow.db").write_bytes(mlflow_database.read_bytes())
    return lambda reference, current, **goal: Story(project, reference, current, **goal)


def test_the_challenger_is_compared_in_pairs_on_rows_later_than_all_it_was_trained_on(
    story: Callable[..., Story], project: Project
) -> None:
    made = story(drifting_rows(600, 0.0, 1), drifting_rows(2000, 1.2, 2))
    result, evidence = made.challenge("recent")
    assert result.better, result.summary
    (_, _, trained, _), (_, _, champion, before), (_, _, challenger, after), (_, _, compared, _) = evidence.calls
    rows = {name: pd.read_parquet(project.root / path)["row"] for name, path in made.slices.items()}
    assert trained["train"] == [made.slices["reference_all"], made.slices["train"]]
    assert champion["data"] == challenger["data"] == made.slices["holdout"]
    # `row` numbers the current rows in time order.
    assert rows["train"].max() < rows["holdout"].min() <= rows["holdout"].max() < rows["live"].min()
    assert before.data is not None and after.data is not None
    pair = [pd.read_parquet(project.root / data["scores_path"]) for data in (before.data, after.data)]
    assert pair[0]["y_true"].tolist() == pair[1]["y_true"].tolist()
    assert len(pair[0]) == len(rows["holdout"])
    assert [compared["champion_scores"], compared["challenger_scores"]] == [
        before.data["scores_path"], after.data["scores_path"],
    ]  # fmt: skip
    assert train_challenger.guardrail(result, evidence) == []


def test_a_challenger_trained_on_too_few_rows_after_a_change_is_not_released(story: Callable[..., Story]) -> None:
    # A small change: 320 rows of the new concept make a worse model than 2,400 of the old one.
    made = story(drifting_rows(3000, 0.0, 3), drifting_rows(2000, 0.15, 4))
    result, evidence = made.challenge("newest:320")
    assert result.better is False
    assert result.challenger_value < result.champion_value
    claimed = result.model_copy(update={"better": True})
    assert train_challenger.guardrail(claimed, evidence) == [
        "better is true, but the judge did not find the challenger better"
    ]
