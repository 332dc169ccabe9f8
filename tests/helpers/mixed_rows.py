"""A small table with every type of column, with nulls, and a target for each task."""

import numpy as np
import pandas as pd

from tools.modeling.data import TASKS, Task

ROWS = 240


def mixed_rows(rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """Every type of column, with nulls, and a signal in `amount` and `plan`."""
    rng = np.random.default_rng(seed)
    amount = rng.normal(size=rows)
    plan = rng.choice(["free", "pro", "team"], size=rows)
    frame = pd.DataFrame(
        {
            "customer": [f"id-{k}" for k in range(rows)],
            "amount": amount,
            "visits": rng.integers(0, 50, size=rows),
            "plan": plan,
            "active": rng.random(rows) < 0.5,
            "seen": pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(rows), unit="h"),
            "charges": [" " if k % 40 == 0 else str(k * 1.5) for k in range(rows)],
            "nothing": [None] * rows,
        }
    )
    frame.loc[::17, "amount"] = np.nan
    frame.loc[::19, "plan"] = None
    signal = 2.0 * amount + (plan == "pro") * 2.0 + rng.normal(scale=0.5, size=rows)
    frame["binary"] = np.where(signal > 0.6, "yes", "no")
    frame["multiclass"] = pd.cut(signal, [-np.inf, -0.5, 1.5, np.inf], labels=["low", "mid", "top"]).astype(str)
    frame["regression"] = signal
    return frame


def features_and_target(task: Task) -> tuple[pd.DataFrame, pd.Series]:
    frame = mixed_rows()
    return frame.drop(columns=list(TASKS)), frame[task]
