"""Pictures made from real tools' results."""

from typing import Any

from crew.report import write_report
from crew.report.charts import histogram, metric_over_time
from tests.conftest import Project
from tests.helpers.page import Page
from tools.core.journal import Journal
from tools.core.redact import Redactor
from tools.integrations.evidently.histograms import histograms


def test_the_judges_real_trajectory_is_drawn(project: Project) -> None:
    import numpy as np
    import pandas as pd

    rng, n = np.random.default_rng(1), 400
    truth = rng.integers(0, 2, n).astype(str)
    served = np.where(np.arange(n) % 10, "champion", "challenger")
    table = {"request_id": [f"r{i}" for i in range(n)], "served_by": served, "y_true": truth, "batch": 0}
    for variant, skill in (("champion", 0.7), ("challenger", 0.85)):
        right = rng.random(n) < skill
        table |= {
            f"{variant}_prediction": np.where(right == (truth == "1"), "1", "0"),
            f"{variant}_probability": np.where(right == (truth == "1"), 0.8, 0.2),
            f"{variant}_loss": np.where(right, 0.22, 1.6),
            f"{variant}_error": (~right).astype(float),
            f"{variant}_latency_ms": rng.gamma(5, 1, n),
            f"{variant}_status": 200,
        }
    pd.DataFrame(table).to_parquet(project.root / "evidence.parquet")
    data = project.ok("judge", "judge_canary", evidence="evidence.parquet", metric="accuracy", task="binary")
    folder = project.ctx.home / "runs" / project.ctx.run_id
    journal = Journal(folder / "journal.jsonl", Redactor({}))
    journal.append("intent", call_id="c1", server="judge", action="judge_canary", arguments={}, effect="read")
    journal.append("outcome", call_id="c1", status="ok", message=data["message"], data=data, duration_s=1.0, attempts=1)
    labels = Page(write_report(folder).html.read_text()).values("aria-label")
    assert [label.split(".")[0] for label in labels[:2]] == [
        "Confidence sequence of the difference", "Evidence at the last look",
    ]  # fmt: skip


def test_evidentlys_real_histograms_are_drawn() -> None:
    import pandas as pd

    before = pd.DataFrame({"x": [i / 7 for i in range(60)], "kind": ["a", "b", None] * 20})
    now = pd.DataFrame({"x": [5 + i / 9 for i in range(60)], "kind": ["a", "c", "c", "c"] * 15})
    profile = histograms(before, now, {"x": "number", "kind": "category"})
    assert histogram("x", profile["x"]).count('class="current"') == len(profile["x"]["edges"]) - 1 > 5
    assert "c: current 75.0%" in histogram("kind", profile["kind"])


def test_a_histogram_of_an_unknown_shape_is_left_out() -> None:
    assert histogram("x", {"kind": "number", "reference": [1, 2], "current": [1]}) == ""
    assert histogram("x", {"kind": "number", "reference": "many", "current": None}) == ""
    assert 'aria-label="Distribution of x' in histogram("x", {"reference": [0, 0], "current": [0, 0]})


def test_what_several_tasks_measured_alike_is_one_point() -> None:
    def point(at: float, data: str, value: float) -> dict[str, Any]:
        return {"at_s": at, "model": "version 1", "data": data, "metric": "roc_auc", "value": value, "call": f"c{at}"}

    once = [point(1.0, "holdout", 0.9), point(2.0, "current", 0.7)]
    again = [*once, point(3.0, "holdout", 0.9), point(4.0, "current", 0.7)]
    assert metric_over_time(again, [], "roc_auc", None) == metric_over_time(once, [], "roc_auc", None)
    other = [*once, point(3.0, "holdout", 0.8)]
    assert metric_over_time(other, [], "roc_auc", None) != metric_over_time(once, [], "roc_auc", None)
