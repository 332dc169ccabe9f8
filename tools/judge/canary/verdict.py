"""The verdict on a canary: promote, rollback or wait, valid however often it is asked for.

Three things are judged, each by e-processes (`sequential`):

- quality, on requests that both models answered (shadow scoring) and whose label is known;
- failures, on the requests both answered, and on the split traffic where only one did;
- latency, on the requests each model really served, and against the stated bound on every answer of the challenger.

Rollback: some check proved harm. The level `alpha` is shared by all checks, so a challenger that is as good as the
champion is rolled back with probability at most `alpha` in total, over all looks. Promote: every check passed; quality
is proven to be within the tolerance, failures within `FAILURE_MARGIN` and latency below `SLOWER` times the champion's,
each at level `alpha` (all must pass, so no sharing is needed); the labels are mature (`maturity`), and no sign without
labels (`proxies`) speaks against it. Otherwise: wait.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tools.judge.canary.checks import (
    FAILURE_MARGIN,
    MIN_SERVED,
    SLOWER,
    SUSPICION,
    Check,
    checks_of,
    within_tolerance_log_e,
)
from tools.judge.canary.maturity import Maturity, maturity_of
from tools.judge.canary.proxies import Holdout, Proxy, held, proxies_of
from tools.judge.canary.quality import Evidence, Quality, Rules, quality_of
from tools.judge.canary.running import MIN_ROWS
from tools.judge.sequential import Floats, log_threshold, mean_interval

Verdict = Literal["promote", "rollback", "wait"]

MAX_LOOKS = 60


@dataclass(frozen=True)
class Trace:
    """The judgement after every request. Row i uses requests 0..i only."""

    rollback: NDArray[np.bool_]
    promote: NDArray[np.bool_]
    checks: list[Check]
    quality: Quality
    proof: Floats  # log e-process of "quality is within the tolerance", running maximum
    maturity: Maturity
    proxies: list[Proxy]
    held: NDArray[np.bool_]  # a proxy's alarm is open: no promotion
    harmless: NDArray[np.bool_]  # all is proven but the latency, for which too few requests were answered

    def first(self, verdict: Verdict, every: int = 1) -> int | None:
        """Number of requests at the first look (one each `every` requests) that gives `verdict`."""
        chosen = self.rollback if verdict == "rollback" else self.promote & ~self.rollback
        looks = np.arange(every - 1, len(chosen), every)
        hits = looks[chosen[looks]]
        return int(hits[0]) + 1 if len(hits) else None


@dataclass(frozen=True)
class Judgement:
    """The verdict, why, and its course over the looks (for plots)."""

    verdict: Verdict
    reasons: list[str]
    requests: int
    labelled: int
    served_by_challenger: int
    checks: list[Check]
    measure: str
    champion_value: float | None
    challenger_value: float | None
    difference: float | None  # positive where the challenger is better
    interval: tuple[float, float] | None
    disagreement: float | None  # share of paired labelled requests where the two differ in loss
    mature: int = 0  # answered requests older than the labels' delay
    label_share: float | None = None  # of them; None when there is none
    held: bool = False
    harm_ruled_out: bool = False
    proxies: list[Proxy] = field(default_factory=list[Proxy])
    trajectory: list[dict[str, Any]] = field(default_factory=list)


def judge(evidence: Evidence, rules: Rules, holdout: Holdout | None = None) -> Judgement:
    """The verdict on all the evidence so far. The same evidence in the same order gives the same verdict.

    Args:
        holdout: what both models did on the holdout: without it there are no proxies.
    """
    served = int(evidence.served_by_challenger.sum())
    if len(evidence) == 0:
        return Judgement("wait", ["No request was answered yet: no data means wait."], 0, 0, 0, [],
                         rules.metric, None, None, None, None, None)  # fmt: skip
    traced = trace(evidence, rules, holdout)
    quality = traced.quality
    if traced.rollback[-1]:
        verdict: Verdict = "rollback"
    else:
        verdict = "promote" if traced.promote[-1] else "wait"
    labelled = int(traced.maturity.labelled[-1])
    looks = np.unique(np.linspace(1, len(evidence), min(MAX_LOOKS, len(evidence))).astype(np.int64))
    intervals = _intervals(quality, looks, rules.alpha)
    course = [
        {
            "requests": int(n),
            "difference_low": intervals[i][0],
            "difference_high": intervals[i][1],
            "log_e": {c.name: round(float(c.log_e[n - 1]), 4) for c in traced.checks},
            "log_e_within_tolerance": round(float(traced.proof[n - 1]), 4),
            "verdict": "rollback" if traced.rollback[n - 1] else "promote" if traced.promote[n - 1] else "wait",
        }
        for i, n in enumerate(looks)
    ]
    theirs, ours = quality.values
    low, high = intervals[-1]
    return Judgement(
        verdict,
        _reasons(traced, rules, labelled, served),
        len(evidence),
        labelled,
        served,
        traced.checks,
        quality.measure,
        theirs,
        ours,
        theirs - ours if theirs is not None and ours is not None else None,
        (low, high) if low is not None and high is not None else None,
        float((quality.harm != 0).mean()) if len(quality.rows) else None,
        int(traced.maturity.mature[-1]),
        traced.maturity.share,
        bool(traced.held[-1]),
        bool(traced.harmless[-1]),
        traced.proxies,
        course,
    )


def trace(evidence: Evidence, rules: Rules, holdout: Holdout | None = None) -> Trace:
    """Judge after every request at once.

    Raises:
        ValueError: the metric does not fit the task, or the evidence lacks what the metric needs.
    """
    n = len(evidence)
    quality = quality_of(evidence, rules)
    checks = checks_of(evidence, quality, rules)
    proof = within_tolerance_log_e(quality, n)
    maturity = maturity_of(evidence, rules)
    proxies = proxies_of(evidence, holdout, rules) if holdout is not None else []
    holding = held(proxies, n, rules.label_delay)
    within = proof >= log_threshold(rules.alpha)
    promote = within & (maturity.labelled >= rules.min_requests) & maturity.enough & ~holding
    harmless = promote
    for check in checks:
        promote = promote & check.passed
        harmless = harmless & (~check.doubted if check.name == "latency" else check.passed)
    # A loss that is proven, and proven to be smaller than the tolerance, is what the tolerance allows.
    rollback = checks[0].crossed & ~within
    for check in checks[1:]:
        rollback = rollback | check.crossed
    return Trace(
        rollback, promote & ~rollback, checks, quality, proof, maturity, proxies, holding,
        harmless & ~promote & ~rollback,
    )  # fmt: skip


def _intervals(quality: Quality, looks: NDArray[np.int64], alpha: float) -> list[tuple[float | None, float | None]]:
    """Confidence sequence of the difference (positive: challenger better) at each look; None where still unbounded."""
    if quality.whole and quality.running is not None:
        running = quality.running()
        at = np.searchsorted(running.rows, looks - 1, side="right")
        bounds = -running.intervals(alpha)[:, ::-1]
        return [(float(bounds[k - 1, 0]), float(bounds[k - 1, 1])) if k else (None, None) for k in at]
    seen = np.searchsorted(quality.rows, looks - 1, side="right")
    counts = np.unique(seen[seen > 0])
    if not len(counts):
        return [(None, None)] * len(looks)
    known = -mean_interval(quality.harm, alpha, counts, quality.bound)[:, ::-1]
    table = {int(c): tuple(float(v) if np.isfinite(v) else None for v in known[i]) for i, c in enumerate(counts)}
    return [table.get(int(c), (None, None)) for c in seen]  # pyright: ignore[reportReturnType]


def _reasons(traced: Trace, rules: Rules, labelled: int, served: int) -> list[str]:
    """Plain sentences, the deciding ones first."""
    harmed = [c for c in traced.checks if c.crossed[-1]]
    if traced.rollback[-1]:
        return [_harmed(check) for check in harmed]
    quality, level = traced.quality, log_threshold(rules.alpha)
    proof = f"e-value {np.exp(min(traced.proof[-1], 50)):.3g}, needed {np.exp(level):.0f}"
    if traced.promote[-1]:
        return [
            f"quality: proven to be {quality.tolerance} ({proof}).",
            f"failures: proven to rise by less than {FAILURE_MARGIN:.0%}.",
            f"latency: no sign of harm in {served} requests served by the challenger.",
            *([f"labels: {_labels(traced.maturity, rules)}."] if rules.label_delay else []),
        ]
    missing: list[str] = []
    if labelled == 0:
        missing.append("No request has both answers and a label yet: no data means wait.")
    elif labelled < rules.min_requests:
        missing.append(f"Only {labelled} labelled requests; at least {rules.min_requests} are needed.")
    if traced.held[-1]:
        missing += [
            f"{p.name}: {_show(p.observed)} {p.unit}, {_show(p.expected)} on the holdout (alarm after {p.raised_after} "
            "requests): no promotion until the labels of these requests are known."
            for p in traced.proxies
            if p.raised_after is not None
        ]
    if not traced.maturity.enough[-1] and (labelled or rules.label_delay):
        missing.append(f"labels: {_labels(traced.maturity, rules)}; {rules.min_label_share:.0%} are needed.")
    if labelled and traced.proof[-1] < level:
        missing.append(_unproven(quality, rules, proof))
    for check in traced.checks:
        if check.passed[-1]:
            continue
        if check.name == "failures" and check.log_e[-1] < SUSPICION:
            missing.append(f"failures: not yet proven to rise by less than {FAILURE_MARGIN:.0%}.")
        elif check.name == "latency" and served < MIN_SERVED:
            needed = f"latency: the challenger served {served} requests; at least {MIN_SERVED} are needed"
            missing.append(f"{needed}{_late(traced.checks)}.")
        elif check.name == "latency" and check.doubted[-1] and check.log_e[-1] < SUSPICION:
            missing.append(_above_bound(check, rules))
        elif check.name == "latency" and check.log_e[-1] < SUSPICION:
            missing.append(f"latency: not yet proven to be below {SLOWER:g} times the champion's.")
        elif check.name != "quality":
            missing.append(
                f"{check.name}: leans towards harm: {_show(check.challenger_value)} against "
                f"{_show(check.champion_value)} {check.unit} (e-value {np.exp(check.log_e[-1]):.3g}, not yet proof)."
            )
    return missing


def _harmed(check: Check) -> str:
    """The proof of harm, with the values of all requests, which may have become better since."""
    ours, theirs = check.challenger_value, check.champion_value
    values = f"{_show(ours)} against {_show(theirs)} {check.unit}"
    proof = f"(e-value {np.exp(min(check.log_e.max(), 50)):.3g}, rollback at {np.exp(check.threshold):.0f})"
    if ours is None or theirs is None or ours > theirs:
        return f"{check.name}: the challenger is worse: {values} {proof}."
    after = int(np.argmax(check.crossed)) + 1
    return f"{check.name}: the challenger was proven worse after {after} requests {proof}; over all it is {values}."


def _unproven(quality: Quality, rules: Rules, proof: str) -> str:
    """What is missing of the proof of quality."""
    running = quality.running() if quality.whole and quality.running is not None else None
    if running is None or len(running.count):
        return f"quality: not yet proven to be {quality.tolerance} ({proof})."
    return (
        f"quality: {rules.metric} cannot be judged yet: it needs {MIN_ROWS} labelled requests of every class, and the "
        f"rarest has {running.rarest}."
    )


def _above_bound(check: Check, rules: Rules) -> str:
    """Why a bound that the challenger misses is no harm, and yet stops its promotion."""
    ours, theirs, bound = check.challenger_value, check.champion_value, rules.max_latency_ms
    told = f"latency: the challenger takes {_show(ours)} {check.unit}"
    if theirs is not None and bound is not None and theirs > bound:
        return f"{told}; the champion takes {_show(theirs)} on the same requests, so this machine may be what is slow."
    return f"{told}; that it is slower than the champion ({_show(theirs)}) is not proven yet."


def _late(checks: list[Check]) -> str:
    """Why it served fewer than were routed to it, where that is so."""
    for check in checks:
        if check.name == "fallbacks" and check.challenger_value:
            shares = f"{check.challenger_value:.0%} of those routed to it were not answered in time"
            theirs = "no" if check.champion_value is None else f"{check.champion_value:.0%}"
            return f" ({shares}, {theirs} of the champion's own)"
    return ""


def _labels(maturity: Maturity, rules: Rules) -> str:
    """How many of the requests that are old enough have one, in words."""
    mature, share = int(maturity.mature[-1]), maturity.share
    if share is None:
        return f"no request is older than the {rules.label_delay} requests after which labels are known"
    age = f"older than {rules.label_delay} requests " if rules.label_delay else ""
    said = f"{maturity.labelled[-1]} of the {mature} requests {age}have one ({share:.0%})"
    if maturity.lowest is not None and share >= rules.min_label_share > maturity.lowest[1]:
        said += f", but only {maturity.lowest[1]:.0%} in the {maturity.lowest[0]}"
    return said


def _show(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"
