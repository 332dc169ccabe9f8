"""What the synthetic-data integration can do: generate rows, score them."""

from typing import Annotated

from pydantic import Field

from tools.core.arguments import Bound, ReadPath, Seed, Target
from tools.core.contract import Action, Args, Data, Effect, Integration, Limited


class GenerateRowsArgs(Args):
    data: Annotated[ReadPath, Bound()] = Field(description="real file")
    target: Target = Field(description="label")
    rows: Annotated[int, Bound("goal.synthetic.rows")] = Limited("synthetic_rows", "how many", gt=0)
    balance: Annotated[bool, Bound("goal.synthetic.balance")] = Field(False, description="equalise classes")
    seed: Seed = Field(0, description="seed")


class GeneratedRows(Data):
    path: str  # Parquet with the columns and types of `data`
    rows: int
    real_rows: int
    class_counts: dict[str, int] | None  # of the synthetic rows; None: numeric target
    method: str
    seed: int
    message: str


class ScoreQualityArgs(Args):
    real: Annotated[ReadPath, Bound()] = Field(description="real CSV/Parquet")
    synthetic: Annotated[ReadPath, Bound()] = Field(description="generated file")
    target: Annotated[str | None, Bound("goal.target")] = Field(None, description="label: compare at equal class mix")
    seed: Seed = Field(0, description="random seed")


class QualityReport(Data):
    """Scores from 0 to 1, higher is better, but for `detection_auc` (0.5: indistinguishable) and the copies.

    `overall` is the mean of `column_score` and `correlation_score`, as in SDMetrics' quality report.
    `distance_ratio` is the median distance of a synthetic row to the nearest real row over that of an unseen real row;
    well below 1 means that rows were memorised.
    """

    overall: float
    column_score: float
    column_scores: dict[str, float]  # 1 - KS statistic for numbers, 1 - total variation distance for categories
    correlation_score: float
    detection_auc: float
    exact_copy_share: float
    real_duplicate_share: float  # what the real rows themselves show: a small table repeats naturally
    distance_ratio: float | None  # None: real rows repeat so much that their median distance is 0
    private: bool
    class_mix_matched: bool
    seed: int
    message: str


SPEC = Integration(
    name="synthetic",
    title="Synthetic data",
    summary="Makes synthetic rows and scores them.",
    actions=(
        Action(
            name="generate_rows",
            summary="Make rows that resemble a file (Gaussian copula).",
            args=GenerateRowsArgs,
            result=GeneratedRows,
            effect=Effect.WRITE,
            idempotent=True,
            timeout_s=600,
            key=(),
            repeatable=True,
        ),
        Action(
            name="score_quality",
            summary="Score synthetic rows: likeness and privacy.",
            args=ScoreQualityArgs,
            result=QualityReport,
            effect=Effect.READ,
            idempotent=True,
            timeout_s=600,
        ),
    ),
    backend="tools.integrations.synthetic.backend:SyntheticBackend",
    requires=("scipy", "scikit-learn"),
    imports=("scipy", "sklearn"),
)
