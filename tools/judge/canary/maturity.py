"""When a request's label counts, and whether enough of the labels are there to promote on.

Labels that come later rarely come in a random order: a fraud is reported within days, that a payment was honest is
known after months. The labels that are there early are then of another kind than those still missing, and a judge that
reads them as they come is misled, in both directions. So a label counts once its request is older than the stated
delay, whenever it arrived. What counts was then selected by age alone, and requests stay in an order that no outcome
has a say in, which is what the e-processes need: a look later only adds to what a look earlier saw.

Promotion needs `Rules.min_label_share` of the old enough requests to be labelled, over all of them and, within two
standard errors, in every stratum: the fifths of the champion's score (or its predicted classes), and the requests on
which the two models disagree, for these alone decide who is better.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.judge.canary.quality import Evidence, Rules, answered, label_times

Ints = NDArray[np.int64]

STRATUM_MIN = 50  # old enough requests before a stratum is judged by itself
LEARNED_FROM = 100  # answered requests that set the fifths of the score; fixed from then on, so a prefix stays judged
FIFTHS = 5
STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Maturity:
    """Per request, shape (n,): what was known after it.

    Args:
        mature: answered requests that are older than the delay.
        labelled: those of them whose label counts.
        enough: the gate of promotion.
        lowest: stratum with the smallest share of labels at the end, and that share; None without a stratum.
    """

    mature: Ints
    labelled: Ints
    enough: NDArray[np.bool_]
    lowest: tuple[str, float] | None

    @property
    def share(self) -> float | None:
        """Share of the old enough requests that have a label, at the end; None when none is old enough."""
        return float(self.labelled[-1] / self.mature[-1]) if len(self.mature) and self.mature[-1] else None


def maturity_of(evidence: Evidence, rules: Rules) -> Maturity:
    """The labels' maturity after every request."""
    both = answered(evidence)
    mature, labelled = _counts(evidence, rules, both)
    enough = (mature > 0) & (labelled >= rules.min_label_share * mature)
    lowest: tuple[str, float] | None = None
    for name, mine in _strata(evidence, both):
        old, known = _counts(evidence, rules, mine)
        slack = STANDARD_ERRORS * np.sqrt(rules.min_label_share * (1 - rules.min_label_share) * old)
        enough &= (old < STRATUM_MIN) | (known + slack >= rules.min_label_share * old)
        if len(old) and old[-1] >= STRATUM_MIN:
            share = float(known[-1] / old[-1])
            lowest = (name, share) if lowest is None or share < lowest[1] else lowest
    return Maturity(mature, labelled, enough, lowest)


def _counts(evidence: Evidence, rules: Rules, mine: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Running counts of the chosen requests: those older than the delay, and those whose label counts."""
    n = len(evidence)
    old = np.concatenate([np.zeros(min(rules.label_delay, n), dtype=np.int64), np.cumsum(mine, dtype=np.int64)])[:n]
    times = label_times(evidence, rules)
    known = np.bincount(times[mine & (times < n)], minlength=n)[:n]
    return old, np.cumsum(known, dtype=np.int64)


def _strata(evidence: Evidence, both: NDArray[np.bool_]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Groups of requests that labels could favour, known without any label."""
    ours, theirs = evidence.challenger_prediction, evidence.champion_prediction
    strata: list[tuple[str, NDArray[np.bool_]]] = []
    number = theirs is not None and theirs.dtype.kind == "f"
    if ours is not None and theirs is not None and not number:
        strata.append(("requests on which the models disagree", both & (ours != theirs)))
    score = evidence.champion_probability if evidence.champion_probability is not None else theirs
    if score is None:
        return strata
    if score.dtype.kind != "f":
        classes = np.unique(score[both].astype(str))
        return strata + [(f"requests predicted {name}", both & (score.astype(str) == name)) for name in classes]
    return strata + _fifths(score, both & np.isfinite(score))


def _fifths(score: NDArray[Any], usable: NDArray[np.bool_]) -> list[tuple[str, NDArray[np.bool_]]]:
    first = np.flatnonzero(usable)[:LEARNED_FROM]
    if len(first) < LEARNED_FROM:
        return []
    cuts = np.quantile(score[first], np.arange(1, FIFTHS) / FIFTHS)
    fifth = np.searchsorted(cuts, score)
    names = ("lowest", "second", "middle", "fourth", "highest")
    return [(f"{names[k]} fifth of the champion's scores", usable & (fifth == k)) for k in range(FIFTHS)]
