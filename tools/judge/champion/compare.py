"""Whether a challenger beats the champion on the same held-out rows."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from tools.judge.estimates import Scores, Task, estimate, p_words, standard_error


@dataclass(frozen=True)
class Comparison:
    """A paired comparison; `difference` and its interval are positive where the challenger is better."""

    better: bool
    champion_value: float
    challenger_value: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    method: str

    def in_words(self, metric: str, rows: int, min_effect: float) -> str:
        """The two values, which way they differ and whether that is proven; without a full stop."""
        worse = self.difference < 0
        low, high = (-self.interval[1], -self.interval[0]) if worse else self.interval
        told = (
            "no better" if self.difference == 0 else f"{'worse' if worse else 'better'} by {abs(self.difference):.4f}"
        )
        least, against = (
            (f" by more than {min_effect:g}", f" against {min_effect:g} better") if min_effect else ("", "")
        )
        return (
            f"{metric} {self.challenger_value:.4f} against the champion's {self.champion_value:.4f} on {rows} rows: "
            f"{told} (interval {low:.4f} to {high:.4f}, {p_words(self.p_value)}{against}, {self.method})"
            f"{'' if self.better or worse else f', which does not prove it better{least}'}"
        )


def compare(
    champion: Scores, challenger: Scores, metric: str, task: Task, alpha: float = 0.05, min_effect: float = 0.0
) -> Comparison:
    """Compare two models on the same rows.

    The p-value is two-sided against "the difference is exactly `min_effect`", so a challenger as good as the champion
    is called better in at most alpha / 2 of cases, and "better" agrees with the interval. Accuracy uses McNemar's exact
    test; every other metric the paired difference of influence values (DeLong's test for the AUC).

    Raises:
        ValueError: the rows differ, or the metric cannot be computed on them.
    """
    if len(champion) != len(challenger):
        raise ValueError(f"the champion has {len(champion)} scored rows, the challenger {len(challenger)}")
    if not np.array_equal(champion.y_true, challenger.y_true):
        raise ValueError("the true labels differ between the two score files: they are not the same rows")
    ours, theirs = estimate(metric, task, challenger), estimate(metric, task, champion)
    sign = 1.0 if ours.higher_is_better else -1.0
    difference = sign * (ours.value - theirs.value)
    error = standard_error(ours.influence - theirs.influence)
    n = len(champion)
    if error == 0:
        p_value = 1.0 if difference == min_effect else 0.0
        low = high = difference
    else:
        p_value = float(2 * stats.t.sf(abs(difference - min_effect) / error, n - 1))
        reach = float(stats.t.isf(alpha / 2, n - 1)) * error
        low, high = difference - reach, difference + reach
    method = "DeLong's paired test" if metric == "roc_auc" else "paired test of influence values"
    if metric == "accuracy" and min_effect == 0:
        right, wrong = champion.prediction == champion.y_true, challenger.prediction == challenger.y_true
        gained, lost = int(np.sum(~right & wrong)), int(np.sum(right & ~wrong))
        exact = float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
        p_value, method = max(p_value, exact), "McNemar's exact test"
    better = difference > min_effect and p_value < alpha
    return Comparison(better, theirs.value, ours.value, difference, (low, high), p_value, method)
