"""A project small enough to run in seconds: 600 reference rows, 3,600 current ones whose concept is turned around."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

CONFIG = Path(__file__).parents[2] / "config"
REFERENCE_ROWS, CURRENT_ROWS = 600, 3600


def rows(count: int, *, turned: bool, seed: int) -> pd.DataFrame:
    """Rows of two numbers and a category; `turned` inverts the effect of the strongest column on the label."""
    random = np.random.default_rng(seed)
    a, b, c = random.normal(size=count), random.normal(size=count), random.choice(list("xyz"), count)
    odds = (-a if turned else a) * 2 + b + (c == "x")
    label = np.where(random.random(count) < 1 / (1 + np.exp(-odds)), "yes", "no")
    return pd.DataFrame({"a": a, "b": b, "c": c, "y": label})


def burning(count: int, *, fades: bool, seed: int) -> pd.DataFrame:
    """Rows an hour apart, with one more number. If it `fades`, from a fifth on `d` means more and more for the
    label and `a` less; otherwise nothing changes."""
    random = np.random.default_rng(seed)
    a, b, d, c = *random.normal(size=(3, count)), random.choice(list("xyz"), count)
    gone = np.clip(np.linspace(-0.25, 1, count), 0, 1) if fades else np.zeros(count)
    odds = 2 * a * (1 - 0.6 * gone) + b + (c == "x") + 1.6 * gone * d
    label = np.where(random.random(count) < 1 / (1 + np.exp(-odds)), "yes", "no")
    times = pd.date_range("2026-01-01" if fades else "2025-01-01", periods=count, freq="h")
    return pd.DataFrame({"at": times, "a": a, "b": b, "c": c, "d": d, "y": label})


def current_rows(story: str) -> pd.DataFrame:
    """Current data: `drifted` (the concept is turned around), `same`, `noise` (labels mean nothing), `returning`
    (turned around, but the newest fifth, the live slice, is as before), `relapsing` (more rows, turned around, but the
    last 480 of the 1,080 rows of the live slice are as before), `abrupt` (turned around in the newest tenth only), or
    `burning` (see there; has the time column `at`, as the reference has)."""
    match story:
        case "burning":
            return burning(CURRENT_ROWS, fades=True, seed=2)
        case "abrupt":
            late = CURRENT_ROWS // 10
            before = rows(CURRENT_ROWS - late, turned=False, seed=2)
            return pd.concat([before, rows(late, turned=True, seed=3)], ignore_index=True)
        case "same":
            return rows(CURRENT_ROWS, turned=False, seed=2)
        case "drifted":
            return rows(CURRENT_ROWS, turned=True, seed=2)
        case "noise":
            found = rows(CURRENT_ROWS, turned=False, seed=2)
            return found.assign(y=np.random.default_rng(3).permutation(found["y"]))
        case "returning" | "relapsing":
            count, back = (CURRENT_ROWS, CURRENT_ROWS // 5) if story == "returning" else (5400, 480)
            turned = rows(count - back, turned=True, seed=2)
            return pd.concat([turned, rows(back, turned=False, seed=3)], ignore_index=True)
        case _:
            raise ValueError(story)


def make_project(
    folder: Path,
    *,
    story: str = "drifted",
    tasks: list[str] | None = None,
    agents_yaml: dict[str, Any] | None = None,
    tasks_yaml: dict[str, Any] | None = None,
    mlflow_database: Path | None = None,
    **goal: Any,
) -> Path:
    """A project folder with the shipped configuration, tiny data and a small budget.

    Args:
        story: see `current_rows`.
        tasks: keep only these tasks.
        agents_yaml, tasks_yaml: entries to add.
        mlflow_database: an empty one to start with, which saves the seconds of making it.
        goal: keys that replace those of the goal.
    """
    shutil.copytree(CONFIG, folder / "config")
    if mlflow_database is not None:
        store = folder / ".mlops" / "mlflow"
        store.mkdir(parents=True)
        shutil.copyfile(mlflow_database, store / "mlflow.db")
    data = folder / "data"
    data.mkdir()
    made = (
        burning(REFERENCE_ROWS, fades=False, seed=1)
        if story == "burning"
        else rows(REFERENCE_ROWS, turned=False, seed=1)
    )
    made.to_csv(data / "reference.csv", index=False)
    current_rows(story).to_csv(data / "current.csv", index=False)
    content = {
        "name": "tiny",
        "task": "binary",
        "target": "y",
        "metric": "roc_auc",
        "data": {"reference": "data/reference.csv", "current": "data/current.csv"},
        "constraints": {"max_latency_ms": 2000},  # judged against a bound, not against a busy machine's noise
        "train": {"tuner": "hyperopt"},
        "budget": {"search_trials": 3, "tuning_trials": 3},
        "canary": {"batch_requests": 180, "percent": 20},
        **goal,
    }
    # So that no run waits for a person by accident; None has one asked.
    content["canary"] = {"at_deadline": "keep_champion", **content["canary"]}
    (folder / "config" / "goal.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    _edit(folder / "config" / "agents.yaml", agents_yaml, None)
    _edit(folder / "config" / "tasks.yaml", tasks_yaml, tasks)
    return folder


def _edit(path: Path, added: dict[str, Any] | None, kept: list[str] | None) -> None:
    content = {**yaml.safe_load(path.read_text(encoding="utf-8")), **(added or {})}
    chosen = {name: value for name, value in content.items() if kept is None or name in kept}
    path.write_text(yaml.safe_dump(chosen, sort_keys=False), encoding="utf-8")
