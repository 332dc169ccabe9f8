"""The simulated sample: repeatable, labelled as simulated, and its drift hurts a model trained before it."""

from pathlib import Path

import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from crew.sample import write_sample

NUMBERS = [
    "tenure_months",
    "monthly_charges",
    "data_usage_gb",
    "support_tickets",
    "late_payments",
    "app_logins_per_week",
]
CATEGORIES = ["contract", "plan", "payment_method", "region"]


def read(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return pd.read_csv(folder / "reference.csv"), pd.read_csv(folder / "current.csv")


def model(frame: pd.DataFrame) -> Pipeline:
    encode = make_column_transformer((StandardScaler(), NUMBERS), (OneHotEncoder(handle_unknown="ignore"), CATEGORIES))
    return make_pipeline(encode, LogisticRegression(max_iter=500)).fit(
        frame.fillna({"data_usage_gb": 12}), frame.churned
    )


def auc(fitted: Pipeline, frame: pd.DataFrame) -> float:
    probability = fitted.predict_proba(frame.fillna({"data_usage_gb": 12}))[:, 1]
    return float(roc_auc_score(frame.churned, probability))


def test_same_seed_writes_same_files(tmp_path: Path) -> None:
    first, second, other = (
        write_sample(tmp_path / "a"),
        write_sample(tmp_path / "b"),
        write_sample(tmp_path / "c", seed=8),
    )
    for name in ("reference.csv", "current.csv", "README.txt"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
        assert (first / name).read_bytes() != (other / name).read_bytes()


def test_readme_says_that_the_data_are_simulated_and_what_drifts(tmp_path: Path) -> None:
    with_drift = (write_sample(tmp_path / "a") / "README.txt").read_text()
    without = (write_sample(tmp_path / "b", drift=False) / "README.txt").read_text()
    assert with_drift.startswith("SIMULATED DATA") and without.startswith("SIMULATED DATA")
    assert "app_wallet" in with_drift and "competitor" in with_drift
    assert "Nothing drifts" in without and "competitor" not in without


def test_current_follows_reference_in_time_and_has_the_same_columns(tmp_path: Path) -> None:
    reference, current = read(write_sample(tmp_path))
    assert list(reference.columns) == list(current.columns)
    assert reference.timestamp.is_monotonic_increasing and current.timestamp.is_monotonic_increasing
    assert reference.timestamp.max() < current.timestamp.min()
    days = pd.to_datetime(current.timestamp).dt.normalize().nunique()
    assert days == 21
    assert set(reference.churned) == set(current.churned) == {"yes", "no"}


@pytest.mark.parametrize("seed", [7, 11])
def test_champion_loses_week_by_week_and_a_challenger_on_later_rows_wins(tmp_path: Path, seed: int) -> None:
    reference, current = read(write_sample(tmp_path, seed=seed))
    cut = int(0.8 * len(reference))
    champion = model(reference[:cut])
    weeks = [current[start : start + 2000] for start in (0, 2000, 4000)]
    losses = [auc(champion, week) for week in weeks]
    assert auc(champion, reference[cut:]) > 0.85
    assert losses[0] > losses[1] > losses[2] - 0.02
    assert losses[2] < 0.72
    challenger = model(current[:3600])
    assert auc(challenger, current[4800:]) > losses[2] + 0.12
    rates = [float((frame.churned == "yes").mean()) for frame in (reference, current)]
    assert abs(rates[0] - rates[1]) < 0.05, "the drift must not show in the share of churners"


def test_without_drift_the_champion_stays_as_good(tmp_path: Path) -> None:
    reference, current = read(write_sample(tmp_path, drift=False))
    champion = model(reference[:4800])
    before, after = auc(champion, reference[4800:]), auc(champion, current)
    assert abs(before - after) < 0.03
    assert "app_wallet" not in set(current.payment_method)
