"""The A/B test backend: definitions and outcomes on disk, under a lock that all processes share."""

import hashlib
import json
import math
from typing import TYPE_CHECKING, Any

from tools.core.contract import Backend, CallContext
from tools.core.errors import FixableError
from tools.integrations.ab_test.spec import (
    AssignArgs,
    Assignment,
    ConcludeArgs,
    CountArgs,
    CreateArgs,
    RecordArgs,
    Recorded,
    StatusArgs,
    Test,
    UnitCount,
)

if TYPE_CHECKING:
    import pandas as pd

    from tools.integrations.ab_test.store import TestFolder

FORMAT = 1
SALT_BITS = 31  # serving takes the salt as its routing seed


class AbTestBackend(Backend):
    """A/B tests under `.mlops/ab_tests`."""

    def health(self, ctx: CallContext) -> str:
        folder = ctx.home / "ab_tests"
        count = len(list(folder.glob("*/test.json")))
        return f"{count} tests in {folder}"

    def create_test(self, args: CreateArgs, ctx: CallContext) -> Test:
        planned = _plan(args, ctx)
        folder = _folder(args.test, ctx, make=True)
        given = args.model_dump(exclude={"test", "plan"}) | {"upper": args.upper or None}
        definition = {**given, **planned, "salt": _salt(args.test)}
        with folder.locked():
            there = folder.find()
            if there is not None and there["definition"] != definition:
                if there["state"] != "planned":
                    changed = sorted(k for k, v in definition.items() if there["definition"].get(k) != v)
                    raise FixableError(
                        f"the A/B test {args.test} is {there['state']} and cannot be changed (it differs in "
                        f"{', '.join(changed)}); give another name"
                    )
                there = None
            if there is None:
                there = {"v": FORMAT, "definition": definition, "state": "planned", "decision": None, "misassigned": 0}
                folder.write(there)
        return _test(folder, there, ctx)

    def assign(self, args: AssignArgs, ctx: CallContext) -> Assignment:
        from tools.integrations.ab_test.units import variant_of

        content = _folder(args.test, ctx).read()
        variants: Any = {unit: variant_of(content["definition"], unit) for unit in args.units}
        ours = sum(variant == "challenger" for variant in variants.values())
        note = " The test is concluded; this is what they were assigned." if content["state"] == "concluded" else ""
        return Assignment(variants=variants, message=f"{ours} of {len(variants)} units are the challenger's.{note}")

    def count_units(self, args: CountArgs, ctx: CallContext) -> UnitCount:
        import pandas as pd

        from tools.modeling.data import read_table, require_columns

        path = ctx.path(args.data)
        frame = read_table(path)
        require_columns(frame, [args.unit, *([args.time_column] if args.time_column else [])], path)
        if args.start < 0 or args.rows < 0:
            raise FixableError(f"start and rows must be 0 or more; got {args.start} and {args.rows}")
        part = frame.iloc[args.start : args.start + args.rows if args.rows else None]
        units = int(part[args.unit].nunique())
        days = per_day = None
        if args.time_column and len(part) > 1:
            try:
                times = pd.to_datetime(part[args.time_column], utc=True)
            except (ValueError, TypeError) as error:
                raise FixableError(f"{path}: {args.time_column!r} is no time column: {error}") from error
            days = (times.max() - times.min()).total_seconds() / 86_400.0
            per_day = units / days if days > 0 else None
        told = f"{units} units in {len(part)} rows"
        return UnitCount(
            rows=len(part),
            units=units,
            rows_per_unit=len(part) / units if units else 0.0,
            days=days,
            units_per_day=per_day,
            message=f"{told}, {per_day:.0f} a day." if per_day else f"{told}.",
        )

    def record_outcomes(self, args: RecordArgs, ctx: CallContext) -> Recorded:
        from tools.integrations.ab_test.units import flat_outcomes, misassigned, unit_table
        from tools.modeling.data import read_table, write_table

        folder = _folder(args.test, ctx)
        folder.read()
        path = ctx.path(args.data)
        frame = read_table(path)
        with folder.locked():
            content = folder.read()
            if content["state"] == "concluded":
                raise FixableError(f"the A/B test {args.test} is concluded; it takes no outcome any more")
            given = flat_outcomes(frame, content["definition"], path)
            fresh, known = _new(given, folder.outcomes(), path)
            unanswered = fresh["outcome"].isna()
            fresh = fresh.loc[~unanswered, :]
            if len(fresh):
                folder.add_outcomes(fresh)
            everything = folder.outcomes()
            if everything.empty:
                raise FixableError(f"{path}: none of the {len(frame)} rows has an outcome")
            table = unit_table(everything)
            write_table(table, folder.units)
            content["state"] = "running"
            content["misassigned"] += misassigned(fresh, content["definition"])
            folder.write(content)
        return Recorded(
            added=len(fresh),
            known=known,
            unanswered=int(unanswered.sum()),
            outcomes=len(everything),
            units=len(table),
            units_path=ctx.show(folder.units),
            message=f"{len(fresh)} outcomes added, {known} known already; {len(table)} units in all.",
        )

    def status(self, args: StatusArgs, ctx: CallContext) -> Test:
        folder = _folder(args.test, ctx)
        return _test(folder, folder.read(), ctx)

    def conclude(self, args: ConcludeArgs, ctx: CallContext) -> Test:
        folder = _folder(args.test, ctx)
        folder.read()
        decision = args.model_dump(exclude={"test"})
        with folder.locked():
            content = folder.read()
            if content["state"] == "concluded" and content["decision"] != decision:
                raise FixableError(
                    f"the A/B test {args.test} was concluded already: {content['decision']['winner']} "
                    f"({content['decision']['verdict']}); a decision is not changed"
                )
            if content["state"] != "concluded":
                content.update(state="concluded", decision=decision)
                folder.write(content)
        return _test(folder, content, ctx)


def _new(given: "pd.DataFrame", earlier: "pd.DataFrame", path: object) -> "tuple[pd.DataFrame, int]":
    """The rows that were not recorded before, and how many were.

    Raises:
        FixableError: an id that is known has another unit, variant or outcome now.
    """
    if earlier.empty:
        return given, 0
    both = given.merge(earlier, on="outcome_id", suffixes=("", "_before"))
    differs = (both["unit"] != both["unit_before"]) | (both["variant"] != both["variant_before"])
    differs |= both["outcome"] != both["outcome_before"]
    if differs.any():
        raise FixableError(
            f"{path}: {int(differs.sum())} outcomes were recorded before with other content, the first is "
            f"{both.loc[differs, 'outcome_id'].tolist()[0]!r}; an outcome is recorded once"
        )
    return given.loc[~given["outcome_id"].isin(both["outcome_id"]), :], len(both)


def _folder(test: str, ctx: CallContext, make: bool = False) -> "TestFolder":
    from tools.integrations.ab_test.store import TestFolder

    return TestFolder(ctx.store("ab_tests") if make else ctx.home / "ab_tests", test)


def _salt(test: str) -> int:
    """A seed of the test's own, so that tests split the same units independently."""
    digest = hashlib.blake2b(f"ab_test:{test}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - SALT_BITS)


def _plan(args: CreateArgs, ctx: CallContext) -> dict[str, Any]:
    """What the plan fixes: share, MDE, level, power, variance, units.

    Raises:
        FixableError: the file is no plan, or the arguments do not go with it.
    """
    path = ctx.path(args.plan)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        plan = {name: float(content[name]) for name in ("percent", "mde", "alpha", "power", "variance")}
        plan["planned_units"] = int(content["units"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FixableError(
            f"{args.plan} is no plan of judge plan_ab_test: {type(error).__name__}: {error}; plan the test first"
        ) from error
    for name, value, low, high in (
        ("percent", plan["percent"], 0.0, 100.0),
        ("mde", plan["mde"], 0.0, math.inf),
        ("alpha", plan["alpha"], 0.0, 1.0),
        ("power", plan["power"], 0.0, 1.0),
        ("variance", plan["variance"], 0.0, math.inf),
        ("upper", args.upper or None, plan["mde"], math.inf),
    ):
        if value is not None and not low < value < high:
            raise FixableError(f"{name} must be above {low:g}{f' and below {high:g}' * (high < math.inf)}; got {value}")
    if args.champion == args.challenger:
        raise FixableError(f"champion and challenger are both version {args.champion}; a test compares two")
    return plan


def _test(folder: "TestFolder", content: dict[str, Any], ctx: CallContext) -> Test:
    import pandas as pd

    definition, decision = content["definition"], content["decision"] or {}
    counts = {"champion": 0, "challenger": 0, "mixed": 0}
    outcomes = 0
    if folder.units.exists():
        table = pd.read_parquet(folder.units, columns=["variant", "outcomes"])
        counts |= {str(name): int(count) for name, count in table["variant"].value_counts().items()}
        outcomes = int(table["outcomes"].sum())
    total = sum(counts.values())
    end = f" Winner: {decision['winner']} ({decision['verdict']})." if decision else ""
    return Test(
        test=folder.test,
        state=content["state"],
        champion=definition["champion"],
        challenger=definition["challenger"],
        percent=definition["percent"],
        salt=definition["salt"],
        planned_units=definition["planned_units"],
        outcomes=outcomes,
        units=total,
        champion_units=counts["champion"],
        challenger_units=counts["challenger"],
        mixed_units=counts["mixed"],
        misassigned=content["misassigned"],
        winner=decision.get("winner"),
        verdict=decision.get("verdict"),
        reason=decision.get("reason"),
        units_path=ctx.show(folder.units) if folder.units.exists() else None,
        design_path=ctx.show(folder.design),
        message=f"The A/B test {folder.test} is {content['state']}: {total} of {definition['planned_units']} planned "
        f"units.{end}",
    )
