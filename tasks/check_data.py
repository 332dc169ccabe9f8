"""Check that the current data is fit to be used; broken data stops the run before any model sees it."""

from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from tasks import version_data
from tasks.base import Evidence, Inputs, Runbook, Steps, TaskResult, call, expect, succeed
from tasks.goal import Goal
from tools.core.errors import ErrorKind
from tools.core.grants import Grant, grant
from tools.integrations.dvc.spec import StagedData
from tools.integrations.great_expectations.spec import Finding, QuarantinedRows, ValidationReport

SHOWN_FINDINGS = 5


CALLS: dict[str, tuple[str, ...]] = {
    "great_expectations.validate": (
        "data",
        "reference",
        "labelled",
    ),
    "great_expectations.quarantine_rows": (
        "data",
        "bad_rows_path",
    ),
    "dvc.stage_data": (),
    "dvc.version_data": (),
}


class Result(TaskResult):
    """`usable` is false when a critical check failed and setting bad rows aside was not allowed or did not help.

    `slices` are the paths that later tasks use: those staged, or cleaned copies where rows were set aside. It has
    `unlabelled` where there are rows whose labels have not arrived.
    """

    usable: bool
    quarantined_rows: int = Field(description="rows set aside, 0 when none")
    critical: list[str] = Field(description="critical findings in words")
    warnings: int = Field(description="number of warnings")
    slices: dict[str, str] = Field(description="slice name to path, as staged, or of the cleaned copies")
    live_rows: int = Field(description="rows of the slice live")


def runbook(inputs: Inputs) -> Runbook:
    goal = inputs.goal
    staged = inputs.need("version_data", version_data.Result)
    slices = {name: getattr(staged, name) for name in version_data.SLICES}
    live_rows = staged.rows["live"]
    checks: dict[str, Any] = {"target": goal.target, "task": goal.task, "max_null_share": goal.data.max_null_share}
    if goal.data.suite:
        checks["suite"] = goal.data.suite
    report = yield from _validate(slices, checks)
    found = [_in_words(finding) for finding in report.critical]
    quarantined, refused = 0, ""
    if not report.passed and goal.data.on_bad_rows == "quarantine":
        aside = yield from _set_aside(inputs, slices, report.bad_rows_path, checks)
        quarantined, refused = aside.rows, aside.refused
        if quarantined:
            slices, live_rows = aside.slices, aside.live_rows
            report = yield from _validate(slices, checks)
    critical = [*([refused] if refused else []), *(_in_words(finding) for finding in report.critical)]
    doubts = [_in_words(finding) for finding in report.warnings if not finding.expectation.startswith("expect_")]
    warnings, expectations = len(report.warnings), report.expectations
    if staged.unlabelled:
        report, cleaned = yield from _check_unlabelled(inputs, staged.unlabelled, slices, checks)
        more = cleaned.quarantined_rows if isinstance(cleaned, QuarantinedRows) else 0
        slices[version_data.UNLABELLED] = cleaned.kept if isinstance(cleaned, QuarantinedRows) else staged.unlabelled
        failed = [*([cleaned] if isinstance(cleaned, str) else []), *map(_in_words, report.critical)]
        critical += [f"rows without a label: {told}" for told in failed]
        warnings, expectations = warnings + len(report.warnings), expectations + report.expectations
        found += [f"{more} rows without a label"] if more else []
        quarantined += more
    if critical:
        summary = f"The data failed {len(critical)} critical checks: {'; '.join(critical[:SHOWN_FINDINGS])}."
    elif quarantined:
        summary = f"{quarantined} bad rows were set aside ({'; '.join(found[:SHOWN_FINDINGS])}); the rest passed."
    else:
        summary = f"The current data passed {expectations} checks; warnings: {warnings}."
    if doubts and not critical:
        summary += f" Look at: {'; '.join(doubts[:SHOWN_FINDINGS])}."
    return Result(
        usable=not critical,
        quarantined_rows=quarantined,
        critical=critical,
        warnings=warnings,
        slices=slices,
        live_rows=live_rows,
        summary=summary,
    )


def _in_words(finding: Finding) -> str:
    """One finding: the column, why it fails, in how many rows, and what was found."""
    where = f"{finding.column}: " if finding.column else ""
    told = not finding.unexpected_count or f"{finding.unexpected_count} " in finding.reason
    count = "" if told else f" ({finding.unexpected_count} rows)"
    examples = f", found {', '.join(finding.examples[:3])}" if finding.examples else ""
    return f"{where}{finding.reason}{count}{examples}"


def _validate(slices: dict[str, str], checks: dict[str, Any]) -> Steps[ValidationReport]:
    result = yield call(
        "great_expectations", "validate", data=slices["current_all"], reference=slices["reference_all"], **checks
    )
    return expect(result, ValidationReport, "checking the data")


def _check_unlabelled(
    inputs: Inputs, path: str, slices: dict[str, str], checks: dict[str, Any]
) -> Steps[tuple[ValidationReport, QuarantinedRows | str | None]]:
    """Check all but the label of rows that have none; returns the last report, and what was set aside, or why that was
    refused. None: nothing had to be, or may be."""
    checks = {**checks, "reference": slices["reference_all"], "labelled": False}
    doing = "checking the rows without a label"
    report = expect((yield call("great_expectations", "validate", data=path, **checks)), ValidationReport, doing)
    if report.passed or inputs.goal.data.on_bad_rows != "quarantine" or not report.bad_rows_path:
        return report, None
    cleaned = yield from _quarantine(path, report.bad_rows_path)
    if isinstance(cleaned, str):
        return report, cleaned
    report = expect(
        (yield call("great_expectations", "validate", data=cleaned.kept, **checks)), ValidationReport, doing
    )
    return report, cleaned


def _quarantine(path: str, bad_rows_path: str) -> Steps[QuarantinedRows | str]:
    """What was set aside; or, in words, why that is refused for these data. Any other failure says nothing about them,
    and ends the task."""
    result = yield call("great_expectations", "quarantine_rows", data=path, bad_rows_path=bad_rows_path)
    if result.error is not None and result.error.kind is ErrorKind.FIXABLE:
        return result.message.rstrip(".")
    return expect(result, QuarantinedRows, f"setting bad rows of {path} aside")


@dataclass(frozen=True)
class Aside:
    """What became of the bad rows: how many were set aside, and the slices without them; or why that was refused."""

    rows: int = 0
    slices: dict[str, str] = field(default_factory=dict[str, str])
    live_rows: int = 0
    refused: str = ""


def _set_aside(
    inputs: Inputs, slices: dict[str, str], bad_rows_path: str | None, checks: dict[str, Any]
) -> Steps[Aside]:
    """Clean both files of their bad rows and stage the slices anew; nothing where no row is bad, or one file's rows may
    not be set aside."""
    goal = inputs.goal
    kept = {"reference": slices["reference_all"], "current": slices["current_all"]}
    of_reference = expect(
        (yield call("great_expectations", "validate", data=kept["reference"], **checks)),
        ValidationReport,
        "checking the reference data",
    )
    count = 0
    for name, bad in (("current", bad_rows_path), ("reference", of_reference.bad_rows_path)):
        if bad is None:
            continue
        cleaned = yield from _quarantine(kept[name], bad)
        if isinstance(cleaned, str):
            return Aside(refused=cleaned)
        kept[name], count = cleaned.kept, count + cleaned.quarantined_rows
    if not count:
        return Aside()
    shared = {"target": goal.target, **_clean(goal)}
    staged = expect((yield call("dvc", "stage_data", **kept, **shared)), StagedData, "staging the cleaned data")
    clean = version_data.paths_of(staged)
    versioned = yield call(
        "dvc", "version_data", paths=list(clean.values()), name=shared["name"], message="bad rows removed"
    )
    succeed(versioned, "versioning the cleaned data")
    return Aside(count, clean, staged.rows["live"])


def grants(inputs: Inputs, done: Evidence) -> list[Grant]:
    staged = inputs.need("version_data", version_data.Result)
    restaged = done.last("dvc.stage_data", StagedData)
    tables = [(staged.current_all, staged.reference_all)]
    if restaged is not None:
        tables.append((restaged.current_all, restaged.reference_all))
    validate, quarantine = "great_expectations.validate", "great_expectations.quarantine_rows"
    found = [grant(validate, data=current, reference=reference) for current, reference in tables]
    found.append(grant(validate, data=staged.reference_all))
    if staged.unlabelled:
        kept = done.last(quarantine, QuarantinedRows, data=staged.unlabelled)
        found += [
            grant(validate, data=path, reference=reference, labelled=False)
            for path in (staged.unlabelled, *([kept.kept] if kept else []))
            for _, reference in tables
        ]
    found += [
        grant(quarantine, data=given["data"], bad_rows_path=report.bad_rows_path)
        for given, report in done.all(validate, ValidationReport)
        if report.bad_rows_path
    ]
    cleaned = {
        name: done.last(quarantine, QuarantinedRows, data=path)
        for name, path in (("reference", staged.reference_all), ("current", staged.current_all))
    }
    if any(cleaned.values()):
        kept = {name: getattr(staged, f"{name}_all") if of is None else of.kept for name, of in cleaned.items()}
        found.append(grant("dvc.stage_data", **kept, **_clean(inputs.goal)))
    if restaged is not None:
        paths = [*version_data.paths_of(restaged).values()]
        found.append(grant("dvc.version_data", paths=paths, name=_clean(inputs.goal)["name"]))
    return found


def _clean(goal: Goal) -> dict[str, Any]:
    """What the staging of cleaned data shares with that of the goal's."""
    ordered = {"time_column": goal.data.time_column} if goal.data.time_column else {}
    return {"name": f"{goal.name}-clean", "baseline_share": goal.data.baseline_share, **ordered}


def guardrail(result: Result, evidence: Evidence) -> list[str]:
    staged = evidence.inputs.need("version_data", version_data.Result)
    reports = evidence.all("great_expectations.validate", ValidationReport)
    # The last one of the rows with a label, and of those without.
    current = [(arguments, data) for arguments, data in reports if arguments.get("data") != staged.reference_all]
    labelled = [data for arguments, data in current if arguments.get("labelled", True)]
    waiting = [data for arguments, data in reports if not arguments.get("labelled", True)]
    if not labelled or (staged.unlabelled and not waiting):
        which = "data" if not labelled else "rows without a label"
        return [f"the {which} were not validated (great_expectations validate did not succeed)"]
    passed = all(kind[-1].passed for kind in (labelled, waiting) if kind)
    problems: list[str] = []
    if result.usable != passed:
        problems.append(f"usable is {result.usable}, but the last validation returned passed={passed}")
    needed = (*version_data.SLICES, *([version_data.UNLABELLED] if staged.unlabelled else []))
    missing = [name for name in needed if name not in result.slices]
    if missing:
        problems.append(f"slices lacks {', '.join(missing)}")
    again = evidence.last("dvc.stage_data", StagedData)
    restaged = {} if again is None else version_data.paths_of(again)
    live_rows = (again or staged).rows["live"]
    if result.live_rows != live_rows:
        problems.append(f"live_rows is {result.live_rows}, staged were {live_rows}")
    kept = {data.kept for _, data in evidence.all("great_expectations.quarantine_rows", QuarantinedRows)}
    problems += [
        f"slices.{name} is {path!r}, which was not staged"
        for name, path in result.slices.items()
        if path not in (getattr(staged, name, None), restaged.get(name))
        and not (name == version_data.UNLABELLED and path in kept)
    ]
    return problems
