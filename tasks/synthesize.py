"""Make synthetic rows for training, only when the goal asks for them, and say how real they are."""

from pydantic import Field

from tasks import check_data
from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, expect
from tools.core.grants import Grant, grant
from tools.integrations.synthetic.spec import GeneratedRows, QualityReport

CALLS: dict[str, tuple[str, ...]] = {
    "synthetic.generate_rows": (),
    "synthetic.score_quality": (),
}


class Result(TaskResult):
    rows_path: str = Field(description="path of the synthetic rows")
    rows: int
    quality: float = Field(description="overall quality, 0 to 1")


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    train = inputs.need("check_data", check_data.Result).slices["train"]
    made = expect(
        (
            yield call(
                "synthetic",
                "generate_rows",
                data=train,
                target=goal.target,
                rows=goal.synthetic.rows,
                balance=goal.synthetic.balance,
                seed=inputs.seed,
            )
        ),
        GeneratedRows,
        "making synthetic rows",
    )
    quality = expect(
        (
            yield call(
                "synthetic", "score_quality", real=train, synthetic=made.path, target=goal.target, seed=inputs.seed
            )
        ),
        QualityReport,
        "scoring the synthetic rows",
    )
    return Result(
        rows_path=made.path,
        rows=made.rows,
        quality=quality.overall,
        summary=f"{made.rows} synthetic rows made; overall quality {quality.overall:.3f} of 1.",
    )


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    train = inputs.need("check_data", check_data.Result).slices["train"]
    made = done.last("synthetic.generate_rows", GeneratedRows)
    scored = [] if made is None else [grant("synthetic.score_quality", real=train, synthetic=made.path)]
    return [grant("synthetic.generate_rows", data=train), *scored]


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    made = evidence.last("synthetic.generate_rows", GeneratedRows)
    if made is None:
        return ["no rows were made (synthetic generate_rows did not succeed)"]
    if not evidence.succeeded("synthetic.score_quality"):
        return ["the quality of the rows was not scored"]
    return [] if result.rows_path == made.path else [f"rows_path is {result.rows_path!r}, made was {made.path!r}"]
