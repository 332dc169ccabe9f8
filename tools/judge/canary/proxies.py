"""What can be said of a canary before its labels are there: does it behave on live requests as it did on the holdout?

Both models answer the same requests, so three things need no label, each compared with what the holdout comparison, on
which the challenger was chosen, led to expect:

- disagreement: how often the two predict different classes;
- score gap: how often their scores differ by more than on 95 % of the holdout;
- estimated loss: what each model's error would be if labels still went with its scores as on the holdout (for two
  classes calibrated by isotonic regression, CBPE, see `performance`; else the mean loss of like predictions).

Each is an e-process, so it may be looked at after every request. Proxies are outside of the rollback's level: they can
hold a promotion and nothing else, for a population that moves away from the holdout shows in them although the
challenger is fine. All together hold a challenger that behaves as on the holdout with probability at most `alpha`. An
alarm holds until the labels of the requests that raised it count; then the labels decide.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from tools.judge.calibration import PREDICTION_BINS, PROBABILITY_FLOOR, calibrate
from tools.judge.canary.quality import LOSS_TOLERANCE, RATE_TOLERANCE, Evidence, Rules, answered
from tools.judge.estimates import Scores
from tools.judge.sequential import Floats, betting_log_e, clipped_log_e, log_threshold, rate_log_e, spread

GAP_QUANTILE = 0.95
CONFIDENCE = 0.995  # of the bound on a holdout share, which is itself a sample
RATE_MARGIN = RATE_TOLERANCE  # a share that rises by less cannot cost more than the default tolerance
RANKING_METRICS = ("roc_auc", "average_precision")  # their tolerance is in points, not a share of the loss
RATE_METRICS = ("accuracy", "balanced_accuracy", "f1")


@dataclass(frozen=True)
class Holdout:
    """Both models' scored rows of the holdout: the same rows in the same order.

    Raises:
        ValueError: they are not the same rows, or there are none.
    """

    champion: Scores
    challenger: Scores

    def __post_init__(self) -> None:
        if len(self.champion) != len(self.challenger) or not np.array_equal(
            self.champion.y_true, self.challenger.y_true
        ):
            raise ValueError(
                f"the holdout scores of champion ({len(self.champion)} rows) and challenger ({len(self.challenger)} "
                "rows) are not of the same rows in the same order"
            )
        if not len(self.champion):
            raise ValueError("the holdout scores have no row")


@dataclass(frozen=True)
class Proxy:
    """One sign without labels: its log e-process per request, and the log threshold of an alarm.

    Args:
        expected: on the holdout; `observed`: on live requests so far, None before the first.
    """

    name: str
    log_e: Floats
    threshold: float
    expected: float
    observed: float | None
    unit: str

    @property
    def raised_after(self) -> int | None:
        """Number of requests after which the alarm was raised."""
        rows = np.flatnonzero(self.log_e >= self.threshold)
        return int(rows[0]) + 1 if len(rows) else None


def proxies_of(evidence: Evidence, holdout: Holdout, rules: Rules) -> list[Proxy]:
    """Every sign that the evidence can give; their levels add up to `rules.alpha`."""
    champion, challenger = evidence.champion_prediction, evidence.challenger_prediction
    if champion is None or challenger is None:
        return []
    rows = np.flatnonzero(answered(evidence))
    live = (
        _scores(champion[rows], evidence.champion_probability, rows, holdout.champion),
        _scores(challenger[rows], evidence.challenger_probability, rows, holdout.challenger),
    )
    before = (holdout.champion, holdout.challenger)
    found: list[tuple[str, Floats, float, float | None, str]] = []
    if rules.task != "regression":
        unit = "of predictions differ"
        found.append(_share("disagreement", _differs(*before), _differs(*live), unit))
    gaps = [_gap(*pair) for pair in (before, live)]
    if gaps[0] is not None and gaps[1] is not None:
        line = float(np.sort(gaps[0])[min(int(GAP_QUANTILE * len(gaps[0])), len(gaps[0]) - 1)])
        unit = f"of scores differ by more than {line:.3g}"
        found.append(_share("score gap", gaps[0] > line, gaps[1] > line, unit))
    found.append(_estimated_loss(before, live, rules))
    threshold = log_threshold(rules.alpha / len(found))
    return [
        Proxy(name, spread(log_e, rows, len(evidence)), threshold, expected, observed, unit)
        for name, log_e, expected, observed, unit in found
    ]


def held(proxies: list[Proxy], n: int, delay: int) -> NDArray[np.bool_]:
    """Per request: an alarm was raised whose requests are too young for their labels to count."""
    now, out = np.arange(1, n + 1), np.zeros(n, dtype=bool)
    for proxy in proxies:
        at = proxy.raised_after
        if at is not None:
            out |= (now >= at) & (now - delay < at)
    return out


def _scores(prediction: NDArray[Any], probability: Floats | None, rows: NDArray[np.int64], like: Scores) -> Scores:
    """Live predictions in the form of the holdout's, without labels."""
    unknown = np.full(len(rows), np.nan)
    return Scores(unknown, prediction, unknown, None if probability is None else probability[rows], like.positive)


def _differs(champion: Scores, challenger: Scores) -> NDArray[np.bool_]:
    return champion.prediction.astype(str) != challenger.prediction.astype(str)


def _gap(champion: Scores, challenger: Scores) -> Floats | None:
    """Absolute difference of the scores; None for classes without a probability."""
    if champion.probability is not None and challenger.probability is not None:
        return np.abs(champion.probability - challenger.probability)
    if champion.prediction.dtype.kind == "f" and challenger.prediction.dtype.kind == "f":
        return np.abs(champion.prediction - challenger.prediction)
    return None


def _share(
    name: str, before: NDArray[np.bool_], live: NDArray[np.bool_], unit: str
) -> tuple[str, Floats, float, float | None, str]:
    """Test of "events are at most as frequent as on the holdout": its upper bound (Clopper-Pearson) and a margin."""
    n, events = len(before), int(before.sum())
    upper = 1.0 if events == n else float(beta.ppf(CONFIDENCE, events + 1, n - events))
    limit = min(upper + RATE_MARGIN, 1.0)
    return name, rate_log_e(live.astype(float), limit), events / n, float(live.mean()) if len(live) else None, unit


def _estimated_loss(
    before: tuple[Scores, Scores], live: tuple[Scores, Scores], rules: Rules
) -> tuple[str, Floats, float, float | None, str]:
    """Test of "the challenger's estimated loss is within the tolerance", with the metric's own tolerance."""
    rate = rules.metric in RATE_METRICS
    theirs, ours = (_risk(b, now, rules, rate) for b, now in zip(before, live, strict=True))
    if rate:
        allowed = RATE_TOLERANCE if rules.tolerance is None else rules.tolerance
        log_e, unit = betting_log_e(ours - theirs - allowed, 1.0 + allowed), "estimated rise of the error rate"
    else:
        share = LOSS_TOLERANCE if rules.tolerance is None or rules.metric in RANKING_METRICS else rules.tolerance
        log_e, unit = clipped_log_e(ours - (1 + share) * theirs), "estimated rise of the loss"
    losses = [_error(scores) if rate else scores.loss for scores in before]
    expected = float(losses[1].mean() - losses[0].mean())
    return "estimated loss", log_e, expected, float((ours - theirs).mean()) if len(ours) else None, unit


def _error(scores: Scores) -> Floats:
    return (scores.prediction.astype(str) != scores.y_true.astype(str)).astype(np.float64)


def _risk(before: Scores, live: Scores, rules: Rules, rate: bool) -> Floats:
    """Expected error or loss of each live row, had labels gone with the scores as on the holdout."""
    if before.probability is not None and live.probability is not None:
        chance = calibrate(before.probability, before.y_true == before.positive, live.probability)
        if rate:
            return np.where(live.prediction == before.positive, 1 - chance, chance)
        p = np.clip(live.probability, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
        return -chance * np.log(p) - (1 - chance) * np.log1p(-p)
    loss = _error(before) if rate else before.loss
    if rules.task == "regression":
        said = before.prediction.astype(np.float64)
        ends = np.unique(np.quantile(said, np.linspace(0, 1, PREDICTION_BINS + 1)[1:-1]))
        groups, mine = np.searchsorted(ends, said), np.searchsorted(ends, live.prediction.astype(np.float64))
    else:
        names, groups = np.unique(before.prediction.astype(str), return_inverse=True)
        place = {str(name): k for k, name in enumerate(names)}
        mine = np.array([place.get(str(name), len(names)) for name in live.prediction], dtype=np.int64)
    size = max(int(groups.max(initial=0)), int(mine.max(initial=0))) + 1
    count = np.bincount(groups, minlength=size)
    total = np.bincount(groups, weights=loss, minlength=size)
    return np.where(count > 0, total / np.maximum(count, 1), loss.mean())[mine]
