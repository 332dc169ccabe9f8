"""From a file of outcomes to one row a unit. Pure functions of tables."""

from typing import Any

import numpy as np
import pandas as pd

from tools.core.errors import FixableError
from tools.modeling.assignment import assign
from tools.modeling.data import as_text, require_columns

CHAMPION, CHALLENGER, MIXED = "champion", "challenger", "mixed"
GUARDRAIL = "guardrail_"
KEPT = "kept_"  # prefix of live columns in serving's evidence
OK = 200


def variant_of(definition: dict[str, Any], unit: str) -> str:
    """The variant that the test gives a unit; the same that serving's router does with the test's salt."""
    share = float(definition["percent"])
    return assign(str(definition["salt"]), unit, {CHAMPION: 100.0 - share, CHALLENGER: share})


def flat_outcomes(frame: pd.DataFrame, definition: dict[str, Any], source: object) -> pd.DataFrame:
    """Columns outcome_id, unit, variant, outcome, and segment, covariate and guardrails where the test has them.

    Serving's evidence is taken as it is. The variant is the one a request was assigned to (`routed_to`), also where the
    champion had to answer for a challenger that failed, and the outcome is that of the answer the user got: analysing
    by who answered would compare other units than were assigned (intention to treat). A request that nobody answered
    counts as an error. A file without `variant` is taken to have followed the test's own assignment.

    Raises:
        FixableError: a column is missing or not what it should be; an id is there twice.
    """
    served = "served_by" in frame.columns
    flat = _of_evidence(frame, definition, source) if served else _of_table(frame, definition, source)
    twice = flat.loc[flat["outcome_id"].duplicated(), "outcome_id"].tolist()
    if twice:
        raise FixableError(f"{source}: the outcome id {twice[0]!r} is there twice")
    if (flat["unit"] == "").any():
        raise FixableError(f"{source}: {int((flat['unit'] == '').sum())} rows have no {definition['unit']}")
    unknown = sorted(set(flat["variant"]) - {CHAMPION, CHALLENGER})
    if unknown:
        raise FixableError(f"{source}: the variant is {unknown[0]!r}; valid: {CHAMPION}, {CHALLENGER}")
    named = ["outcome", *(["covariate"] if definition["covariate"] else [])]
    tops = {"outcome": definition["upper"], **{f"{GUARDRAIL}{name}": 1.0 for name in definition["guardrails"]}}
    for name in [*named, *(name for name in tops if name != "outcome")]:
        values = _numbers(flat, name, source)
        known = values[~np.isnan(values)]
        top = tops.get(name)
        if len(known) and (not np.isfinite(known).all() or (top is not None and not _inside(known, top))):
            bounds = "finite" if top is None else f"in [0, {top:g}]"
            raise FixableError(f"{source}: {name} must be {bounds}; got {known.min():g} to {known.max():g}")
        if name != "outcome" and len(known) < len(values):
            raise FixableError(f"{source}: {len(values) - len(known)} rows have no {name}")
        flat[name] = values
    return flat


def unit_table(outcomes: pd.DataFrame) -> pd.DataFrame:
    """One row a unit, in the order in which units entered.

    A unit's outcome is the mean of its outcomes in the batch that first brought it. Later ones are kept and counted
    (`outcomes`), but the value stays: one that changed after it was looked at would void the sequential guarantee, and
    one row a request would let a heavy user count as often as it comes.

    Args:
        outcomes: as `TestFolder.outcomes` gives them.
    """
    by_unit = outcomes.groupby("unit", sort=False)
    variants = by_unit["variant"].nunique()
    first_batch = by_unit["batch"].transform("first")
    opening = outcomes[outcomes["batch"] == first_batch].groupby("unit", sort=False)
    table = pd.DataFrame({"outcome": opening["outcome"].mean(), "variant": opening["variant"].first()})
    for name in outcomes.columns:
        if str(name).startswith(GUARDRAIL):
            table[name] = opening[name].mean()
        elif name in ("segment", "covariate"):
            table[name] = opening[name].first()
    table["outcomes"] = by_unit.size()
    table.loc[variants > 1, "variant"] = MIXED
    return table.reset_index()


def misassigned(outcomes: pd.DataFrame, definition: dict[str, Any]) -> int:
    """Outcomes whose variant is not the one that the test's own assignment gives."""
    pairs = outcomes[["unit", "variant"]].drop_duplicates()
    wrong = [variant_of(definition, unit) != variant for unit, variant in pairs.itertuples(index=False)]
    return len(outcomes.merge(pairs.loc[wrong, :], on=["unit", "variant"])) if any(wrong) else 0


def _of_evidence(frame: pd.DataFrame, definition: dict[str, Any], source: object) -> pd.DataFrame:
    statuses = [f"{who}_status" for who in (CHAMPION, CHALLENGER)]
    require_columns(frame, ["request_id", "unit", "served_by", "routed_to", *statuses], source)
    ours = (frame["served_by"] == CHALLENGER).to_numpy()
    routed = (frame["routed_to"] == CHALLENGER).to_numpy()
    answered = np.where(ours, frame["challenger_status"], frame["champion_status"]) == OK

    def column(name: str) -> Any:
        if name in ("error", "loss"):
            pair = [f"{who}_{name}" for who in (CHAMPION, CHALLENGER)]
            require_columns(frame, pair, source)
            values = np.where(ours, _numbers(frame, pair[1], source), _numbers(frame, pair[0], source))
            return np.where(answered, values, 1.0 if name == "error" else np.nan)
        if name == "failed":
            return np.where(routed, frame["challenger_status"] != OK, frame["champion_status"] != OK).astype(float)
        require_columns(frame, [f"{KEPT}{name}"], source)
        return frame[f"{KEPT}{name}"].to_numpy()

    flat = pd.DataFrame(
        {
            "outcome_id": frame["request_id"].astype(str),
            "unit": as_text(frame["unit"]),
            "variant": frame["routed_to"].astype(str),
            "outcome": column(definition["outcome"]),
        }
    )
    return _with_extras(flat, definition, column)


def _of_table(frame: pd.DataFrame, definition: dict[str, Any], source: object) -> pd.DataFrame:
    extras = [definition["segment"], definition["covariate"], *definition["guardrails"]]
    needed = ["outcome_id", definition["unit"], definition["outcome"], *(name for name in extras if name)]
    require_columns(frame, needed, source)
    units = as_text(frame[definition["unit"]])
    if "variant" in frame.columns:
        variants = frame["variant"].astype(str).to_numpy()
    else:
        variants = np.array([variant_of(definition, unit) for unit in units], dtype=object)
    flat = pd.DataFrame(
        {
            "outcome_id": as_text(frame["outcome_id"]),
            "unit": units,
            "variant": variants,
            "outcome": frame[definition["outcome"]].to_numpy(),
        }
    )
    return _with_extras(flat, definition, lambda name: frame[name].to_numpy())


def _with_extras(flat: pd.DataFrame, definition: dict[str, Any], column: Any) -> pd.DataFrame:
    if definition["segment"]:
        flat["segment"] = as_text(column(definition["segment"]))
    if definition["covariate"]:
        flat["covariate"] = column(definition["covariate"])
    for name in definition["guardrails"]:
        flat[f"{GUARDRAIL}{name}"] = column(name)
    return flat


def _numbers(frame: pd.DataFrame, name: str, source: object) -> Any:
    try:
        return np.asarray(pd.to_numeric(frame[name]), dtype="float64")
    except (ValueError, TypeError) as error:
        raise FixableError(f"{source}: {name} must be numeric: {error}") from error


def _inside(values: Any, top: float) -> bool:
    return bool(values.min() >= 0.0 and values.max() <= top)
