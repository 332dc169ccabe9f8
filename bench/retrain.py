"""When to retrain: streams of labelled batches, with what the crew itself decides beside the reference rules.

Run: python bench/retrain.py [--data ../shared/data] [--cache FOLDER] [--suite [--seeds 2]]

Protocol: HistGradientBoosting (100 iterations, no early stopping, seed 0); the first 20 % of a stream is the initial
training set, then 40 equal batches whose labels arrive after each; at most 39 refits. The reference rules refit on the
trailing window of the initial size. Cells: accuracy (AUC for bank_marketing, MAE for bike_hourly) / refits. "gap": the
share of the distance from "never" to "every batch" that is recovered.

- the crew: after each batch what `assess_champion` decides, by the same functions (`decide`, `plan_retraining`,
  `weigh_gain`, `acts`, `window_of`) with the defaults of a goal. Its reference data are the rows before, at least as
  many as the initial ones; its current data those since the champion was trained, at most the newest five batches, the
  newest fifth of them kept from the quick models, which here are of the learner itself. Two things are not as in the
  crew: a refit is trained on all rows so far, as in every row of the table (the crew keeps the newest 40 % of the
  current rows back to compare and for the canary), and nothing compares it with the old one, so a refit that makes it
  worse is served.
- every 5th, the crew's windows: refits by schedule, each on the window that the crew would have chosen.
- hindsight, 7 refits: the seven refit times with the smallest summed loss (log loss for the AUC), found by dynamic
  programming over the trailing-window models.
- no change: the last label (bike_hourly: the last value), known one row later, which no batch rule may use.

--suite runs the simulated streams of `bench/retrain_suite.py`, with a smaller model, instead of the real ones. "gain":
the share of the error of "never" that a rule takes away, averaged over the streams that drift; "gap" is the sum of
these gains over that of "every batch" (single gaps mean nothing where every batch gains nothing, as on recurring
concepts). What to doubt: the suite's drifts are ours.
"""

import argparse
import hashlib
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OrdinalEncoder

from bench.retrain_suite import CONFIRMATION, DEVELOPMENT, Kind, simulate
from tasks.assess_champion import acts, window_of
from tasks.goal import RetrainSection
from tools.integrations.dvc.staging import CURRENT_SHARES
from tools.judge.champion.retrain import decide
from tools.judge.champion.retrain_gain import needed_gain, weigh_gain, windows_to_probe
from tools.judge.champion.retrain_plan import plan_retraining
from tools.judge.estimates import Scores
from tools.modeling.windows import newest_rows, row_weights

BATCHES = 40
CURRENT = 5  # batches of the current data at most
COST = RetrainSection().cost  # in rows answered without a model, as a goal has it
MIN_GAIN = RetrainSection().min_gain
PROBED_SHARE = 1 - dict(CURRENT_SHARES)["live"]
MIN_HELD_OUT = 100
HELD_OUT = 0.2  # newest share of a training window on which the new version is scored before it serves
Floats = NDArray[np.float64]
Scale = Literal["real", "simulated"]
LEARNERS: dict[Scale, dict[str, Any]] = {  # on simulated streams one that is quicker to train
    "real": {"max_iter": 100},
    "simulated": {"max_iter": 40, "max_leaf_nodes": 15, "learning_rate": 0.15},
}
METRICS = {"accuracy": "accuracy", "AUC": "roc_auc", "MAE": "mae"}

# name: folder, file, target, dropped columns, positive label, metric
STREAMS: dict[str, tuple[str, str, str, list[str], Any, str]] = {
    "elec2, 6 features": ("elec2", "elec2.csv.gz", "class", ["date", "nswprice"], "UP", "accuracy"),
    "bank_marketing": ("bank_marketing", "bank_marketing.csv.gz", "y", ["duration"], "yes", "AUC"),
    "bike_hourly": (
        "bike_hourly", "bike_hourly_clean.csv.gz", "cnt", ["instant", "dteday", "casual", "registered"], None, "MAE",
    ),
    "noaa_weather": ("noaa_weather", "noaa_weather.csv.gz", "rain", [], 1, "accuracy"),
    "elec2, 8 features": ("elec2", "elec2.csv.gz", "class", [], "UP", "accuracy"),
}  # fmt: skip
DRIFTING = ("elec2, 6 features", "bank_marketing", "bike_hourly")


@dataclass
class Stream:
    """A stream, and its models: each is trained once and its predictions kept on disk."""

    name: str
    X: Floats
    y: Floats
    metric: str
    cache: Path
    scale: Scale = "real"
    outputs: dict[tuple[int, int, float | None], Floats] = field(default_factory=dict)

    @cached_property
    def task(self) -> Literal["binary", "multiclass", "regression"]:
        return "regression" if self.metric == "MAE" else "binary" if self.y.max() < 2 else "multiclass"

    @property
    def initial(self) -> int:
        return int(len(self.y) * 0.2)

    @property
    def bounds(self) -> NDArray[np.int64]:
        return np.linspace(self.initial, len(self.y), BATCHES + 1).astype(np.int64)

    @cached_property
    def key(self) -> str:
        return hashlib.sha256(self.X.tobytes() + self.y.tobytes()).hexdigest()

    def batch(self, j: int) -> slice:
        return slice(int(self.bounds[j]), int(self.bounds[j + 1]))

    def version(self, start: int, end: int, half_life: float | None = None) -> Floats:
        """What the model trained on rows `start` to `end` says on every later row; NaN before."""
        key = (start, end, half_life)
        if key not in self.outputs:
            name = hashlib.sha256(f"{self.key} {LEARNERS[self.scale]} {key}".encode()).hexdigest()
            path = self.cache / f"{name[:24]}.npy"
            if not path.exists():
                np.save(path, self.train(*key))
            self.outputs[key] = np.load(path)
        return self.outputs[key]

    def output(self, before: int, j: int) -> Floats:
        """What the version trained on the trailing window just before batch `before` says on batch `j`."""
        end = int(self.bounds[before])
        return self.version(end - self.initial, end)[self.batch(j)]

    def train(self, start: int, end: int, half_life: float | None) -> Floats:
        weights = None if half_life is None else row_weights(end - start, half_life)
        kind: Any = HistGradientBoostingRegressor if self.task == "regression" else HistGradientBoostingClassifier
        model = kind(early_stopping=False, random_state=0, **LEARNERS[self.scale])
        model.fit(self.X[start:end], self.y[start:end], sample_weight=weights)
        later = self.X[end:]
        if self.task == "regression":
            said = model.predict(later)
        elif self.task == "binary":
            said = model.predict_proba(later)[:, 1]
        else:  # a column per class of the stream, also those that these rows lack
            said = np.zeros((len(later), int(self.y.max()) + 1))
            said[:, model.classes_.astype(int)] = model.predict_proba(later)
        return np.concatenate([np.full((end, *said.shape[1:]), np.nan), said])

    def scores(self, output: Floats, start: int, end: int) -> Scores:
        """Rows `start` to `end` as the judge is given them."""
        truth, said = self.y[start:end], output[start:end]
        if self.task == "regression":
            return Scores(truth, said, np.abs(said - truth))
        labels, predicted = truth.astype(int).astype(str), self.predicted(said).astype(int).astype(str)
        loss = -np.log(np.clip(self.of_truth(said, truth), 1e-15, 1))
        binary = self.task == "binary"
        return Scores(labels, predicted, loss, said if binary else None, "1" if binary else None)

    def predicted(self, output: Floats) -> Floats:
        """The class that an output says."""
        return output.argmax(axis=1).astype(float) if output.ndim == 2 else (output > 0.5).astype(float)

    def of_truth(self, output: Floats, truth: Floats) -> Floats:
        """The probability that an output gave to the class that it was."""
        if output.ndim == 2:
            return output[np.arange(len(truth)), truth.astype(int)]
        return np.where(truth == 1, output, 1 - output)

    def losses(self, output: Floats, j: int) -> Floats:
        """Loss per row of batch `j`: absolute error, or log loss with probabilities floored at 1 %."""
        truth = self.y[self.batch(j)]
        if self.task == "regression":
            return np.abs(output - truth)
        return -np.log(np.clip(self.of_truth(output, truth), 0.01, 1))

    def score(self, outputs: list[Floats]) -> float:
        output, truth = np.concatenate(outputs), self.y[self.initial :]
        if self.metric == "MAE":
            return float(np.abs(output - truth).mean())
        if self.metric == "AUC":
            return float(roc_auc_score(truth, output))
        return float((self.predicted(output) == truth).mean())


@dataclass(frozen=True)
class Result:
    value: float
    refits: int


def at(stream: Stream, times: set[int]) -> Result:
    """Refit before the given batches, on the trailing window."""
    version, outputs = 0, []
    for j in range(BATCHES):
        version = j if j in times else version
        outputs.append(stream.output(version, j))
    return Result(stream.score(outputs), len(times))


def crew(stream: Stream, every: int | None = None) -> Result:
    """What the crew decides after each batch, and the window it trains on.

    Args:
        every: refit after each so many batches, whatever is decided, on the window that is.
    """
    start, end = 0, stream.initial
    output, held = stream.version(start, end), end - int(HELD_OUT * (end - start))
    reference = stream.scores(stream.version(start, held), held, end)
    refits, served = 0, []
    for j in range(BATCHES):
        now = stream.batch(j).stop
        served.append(output[stream.batch(j)])
        if j + 1 == BATCHES:
            break
        if every and (j + 1) % every:
            continue
        since = max(end, int(stream.bounds[max(0, j + 1 - CURRENT)]))
        start = min(start, since - stream.initial)
        current, cut = stream.scores(output, since, now), since + round(PROBED_SHARE * (now - since))
        decision = decide(reference, current, METRICS[stream.metric], stream.task)
        plan = plan_retraining(reference, current, stream.task, cost=COST, train_rows=cut - since)
        gain = weigh_gain(
            reference,
            stream.scores(output, cut, now),
            {
                window: stream.scores(stream.version(*rows_of(window, start, since, cut)), cut, now)
                for window in windows_to_probe(plan.window, cut - since)
            },
            METRICS[stream.metric],
            stream.task,
            needed=needed_gain(COST, MIN_GAIN, since - start),
            horizon=now - since,
        )
        if not (every or acts(decision, plan, gain)):
            continue
        first, _, half_life = rows_of(window_of(plan, gain), start, since, cut)
        start, half_life, end, refits = first, half_life and float(now - since), now, refits + 1
        # The newest rows of the window, by a model trained without them: as the crew compares before it releases.
        held = end - max(MIN_HELD_OUT, int(HELD_OUT * (end - start)))
        reference = stream.scores(stream.version(start, held, half_life), held, end)
        output = stream.version(start, end, half_life)
    return Result(stream.score(served), refits)


def rows_of(window: str, start: int, end: int, cut: int) -> tuple[int, int, float | None]:
    """First row, end and half-life of a window of the rows from `start` to `cut`, those from `end` on being current."""
    count = cut - end if window == "recent" else newest_rows(window)
    return start if count is None else cut - count, cut, float(cut - end) if window == "weighted" else None


def adwin(stream: Stream, delta: float = 0.002) -> Result:
    """ADWIN (Bifet and Gavaldà 2007) on the rows' errors, cuts every 32 rows; rows dropped: refit, start anew."""
    version, times, outputs, window = 0, set[int](), [], np.empty(0)
    scale = 1.0
    for j in range(BATCHES):
        output = stream.output(version, j)
        outputs.append(output)
        truth = stream.y[stream.batch(j)]
        if stream.task == "regression":
            scale = max(scale, float(np.abs(truth - output).max())) if j == 0 else scale
            errors = np.minimum(np.abs(truth - output) / scale, 1)
        else:
            errors = (stream.predicted(output) != truth).astype(float)
        dropped = False
        for piece in np.array_split(errors, max(len(errors) // 32, 1)):
            window = np.concatenate([window, piece])
            while (cut := _adwin_cut(window, delta)) is not None:
                window, dropped = window[cut:], True
        if dropped and j + 1 < BATCHES:
            version, window = j + 1, np.empty(0)
            times.add(version)
    return Result(stream.score(outputs), len(times))


def _adwin_cut(window: Floats, delta: float) -> int | None:
    n = len(window)
    cuts = np.arange(32, n - 31, 32)
    if not len(cuts):
        return None
    sums = np.cumsum(window)
    left, right = sums[cuts - 1] / cuts, (sums[-1] - sums[cuts - 1]) / (n - cuts)
    size = 1 / (1 / cuts + 1 / (n - cuts))
    log = np.log(2 * np.log(n) / delta)
    bound = np.sqrt(2 / size * window.var() * log) + 2 / (3 * size) * log
    hits = np.flatnonzero(np.abs(left - right) > bound)
    return int(cuts[hits[0]]) if len(hits) else None


def ks_any(stream: Stream) -> Result:
    """Refit when a Kolmogorov-Smirnov test at 5 % finds any feature drifted from the champion's training window."""
    version, times = 0, set[int]()
    for j in range(BATCHES - 1):
        start = int(stream.bounds[version])
        trained, now = stream.X[start - stream.initial : start], stream.X[stream.batch(j)]
        if any(ks_2samp(trained[:, c], now[:, c]).pvalue < 0.05 for c in range(stream.X.shape[1])):
            version = j + 1
            times.add(version)
    return at(stream, times)


def hindsight(stream: Stream, refits: int) -> Result:
    cost = np.zeros((BATCHES, BATCHES + 1))  # cost[v, e]: loss of version v over batches v..e-1
    for v in range(BATCHES):
        for j in range(v, BATCHES):
            output, truth = stream.output(v, j), stream.y[stream.batch(j)]
            wrong = stream.predicted(output) != truth  # the metric's own loss where it is a mean over rows
            cost[v, j + 1] = cost[v, j] + (wrong if stream.metric == "accuracy" else stream.losses(output, j)).mean()
    best = cost[0].copy()
    times: list[set[int]] = [set() for _ in range(BATCHES + 1)]
    for _ in range(refits):
        new, new_times = best.copy(), list(times)
        for end in range(2, BATCHES + 1):
            for start in range(1, end):
                value = best[start] + cost[start, end]
                if value < new[end]:
                    new[end], new_times[end] = value, times[start] | {start}
        best, times = new, new_times
    return at(stream, times[BATCHES])


def no_change(stream: Stream) -> Result:
    truth = stream.y[stream.initial - 1 :]
    if stream.metric == "MAE":
        return Result(float(np.abs(np.diff(truth)).mean()), 0)
    if stream.metric == "AUC":
        return Result(float(roc_auc_score(truth[1:], truth[:-1])), 0)
    return Result(float((truth[1:] == truth[:-1]).mean()), 0)


ROWS: dict[str, Callable[[Stream], Result]] = {
    "never": lambda s: at(s, set()),
    "every batch": lambda s: at(s, set(range(1, BATCHES))),
    "every 5th": lambda s: at(s, set(range(5, BATCHES, 5))),
    "every 10th": lambda s: at(s, set(range(10, BATCHES, 10))),
    "ADWIN": adwin,
    "KS any feature": ks_any,
    "hindsight, 7 refits": lambda s: hindsight(s, 7),
    "no change": no_change,
    "every 5th, the crew's windows": lambda s: crew(s, every=5),
    "the crew": crew,
}


def load(name: str, data: Path, cache: Path) -> Stream | None:
    folder, file, target, drop, positive, metric = STREAMS[name]
    path = data / folder / file
    if not path.exists():
        print(f"{path} not found: {name} skipped")
        return None
    frame = pd.read_csv(path)
    X = frame.drop(columns=[target, *drop])
    text = X.select_dtypes(exclude="number").columns
    if len(text):
        X[text] = OrdinalEncoder().fit_transform(X[text])
    y = frame[target].to_numpy(dtype=float) if positive is None else (frame[target] == positive).to_numpy(dtype=float)
    return Stream(name, X.to_numpy(dtype=float), y, metric, cache)


def print_real(data: Path, cache: Path) -> None:
    streams = [s for name in STREAMS if (s := load(name, data, cache)) is not None]
    found = {(row, s.name): rule(s) for row, rule in ROWS.items() for s in streams}
    head = "".join(f"{s.name + ', ' + s.metric:>28s}" for s in streams)
    print(f"{'rule':24s}{head}{'gap, refits of the three drifting':>36s}")
    for row in ROWS:
        cells, gaps, refits = "", [], []
        for s in streams:
            result, never, every = found[row, s.name], found["never", s.name], found["every batch", s.name]
            gap = (result.value - never.value) / (every.value - never.value)
            if s.name in DRIFTING:
                gaps.append(gap)
                refits.append(result.refits)
            value = f"{result.value:.2f}" if s.metric == "MAE" else f"{result.value:.4f}"
            cells += f"{f'{value} / {result.refits:2d}  ({gap:5.0%})':>28s}"
        print(f"{row:24s}{cells}{f'{np.mean(gaps):.1%} with {np.mean(refits):.1f}' if gaps else '-':>36s}")


def print_suite(title: str, kinds: dict[str, Kind], seeds: int, cache: Path) -> None:
    """Means over the streams that drift, with the standard deviation of the gap over the seeds, and over the others."""
    gains: dict[tuple[str, str, int], tuple[float, int]] = {}
    for name in kinds:
        for seed in range(seeds):
            X, y, metric = simulate(name, seed)
            stream = Stream(name, X, y, metric, cache, "simulated")
            results = {row: rule(stream) for row, rule in ROWS.items()}
            error = {row: r.value if metric == "MAE" else 1 - r.value for row, r in results.items()}
            for row, result in results.items():
                gains[row, name, seed] = 1 - error[row] / error["never"], result.refits
    drifting = [name for name in kinds if kinds[name].drifts]
    still = [name for name in kinds if not kinds[name].drifts]
    print(f"\n{title}: {len(drifting)} kinds that drift | {len(still)} with little or nothing to win; {seeds} seeds")
    print(
        f"{'rule':24s}{'gain':>8s}{'gap':>8s}{'+- seeds':>10s}{'refits':>8s} | {'gain':>8s}{'refits':>8s}{'most':>6s}"
    )
    for row in ROWS:
        gap = [
            sum(gains[row, n, k][0] for n in drifting) / sum(gains["every batch", n, k][0] for n in drifting)
            for k in range(seeds)
        ]
        spread = f"{np.std(gap, ddof=1):.1%}" if seeds > 1 else "-"
        gain, refits = np.mean([gains[row, n, k] for n in drifting for k in range(seeds)], axis=0)
        quiet = np.array([gains[row, n, k] for n in still for k in range(seeds)])
        print(
            f"{row:24s}{gain:9.3f}{np.mean(gap):9.1%}{spread:>9s}{refits:9.1f}{quiet[:, 0].mean():9.3f}"
            f"{quiet[:, 1].mean():9.1f}{quiet[:, 1].max():9.0f}"
        )
    shown = ("every batch", "every 5th", "ADWIN", "the crew")
    print(f"{'gain / refits by kind':24s}" + "".join(f"{row:>18s}" for row in shown))
    for name in kinds:
        means = [np.mean([gains[row, name, k] for k in range(seeds)], axis=0) for row in shown]
        print(f"{name:24s}" + "".join(f"{f'{gain:+.3f} / {refits:4.1f}':>18s}" for gain, refits in means))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "mlops_crew_bench_retrain")
    parser.add_argument("--suite", action="store_true", help="the simulated streams instead of the real ones")
    parser.add_argument("--seeds", type=int, default=2, help="of each simulated stream")
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore", message=".*p-value.*")  # scipy's note on exact p-values of large samples
    started = time.perf_counter()
    if options.suite:
        print_suite("development", DEVELOPMENT, options.seeds, options.cache)
        print_suite("confirmation", CONFIRMATION, options.seeds, options.cache)
    else:
        print_real(options.data, options.cache)
    print(f"\n{time.perf_counter() - started:.0f} s, models cached in {options.cache}")


if __name__ == "__main__":
    main()
