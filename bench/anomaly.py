"""Anomaly scores by NAB's own scoring, and alarms on quiet series.

Run: python bench/anomaly.py [--data ../shared/data] [--only nab|quiet]

nab: the standard profile of the Numenta Anomaly Benchmark (Lavin and Ahmad, ICMLA 2015; nab/sweeper.py of its
repository), written anew: one threshold for all series, the first 15 % (750 at most) unscored, one reward per labelled
window for the earliest detection in it, 0.11 times a sigmoid of the distance for each false one. 0 is a detector that
never speaks, 100 a perfect one. `windowed gaussian` reproduces the detector of that name in the repository, series by
series (tests/bench/test_anomaly.py), `relative entropy` is after Wang et al. (ICAC 2011), with ranges learned instead
of known beforehand. The references' rows are of their stored results, scored alike (TARGETS: equal groups).

quiet: alarms in 1,000 points on generated series in which nothing happens.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tools.judge.outlook.anomaly import AnomalyDetector, find_anomalies

Floats = NDArray[np.float64]
Detector = Callable[[Floats], Floats]

FALSE_POSITIVE = 0.11
PROBATION, MOST_PROBATION = 0.15, 750
REFERENCES = {  # cloud metrics, tweets, both
    "ARTime": (69.9, 83.2, 76.4),
    "CAD OSE": (72.1, 74.5, 73.1),
    "HTM": (73.4, 69.3, 70.6),
    "KNN-CAD": (60.7, 64.3, 62.6),
    "random cut forest": (61.4, 62.9, 58.5),
}


@dataclass(frozen=True)
class Labelled:
    """A series with its windows: positions of first and last value, in order."""

    name: str
    values: Floats
    windows: tuple[tuple[int, int], ...]

    @property
    def group(self) -> str:
        return self.name.split("/", 1)[0]


def sigmoid(position: Floats) -> Floats:
    """NAB's scaled sigmoid of a position relative to a window's end, in window widths: about 1 at -1, -1 from 3 on."""
    return np.where(position >= 3, -1.0, 2 / (1 + np.exp(5 * np.minimum(position, 3.0))) - 1)


def rewards(series: Labelled) -> tuple[Floats, NDArray[np.int64]]:
    """What a detection at each value is worth, and its window (-1: outside, -2: not scored)."""
    size = len(series.values)
    worth, owner = np.full(size, -FALSE_POSITIVE), np.full(size, -1)
    best = float(sigmoid(np.array(-1.0)))
    for number, (first, last) in enumerate(series.windows):
        width = last - first + 1
        inside = np.arange(first, last + 1)
        worth[inside] = sigmoid(-(last - inside + 1) / width) / best
        owner[inside] = number
        following = series.windows[number + 1][0] if number + 1 < len(series.windows) else size
        after = np.arange(last + 1, following)
        worth[after] = FALSE_POSITIVE * sigmoid((after - last) / (width - 1))
    owner[: int(min(math.floor(PROBATION * size), MOST_PROBATION))] = -2
    return worth, owner


def silent(series: Labelled) -> float:
    """The raw score of a detector that never speaks."""
    return -float(len(set(rewards(series)[1].tolist()) - {-1, -2}))


def raw_score(series: Labelled, scores: Floats, threshold: float) -> float:
    at, change = _changes(series, scores)
    return silent(series) + float(change[at >= threshold].sum())


def _changes(series: Labelled, scores: Floats) -> tuple[Floats, Floats]:
    """How the raw score changes as the threshold falls to each score."""
    worth, owner = rewards(series)
    outside = owner == -1
    at, change = [scores[outside]], [worth[outside]]
    for number in range(len(series.windows)):
        mine = np.flatnonzero(owner == number)
        mine = mine[np.argsort(-scores[mine], kind="stable")]
        at.append(scores[mine])
        change.append(np.diff(np.maximum.accumulate(np.maximum(worth[mine], -1.0)), prepend=-1.0))
    return np.concatenate(at), np.concatenate(change)


def best_threshold(corpus: list[Labelled], scores: list[Floats]) -> float:
    """The one threshold that is best over all series; infinite where silence is."""
    parts = [_changes(one, found) for one, found in zip(corpus, scores, strict=True)]
    at, change = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    order = np.argsort(-at, kind="stable")
    at, total = at[order], np.cumsum(change[order])
    ends = np.append(at[1:] != at[:-1], True)
    best = int(np.argmax(total[ends]))
    return float(at[ends][best]) if total[ends][best] > 0 else math.inf


def normalised(corpus: list[Labelled], scores: list[Floats], threshold: float) -> float:
    base = sum(silent(one) for one in corpus)
    found = sum(raw_score(one, of, threshold) for one, of in zip(corpus, scores, strict=True))
    return 100 * (found - base) / (sum(len(one.windows) for one in corpus) - base)


def load(folder: Path) -> list[Labelled]:
    """The series of NAB's two groups with their windows."""
    table = pd.read_csv(folder / "nab.csv.gz")
    windows = json.loads((folder / "windows.json").read_text())
    corpus: list[Labelled] = []
    for name, rows in table.groupby("series", sort=True):
        stamps = rows["timestamp"].tolist()
        limits = tuple((stamps.index(a[:19]), stamps.index(b[:19])) for a, b in windows[str(name)])
        corpus.append(Labelled(str(name), rows["value"].to_numpy(np.float64), limits))
    return corpus


def ours(values: Floats) -> Floats:
    detector = AnomalyDetector()
    return np.array([detector.add(value).score or 0.0 for value in values.tolist()])


def windowed_gaussian(values: Floats, size: int = 6400, step: int = 100) -> Floats:
    """One minus the normal tail over a sliding window; twelve digits, as the repository's results are stored."""
    scores, first, end, mean, deviation = np.zeros(len(values)), 0, 0, 0.0, 1.0
    for index, value in enumerate(values.tolist()):
        if index:
            scores[index] = 1 - 0.5 * math.erfc(abs(value - mean) / deviation / math.sqrt(2))
        if end - first < size:
            end = index + 1
        elif index + 1 - end == step:
            first, end = first + step, index + 1
        else:
            continue
        mean, deviation = float(values[first:end].mean()), float(values[first:end].std()) or 1e-6
    return np.round(scores, 12)


def relative_entropy(values: Floats, bins: int = 5, window: int = 52, limit: float = 13.28) -> Floats:
    """1 where the window's histogram fits none of those seen before (chi-squared, 1 %)."""
    low, high = np.quantile(values[: int(min(PROBATION * len(values), MOST_PROBATION))], (0, 1))
    width = (high - low) / bins or 1.0
    binned = np.clip((values - low) // width, 0, bins - 1).astype(np.int64)
    known, scores = np.empty((0, bins)), np.zeros(len(values))
    for end in range(window, len(values) + 1):
        share = np.bincount(binned[end - window : end], minlength=bins) / window
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(share > 0, share * np.log(share / known), 0.0)
        if not (2 * window * terms.sum(1) < limit).any():
            scores[end - 1] = float(len(known) > 0)
            known = np.vstack([known, share])
    return scores


DETECTORS: dict[str, Detector] = {
    "ours": ours,
    "windowed gaussian": windowed_gaussian,
    "relative entropy": relative_entropy,
}


def ar(random: np.random.Generator, size: int, memory: float) -> Floats:
    noise, values = random.normal(0, math.sqrt(1 - memory**2), size), np.zeros(size)
    for i in range(1, size):
        values[i] = memory * values[i - 1] + noise[i]
    return values


def quiet_series(kind: str, seed: int, size: int = 4000) -> Floats:
    """A series in which nothing happens."""
    random, at = np.random.default_rng([seed, QUIET.index(kind)]), np.arange(size)
    phase = 2 * np.pi * at / 288
    daily = np.sin(phase) + 0.4 * np.sin(2 * phase + 1) + 0.2 * np.sin(5 * phase)
    noise = random.normal(0, 1, size)
    match kind:
        case "white noise":
            return 50 + noise
        case "AR(1)":
            return 50 + 5 * ar(random, size, 0.9)
        case "seasonal":
            return 50 + 10 * daily + noise
        case "square wave":
            return 20 + 60.0 * (at % 96 < 30) + noise
        case "counter":
            return np.cumsum(random.poisson(20, size)).astype(np.float64)
        case "counts":
            return random.poisson(np.exp(3 + 0.5 * daily)).astype(np.float64)
        case "heavy tails":
            return np.exp(random.normal(0, 1, size))
        case "rare spikes":
            return 0.1 + 0.02 * np.abs(noise) + (random.random(size) < 0.01) * random.uniform(0.5, 3, size)
        case "two regimes":
            return 10 + 30.0 * (np.cumsum(random.random(size) < 0.02) % 2) + 2 * noise
        case _:
            return np.full(size, 7.0)


QUIET = [
    *("white noise", "AR(1)", "seasonal", "square wave", "counter", "counts"),
    *("heavy tails", "rare spikes", "two regimes", "constant"),
]


def judge_nab(folder: Path) -> None:
    corpus = load(folder)
    groups = sorted({one.group for one in corpus})
    points = sum(len(one.values) for one in corpus)
    print(f"{'':20}{''.join(f'{group:>20}' for group in groups)}{'both':>8}{'us/point':>10}")
    for name, detector in DETECTORS.items():
        began = time.process_time()
        scores = [detector(one.values) for one in corpus]
        spent = time.process_time() - began
        threshold = best_threshold(corpus, scores)
        pairs = list(zip(corpus, scores, strict=True))
        cells = [
            normalised(
                [one for one, _ in pairs if one.group == group],
                [found for one, found in pairs if one.group == group],
                threshold,
            )
            for group in groups
        ]
        both = normalised(corpus, scores, threshold)
        print(f"{name:20}{''.join(f'{cell:20.1f}' for cell in cells)}{both:8.1f}{spent / points * 1e6:10.0f}")
    for name, cells in REFERENCES.items():
        print(f"{name:20}{cells[0]:20.1f}{cells[1]:20.1f}{cells[2]:8.1f}")


def judge_quiet(seeds: int) -> None:
    print(f"{'quiet series':20}{'alarms in 1,000 points':>24}")
    for kind in QUIET:
        found = [find_anomalies(np.arange(4000.0), quiet_series(kind, seed)) for seed in range(seeds)]
        rate = 1000 * sum(len(one.alarms) for one in found) / sum(one.judged for one in found)
        print(f"{kind:20}{rate:24.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=("nab", "quiet"))
    chosen = parser.parse_args()
    if chosen.only != "quiet":
        judge_nab(chosen.data / "nab")
    if chosen.only != "nab":
        judge_quiet(chosen.seeds)


if __name__ == "__main__":
    main()
