"""Whether a new model would win, and trained on which rows: probes, trained without the newest labelled rows, are
compared with the champion on those rows.

That the champion became worse is not the only reason to retrain: one that is as bad as it always was, or that more rows
would improve, costs as much; and where the world became harder, no new one helps. The difference of the losses on the
same rows says what a new one would win, whatever the rows are.

A retraining for its gain is rent or buy (ski rental): staying costs the gain row after row, a new model costs once. So
it is made when the gain over the horizon exceeds what is needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from scipy import stats

from tools.judge.champion.compare import compare
from tools.judge.champion.retrain_plan import MIN_NEW_ROWS, loss_without_model
from tools.judge.estimates import Scores, Task, estimate, standard_error

MIN_ROWS = 30  # to compare on
ALPHA = 0.01  # that a probe as good as the champion is said to win, as strict as that it became worse
WINDOWS = {
    "all": "all rows",
    "weighted": "all rows with older ones weighted down",
    "recent": "the current rows alone",
}


@dataclass(frozen=True)
class RetrainGain:
    """`gain` is of the mean loss per row, in the loss's unit; `metric_gain` of the goal's metric, both positive where
    the new model is better, each with an interval that holds it with probability 0.98. `savings` and `needed` are in
    rows answered without a model. `window` is the one to train on; None where nothing could be tested.
    """

    wins: bool
    window: str | None
    gain: float
    interval: tuple[float, float]
    p_value: float  # one-sided, against no gain
    metric_gain: float
    metric_interval: tuple[float, float]
    savings: float
    needed: float
    rows: int  # compared on
    reasons: list[str] = field(default_factory=list[str])


def windows_to_probe(planned: str, new_rows: int) -> list[str]:
    """The windows to train a probe on, the planned one first; none where fewer than `MIN_NEW_ROWS` rows are new."""
    return [] if new_rows < MIN_NEW_ROWS else list(dict.fromkeys([planned, *WINDOWS]))


def needed_gain(cost: float, min_gain: float, reference_rows: int) -> float:
    """What a new model must save, in rows answered without a model: the cost of a retraining, and `min_gain` of
    the rows from before: the more a champion has learned from, the more a new model has to win."""
    return max(cost, min_gain * reference_rows)


def weigh_gain(
    reference: Scores,
    champion: Scores,
    probes: Mapping[str, Scores],
    metric: str,
    task: Task,
    *,
    needed: float,
    horizon: int,
) -> RetrainGain:
    """Compare the champion with probes of several windows on the same rows, which none of them was trained on.

    The first window is taken unless another does better by more than a standard error (Breiman et al. 1984). A new
    model wins where both its loss and the goal's metric are proven better at `ALPHA`, and it saves more than `needed`:
    a lower loss alone is no reason, since a challenger is promoted for its metric.

    Args:
        reference: rows that tell what an answer without a model loses.
        probes: window -> scores of the rows that `champion` scored, in time order.
        needed: what a new model must save over `horizon` rows, in rows answered without a model.

    Raises:
        ValueError: the rows differ.
    """
    if why := _untestable(champion, probes, metric, task):
        none, told = (0.0, 0.0), [f"Whether a new model would win cannot be tested: {why}."]
        return RetrainGain(False, None, 0.0, none, 1.0, 0.0, none, 0.0, needed, len(champion), told)
    window = _best(probes)
    compared = compare(champion, probes[window], metric, task, alpha=2 * ALPHA)
    difference = champion.loss - probes[window].loss
    gain, error = float(difference.mean()), standard_error(difference - difference.mean())
    p_value = float(stats.norm.sf(gain / error)) if error > 0 else float(gain <= 0)
    reach = float(stats.norm.isf(ALPHA)) * error
    savings = horizon * gain / max(loss_without_model(reference, champion, task), 1e-12)
    found = RetrainGain(
        wins=p_value < ALPHA and compared.interval[0] > 0 and savings > needed,
        window=window,
        gain=gain,
        interval=(gain - reach, gain + reach),
        p_value=p_value,
        metric_gain=compared.difference,
        metric_interval=compared.interval,
        savings=savings,
        needed=needed,
        rows=len(champion),
    )
    return replace(found, reasons=[_reason(found, window, metric, horizon)])


def _untestable(champion: Scores, probes: Mapping[str, Scores], metric: str, task: Task) -> str:
    """Why these rows cannot tell; empty where they can."""
    if not probes:
        return "there are too few new rows to train on"
    if len(champion) < MIN_ROWS:
        return f"there are {len(champion)} labelled rows to compare on, and {MIN_ROWS} are needed"
    try:
        estimate(metric, task, champion)
    except ValueError as error:
        return str(error)
    return ""


def _best(probes: Mapping[str, Scores]) -> str:
    best, *others = probes
    for name in others:
        better = probes[best].loss - probes[name].loss
        if float(better.mean()) > standard_error(better - better.mean()):
            best = name
    return best


def _reason(found: RetrainGain, window: str, metric: str, horizon: int) -> str:
    """What a new model would win, with its interval, and why that is enough or is not."""
    rows = WINDOWS.get(window) or f"the newest {window.rpartition(':')[2]} rows"
    by, (low, high) = found.metric_gain, found.metric_interval
    told = (
        f"on the newest {found.rows} labelled rows its {metric} is {abs(by):.4f} {'better' if by >= 0 else 'worse'} "
        f"than the champion's (98% interval {low:+.4f} to {high:+.4f}) and its loss per row {abs(found.gain):.4f} "
        f"{'lower' if found.gain >= 0 else 'higher'} (p = {found.p_value:.2g})"
    )
    if found.p_value >= ALPHA or low <= 0:
        return f"A new model, trained on {rows}, is not proven to win: {told}."
    over = f"over {horizon} rows that saves {found.savings:.0f} rows' worth, and {found.needed:.0f} are needed"
    return f"A new model, trained on {rows}, would {'win' if found.wins else 'win too little'}: {told}; {over}."
