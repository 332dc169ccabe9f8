"""Quick models, one per training window, for the judge to compare with the champion."""

from tools.core.contract import CallContext
from tools.core.errors import FixableError
from tools.integrations.mlflow.spec import ProbedWindows, ProbeWindowsArgs
from tools.modeling.data import POSITIVE, write_table
from tools.modeling.probe import probe_windows


def probe(args: ProbeWindowsArgs, ctx: CallContext) -> ProbedWindows:
    """Train a quick model on each window and write what they say of the later rows.

    Raises:
        FixableError: the arguments or the data cannot be used, or no model could be trained.
    """
    if not args.train or not args.later or not args.windows:
        raise FixableError("give at least one file in train, one in later, and one window")
    older, train, later = ([ctx.path(shown) for shown in files] for files in (args.older, args.train, args.later))
    ctx.progress(0, 1, f"training {len(args.windows)} quick models")
    found = probe_windows(
        older, train, later, args.target, args.drop, args.task, args.windows, args.seed, args.positive
    )
    out = ctx.workspace / f"probes_{args.question_digest(10)}.parquet"
    found.scores.attrs |= {POSITIVE: found.positive}
    write_table(found.scores, out)
    left = "".join(f" On {window} none could be trained: {reason}." for window, reason in found.failed.items())
    return ProbedWindows(
        scores_path=ctx.show(out),
        train_rows=found.train_rows,
        failed=found.failed,
        rows=found.rows,
        fit_s=found.fit_s,
        message=f"{len(found.train_rows)} quick models trained in {found.fit_s:.1f} s and scored on {found.rows} later "
        f"rows.{left}",
    )
