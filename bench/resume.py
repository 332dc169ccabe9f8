"""Whole runs on the real stack (MLflow, DVC, the serving engine), cut off and gone on with, against uninterrupted ones.

    python bench/resume.py [--stories promoted rolled_back asked] [--points N | --every]

A run is played once; before each of its records the state is copied, which is what a kill at that moment leaves. Then
the state is put back to some of these points (or to all of them), the run is resumed by a process of its own, and what
is left in the registry, in serving, in the data versions and in the A/B store is compared. One line a point; exits
with 1 where one differs.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

STORIES: dict[str, dict[str, Any]] = {
    "promoted": {},
    "rolled_back": {"story": "returning", "constraints": {"max_latency_ms": 2000, "min_metric": 0.6}},
    "asked": {"asked": True},
}
# Where production is half done: every point before one of these is tried, whatever --points says.
TELLING = {
    ("serving", "promote_canary"), ("mlflow", "promote_version"), ("serving", "rollback_canary"),
    ("serving", "start_canary"), ("mlflow", "retire_version"), ("serving", "end_probation"),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stories", nargs="*", choices=list(STORIES), default=list(STORIES))
    parser.add_argument("--points", type=int, default=4, help="beside the telling ones (default: %(default)s)")
    parser.add_argument("--every", action="store_true", help="every point of every run: hours")
    parser.add_argument("--go-on", nargs=2, metavar=("RUN", "PROJECT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.go_on:
        return go_on(options.go_on[0], Path(options.go_on[1]), asked="asked" in options.stories)
    folder = Path(tempfile.mkdtemp(prefix="mlops-crew-bench-"))
    os.environ["MLOPS_KEYS"] = str(folder / "keys_of" / "keys")
    os.environ.pop("MODEL", None)
    (folder / "keys_of").mkdir()
    try:
        wrong = sum(play(folder / name, name, options.points, options.every) for name in options.stories)
        return int(wrong > 0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def play(folder: Path, name: str, count: int, every: bool) -> int:
    """One story; the number of points that ended differently."""
    from crew.mlops_crew import MlopsCrew
    from tests.helpers.answers import answering
    from tests.helpers.cuts import Cuts
    from tests.helpers.tiny_project import make_project
    from tools.core.policy import Level

    how = dict(STORIES[name])
    asked = how.pop("asked", False)
    project = make_project(folder, **how)
    level = Level.SUPERVISED if asked else None
    listen = answering(project / ".mlops") if asked else None
    cuts = Cuts(project / ".mlops", folder / "cuts", wanted=None if every else telling(count))
    began = time.monotonic()
    with cuts.taken():
        whole = MlopsCrew(project=project, runbook=True, autonomy=level, on_record=listen).run()
    wanted = left(project)
    took = time.monotonic() - began
    print(f"{name}: {whole.outcome} in {took:.0f} s, {len(cuts.points)} points; {wanted}", flush=True)
    wrong = int(whole.outcome != ("rolled_back" if name == "rolled_back" else "promoted"))
    if wrong:
        print(f"{name}: that is another story than the bench means", flush=True)
    for point in reversed(cuts.points):  # the latest, which are the quickest, first
        missing = cuts.back_to(point)
        began = time.monotonic()
        command = [sys.executable, __file__, "--stories", name, "--go-on", whole.run_id, str(project)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
        found = json.loads(lines[-1]) if lines else {"outcome": f"exit code {ended.returncode}: {ended.stderr[-500:]}"}
        same = (found.get("outcome"), found.get("left")) == (whole.outcome, json.loads(json.dumps(wanted)))
        wrong += not same
        told = f"before {missing['seq']} {missing['kind']} {missing.get('task') or missing.get('call_id') or ''}"
        verdict = "same" if same else f"DIFFERS: {found}"
        print(f"{name}: {told}: {verdict} ({time.monotonic() - began:.0f} s)", flush=True)
    return wrong


def go_on(run: str, project: Path, *, asked: bool) -> int:
    """Resume a run, as the process that comes after a killed one; prints how it ended and what it left, as JSON."""
    from crew.mlops_crew import MlopsCrew
    from tests.helpers.answers import answering

    outcome = MlopsCrew.resume(run, project=project, on_record=answering(project / ".mlops") if asked else None)
    print(json.dumps({"outcome": outcome.outcome, "summary": outcome.summary, "left": left(project)}), flush=True)
    return 0


def telling(count: int) -> Callable[[str, dict[str, Any]], bool]:
    """Which points are tried: around every change of production, and before `count` other writes, evenly spread."""
    calls: dict[str, tuple[str, str]] = {}
    others = 0

    def wanted(kind: str, fields: dict[str, Any]) -> bool:
        nonlocal others
        if kind == "intent":
            calls[fields["call_id"]] = (fields["server"], fields["action"])
        if kind not in ("begun", "outcome"):
            return False
        if calls.get(fields["call_id"]) in TELLING:
            return True
        others += kind == "begun"
        return kind == "begun" and count > 0 and others % max(1, 24 // count) == 0

    return wanted


def left(project: Path) -> dict[str, Any]:
    """What a run leaves behind, without what differs by time or identity."""
    from mlflow import MlflowClient

    home = project / ".mlops"
    client = MlflowClient(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    model = client.get_registered_model("tiny")
    versions = client.search_model_versions("name='tiny'")
    events = [json.loads(tag) for key, tag in sorted(model.tags.items()) if key.startswith("mlops.promotion.")]
    path = home / "serving" / "state.json"
    state = json.loads(path.read_text()) if path.exists() else {"champion": {"version": None}, "canary": None}
    return {
        "aliases": {alias: int(number) for alias, number in sorted(model.aliases.items())},
        "retired": sorted(int(v.version) for v in versions if "mlops.retired_at" in v.tags),
        "versions": len(versions),
        "promotions": [(event["version"], event["previous"], event["done"]) for event in events],
        "serving": (state["champion"]["version"], state["canary"] and state["canary"]["model"]["version"]),
        "data": sorted(path.name for path in (home / "dvc").rglob("*.dvc")),
        "tests": sorted(path.parent.name for path in (home / "ab_tests").glob("*/test.json")),
    }


if __name__ == "__main__":
    sys.exit(main())
