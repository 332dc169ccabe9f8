"""The world of the cases: a table with a known rule behind its label, and changes that happen to it.

Every row is a customer; the probability of the label is known, so what a model can reach at best is known too. A
change happens to the current rows, from a stated moment on. Three kinds, applied in this order: features change (and
the label follows), the rule changes, what is recorded is wrong although the world is as it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from sklearn.metrics import roc_auc_score

Floats = NDArray[np.float64]

TARGET, TIME = "left", "at"
REGIONS, DEVICES = ("north", "east", "south", "west"), ("phone", "desk", "tablet")
WEIGHTS = {"load": -1.6, "age": 0.8, "price": 1.0, "visits": 0.0}
WEST = {"load": 1.0, "price": -0.5}  # another rule holds there, and always did
FRESH_ROWS = 6000


class Change(BaseModel):
    """Base of changes. `start` and `end` are places in the current rows, 0 to 1; `ramp`: it grows from start to end."""

    model_config = ConfigDict(extra="forbid")

    start: float = Field(default=0.0, ge=0, lt=1)
    end: float = Field(default=1.0, gt=0, le=1)
    ramp: bool = False
    region: str | None = None

    def strength(self, place: Floats, region: NDArray[Any]) -> Floats:
        """How much of the change each row sees, 0 to 1."""
        inside = (place >= self.start) & (place < self.end if self.end < 1 else True)
        part = (place - self.start) / (self.end - self.start) if self.ramp else np.ones(len(place))
        strength = np.where(inside, part, 0.0)
        return strength if self.region is None else np.where(region == self.region, strength, 0.0)


class Shift(Change):
    """A number moves by `by` of its standard deviations, and the label with it."""

    kind: Literal["shift"]
    column: str
    by: float


class Move(Change):
    """Rows move from other regions to `to`, a share of them."""

    kind: Literal["move"]
    to: str
    share: float = Field(gt=0, le=1)


class Rule(Change):
    """The weight of a number in the rule becomes `weight`."""

    kind: Literal["rule"]
    column: str
    weight: float


class Record(Change):
    """A number is recorded wrongly: multiplied by `factor` in a share of the rows."""

    kind: Literal["record"]
    column: str
    factor: float
    share: float = Field(default=1.0, gt=0, le=1)


class Lose(Change):
    """A column's values are lost in a share of the rows; of the label: it has not arrived yet."""

    kind: Literal["lose"]
    column: str
    share: float = Field(gt=0, le=1)


class Garble(Change):
    """A number becomes text that is none in a share of the rows."""

    kind: Literal["garble"]
    column: str
    share: float = Field(gt=0, le=1)


class Repeat(Change):
    """A share of the rows is there twice."""

    kind: Literal["repeat"]
    share: float = Field(gt=0, le=1)


class Appear(Change):
    """A value that was never seen appears in a share of the rows of a text column or of the label."""

    kind: Literal["appear"]
    column: str
    value: str
    share: float = Field(gt=0, le=1)


AnyChange = Annotated[
    Shift | Move | Rule | Record | Lose | Garble | Repeat | Appear,
    Field(discriminator="kind"),
]


@dataclass(frozen=True)
class Tables:
    """What the crew gets (`reference`, `current`), and what only the evaluation knows.

    Args:
        fresh: rows of the world as it is at the end, with labels.
        attainable: the AUC on `fresh` of the rule itself, which no model beats but by luck.
    """

    reference: pd.DataFrame
    current: pd.DataFrame
    fresh: pd.DataFrame
    attainable: float


def build(
    changes: Sequence[AnyChange], seed: int, reference_rows: int, current_rows: int, label_noise: float = 0.0
) -> Tables:
    """Draw a world. The same arguments give the same tables.

    Args:
        label_noise: share of labels that are drawn at random, in all rows alike.
    """
    before, now, after = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    reference, _ = _draw(before, np.full(reference_rows, -1.0), (), label_noise)
    current, _ = _draw(now, np.linspace(0, 1, current_rows, endpoint=False), changes, label_noise)
    fresh, odds = _draw(after, np.full(FRESH_ROWS, 1 - 1e-9), changes, label_noise)
    for frame, begin, days in ((reference, "2026-01-01", 90), (current, "2026-04-01", 30), (fresh, "2026-05-01", 5)):
        step = pd.Timedelta(days=days) / len(frame)
        frame.insert(0, TIME, pd.to_datetime(pd.Timestamp(begin) + step * np.arange(len(frame))).floor("s"))
    recorded = _recorded(now, current, changes)
    return Tables(reference, recorded, fresh, float(roc_auc_score(fresh[TARGET] == "yes", odds)))


def _draw(
    random: np.random.Generator, place: Floats, changes: Sequence[AnyChange], label_noise: float
) -> tuple[pd.DataFrame, Floats]:
    """Rows at places of the current period (-1: before it), and the log-odds of their labels."""
    n = len(place)
    numbers = {name: random.normal(size=n) for name in WEIGHTS}
    region = random.choice(REGIONS, n, p=(0.35, 0.3, 0.2, 0.15))
    device = random.choice(DEVICES, n, p=(0.6, 0.3, 0.1))
    chance = random.random(n)
    for change in changes:
        if isinstance(change, Move):
            region = np.where(chance < change.share * change.strength(place, region), change.to, region)
        elif isinstance(change, Shift):
            numbers[change.column] = numbers[change.column] + change.by * change.strength(place, region)
    odds = 0.6 * (region == "north") - 0.3 * (region == "west") + 0.4 * (device == "tablet")
    weights = {name: np.where(region == "west", WEST.get(name, weight), weight) for name, weight in WEIGHTS.items()}
    for change in changes:
        if isinstance(change, Rule):
            part = change.strength(place, region)
            weights[change.column] = (1 - part) * weights[change.column] + part * change.weight
    odds = odds + sum(weights[name] * numbers[name] for name in WEIGHTS)
    truth = random.random(n) < 1 / (1 + np.exp(-odds))
    noisy = random.random(n) < label_noise
    truth = np.where(noisy, random.random(n) < 0.5, truth)
    frame = pd.DataFrame(
        {
            "load": np.round(50 + 12 * numbers["load"], 2),
            "age": np.round(40 + 9 * numbers["age"], 1),
            "price": np.round(np.exp(3 + 0.4 * numbers["price"]), 2),
            "visits": np.round(20 + 5 * numbers["visits"], 1),
            "region": region,
            "device": device,
            TARGET: np.where(truth, "yes", "no"),
        }
    )
    return frame, odds


def _recorded(random: np.random.Generator, frame: pd.DataFrame, changes: Sequence[AnyChange]) -> pd.DataFrame:
    """The rows as they are written down."""
    place = np.linspace(0, 1, len(frame), endpoint=False)
    region = frame["region"].to_numpy()
    for change in changes:
        if not isinstance(change, Record | Lose | Garble | Appear | Repeat):
            continue
        hit = random.random(len(place)) < change.share * change.strength(place, region)
        match change:
            case Record(column=name, factor=factor):
                frame[name] = np.where(hit, frame[name] * factor, frame[name])
            case Lose(column=name):
                frame[name] = frame[name].where(~hit)
            case Garble(column=name):
                frame[name] = frame[name].astype(object).where(~hit, "n/a (sensor)")
            case Appear(column=name, value=value):
                frame[name] = frame[name].where(~hit, value)
            case Repeat():
                return pd.concat([frame, frame[hit]]).sort_index(kind="stable").reset_index(drop=True)
    return frame
