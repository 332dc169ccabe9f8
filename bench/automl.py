"""The crew's whole search beside FLAML and AutoGluon, at equal seconds on the same two cores.

    python bench/automl.py --flaml PYTHON --autogluon PYTHON [--seconds 60] [--sets telco_churn ...] [--data FOLDER]

PYTHON: the interpreter of an environment with `flaml[automl]` or `autogluon.tabular[lightgbm,xgboost,catboost]`; a
system without one is left out. Both run at their defaults, with the metric stated. Ours is what a run does with the
built-in trainer: `optuna.search`, `hyperopt.tune` from its best, `mlflow.train_model` on all rows; search and tuning
get their shares of the seconds, and training takes what it takes. The systems run one after the other.

The newest fifth of the rows is held out (telco_churn has no order: a fifth at random), and each system trains on the
rest; none but ours knows that rows are in time order. Cells: the metric on the held-out rows / seconds from the start
of the process to its answers (ours: from the first call). "no worse": ours within one standard error of a paired
bootstrap, or better. What to doubt: one seed and one cut of each data set.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Floats = NDArray[np.float64]

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.plain_loop import Libraries  # noqa: E402
from tools.modeling.data import read_table  # noqa: E402

SEARCH, TUNE = 0.6, 0.25  # shares of the seconds; the rest is for the training
MANY = 10_000  # trials: the seconds end a search
RESAMPLES = 400

# name: file, target, task, metric, columns left out, ordered in time
SETS: dict[str, tuple[str, str, str, str, list[str], bool]] = {
    "telco_churn": ("telco_churn.csv.gz", "Churn", "binary", "roc_auc", ["customerID"], False),
    "bank_marketing": ("bank_marketing.csv.gz", "y", "binary", "roc_auc", ["duration"], True),
    "elec2": ("elec2.csv.gz", "class", "binary", "roc_auc", ["date", "nswprice"], True),
    "noaa_weather": ("noaa_weather.csv.gz", "rain", "binary", "roc_auc", [], True),
    "airlines_delayed_labels": (
        "airlines_delayed_labels.csv.gz", "ValueToPredict", "multiclass", "log_loss", ["instanceId", "timeStamp"], True,
    ),
    "bike_hourly": (
        "bike_hourly_clean.csv.gz", "cnt", "regression", "rmse", ["instant", "dteday", "casual", "registered"], True,
    ),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flaml", type=Path, help="the interpreter that has FLAML")
    parser.add_argument("--autogluon", type=Path, help="the interpreter that has AutoGluon")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sets", nargs="*", choices=list(SETS), default=list(SETS))
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    options = parser.parse_args()
    peers = {name: python for name in ("flaml", "autogluon") if (python := getattr(options, name)) is not None}
    if missing := [str(python) for python in peers.values() if not python.is_file()]:
        parser.error(f"no such interpreter: {', '.join(missing)}")
    print("| data set, metric | ours | " + " | ".join(peers) + " | ours is no worse than |")
    print("|---|---|" + "---|" * len(peers) + "---|")
    held_up = dict.fromkeys(peers, 0)
    for name in options.sets:
        folder = Path(tempfile.mkdtemp(prefix="mlops-crew-bench-"))
        try:
            for peer in one_set(name, options.data, peers, options.seconds, folder):
                held_up[peer] += 1
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    for peer, count in held_up.items():
        print(f"no worse than {peer} on {count} of {len(options.sets)}")
    return 0


def one_set(name: str, data: Path, peers: dict[str, Path], seconds: float, folder: Path) -> list[str]:
    """Print one row; the systems that ours is no worse than."""
    file, target, task, metric, drop, ordered = SETS[name]
    frame = read_table(data / name / file)
    kept = [column for column in frame.columns if column not in drop]
    frame = cast(pd.DataFrame, frame[kept]).dropna(subset=target).reset_index(drop=True)
    if not ordered:
        frame = frame.sample(frac=1.0, random_state=0).reset_index(drop=True)
    cut = round(len(frame) * 0.8)
    held = frame.iloc[cut:].reset_index(drop=True)
    files = {"train": folder / "train.parquet", "held": folder / "held.parquet"}
    frame.iloc[:cut].to_parquet(files["train"], index=False)
    held.to_parquet(files["held"], index=False)
    job = {key: str(path) for key, path in files.items()} | {"target": target, "task": task, "metric": metric}
    truth = held[target]
    answers: dict[str, Floats] = {}
    cells: dict[str, str] = {}
    for system in ("ours", *peers):
        started = time.monotonic()
        if system == "ours":
            answers[system] = ours(job, seconds, folder)
        else:
            told = run_peer(system, peers[system], job | {"seconds": seconds}, folder)
            answers[system] = scores_of(metric, truth, told)
        took = time.monotonic() - started
        value = measure(metric, truth, answers[system])
        cells[system] = f"{value:.4f} / {took:.0f} s"
    beaten = [peer for peer in peers if no_worse(metric, truth, answers["ours"], answers[peer])]
    print(f"| {name}, {metric} | " + " | ".join(cells.values()) + f" | {', '.join(beaten) or '-'} |", flush=True)
    return beaten


def ours(job: dict[str, str], seconds: float, folder: Path) -> Floats:
    """Search, tune and train as the crew does; the scores of the held-out rows, as `scores_of`."""
    libraries = Libraries(folder / "state", folder)
    scoring: dict[str, Any] = {key: job[key] for key in ("target", "task", "metric")} | {"drop": []}
    try:
        search = {"paths": [job["train"]], **scoring, "trials": MANY, "seed": 0}
        found = libraries.do("optuna", "search", **search, minutes=SEARCH * seconds / 60)
        tuned = libraries.do("hyperopt", "tune", **search, minutes=TUNE * seconds / 60, config=found.best_config)
        trained = libraries.do(
            "mlflow", "train_model", train=[job["train"]], **scoring, config=tuned.best_config, seed=0, run_name="bench"
        )
        scored = libraries.do("mlflow", "evaluate_model", model_uri=trained.model_uri, data=job["held"], **scoring)
        print(f"  ours: {found.completed} + {tuned.completed} trials, {tuned.best_config['family']}", file=sys.stderr)
        column = {"roc_auc": "probability", "log_loss": "loss", "rmse": "prediction"}[job["metric"]]
        return pd.read_parquet(folder / scored.scores_path)[column].to_numpy(float)
    finally:
        libraries.close()


def run_peer(system: str, python: Path, job: dict[str, Any], folder: Path) -> pd.DataFrame:
    """The answers of another system, which runs in its own interpreter."""
    described, answers = folder / f"{system}.json", folder / f"{system}.parquet"
    described.write_text(json.dumps(job | {"answers": str(answers), "folder": str(folder / system)}), encoding="utf-8")
    command = [str(python), str(ROOT / "bench" / "automl_peer.py"), system, str(described)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    if done.returncode:
        raise SystemExit(f"{system} ended with {done.returncode}: {done.stderr[-2000:]}")
    return pd.read_parquet(answers)


def scores_of(metric: str, truth: pd.Series, answers: pd.DataFrame) -> Floats:
    """What a metric is made of, per row: probability of the last class, log loss, or prediction."""
    if metric == "rmse":
        return answers["prediction"].to_numpy(float)
    labels = sorted(truth.astype(str).unique())
    if metric == "roc_auc":
        return answers[labels[-1]].to_numpy(float)
    right = answers[labels].to_numpy(float)[np.arange(len(truth)), [labels.index(label) for label in truth.astype(str)]]
    return -np.log(np.clip(right, 1e-15, 1.0))


def measure(metric: str, truth: pd.Series, scores: Floats) -> float:
    if metric == "roc_auc":
        labels = truth.astype(str)
        return float(roc_auc_score(labels == labels.max(), scores))
    if metric == "rmse":
        return float(np.sqrt(np.mean((truth.to_numpy(float) - scores) ** 2)))
    return float(np.mean(scores))


def no_worse(metric: str, truth: pd.Series, one: Floats, other: Floats) -> bool:
    """Whether `one` is better than `other`, or worse by at most a standard error of the difference."""
    sign = 1.0 if metric == "roc_auc" else -1.0
    draw, rows = np.random.default_rng(0), np.arange(len(truth))

    def gain(some: NDArray[np.int64]) -> float:
        y = truth.iloc[some]
        return sign * (measure(metric, y, one[some]) - measure(metric, y, other[some]))

    spread = np.std([gain(draw.integers(0, len(rows), len(rows))) for _ in range(RESAMPLES)])
    return bool(gain(rows) >= -spread)


if __name__ == "__main__":
    sys.exit(main())
