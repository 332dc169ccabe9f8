"""Runs Evidently's presets on tables read the way the models read them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from tools.core.contract import Backend, CallContext
from tools.core.errors import FixableError
from tools.core.files import write_json
from tools.integrations.evidently.page import write_page
from tools.integrations.evidently.spec import (
    ColumnDrift,
    DataSummary,
    DetectDriftArgs,
    DriftReport,
    SummarizeDataArgs,
)

# pandas' own annotations make every column a union of unrelated types; these names say what is meant.
Frame = Any
Series = Any

DRIFT_METRIC = "evidently:metric_v2:ValueDrift"
LOADED_ROWS = 200_000  # drawn at random from a large file; histograms show these, the tests a sample of them
MIN_ROWS = 30  # below, no test has any power


class EvidentlyBackend(Backend):
    """Needs no store: reports go to the run's folder."""

    def health(self, ctx: CallContext) -> str:
        import importlib.metadata

        return f"Evidently {importlib.metadata.version('evidently')}, reports in the run's folder"

    def detect_drift(self, args: DetectDriftArgs, ctx: CallContext) -> DriftReport:
        from tools.integrations.evidently.histograms import histograms
        from tools.modeling.data import require_columns
        from tools.modeling.large_files import sample_file

        read = {
            "reference": sample_file(ctx.path(args.reference), LOADED_ROWS, args.seed),
            "current": sample_file(ctx.path(args.current), LOADED_ROWS, args.seed),
        }
        frames = {label: frame for label, (frame, _) in read.items()}
        rows = {label: count for label, (_, count) in read.items()}
        for label, frame in frames.items():
            shown = args.reference if label == "reference" else args.current
            require_columns(frame, [*args.exclude, *([args.target] if args.target else [])], shown)
            if len(frame) < MIN_ROWS:
                raise FixableError(f"{shown} has {len(frame)} rows; drift needs at least {MIN_ROWS} in each file")
        kinds, skipped = _choose_columns(frames["reference"], frames["current"], args.exclude)
        if not kinds:
            raise FixableError(f"no column can be compared; left out: {_listed(skipped)}")
        reference, current = (_typed(frame, kinds) for frame in frames.values())
        ctx.progress(0, 3, f"comparing {len(kinds)} columns")
        samples = [_sample(frame, args.sample_rows, args.seed) for frame in (reference, current)]

        folder = ctx.workspace / "drift"
        folder.mkdir(parents=True, exist_ok=True)
        stem = Path(args.current).name.split(".")[0]
        report_path, json_path = folder / f"{stem}_drift.html", folder / f"{stem}_drift.json"
        profile_path = folder / f"{stem}_profile.json"
        outcome = _run_drift(samples[0], samples[1], kinds, report_path, json_path)
        ctx.progress(2, 3, "drawing histograms")
        write_json(
            profile_path,
            {
                "reference_rows": rows["reference"],
                "current_rows": rows["current"],
                "columns": histograms(reference, current, kinds),
            },
        )
        columns, share, count = _read_drift(outcome, kinds)
        dataset_drift = share >= args.drift_share
        target = next((column for column in columns if column.column == args.target), None)
        drifted = [column.column for column in columns if column.drifted]
        verdict = "drifted" if dataset_drift else "did not drift as a whole"
        named = f": {', '.join(drifted[:6])}{', ...' if len(drifted) > 6 else ''}" if drifted else ""
        return DriftReport(
            dataset_drift=dataset_drift,
            share_drifted=round(share, 6),
            drifted_columns=count,
            drift_share=args.drift_share,
            target_drifted=target.drifted if target else None,
            columns=columns,
            skipped=skipped,
            reference_rows=rows["reference"],
            current_rows=rows["current"],
            reference_sample=len(samples[0]),
            current_sample=len(samples[1]),
            seed=args.seed,
            report_path=ctx.show(report_path),
            json_path=ctx.show(json_path),
            profile_path=ctx.show(profile_path),
            message=f"The data {verdict}: {count} of {len(columns)} columns drifted "
            f"(the limit is {args.drift_share:.0%}){named}.{_sampled(samples, rows)}",
        )

    def summarize_data(self, args: SummarizeDataArgs, ctx: CallContext) -> DataSummary:
        from tools.modeling.columns import infer_schema
        from tools.modeling.large_files import sample_file

        frame, rows = sample_file(ctx.path(args.data), LOADED_ROWS, args.seed)
        kinds: dict[str, str] = {
            name: kind for name, kind in infer_schema(frame).items() if kind in ("number", "category")
        }
        sample = _sample(frame, args.sample_rows, args.seed)
        folder = ctx.workspace / "drift"
        folder.mkdir(parents=True, exist_ok=True)
        report_path = folder / f"{Path(args.data).name.split('.')[0]}_summary.html"
        ctx.progress(0, 1, f"summarising {len(sample)} rows")
        metrics = _run_summary(_typed(sample, kinds), kinds, report_path)
        nulls: Any = frame.isna().mean()
        missing = {str(name): round(float(share), 6) for name, share in nulls.items() if share > 0}
        unique: Any = frame.nunique()
        constant = [str(name) for name in frame.columns if unique[name] == 1]
        empty = [str(name) for name in frame.columns if unique[name] == 0]
        share = float(nulls.mean())
        return DataSummary(
            rows=rows,
            sample=len(sample),
            columns=frame.shape[1],
            missing_share=round(share, 6),
            missing_share_by_column=missing,
            duplicate_rows=int(frame.astype(str).duplicated().sum()),
            constant_columns=constant,
            empty_columns=empty,
            duplicate_columns=int(metrics["DuplicatedColumnsCount()"]),
            report_path=ctx.show(report_path),
            message=f"{rows} rows, {frame.shape[1]} columns, {share:.1%} missing, "
            f"{len(constant) + len(empty)} constant or empty columns."
            + (f" Counted on a random sample of {len(frame):,} rows." if len(frame) < rows else ""),
        )


def _sampled(samples: list[Frame], rows: dict[str, int]) -> str:
    """Says that not all rows were looked at, where it is so."""
    shares = [f"{len(sample):,} of {count:,}" for sample, count in zip(samples, rows.values(), strict=True)]
    whole = all(len(sample) == count for sample, count in zip(samples, rows.values(), strict=True))
    return "" if whole else f" Tested on a random sample: {shares[0]} reference rows and {shares[1]} current rows."


def _choose_columns(reference: Frame, current: Frame, exclude: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Column -> kind for what can be compared, and column -> why for what cannot."""
    from tools.modeling.column_counts import choose_columns

    kinds, skipped = choose_columns(reference, current, exclude)
    empty = [name for name in kinds if current[name].isna().all()]
    skipped |= dict.fromkeys(empty, "empty in current")
    return {name: kind for name, kind in kinds.items() if name not in empty}, skipped


def _typed(frame: Frame, kinds: dict[str, str]) -> Frame:
    """The columns as numbers and text; null, blank and unreadable values are null."""
    import pandas as pd

    from tools.modeling.columns import to_number
    from tools.modeling.data import as_text

    made: dict[str, Any] = {}
    for name, kind in kinds.items():
        if kind == "number":
            made[name] = to_number(frame[name]).to_numpy()
        else:
            texts = pd.Series(as_text(frame[name]))
            made[name] = texts.where(texts != "", None)
    return pd.DataFrame(made)


def _sample(frame: Frame, rows: int, seed: int) -> Frame:
    return frame if len(frame) <= rows else frame.sample(rows, random_state=seed).sort_index()


@contextmanager
def _quiet() -> Generator[None]:
    """Telemetry off, and no warnings on the terminal (numpy's on constant columns, plotly's on versions)."""
    os.environ["DO_NOT_TRACK"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _definition(kinds: dict[str, str]) -> Any:
    from evidently import DataDefinition

    return DataDefinition(
        numerical_columns=[name for name, kind in kinds.items() if kind == "number"],
        categorical_columns=[name for name, kind in kinds.items() if kind == "category"],
    )


def _run_drift(reference: Frame, current: Frame, kinds: dict[str, str], html: Path, json_path: Path) -> dict[str, Any]:
    """Evidently's own result for each column; writes its reports.

    These are the metrics of its drift preset. The preset computes each column three times, and draws it twice, to
    count the drifted ones in a widget of its own.
    """
    with _quiet():
        from evidently import Dataset, Report
        from evidently.metrics import ValueDrift

        definition = _definition(kinds)
        report = Report([ValueDrift(column=column) for column in kinds], include_tests=True)
        snapshot = report.run(
            Dataset.from_pandas(current, data_definition=definition),
            Dataset.from_pandas(reference, data_definition=definition),
        )
        write_page(snapshot, html, "Evidently: data drift")
        snapshot.save_json(str(json_path))
        return snapshot.dict()


def _read_drift(outcome: dict[str, Any], kinds: dict[str, str]) -> tuple[list[ColumnDrift], float, int]:
    """Columns (drifted first), share and number of drifted columns. The verdicts are Evidently's own tests."""
    verdicts = {
        test["metric_config"]["params"]["column"]: str(
            test["status"].value if hasattr(test["status"], "value") else test["status"]
        )
        for test in outcome["tests"]
        if test["id"] == "drift"
    }
    columns: list[ColumnDrift] = []
    for metric in outcome["metrics"]:
        config = metric["config"]
        if config["type"] == DRIFT_METRIC:
            name = config["column"]
            kind: Literal["number", "category"] = "number" if kinds[name] == "number" else "category"
            columns.append(
                ColumnDrift(
                    column=name,
                    kind=kind,
                    method=config["method"],
                    score=round(float(metric["value"]), 6),
                    threshold=float(config["threshold"]),
                    drifted=verdicts[name] == "FAIL",
                )
            )
    columns.sort(key=lambda column: (not column.drifted, -_excess(column), column.column))
    count = sum(column.drifted for column in columns)
    return columns, count / len(columns), count


def _excess(column: ColumnDrift) -> float:
    """How far the score is beyond its threshold, as a factor; a p-value drifts by being small."""
    if "p_value" in column.method:
        return column.threshold / max(column.score, 1e-12)
    return column.score / column.threshold


def _run_summary(frame: Frame, kinds: dict[str, str], html: Path) -> dict[str, Any]:
    """Evidently's summary metrics by name; writes its report."""
    with _quiet():
        from evidently import Dataset, Report
        from evidently.presets import DataSummaryPreset

        snapshot = Report([DataSummaryPreset()]).run(
            Dataset.from_pandas(frame, data_definition=_definition(kinds)), None
        )
        write_page(snapshot, html, "Evidently: data summary")
        return {metric["metric_name"]: metric["value"] for metric in snapshot.dict()["metrics"]}


def _listed(skipped: dict[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in list(skipped.items())[:8]) or "nothing"
