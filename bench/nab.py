"""Anomaly scores judged by the rules of the Numenta Anomaly Benchmark (NAB), standard profile.

Rules, from the NAB paper (Lavin and Ahmad 2015, arXiv 1510.03336, section "scoring") and its wiki: the first 15 % of a
series (at most 750 readings) are not scored. A detection inside a labelled window earns a scaled sigmoid of its place,
almost 1 at the window's left end and 0 at its right end; only the best one in a window counts. A window without a
detection costs 1. A detection outside costs 0.11 times the same sigmoid past the last window, at most 1. One threshold
for the whole corpus, the one that scores best, as NAB itself chooses it. The sum is normalised so that a detector that
finds nothing has 0 and a perfect one 100.

The score in `tools/judge/outlook/anomaly.py` was developed on generated series only: the ones made here, with other
seeds, and richer ones (bursty processor, network and disk metrics, counts with a daily and weekly rhythm, irregular
jobs; thirteen
kinds of anomaly). The real series were run twice; between the two runs one idea, chosen on generated series, was added.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from tools.judge.outlook.anomaly import ALARM_AT, score_series

Floats = NDArray[np.float64]
TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = 1.0, 0.11, 1.0  # the standard profile
PROBATION, PROBATION_ROWS = 0.15, 5000
PUBLISHED = {
    "ARTime": 74.9, "Numenta HTM": 70.1, "earthgecko Skyline": 58.2, "random cut forest": 51.7,
    "windowed Gaussian": 39.6, "random": 11.0,
}  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """A series and its windows: (first, last) row of each."""

    name: str
    times: Floats  # seconds
    values: Floats
    windows: list[tuple[int, int]]

    @property
    def probation(self) -> int:
        return int(min(PROBATION * len(self.values), PROBATION * PROBATION_ROWS))


def scaled_sigmoid(place: Floats) -> Floats:
    """1 far before the right end of a window (place -1 is its left end), 0 there, -1 far behind it."""
    value = 2 / (1 + np.exp(5 * np.minimum(place, 3.0))) - 1
    return np.where(place >= 3.0, -1.0, value)


def worth(series: Labelled) -> tuple[Floats, NDArray[np.int64]]:
    """What a detection at each row earns or costs, and its window (-1: outside, -2: not scored)."""
    rows = np.arange(len(series.values), dtype=np.float64)
    place, window = np.full(len(rows), 3.0), np.full(len(rows), -1)
    for i, (first, last) in enumerate(series.windows):
        width = last - first + 1
        past = rows > last
        place[past] = (rows[past] - last) / max(width - 1, 1)
        inside = slice(first, last + 1)
        place[inside] = -(last - rows[inside] + 1) / width
        window[inside] = i
    for first, last in series.windows:  # the next window's rows are not "past" the one before
        place[first : last + 1] = -(last - rows[first : last + 1] + 1) / (last - first + 1)
    best = scaled_sigmoid(np.array(-1.0))
    earned = scaled_sigmoid(place) * np.where(window >= 0, TRUE_POSITIVE / best, FALSE_POSITIVE)
    window[: series.probation] = -2
    return earned, window


def nab_score(corpus: list[Labelled], scores: list[Floats], threshold: float | None = None) -> tuple[float, float]:
    """(score, threshold) with one threshold for the whole corpus: the given one, or the best."""
    earned, windows, said = [], [], []
    count = 0
    for series, score in zip(corpus, scores, strict=True):
        value, window = worth(series)
        scored = window != -2
        present = np.unique(window[window >= 0])
        renumbered = np.where(window >= 0, np.searchsorted(present, window) + count, window)
        count += len(present)
        earned.append(value[scored])
        windows.append(renumbered[scored])
        said.append(score[scored])
    value, window, score = np.concatenate(earned), np.concatenate(windows), np.concatenate(said)
    order = np.argsort(-score, kind="stable")
    value, window, score = value[order], window[order], score[order]
    gain = np.where(window == -1, value, 0.0)
    best = np.full(count, -FALSE_NEGATIVE)
    for row in np.flatnonzero(window >= 0):
        better = value[row] - best[window[row]]
        if better > 0:
            gain[row], best[window[row]] = better, value[row]
    total = -FALSE_NEGATIVE * count + np.concatenate([[0.0], np.cumsum(gain)])
    possible = np.concatenate([[True], score[1:] != score[:-1], [True]])  # a threshold takes all equal scores
    if threshold is not None:
        at = int(np.searchsorted(-score, -threshold, side="right"))
        limit = threshold
    else:
        at = int(np.argmax(np.where(possible, total, -np.inf)))
        limit = float(score[at - 1]) if at else float("inf")
    worst, perfect = -FALSE_NEGATIVE * count, TRUE_POSITIVE * count
    return 100 * float(total[at] - worst) / (perfect - worst), limit


def windowed_gaussian(series: Labelled, window: int = 1000) -> Floats:
    """NAB's baseline: one minus the normal tail probability of each value under the mean and deviation before it."""
    values = series.values
    sums, squares = (np.concatenate([[0.0], np.cumsum((values - values[0]) ** power)]) for power in (1, 2))
    after = np.arange(len(values))
    before = np.maximum(after - window, 0)
    rows = np.maximum(after - before, 1)
    mean = (sums[after] - sums[before]) / rows
    deviation = np.sqrt(np.maximum((squares[after] - squares[before]) / rows - mean**2, 0))
    away = np.abs(values - values[0] - mean) / np.maximum(deviation, 1e-6)
    return np.where(after > 0, 1 - norm.sf(away), 0.0)


def load(folder: Path) -> list[Labelled]:
    """The real series of `nab.csv.gz` with the windows of `windows.json`."""
    frame = pd.read_csv(folder / "nab.csv.gz", parse_dates=["timestamp"])
    labels = json.loads((folder / "windows.json").read_text())
    corpus = []
    for name, part in frame.groupby("series", sort=True):
        stamps = part["timestamp"].to_numpy()
        windows = [
            (
                int(np.flatnonzero(stamps == np.datetime64(first))[0]),
                int(np.flatnonzero(stamps == np.datetime64(last))[0]),
            )
            for first, last in labels.get(name, [])
        ]
        seconds = (stamps - stamps[0]) / np.timedelta64(1, "s")
        corpus.append(Labelled(str(name), seconds.astype(np.float64), part["value"].to_numpy(np.float64), windows))
    return corpus


def generate(count: int, seed: int) -> list[Labelled]:
    """Made metric series with one to three anomalies each, labelled as NAB does: a tenth of the series in all."""
    made = []
    for i in range(count):
        random = np.random.default_rng([seed, i])
        n = int(random.choice([2500, 4000, 6000]))
        row = np.arange(n)
        kind = ("flat", "daily", "bursts", "counts")[i % 4]
        noise = float(random.uniform(0.03, 0.2))
        wave = np.zeros(n)
        memory = random.uniform(0.2, 0.9)
        for j, shock in enumerate(random.normal(0, noise * np.sqrt(1 - memory**2), n)):
            wave[j] = memory * wave[j - 1] + shock
        values = 1 + wave + random.normal(0, noise / 2, n)
        if kind == "daily":
            values += random.uniform(0.3, 1.0) * np.sin(2 * np.pi * (row / 288 + random.random()))
        if kind == "bursts":
            for at in random.choice(n, n // 60, replace=False):
                values[at : at + 3] += random.pareto(3.0) * 0.5
        if kind == "counts":
            rate = 8 * np.exp(0.5 * np.sin(2 * np.pi * (row / 288 + random.random())))
            values = random.negative_binomial(2, 2 / (2 + rate)).astype(np.float64)
        scale = float(np.std(values))
        anomalies = int(random.integers(1, 4))
        width = n // 10 // anomalies
        places = int(0.2 * n) + np.sort(random.choice(int(0.7 * n / (2 * width)), anomalies, replace=False)) * 2 * width
        windows = []
        for at in places:
            at = int(at + random.integers(0, width))
            strength = float(random.uniform(4, 8)) * scale
            what = random.choice(["spike", "shift", "noise", "drop", "flat"])
            if what == "spike":
                values[at : at + int(random.integers(1, 4))] += 1.5 * strength
            elif what == "shift":
                values[at:] += 0.5 * strength
            elif what == "noise":
                values[at : at + 150] += random.normal(0, 0.5 * strength, len(values[at : at + 150]))
            elif what == "drop":
                values[at : at + 30] -= 0.6 * strength
            else:
                values[at : at + 100] = values[at]
            windows.append((max(0, at - width // 2), min(n - 1, at + width // 2)))
        made.append(Labelled(f"{kind}-{i}", row * 300.0, values, windows))
    return made


Detector = Callable[[Labelled, int], Floats]


def ours(series: Labelled, seed: int = 0) -> Floats:
    """The score; readings of an incident that has raised its alarm already do not count again."""
    scores, alarms = score_series(series.times, series.values)
    return np.where((scores >= ALARM_AT) & ~alarms, 0.0, scores)


DETECTORS: dict[str, tuple[Detector, int]] = {  # and over how many seeds
    "ours": (ours, 1),
    "windowed Gaussian": (lambda series, seed: windowed_gaussian(series), 1),
    "random": (lambda series, seed: np.random.default_rng(seed).random(len(series.values)), 20),
}


def table(folder: Path, made_seeds: int = 48) -> None:
    """Print the NAB scores of ours and of the baselines on the made and on the real series."""
    corpora = {f"made ({made_seeds} series)": generate(made_seeds, seed=7)}
    real = load(folder)
    for group in ("realAWSCloudwatch", "realTweets"):
        corpora[group] = [series for series in real if series.name.startswith(group)]
    corpora["both real"] = real
    print("\nNAB scores, standard profile: one threshold for the column, the best one, as NAB does it")
    print("(in brackets: ours at its built-in alarm level, no threshold chosen)\n")
    print(f"{'':<22}" + "".join(f"{name:>24}" for name in corpora) + f"{'ms a reading':>15}")
    for name, (detector, seeds) in DETECTORS.items():
        began, cells = time.perf_counter(), []
        scores = {
            id(series): [detector(series, seed) for seed in range(seeds)]
            for corpus in list(corpora.values())[:-1]
            for series in corpus
        }
        took = time.perf_counter() - began
        for corpus in corpora.values():
            best = [nab_score(corpus, [scores[id(series)][seed] for series in corpus])[0] for seed in range(seeds)]
            cell = f"{np.mean(best):.1f}"
            if name == "ours":
                fixed, _ = nab_score(corpus, [scores[id(series)][0] for series in corpus], ALARM_AT)
                cell += f" ({fixed:.1f})"
            cells.append(f"{cell:>24}")
        readings = seeds * sum(len(series.values) for corpus in list(corpora.values())[:-1] for series in corpus)
        print(f"{name:<22}" + "".join(cells) + f"{1000 * took / readings:>15.3f}")
    said = ", ".join(f"{name} {score}" for name, score in PUBLISHED.items())
    print(f"\nPublished, on all 58 series of NAB (these are {len(real)} of them): {said}.")
