"""Reads the files, runs the pure modules, writes the synthetic rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.core.contract import Backend, CallContext
from tools.core.errors import FixableError
from tools.integrations.synthetic.spec import (
    GeneratedRows,
    GenerateRowsArgs,
    QualityReport,
    ScoreQualityArgs,
)

if TYPE_CHECKING:
    import numpy as np

# pandas' own annotations make every column a union of unrelated types; these names say what is meant.
Frame = Any
Series = Any

METHOD = "Gaussian copula with empirical marginals"
MIN_ROWS = 30
MAX_COPY_EXCESS = 0.01  # more exact copies than real rows have duplicates
MIN_DISTANCE_RATIO = 0.5


class SyntheticBackend(Backend):
    """Needs no store and no service."""

    def health(self, ctx: CallContext) -> str:
        import scipy

        return f"{METHOD} on SciPy {scipy.__version__}"

    def generate_rows(self, args: GenerateRowsArgs, ctx: CallContext) -> GeneratedRows:
        import numpy as np

        from tools.integrations.synthetic.copula import class_labels, synthesize
        from tools.modeling.data import require_columns, write_table

        frame = _read(args.data, ctx)
        require_columns(frame, [args.target], args.data)
        target = frame[args.target]
        if target.isna().all():
            raise FixableError(f"{args.data}: the target {args.target!r} is null in every row")
        written = frame[target.notna()].reset_index(drop=True)
        frame, forms = _read_texts(written, args.target)
        rng = np.random.default_rng(args.seed)
        labels = class_labels(frame[args.target])
        counts: dict[str, int] | None = None
        if labels is None:
            if args.balance:
                raise FixableError(f"balance: the target {args.target!r} is a quantity, it has no classes to equalise")
            made = synthesize(frame, args.rows, rng)
        else:
            made, counts = _by_class(frame, args, labels, rng, ctx)
        made = _write_texts(made, forms)
        folder = ctx.workspace / "synthetic"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{Path(args.data).name.split('.')[0]}_synthetic.parquet"
        write_table(made, path)
        shown = ", ".join(f"{label} {count}" for label, count in (counts or {}).items())
        return GeneratedRows(
            path=ctx.show(path),
            rows=len(made),
            real_rows=len(frame),
            class_counts=counts,
            method=METHOD if labels is None else f"{METHOD}, one per class",
            seed=args.seed,
            message=f"Made {len(made)} synthetic rows from {len(frame)} real ones{f' ({shown})' if shown else ''}.",
        )

    def score_quality(self, args: ScoreQualityArgs, ctx: CallContext) -> QualityReport:
        import numpy as np

        from tools.integrations.synthetic import quality
        from tools.integrations.synthetic.copula import class_labels
        from tools.modeling.data import require_columns

        real, synthetic = _read(args.real, ctx), _read(args.synthetic, ctx)
        if args.target:
            require_columns(real, [args.target], args.real)
        require_columns(synthetic, [str(name) for name in real.columns], args.synthetic)
        for shown, frame in ((args.real, real), (args.synthetic, synthetic)):
            if len(frame) < MIN_ROWS:
                raise FixableError(f"{shown} has {len(frame)} rows; a score needs at least {MIN_ROWS}")
        rng = np.random.default_rng(args.seed)
        kinds, real_typed, synthetic_typed = _typed(real, synthetic)
        # Balanced synthetic rows differ from the real mix of classes on purpose: compare at their mix.
        matched = args.target is not None and class_labels(real[args.target]) is not None
        likeness = real_typed
        if matched:
            likeness = _match_classes(real_typed, real[args.target], synthetic[args.target], rng)
        ctx.progress(0, 3, "comparing columns")
        columns = quality.column_scores(likeness, synthetic_typed, kinds)
        pairs = quality.correlation_score(likeness, synthetic_typed, kinds, rng)
        ctx.progress(1, 3, "telling synthetic from real")
        auc = quality.detection_auc(likeness, synthetic_typed, kinds, args.seed)
        ctx.progress(2, 3, "looking for copies")
        copies, natural = quality.copy_shares(real_typed, synthetic_typed, kinds)
        ratio = quality.distance_ratio(real_typed, synthetic_typed, kinds, args.seed)
        private = copies <= natural + MAX_COPY_EXCESS and (ratio is None or ratio >= MIN_DISTANCE_RATIO)
        column_score = float(np.mean(list(columns.values())))
        overall = (column_score + pairs) / 2
        return QualityReport(
            overall=round(overall, 4),
            column_score=round(column_score, 4),
            column_scores={name: round(score, 4) for name, score in columns.items()},
            correlation_score=round(pairs, 4),
            detection_auc=round(auc, 4),
            exact_copy_share=round(copies, 6),
            real_duplicate_share=round(natural, 6),
            distance_ratio=round(ratio, 4) if ratio is not None else None,
            private=private,
            class_mix_matched=matched,
            seed=args.seed,
            message=f"Quality {overall:.2f} (columns {column_score:.2f}, pairs {pairs:.2f}); a classifier tells "
            f"synthetic from real with AUC {auc:.2f}; {'no sign of' if private else 'signs of'} copied rows.",
        )


def _by_class(
    frame: Frame, args: GenerateRowsArgs, labels: list[Any], rng: np.random.Generator, ctx: CallContext
) -> tuple[Frame, dict[str, int]]:
    """Rows of each class from its own copula, shuffled, and how many of each."""
    import numpy as np
    import pandas as pd

    from tools.integrations.synthetic.copula import (
        MIN_CLASS_ROWS,
        allocate,
        pooled_correlation,
        synthesize,
    )

    target = frame[args.target]
    counts = {label: int((target == label).sum()) for label in labels}
    given = allocate(counts, args.rows, args.balance)
    features = frame.drop(columns=args.target)
    pooled = pooled_correlation(features)
    parts: list[Frame] = []
    for done, (label, wanted) in enumerate(given.items()):
        ctx.progress(done, len(given), f"class {label}")
        if not wanted:
            continue
        if counts[label] < MIN_CLASS_ROWS:
            raise FixableError(
                f"class {label!r} of {args.target!r} has {counts[label]} rows; at least {MIN_CLASS_ROWS} are needed "
                "to learn from; drop the class or add rows"
            )
        part = synthesize(features[target == label].reset_index(drop=True), wanted, rng, pooled)
        part[args.target] = pd.Series([label] * wanted, dtype=target.dtype)
        parts.append(part)
    made = pd.concat(parts, ignore_index=True)[list(frame.columns)]
    return made.iloc[rng.permutation(np.arange(len(made)))].reset_index(drop=True), {
        str(label): wanted for label, wanted in given.items()
    }


def _read_texts(frame: Frame, target: str) -> tuple[Frame, dict[str, str]]:
    """Times and numbers that are written as text as what they mean, and how each was written."""
    from tools.modeling.columns import infer_schema, to_number, to_time

    forms = {
        name: kind
        for name, kind in infer_schema(frame).items()
        if name != target and kind != "category" and frame[name].dtype == object
    }
    read: dict[str, Series] = {}
    for name, kind in forms.items():
        if kind == "number":
            read[name] = to_number(frame[name])
        else:
            read[name] = to_time(frame[name], kind.removeprefix("time:")).dt.tz_localize(None)
    return frame.assign(**read), forms


def _write_texts(frame: Frame, forms: dict[str, str]) -> Frame:
    """`_read_texts` backwards; ISO times are written to the second, or as a date where all are at midnight."""
    written: dict[str, Series] = {}
    for name, kind in forms.items():
        column = frame[name]
        if kind == "number":
            texts = column.map(lambda value: f"{value:.15g}", na_action="ignore")
        else:
            form = kind.removeprefix("time:")
            if form == "ISO8601":
                dates_only = bool((column.dropna() == column.dropna().dt.normalize()).all())
                form = "%Y-%m-%d" if dates_only else "%Y-%m-%d %H:%M:%S"
            texts = column.dt.strftime(form)
        written[name] = texts.astype(object)
    return frame.assign(**written)


def _read(shown: str, ctx: CallContext) -> Frame:
    from tools.modeling.data import read_table

    frame = read_table(ctx.path(shown))
    if len(frame) < MIN_ROWS:
        raise FixableError(f"{shown} has {len(frame)} rows; at least {MIN_ROWS} are needed")
    return frame


def _typed(real: Frame, synthetic: Frame) -> tuple[dict[str, str], Frame, Frame]:
    """Column kinds, and both tables as numbers and text; identifiers and empty columns are left out."""
    import pandas as pd

    from tools.modeling.columns import infer_schema, to_number, to_time
    from tools.modeling.data import as_text

    schema = infer_schema(real)
    kinds = {name: "category" if kind == "category" else "number" for name, kind in schema.items()}
    made: list[Frame] = []
    for frame in (real, synthetic):
        columns: dict[str, Any] = {}
        for name, kind in schema.items():
            if kind == "number":
                columns[name] = to_number(frame[name]).to_numpy()
            elif kind == "category":
                columns[name] = as_text(frame[name])
            else:
                times = to_time(frame[name], kind.removeprefix("time:"))
                columns[name] = (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy()
        made.append(pd.DataFrame(columns))
    return kinds, made[0], made[1]


def _match_classes(typed: Frame, real: Series, synthetic: Series, rng: np.random.Generator) -> Frame:
    """Real rows drawn so that their classes are as frequent as among the synthetic rows; as they are if none match."""
    import numpy as np

    from tools.modeling.data import as_text

    before, after = as_text(real), as_text(synthetic)
    labels, wanted = np.unique(after, return_counts=True)
    shares = dict(zip(labels, wanted / wanted.sum(), strict=True))
    available = {label: np.flatnonzero(before == label) for label in labels}
    if any(not len(rows) for rows in available.values()):
        return typed
    size = int(min(len(rows) / shares[label] for label, rows in available.items()))
    drawn = [rng.choice(rows, max(1, int(size * shares[label])), replace=False) for label, rows in available.items()]
    return typed.iloc[np.sort(np.concatenate(drawn))].reset_index(drop=True)
