"""The canary judge beside the rules of Flagger, Argo Rollouts and Kayenta, on the same requests.

Run: python bench/canary.py [--seeds 1000] [--data ../shared/data] [--metrics]

Every judge sees the same hour of traffic, 200 requests a minute, under its own schedule. Labels are there at once, or
after 2,000 requests (ten minutes), or the positives' at once and the negatives' after 2,000 requests:

- ours: a goal's defaults, by the crew's own functions: 5 % of traffic, doubled up to 20 % once harm is ruled out but
  for the latency, shadow scoring of the rest, a look every minute. It is told the delay, and segments. With late
  labels it also has the proxies, with a holdout of 1,000 rows like the traffic of equal models, and an open alarm takes
  the challenger's traffic away. "labels as they come" is the same judge without gate and proxies: a label counts when
  it arrives;
- Flagger (docs.flagger.app/usage/deployment-strategies): a check every minute, 5 % more traffic after each passed check
  up to 50 %, then promotion; rollback after `threshold` failed checks (1 is the code's default, 10 the docs' example).
  Built-in checks: success rate of the minute >= 99 %, p99 of latency <= 500 ms. "+ accuracy" adds a custom metric: the
  canary's error rate in the minute is at most 2 points above the primary's;
- Argo Rollouts (argo-rollouts.readthedocs.io/en/stable/features/analysis): weights 20, 40, 60, 80 % for 10 minutes
  each, a measurement of the last 5 minutes every 5 minutes, the same three conditions, abort when more than
  `failureLimit` measurements failed (0 is the default, 3 the docs' example), promotion at the end;
- Kayenta (NetflixACAJudge): canary and baseline at 25 % each, one point a minute for the hour; per metric (failed
  share, error rate, mean latency) Mann-Whitney at 0.98 with a band of 0.25 of the Hodges-Lehmann estimate; score =
  share of metrics that pass; promotion at 90, rollback below 75 (docs' example), else a person is asked.

Where labels are late, the others' error rate is that of the labels that arrived in the window, as a counter would give.
A window without any is a failed check for Flagger, an error for Argo (more than 4 in a row abort), and left out by
Kayenta. What to doubt: none of them was made for labels, and a team may write another query.

With --metrics: ours alone, for each metric that a goal may have, with a weaker, an equal and a better challenger.

Printed per scenario: share rolled back and promoted, bad answers served (wrong or failed, more than the champion alone
would have given; mean over the hour, also after a wrong promotion), requests until promotion (median). Where "rollback"
is right, what is not rolled back within the hour was missed.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.canary import judging, next_share
from tasks.goal import Goal
from tools.judge.canary.proxies import Holdout
from tools.judge.canary.quality import Evidence, Rules
from tools.judge.canary.verdict import Trace, trace
from tools.judge.estimates import METRICS_OF, Scores, Task

PER_MINUTE, MINUTES = 200, 60
REQUESTS = PER_MINUTE * MINUTES
TOLERANCE = 0.02
LATENCY_LIMIT_MS = 500.0
LATE = 2_000  # requests until a label, where labels are late
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Traffic:
    """What each model would answer to each request; shape (REQUESTS,). `lot` decides who serves it."""

    champion_error: Floats
    challenger_error: Floats
    champion_loss: Floats
    challenger_loss: Floats
    champion_failed: Floats
    challenger_failed: Floats
    champion_ms: Floats
    challenger_ms: Floats
    lot: Floats
    positive: Floats | None = None
    champion_probability: Floats | None = None
    challenger_probability: Floats | None = None
    champion_prediction: NDArray[Any] | None = None
    challenger_prediction: NDArray[Any] | None = None
    label: NDArray[Any] | None = None
    y_true: Floats | None = None
    segment: NDArray[Any] | None = None
    label_at: NDArray[np.int64] | None = None  # the request after which each label is there; None: at once
    delay: int = 0  # by then every label is there

    @property
    def late(self) -> bool:
        return self.label_at is not None

    def labelled_in(self, window: slice) -> NDArray[np.int64]:
        """The requests whose label arrives in the window."""
        if self.label_at is None:
            return np.arange(window.start, window.stop)
        return np.flatnonzero((self.label_at >= window.start) & (self.label_at < window.stop))

    @property
    def harm(self) -> NDArray[np.int64]:
        """Per request: 1 where only the challenger's answer is bad (wrong or failed), -1 where only the champion's."""
        ours = (self.challenger_error > 0) | (self.challenger_failed > 0)
        theirs = (self.champion_error > 0) | (self.champion_failed > 0)
        return ours.astype(np.int64) - theirs


@dataclass(frozen=True)
class Outcome:
    verdict: str
    requests: int  # until the verdict
    bad: int  # bad answers served within the hour, more than the champion alone would have given


# --- the judges -------------------------------------------------------------------------------------------------


def finish(traffic: Traffic, verdict: str, requests: int, weights: Floats) -> Outcome:
    """Count the harm served: by the canary's share until the verdict, by everyone after a promotion."""
    harm, served = traffic.harm, traffic.lot < weights
    bad = int((harm * served)[:requests].sum())
    if verdict == "promote":
        bad += int(harm[requests:].sum())
    elif verdict == "wait":
        bad = int((harm * served).sum())
    return Outcome(verdict, requests, bad)


def goal_of(metric: str, task: Task, delay: int) -> Goal:
    """A goal that leaves everything of the canary at its defaults, but for the labels' delay."""
    data, late = {"reference": "a.csv", "current": "b.csv"}, {"canary": {"label_delay_requests": delay}}
    fields: dict[str, Any] = {"name": "bench", "target": "y", "task": task, "metric": metric, "data": data}
    return Goal.model_validate(fields | (late if delay else {}))


def ours(traffic: Traffic, metric: str, task: Task = "binary", *, gate: bool = True) -> Outcome:
    goal = goal_of(metric, task, traffic.delay)
    rules = Rules(**judging(goal), min_label_share=goal.canary.min_label_share)
    holdout = holdout_of_equals() if traffic.late and gate else None
    if not gate:
        rules = replace(rules, label_delay=0, min_label_share=0.0)
    weights = np.full(REQUESTS, goal.canary.percent / 100)
    for requests in (REQUESTS // 6, REQUESTS):  # the verdict on a prefix stays, so most hours need not be traced whole
        weights = np.full(REQUESTS, goal.canary.percent / 100)
        traced = shared(traffic, requests, weights, goal, rules, holdout, gate)
        rollback, promote = traced.first("rollback", PER_MINUTE), traced.first("promote", PER_MINUTE)
        if rollback is not None and (promote is None or rollback <= promote):
            return finish(traffic, "rollback", rollback, weights)
        if promote is not None:
            return finish(traffic, "promote", promote, weights)
    return finish(traffic, "wait", REQUESTS, weights)


def shared(
    traffic: Traffic, requests: int, weights: Floats, goal: Goal, rules: Rules, holdout: Holdout | None, gate: bool
) -> Trace:
    """The judgement of the first requests, with the shares (`weights`, changed here) that follow from every look."""
    traced, share = trace(evidence(traffic, requests, weights, gate), rules, holdout), goal.canary.percent
    for look in range(PER_MINUTE, requests, PER_MINUTE):
        if traced.rollback[look - 1] or traced.promote[look - 1]:
            break
        held, harmless = bool(traced.held[look - 1]), bool(traced.harmless[look - 1])
        wanted = next_share(goal, share, held=held, harm_ruled_out=harmless)
        if wanted != share:
            share, weights[look:] = wanted, wanted / 100
            traced = trace(evidence(traffic, requests, weights, gate), rules, holdout)
    return traced


def evidence(traffic: Traffic, requests: int, weights: Floats, gate: bool = True) -> Evidence:
    """The first `requests` requests as the serving engine would record them."""
    failed = {"champion": traffic.champion_failed > 0, "challenger": traffic.challenger_failed > 0}
    columns: dict[str, Any] = {
        "champion_latency_ms": traffic.champion_ms,
        "challenger_latency_ms": traffic.challenger_ms,
        "served_by_challenger": traffic.lot < weights,
    }
    for who, lost in failed.items():
        columns[f"{who}_status"] = np.where(lost, 500.0, 200.0)
        for what in ("error", "loss"):
            columns[f"{who}_{what}"] = np.where(lost, np.nan, getattr(traffic, f"{who}_{what}"))
    for name in (
        "positive", "champion_probability", "challenger_probability", "segment", "champion_prediction",
        "challenger_prediction", "label", "y_true",
    ):  # fmt: skip
        columns[name] = getattr(traffic, name)
    if traffic.label_at is not None and traffic.positive is not None:
        columns["labelled_after"] = traffic.label_at + 1.0
        for who in failed:
            said = (traffic.positive > 0) ^ (getattr(traffic, f"{who}_error") > 0)
            columns[f"{who}_prediction"] = np.where(said, "1", "0")
    cut: dict[str, Any] = {name: None if v is None else v[:requests] for name, v in columns.items()}
    return Evidence(**cut)


@cache
def holdout_of_equals() -> Holdout:
    """What the holdout comparison of two equal models would have recorded."""
    equal = Scenario("holdout", "promote", positives=0.2)
    made = equal.traffic(10**6)
    truth = made.positive is not None and made.positive[:1000] > 0
    scores = [
        Scores(np.where(truth, "1", "0"), np.where(truth ^ (wrong[:1000] > 0), "1", "0"), wrong[:1000], None, "1")
        for wrong in (made.champion_error, made.challenger_error)
    ]
    return Holdout(*scores)


def check(traffic: Traffic, window: slice, weights: Floats, accuracy: bool) -> str:
    """A point check of the canary on a window: pass, fail, or "none" where there is nothing to measure."""
    mine = traffic.lot[window] < weights[window]
    if not mine.any():
        return "none"
    answered = traffic.challenger_failed[window][mine] == 0
    if answered.mean() < 0.99 or np.quantile(traffic.challenger_ms[window][mine], 0.99) > LATENCY_LIMIT_MS:
        return "fail"
    if not accuracy:
        return "pass"
    known = traffic.labelled_in(window)
    canary = traffic.lot[known] < weights[known]
    wrong = traffic.challenger_error[known][canary & (traffic.challenger_failed[known] == 0)]
    right = traffic.champion_error[known][~canary]
    if not len(wrong) or not len(right):
        return "none"
    return "fail" if wrong.mean() > right.mean() + TOLERANCE else "pass"


def flagger(traffic: Traffic, *, threshold: int, accuracy: bool) -> Outcome:
    weight, failed = 0.05, 0
    weights = np.zeros(REQUESTS)
    for minute in range(MINUTES):
        window = slice(minute * PER_MINUTE, (minute + 1) * PER_MINUTE)
        weights[window] = weight
        if check(traffic, window, weights, accuracy) != "pass":
            failed += 1
            if failed >= threshold:
                return finish(traffic, "rollback", window.stop, weights)
        elif weight >= 0.5:
            return finish(traffic, "promote", window.stop, weights)
        else:
            weight += 0.05
    return finish(traffic, "wait", REQUESTS, weights)


def argo(traffic: Traffic, *, limit: int) -> Outcome:
    failed, errors, weights = 0, 0, np.zeros(REQUESTS)
    step = 5 * PER_MINUTE
    for i in range(8):
        window = slice(i * step, (i + 1) * step)
        weights[window] = 0.2 * (i // 2 + 1)
        found = check(traffic, window, weights, accuracy=True)
        failed += found == "fail"
        errors = errors + 1 if found == "none" else 0
        if failed > limit or errors > 4:
            return finish(traffic, "rollback", window.stop, weights)
    return finish(traffic, "promote", 8 * step, weights)


def kayenta_passes(canary: Floats, baseline: Floats) -> bool:
    """Kayenta's Mann-Whitney classifier, direction "increase", tolerance 0.25, confidence 0.98."""
    if np.array_equal(canary, baseline):
        return True
    m, n = len(canary), len(baseline)
    shifts = np.sort((canary[:, None] - baseline[None, :]).ravel())
    rank = int(np.floor(m * n / 2 - 2.326 * np.sqrt(m * n * (m + n + 1) / 12)))
    lower = shifts[max(rank - 1, 0)]
    return not lower > 0.25 * abs(float(np.median(shifts)))


def kayenta(traffic: Traffic) -> Outcome:
    canary, baseline = traffic.lot < 0.25, (traffic.lot >= 0.25) & (traffic.lot < 0.5)
    minute = np.arange(REQUESTS) // PER_MINUTE
    told = minute if traffic.label_at is None else traffic.label_at // PER_MINUTE

    def points(values: Floats, chosen: NDArray[np.bool_], at: NDArray[np.int64]) -> Floats:
        inside = chosen & (at < MINUTES)
        count = np.bincount(at[inside], minlength=MINUTES)
        total = np.bincount(at[inside], weights=values[inside], minlength=MINUTES)
        return total[count > 0] / count[count > 0]

    metrics = (
        (traffic.challenger_failed, traffic.champion_failed, minute),
        (traffic.challenger_error, traffic.champion_error, told),
        (traffic.challenger_ms, traffic.champion_ms, minute),
    )
    passed = sum(kayenta_passes(points(a, canary, at), points(b, baseline, at)) for a, b, at in metrics)
    score = 100 * passed / len(metrics)
    verdict = "promote" if score >= 90 else "rollback" if score < 75 else "wait"
    return finish(traffic, verdict, REQUESTS, np.full(REQUESTS, 0.25))


UNGATED = "ours, labels as they come"  # differs from ours only where labels are late
JUDGES: dict[str, Callable[[Traffic, str, Task], Outcome]] = {
    "ours": ours,
    UNGATED: lambda t, metric, task: ours(t, metric, task, gate=False),
    "Flagger, threshold 1": lambda t, *_: flagger(t, threshold=1, accuracy=False),
    "Flagger, threshold 10": lambda t, *_: flagger(t, threshold=10, accuracy=False),
    "Flagger + accuracy, 1": lambda t, *_: flagger(t, threshold=1, accuracy=True),
    "Flagger + accuracy, 10": lambda t, *_: flagger(t, threshold=10, accuracy=True),
    "Argo + accuracy, limit 0": lambda t, *_: argo(t, limit=0),
    "Argo + accuracy, limit 3": lambda t, *_: argo(t, limit=3),
    "Kayenta + accuracy": lambda t, *_: kayenta(t),
}


# --- the traffic ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """A kind of challenger. `verdict` is the right one."""

    name: str
    verdict: str
    metric: str = "accuracy"
    task: Task = "binary"
    loss: float = 0.0
    failed: tuple[float, float] = (0.005, 0.005)
    slower: float = 1.0
    pool: dict[str, NDArray[Any]] | None = None  # scored rows of a real data set to draw from
    swap: bool = False  # exchange the two models' answers at random: exactly equal models
    positives: float = 0.0  # share of positives, where labels are late
    delay: int = 0  # requests until a label is there
    positives_first: bool = False  # their labels are there at once
    segment: float = 0.0  # share of a segment that loses ten points, which the others win back

    def traffic(self, seed: int) -> Traffic:
        random = np.random.default_rng(seed)
        values = self._scored(random) if self.pool is not None else self._simulated(random)
        failures = [(random.random(REQUESTS) < rate).astype(float) for rate in self.failed]
        ms = [150 * random.lognormal(0, 0.3, REQUESTS) for _ in range(2)]
        return Traffic(
            **values,
            champion_failed=failures[0],
            challenger_failed=failures[1],
            champion_ms=ms[0],
            challenger_ms=ms[1] * self.slower,
            lot=random.random(REQUESTS),
            label_at=self._label_times(values.get("positive")),
            delay=self.delay,
        )

    def _label_times(self, positive: Floats | None) -> NDArray[np.int64] | None:
        if not self.delay:
            return None
        late = np.arange(REQUESTS) + self.delay
        if not self.positives_first:
            return late
        assert positive is not None
        return np.where(positive > 0, np.arange(REQUESTS), late)

    def _simulated(self, random: np.random.Generator) -> dict[str, Any]:
        draw = random.random(REQUESTS)
        both = draw < 0.10  # both wrong; each alone wrong on 2 % more, the challenger on `loss` more again
        made: dict[str, Any] = {}
        champion = both | ((draw > 0.2) & (draw < 0.22 + max(-self.loss, 0)))
        challenger = both | ((draw > 0.3) & (draw < 0.32 + max(self.loss, 0)))
        if self.segment:
            inside = random.random(REQUESTS) < self.segment
            made["segment"] = np.where(inside, "small", "large")
            challenger |= inside & (draw > 0.5) & (draw < 0.6)
            champion |= ~inside & (draw > 0.7) & (draw < 0.7 + 0.1 * self.segment / (1 - self.segment))
        if self.positives:
            positive = random.random(REQUESTS) < self.positives
            if self.positives_first:  # the challenger is wrong alone on negatives if it is worse, else on positives
                alone = [(draw > 0.2) & (draw < 0.22), (draw > 0.3) & (draw < 0.32 + self.loss)]
                positive = np.where(alone[0], self.loss > 0, np.where(alone[1], self.loss <= 0, positive))
            made["positive"] = positive.astype(float)
        return {
            "champion_error": champion.astype(float),
            "challenger_error": challenger.astype(float),
            "champion_loss": champion.astype(float),
            "challenger_loss": challenger.astype(float),
            **made,
        }

    def _scored(self, random: np.random.Generator) -> dict[str, Any]:
        assert self.pool is not None
        rows = random.integers(0, len(self.pool["champion_error"]), REQUESTS)
        drawn: dict[str, Any] = {name: values[rows] for name, values in self.pool.items()}
        if self.swap:
            swapped = random.random(REQUESTS) < 0.5
            for what in ("error", "loss", "probability", "prediction"):
                if f"champion_{what}" not in drawn:
                    continue
                a, b = drawn[f"champion_{what}"], drawn[f"challenger_{what}"]
                drawn[f"champion_{what}"] = np.where(swapped, b, a)
                drawn[f"challenger_{what}"] = np.where(swapped, a, b)
        return drawn


SETS: dict[str, tuple[Task, str, list[str]]] = {  # task, target, columns that tell it or are no features
    "telco_churn": ("binary", "Churn", ["customerID"]),
    "bank_marketing": ("binary", "y", ["duration"]),
    "airlines_delayed_labels": ("multiclass", "ValueToPredict", ["instanceId"]),
    "bike_hourly": ("regression", "cnt", ["casual", "registered", "instant", "dteday"]),
}


@cache
def scored_rows(data: Path, name: str) -> dict[str, NDArray[Any]]:
    """Held-out rows scored by a champion and by a challenger trained on a tenth of the rows and half the columns.

    An answer of a regression is called wrong where it is off by more than the champion's median.
    """
    import pandas as pd
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.preprocessing import OrdinalEncoder

    task, target, drop = SETS[name]
    file = "bike_hourly_clean" if name == "bike_hourly" else name
    frame = pd.read_csv(data / name / f"{file}.csv.gz").dropna(subset=[target])
    if name == "telco_churn":
        frame["TotalCharges"] = pd.to_numeric(frame["TotalCharges"], errors="coerce")
    frame = frame.sample(frac=1.0, random_state=0).reset_index(drop=True)
    X = frame.drop(columns=[target, *(column for column in drop if column in frame)])
    text = X.select_dtypes(exclude="number").columns
    X[text] = OrdinalEncoder().fit_transform(X[text])
    half, weak = len(X) // 2, X.columns[::2]
    learned = {"champion": (list(X.columns), half), "challenger": (list(weak), half // 10)}
    if task == "regression":
        y = frame[target].to_numpy(dtype="float64")
        out: dict[str, NDArray[Any]] = {"y_true": y[half:]}
        for who, (columns, rows) in learned.items():
            said = HistGradientBoostingRegressor(random_state=0).fit(X[columns][:rows], y[:rows])
            out[f"{who}_prediction"] = said.predict(X[columns][half:])
            out[f"{who}_loss"] = np.abs(out[f"{who}_prediction"] - y[half:])
        for who in learned:
            out[f"{who}_error"] = (out[f"{who}_loss"] > np.median(out["champion_loss"])).astype(float)
        return out
    labels = frame[target].astype(str).to_numpy()
    out = (
        {"label": labels[half:]} if task == "multiclass" else {"positive": (labels[half:] == max(labels)).astype(float)}
    )
    for who, (columns, rows) in learned.items():
        model = HistGradientBoostingClassifier(random_state=0).fit(X[columns][:rows], labels[:rows])
        p = model.predict_proba(X[columns][half:])
        place = np.searchsorted(model.classes_, labels[half:])
        out[f"{who}_loss"] = -np.log(np.clip(p[np.arange(len(p)), place], 1e-6, 1))
        said = model.classes_[p.argmax(axis=1)]
        out[f"{who}_error"] = (said != labels[half:]).astype(float)
        if task == "multiclass":
            out[f"{who}_prediction"] = said
        else:
            out[f"{who}_probability"] = p[:, 1]
    return out


def metric_scenarios(data: Path) -> list[Scenario]:
    """Each metric that a goal may have, with a weaker, an equal and a better challenger."""
    made: list[Scenario] = []
    for name in ("telco_churn", "airlines_delayed_labels", "bike_hourly"):
        if not (data / name).is_dir():
            print(f"{name} not found under {data}: skipped")
            continue
        task, pool = SETS[name][0], scored_rows(data, name)
        turned = {_other(column): values for column, values in pool.items()}
        for metric in METRICS_OF[task]:
            title = f"{name}, {metric}"
            common = {"metric": metric, "task": task}
            made += [
                Scenario(f"{title}: equal", "promote", pool=pool, swap=True, **common),
                Scenario(f"{title}: weaker", "rollback", pool=pool, **common),
                Scenario(f"{title}: better", "promote", pool=turned, **common),
            ]
    return made


def _other(column: str) -> str:
    who, _, what = column.partition("_")
    turned = {"champion": "challenger", "challenger": "champion"}.get(who)
    return f"{turned}_{what}" if turned else column


def scenarios(data: Path) -> list[Scenario]:
    made = [
        Scenario("equal", "promote"),
        Scenario("better by 2 points", "promote", loss=-0.02),
        Scenario("worse by 1 point, half the tolerance", "either", loss=0.01),
        Scenario("worse by 2 points", "rollback", loss=0.02),
        Scenario("worse by 4 points", "rollback", loss=0.04),
        Scenario("fails 3 % instead of 0.5 %", "rollback", failed=(0.005, 0.03)),
        Scenario("twice as slow", "rollback", slower=2.0),
        Scenario("one segment of 20 % worse by 10 points", "rollback", segment=0.2),
        Scenario("equal, labels late", "promote", positives=0.2, delay=LATE),
        Scenario("worse by 4 points, labels late", "rollback", loss=0.04, positives=0.2, delay=LATE),
        Scenario("worse by 15 points, labels late", "rollback", loss=0.15, positives=0.2, delay=LATE),
        Scenario("equal, positives first", "promote", positives=0.2, delay=LATE, positives_first=True),
        Scenario(
            "worse by 4 points, positives first", "rollback", loss=0.04, positives=0.2, delay=LATE, positives_first=True
        ),
    ]
    for name, metrics in (("telco_churn", ("accuracy", "log_loss")), ("bank_marketing", ("roc_auc", "log_loss"))):
        if not (data / name).is_dir():
            print(f"{name} not found under {data}: skipped")
            continue
        pool = scored_rows(data, name)
        worse = pool["challenger_error"].mean() - pool["champion_error"].mean()
        for metric in metrics:
            equal = Scenario(f"{name}, {metric}: equal", "promote", metric=metric, pool=pool, swap=True)
            made += [
                equal,
                replace(
                    equal,
                    name=f"{name}, {metric}: weaker, {100 * worse:.1f} points",
                    verdict="rollback",
                    swap=False,
                ),
            ]
    return made


# --- the table --------------------------------------------------------------------------------------------------


def run(job: tuple[Scenario, list[int], bool]) -> dict[str, list[Outcome]]:
    scenario, seeds, only_ours = job
    found: dict[str, list[Outcome]] = {name: [] for name in JUDGES}
    for seed in seeds:
        traffic = scenario.traffic(seed)
        for name, judge in JUDGES.items():
            if name == UNGATED and not traffic.late:
                continue
            if name != "ours" and only_ours:
                continue
            found[name].append(judge(traffic, scenario.metric, scenario.task))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--only", default="", help="scenarios whose name holds this text")
    parser.add_argument("--metrics", action="store_true", help="every metric of a goal, judged by ours alone")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(f"{options.seeds} seeds; {PER_MINUTE} requests a minute for {MINUTES} minutes\n")
    print(
        f"{'challenger':54s} {'judge':26s} {'rolled back':>11s} {'promoted':>9s} {'bad answers':>12s} {'requests':>9s}"
    )
    chunks = np.array_split(np.arange(options.seeds), options.workers * 4)
    with ProcessPoolExecutor(options.workers) as pool:
        for scenario in (metric_scenarios if options.metrics else scenarios)(options.data):
            if options.only not in scenario.name:
                continue
            parts = list(pool.map(run, [(scenario, chunk.tolist(), options.metrics) for chunk in chunks if len(chunk)]))
            for i, name in enumerate(JUDGES):
                outcomes = [outcome for part in parts for outcome in part[name]]
                if not outcomes:
                    continue
                promoted = [o.requests for o in outcomes if o.verdict == "promote"]
                title = f"{scenario.name} (right: {scenario.verdict})" if i == 0 else ""
                until = f"{np.median(promoted):.0f}" if promoted else "-"
                print(
                    f"{title:54s} {name:26s} {np.mean([o.verdict == 'rollback' for o in outcomes]):>11.1%} "
                    f"{np.mean([o.verdict == 'promote' for o in outcomes]):>9.1%} "
                    f"{np.mean([o.bad for o in outcomes]):>12.1f} {until:>9s}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
