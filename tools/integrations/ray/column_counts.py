"""Counts the columns of two data sets with Ray Data: a block is read and counted in one task, and only counts travel.

Imports Ray Data, so it is imported by the call that needs it. Plan, counting and addition are those of
`tools.modeling.column_scan`, and counts are whole numbers, so the result is that of a scan on one machine, exactly.
"""

import logging
import pickle
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.data

from tools.modeling.column_counts import PairedCounts
from tools.modeling.column_scan import CellPlan, Counts, add_counts, count_batch, pair_counts, plan_scan
from tools.modeling.large_files import open_large

BLOCK_ROWS = 1 << 18  # counted at a time; the counts that travel have the size of the plan, whatever the rows


@dataclass(frozen=True)
class Counted:
    """`rows_by_node`: rows that each machine (its address) has counted, of both tables."""

    tables: PairedCounts
    rows_by_node: dict[str, int]


def count_on_cluster(
    reference: Path, current: Path, exclude: Sequence[str], tell: Callable[[float, float, str], None]
) -> Counted:
    """Two Parquet files, or folders of Parquet files, that every node can read at this path.

    Raises:
        FixableError: a file cannot be read, or no column can be compared.
    """
    with open_large(reference) as before, open_large(current) as now:
        plan = plan_scan(before, now, exclude)
        total, done = before.rows + now.rows, 0
        by_node: dict[str, int] = {}
        counted: list[Counts] = []
        for table in (before, now):
            counts: Counts = {}
            for part in _parts(table.source, plan):
                counts = add_counts(counts, pickle.loads(part["counts"]))
                by_node[part["node"]] = by_node.get(part["node"], 0) + int(part["rows"])
                done += int(part["rows"])
                tell(done, total, f"{done:,} of {total:,} rows counted")
            counted.append(counts)
        tables = pair_counts(plan, counted[0], counted[1], before.rows, now.rows)
    return Counted(tables, dict(sorted(by_node.items())))


def _parts(source: Path, plan: CellPlan) -> Iterator[dict[str, Any]]:
    """Counts of blocks as they are finished."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)

    # The plan, less than a megabyte, travels with the function: an object of its own would be lost with its owner.
    def count(block: dict[str, Any]) -> dict[str, Any]:
        with open_large(Path(block["path"])) as table:
            rows = table.lazy().slice(block["start"], block["rows"]).select(list(plan.kinds))
            counts = count_batch(rows.collect(engine="streaming"), plan)
        return {"counts": pickle.dumps(counts), "rows": block["rows"], "node": ray.util.get_node_ip_address()}

    blocks = _blocks(source)
    options: dict[str, Any] = {"num_cpus": 1, "scheduling_strategy": "SPREAD"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield from ray.data.from_items(blocks, override_num_blocks=len(blocks)).map(count, **options).iter_rows()


def _blocks(source: Path) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    for path in sorted(source.rglob("*.parquet")) if source.is_dir() else [source]:
        with open_large(path) as table:
            for start in range(0, table.rows, BLOCK_ROWS):
                blocks.append({"path": str(path), "start": start, "rows": min(BLOCK_ROWS, table.rows - start)})
    return blocks
