"""The drift decision on large Parquet files beside Evidently's preset: time, peak memory, agreement.

Run: python bench/scale.py [--rows 10000 100000 1000000 10000000] [--evidently 10000 100000 1000000] [--folder FOLDER]

Two files of equal size, 30 columns (24 numbers: normal, log-normal, whole, mostly zero, some with nulls; 6 categories
of 3 to 1,000 values); two numbers and one category drift. Every run is a process of its own, which reads the files and
decides; seconds are without imports, memory is the process's peak with everything.

Agreement, on the smallest size of at least 100,000 rows: the distance of our scan lies within its stated error of the
exact Kolmogorov-Smirnov distance; KS verdicts (p < 0.05) and Jensen-Shannon distances of categories, which both sides
define alike, are those of Evidently's tests "ks" and "jensenshannon".
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NUMBERS, CATEGORIES = 24, 6
GROUP = 250_000


def column(i: int, rows: int, random: np.random.Generator, drifted: bool) -> Any:
    by = 0.3 if drifted else 0.0
    if i >= NUMBERS:
        count = (3, 5, 10, 50, 200, 1000)[i - NUMBERS]
        share = 1 / np.arange(1, count + 1)
        if drifted:
            share[0] *= 0.6
        codes = random.choice(count, rows, p=share / share.sum()).astype(np.int32)
        return pa.DictionaryArray.from_arrays(codes, [f"value {k}" for k in range(count)]).cast(pa.string())
    if i % 4 == 0:
        values = random.normal(by, 1, rows)
    elif i % 4 == 1:
        values = random.lognormal(by, 1, rows)
    elif i % 4 == 2:
        return pa.array(random.poisson(5 + 2 * by, rows))
    else:
        values = random.random(rows) * (random.random(rows) < 0.1 + by)
    return pa.array(values, mask=random.random(rows) < 0.02 if i % 6 == 0 else None)


def write(path: Path, rows: int, seed: int, drifted: set[int]) -> None:
    random = np.random.default_rng(seed)
    writer: pq.ParquetWriter | None = None
    for start in range(0, rows, GROUP):
        size = min(GROUP, rows - start)
        table = pa.table({f"c{i}": column(i, size, random, i in drifted) for i in range(NUMBERS + CATEGORIES)})
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def run_ours(reference: Path, current: Path) -> dict[str, Any]:
    from tools.judge.drift import judge
    from tools.modeling.column_counts import scan

    started = time.monotonic()
    tables = scan(pq.ParquetFile(reference), pq.ParquetFile(current))
    found = judge(list(tables.columns))
    seconds = time.monotonic() - started
    error = max(c.distance_error for c in tables.columns)
    moved = [v.name for v in found.columns if v.drifted]
    return {"seconds": seconds, "drifted": sorted(moved), "largest_error": error}


def run_evidently(reference: Path, current: Path) -> dict[str, Any]:
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    started = time.monotonic()
    definition = DataDefinition(
        numerical_columns=[f"c{i}" for i in range(NUMBERS)],
        categorical_columns=[f"c{i}" for i in range(NUMBERS, NUMBERS + CATEGORIES)],
    )
    before, now = (Dataset.from_pandas(pd.read_parquet(p), data_definition=definition) for p in (reference, current))
    outcome = Report([DataDriftPreset()]).run(now, before).dict()
    seconds = time.monotonic() - started
    moved = [
        metric["config"]["column"]
        for metric in outcome["metrics"]
        if "column" in metric["config"] and metric["value"] >= metric["config"]["threshold"]
    ]
    return {"seconds": seconds, "drifted": sorted(moved)}


def run_agreement(reference: Path, current: Path) -> dict[str, Any]:
    import pandas as pd
    from evidently.legacy.calculations.stattests import get_stattest
    from scipy.spatial.distance import jensenshannon
    from scipy.stats import ks_2samp, kstwobign

    from tools.modeling.column_counts import scan

    frames = pd.read_parquet(reference), pd.read_parquet(current)
    within = verdicts = numbers = 0
    categories: list[float] = []
    for counts in scan(pq.ParquetFile(reference), pq.ParquetFile(current)).columns:
        pair = frames[0][counts.name].dropna(), frames[1][counts.name].dropna()
        if counts.kind == "category":
            theirs = get_stattest(*pair, "cat", "jensenshannon")(*pair, "cat", None).drift_score
            mine = jensenshannon(counts.reference / counts.reference.sum(), counts.current / counts.current.sum())
            categories.append(abs(float(theirs) - float(mine)))
            continue
        numbers += 1
        exact = float(ks_2samp(*(f[counts.name].fillna(-np.inf) for f in frames), method="asymp").statistic)
        assert counts.distance is not None
        within += counts.distance - 1e-9 <= exact <= counts.distance + counts.distance_error + 1e-9
        n, m = counts.reference[1:].sum(), counts.current[1:].sum()  # Evidently leaves nulls out
        gap = np.abs(np.cumsum(counts.reference[1:]) / n - np.cumsum(counts.current[1:]) / m).max()
        mine = kstwobign.sf(gap * np.sqrt(n * m / (n + m))) < 0.05
        verdicts += mine == get_stattest(*pair, "num", "ks")(*pair, "num", 0.05).drifted
    return {"numbers": numbers, "within": within, "verdicts": int(verdicts), "js_difference": max(categories),
            "categories": len(categories)}  # fmt: skip


WORKERS = {"ours": run_ours, "evidently": run_evidently, "agreement": run_agreement}


def measured(what: str, folder: Path) -> dict[str, Any]:
    root = Path(__file__).parents[1]
    code = f"import sys; sys.path[:0] = [{str(root)!r}, {str(root / 'bench')!r}]; import scale; scale.worker()"
    done = subprocess.run(
        [sys.executable, "-c", code, what, str(folder)], capture_output=True, text=True, check=False, timeout=3600
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def worker() -> None:
    warnings.simplefilter("ignore")
    what, folder = sys.argv[1], Path(sys.argv[2])
    found = WORKERS[what](folder / "reference.parquet", folder / "current.parquet")
    print(json.dumps({**found, "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--evidently", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where the files are made; about 4 GB for 10 million rows")
    options = parser.parse_args()
    drifted = {0, 5, NUMBERS + 1}
    print(f"columns that drift: {sorted(f'c{i}' for i in drifted)}")
    print(f"{'rows x 2':>12} {'':10} {'seconds':>8} {'peak MiB':>9}  drifted columns")
    agreed = False
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            folder = Path(temporary)
            write(folder / "reference.parquet", rows, 0, set())
            write(folder / "current.parquet", rows, 1, drifted)
            mine = measured("ours", folder)
            print(f"{rows:12,} {'ours':10} {mine['seconds']:8.2f} {mine['memory_mib']:9.0f}  {mine['drifted']}, "
                  f"KS distances known to {mine['largest_error']:.4f}", flush=True)  # fmt: skip
            if rows in options.evidently:
                theirs = measured("evidently", folder)
                print(f"{rows:12,} {'Evidently':10} {theirs['seconds']:8.2f} {theirs['memory_mib']:9.0f}  "
                      f"{theirs['drifted']}; ours is {theirs['seconds'] / mine['seconds']:.0f} times faster",
                      flush=True)  # fmt: skip
            if rows >= 100_000 and not agreed:
                agreed = True
                same = measured("agreement", folder)
                print(f"  agreement: {same['within']}/{same['numbers']} distances within the stated error; "
                      f"{same['verdicts']}/{same['numbers']} KS verdicts as Evidently's; Jensen-Shannon distances of "
                      f"{same['categories']} categories differ by at most {same['js_difference']:.1e}",
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
