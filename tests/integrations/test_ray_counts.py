"""Ray Data counts what one machine counts, on two nodes that share the work."""

import importlib.util
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Project
from tools.core.errors import ErrorKind
from tools.modeling.column_counts import PairedCounts
from tools.modeling.column_scan import scan
from tools.modeling.count_files import read_counts

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra 'ray' is not installed"),
    pytest.mark.slow,
]


@pytest.fixture
def two_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_UV_RUN_RUNTIME_ENV"):
        monkeypatch.setenv(name, "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
        from ray._private import ray_constants
        from ray.cluster_utils import Cluster

        monkeypatch.setattr(ray_constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", False)
        memory = {"object_store_memory": 100 * 2**20}
        head = {"num_cpus": 1, "include_dashboard": False, "node_ip_address": "127.0.0.2", **memory}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        cluster.add_node(node_ip_address="127.0.0.3", num_cpus=1, **memory)
        ray.init(address=cluster.address, _node_ip_address="127.0.0.2", log_to_driver=False)
        try:
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def write(folder: Path, rows: int, seed: int, shift: float) -> None:
    folder.mkdir()
    random = np.random.default_rng(seed)
    for part in range(4):
        frame = pd.DataFrame(
            {
                "number": random.normal(shift, 1, rows),
                "whole": random.poisson(4, rows),
                "hole": np.where(random.random(rows) < 0.2, np.nan, random.normal(size=rows)),
                "word": random.choice(["x", "y", "z"], rows),
                "left_out": 1,
            }
        )
        frame.to_parquet(folder / f"part-{part}.parquet", row_group_size=1500)


def told(tables: PairedCounts) -> dict[str, Any]:
    columns = {c.name: (c.kind, c.cells, c.reference.tolist(), c.current.tolist(), c.distance, c.distance_error)
               for c in tables.columns}  # fmt: skip
    return {"columns": columns, "skipped": tables.skipped, "rows": (tables.reference_rows, tables.current_rows)}


@pytest.mark.timeout(400)
def test_two_nodes_count_what_one_machine_counts_and_the_judge_takes_it(
    project: Project, two_nodes: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tools.integrations.ray.column_counts as counting

    monkeypatch.setattr(counting, "BLOCK_ROWS", 2_000)
    write(project.root / "old", 6_000, seed=0, shift=0.0)
    write(project.root / "new", 5_000, seed=1, shift=0.4)
    found = project.ok("ray", "count_columns", reference="old", current="new", exclude=["left_out"])

    assert set(found["rows_by_node"]) == {"127.0.0.2", "127.0.0.3"}
    assert sum(found["rows_by_node"].values()) == 24_000 + 20_000
    assert (found["reference_rows"], found["current_rows"]) == (24_000, 20_000)
    alone = scan(project.root / "old", project.root / "new", ["left_out"])
    spread = read_counts(project.root / found["counts_path"])
    assert told(spread) == told(alone)
    for one, other in zip(spread.columns, alone.columns, strict=True):
        assert one.inflation == pytest.approx(other.inflation)

    verdict = project.ok("judge", "judge_drift", reference=found["counts_path"])
    assert [moved["column"] for moved in verdict["moved"]] == ["number"]
    assert os.environ.get("RAY_ENABLE_UV_RUN_RUNTIME_ENV") == "0"


def test_a_folder_without_parquet_is_refused(project: Project, two_nodes: Any) -> None:
    (project.root / "empty").mkdir()
    refused = project.call("ray", "count_columns", reference="empty", current="empty")
    assert refused.error is not None and refused.error.kind is ErrorKind.FIXABLE
    assert "a folder without Parquet" in refused.message
