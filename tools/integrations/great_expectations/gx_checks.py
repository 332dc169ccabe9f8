"""Runs expectations in an ephemeral GX context over a table in memory."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

from tools.core.errors import FixableError, shorten
from tools.integrations.great_expectations.doubts import as_results, doubts_of, target_doubts
from tools.integrations.great_expectations.findings import EXAMPLES, Checked
from tools.integrations.great_expectations.profile import filler_columns, plain, profile
from tools.integrations.great_expectations.spec import ValidateArgs
from tools.integrations.great_expectations.suite import build_suite, target_classes, without_column
from tools.modeling.data import read_table, require_columns
from tools.modeling.doubts import Doubt
from tools.modeling.labels import read_labels
from tools.modeling.reading.compare import shared_rows

# pandas' own annotations make every column a union of unrelated types; these names say what is meant.
Frame = Any
Config = dict[str, Any]


def check_loaded(data: Path, reference: Path | None, own: list[Config] | None, args: ValidateArgs) -> Checked:
    """The file against its own suite, or the one built from the reference.

    Raises:
        FixableError: a file cannot be read, or GX refuses the suite.
    """
    loaded = read_table(data)
    earlier = read_table(reference) if reference else loaded
    require_columns(earlier, [args.target], args.reference or args.data)
    doubts = _read_labels(earlier, loaded, args)
    frame = plain(loaded)
    before = plain(earlier) if reference else frame
    if args.target in frame.columns:
        doubts += target_doubts(before[args.target] if reference else None, frame[args.target], args)
    shared = shared_rows(before, frame, args.drop) if reference else 0
    doubts += doubts_of(before if reference else None, frame, shared, len(frame), args)
    if not args.labelled:  # as if there were no label
        same = before is frame
        frame = frame.drop(columns=args.target, errors="ignore")
        before = frame if same else before.drop(columns=args.target)
    configs = own or _suite_from_reference(before, frame, args)
    suite, results = _run(frame, configs if args.labelled else without_column(configs, args.target))
    empty = {name for name in frame.columns if frame[name].isna().all()}
    for result in results:  # of GX; the doubts name their rows themselves
        if not result["success"]:
            _read_rows(result, frame)
    return Checked(suite, [*results, *as_results(doubts, args)], len(frame), list(frame.columns), empty)


def _read_labels(reference: Frame, frame: Frame, args: ValidateArgs) -> list[Doubt]:
    """Give each label one spelling in both tables (in place), as training and evaluation read them."""
    if not args.labelled or args.target not in frame.columns:
        return []
    columns = {"the reference": reference[args.target], "the current data": frame[args.target]}
    read, notes = read_labels(columns, args.task)
    reference[args.target], frame[args.target] = read["the reference"], read["the current data"]
    return [Doubt("label_spelling", args.target, note, critical=False) for note in notes]


def _read_rows(result: dict[str, Any], frame: Frame) -> None:
    """Make the failed result's rows those that are bad, and its values those that differ."""
    config, outcome = result["expectation_config"], result["result"]
    rows, column = outcome.get("unexpected_index_list"), config["kwargs"].get("column")
    if not rows:
        return
    if config["type"] == "expect_compound_columns_to_be_unique":  # the first of equal rows is good
        again = frame.duplicated()
        outcome["unexpected_index_list"] = [row for row in rows if again.iat[row]]
    elif column in frame.columns:
        outcome["partial_unexpected_list"] = frame[column].iloc[rows].drop_duplicates()[:EXAMPLES].tolist()


def _suite_from_reference(reference: Frame, frame: Frame, args: ValidateArgs) -> list[dict[str, Any]]:
    current = profile(frame)
    before = current if reference is frame else profile(reference)
    fillers = filler_columns(frame, current, args.target)
    configs = build_suite(before, current, args.target, args.task, args.max_null_share, fillers)
    if args.task != "regression" and args.labelled:
        classes = [_native(value) for value in reference[args.target].dropna().unique()]
        if classes:
            configs.append(target_classes(args.target, classes))
    return configs


def _run(frame: Frame, configs: list[dict[str, Any]]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The suite as JSON, and GX's result of each expectation.

    Raises:
        FixableError: GX does not know an expectation, or refuses its arguments.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its dependencies use deprecated modules
        import great_expectations as gx
        from great_expectations.data_context.types.base import ProgressBarsConfig
        from great_expectations.exceptions.exceptions import GreatExpectationsError

        logging.getLogger("great_expectations").setLevel(logging.CRITICAL + 1)
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        definition = context.data_sources.add_pandas("files").add_dataframe_asset("file")
        batch = definition.add_batch_definition_whole_dataframe("rows").get_batch({"dataframe": frame})
        try:
            suite = gx.ExpectationSuite(name="data_checks", expectations=configs)
        except (GreatExpectationsError, ValueError, TypeError) as error:
            raise FixableError(
                f"suite: Great Expectations refuses it: {shorten(' '.join(str(error).split()), 300)}"
            ) from error
        if len(suite.expectations) < len(configs):
            known = {expectation.expectation_type for expectation in suite.expectations}
            refused = sorted({str(config.get("type")) for config in configs} - known)
            raise FixableError(f"suite: Great Expectations refuses {', '.join(refused) or 'some expectations'}")
        outcome = batch.validate(suite, result_format={"result_format": "COMPLETE"})
        return suite.to_json_dict(), [result.to_json_dict() for result in outcome.results]


def _native(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
