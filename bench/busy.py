"""Does a busy machine change what the crew decides? The same runs alone, and beside processes that only compute.

Run: python bench/busy.py [--cases cobalt granite jasper] [--seed 0] [--load 2] [--json FILE]

Each run is played twice, in a project and a process of its own: as the machine is, and while `load` times as many
processes as there are cores compute without end. `default` is the goal that the project ships, on its own sample; the
others are scenarios of `evals/`, whose right decision is known. Columns:

- outcome: how the run ended, and after how many requests of the canary;
- right: for a scenario, whether all that it asks for held (`bench/evals.py` has the columns);
- instead: requests routed to the challenger that the champion answered, of all routed to it;
- p95: of scoring one row by the challenger, in ms: its own time, without waits for a core; in brackets that of the
  whole request as its sender saw it, which the load is meant to lengthen.

It ends with 1 where an outcome differs. What to doubt: the machine is as it was found; other work on it, which its load
(of the last five minutes) shows, makes the two more alike. One seed is one story; the load computes, and fills neither
memory nor disks.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # else this file, started as a script, would hide the package of the same name

from evals.faults import computing  # noqa: E402
from evals.play import names  # noqa: E402
from tools.core.journal import read_journal  # noqa: E402

DEFAULT = "default"
TIMEOUT_S = 3600  # of one run: far more than a run needs that still moves
Row = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = [DEFAULT, *names()]
    parser.add_argument("--cases", nargs="+", choices=choices, default=[DEFAULT, "cobalt", "granite"], metavar="CASE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--load", type=float, default=2.0, help="computing processes for each core")
    parser.add_argument("--json", type=Path, help="file for every run")
    options = parser.parse_args()
    count = max(1, round(options.load * (os.cpu_count() or 1)))
    print("| run | machine | outcome | right | instead | p95 |\n|---|---|---|---|--:|--:|")
    rows: list[Row] = []
    for case in options.cases:
        for machine, spinning in (("as it was", 0), (f"{count} processes compute", count)):
            with computing(spinning), tempfile.TemporaryDirectory(prefix="mlops-crew-busy-") as folder:
                rows.append({"case": case, "machine": machine, **played(case, options.seed, Path(folder))})
            rows[-1]["machine"] += f", load {os.getloadavg()[1]:.0f} on {os.cpu_count()} cores"
            print(line(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    differ = [one["case"] for one, other in zip(rows[::2], rows[1::2], strict=True) if verdict(one) != verdict(other)]
    print(f"\nDecided otherwise under load: {', '.join(differ) or 'nothing'}.")
    return 1 if differ else 0


def played(case: str, seed: int, folder: Path) -> Row:
    """One run, as a process: its outcome, and what the journal says of its canary."""
    env = {**os.environ, "MODEL": "", "MLOPS_PROJECT": "", "MLOPS_HOME": ""}
    if case == DEFAULT:
        project = folder / "project"
        shutil.copytree(ROOT / "config", project / "config")
        crew = [sys.executable, "-m", "crew"]
        subprocess.run([*crew, "sample", "--project", str(project)], cwd=ROOT, env=env, check=True, capture_output=True)
        command = [*crew, "run", "--project", str(project), "--seed", str(seed), "--json"]
    else:
        project = folder / f"{case}-{seed}"
        command = [sys.executable, "-m", "evals.play", case, "--seed", str(seed), "--keep", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT_S)
    try:
        told = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError:
        raise SystemExit(f"{case} did not end: {done.stderr.strip()[-500:]}") from None
    journal = min(project.glob(".mlops/runs/*/journal.jsonl"))  # later ones are of who looked at what it came to
    return {"outcome": told["outcome"], "passed": told.get("passed"), **canary_of(journal)}


def canary_of(journal: Path) -> Row:
    """Verdict, requests, fallbacks and latencies of a run's canary; those of its last batch where they are measured."""
    found: Row = {"verdict": None, "requests": 0, "routed": 0, "fallbacks": 0, "p95": None, "whole": None}
    actions: dict[str, str] = {}
    for record in read_journal(journal):
        if record["kind"] == "intent":
            actions[record["call_id"]] = record["action"]
        if record["kind"] != "outcome" or not record.get("data"):
            continue
        data = record["data"]
        if actions.get(record["call_id"]) == "send_traffic" and data["challenger"] and data["routed"]:
            found["routed"] += data["routed"]
            found["fallbacks"] += sum(data["fallbacks"].values())
            found |= {"p95": data["challenger"]["latency_p95_ms"], "whole": data["response_p95_ms"]}
        if actions.get(record["call_id"]) == "judge_canary":
            found |= {"verdict": data["verdict"], "requests": data["requests"]}
    return found


def verdict(row: Row) -> tuple[Any, ...]:
    return row["outcome"], row["passed"], row["verdict"]


def line(row: Row) -> str:
    right = "-" if row["passed"] is None else "yes" if row["passed"] else "no"
    ended = row["outcome"] + (f" after {row['requests']}" if row["requests"] else "")
    instead = f"{row['fallbacks']} of {row['routed']}" if row["routed"] else "-"
    times = f"{row['p95']:.1f} ({row['whole']:.0f})" if row["p95"] is not None else "-"
    return f"| {row['case']} | {row['machine']} | {ended} | {right} | {instead} | {times} |"


if __name__ == "__main__":
    sys.exit(main())
