"""What the crew costs beside the same run written as a plain script, measured side by side in one go.

    python bench/overhead.py [--repeats N]

Prints ratios and the bound each has to keep; exits with 1 when one is missed. Run it on an otherwise idle machine.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CALLS = 300
BOUNDS = {"run": 1.1, "first_call": 1.5, "call_ms": 5.0, "task_tokens": 1500}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side, in turn (default: %(default)s)")
    repeats: int = parser.parse_args().repeats
    folder = Path(tempfile.mkdtemp(prefix="mlops-crew-bench-"))
    try:
        make_project(folder)
        imports, scripts, crews, firsts = [], [], [], []
        for turn in range(repeats):
            imports.append(timed([sys.executable, "-c", "import crewai"], folder)[0])
            # Whoever goes second finds files in the page cache, so the order alternates.
            for side in ("script", "crew") if turn % 2 == 0 else ("crew", "script"):
                if side == "script":
                    scripts.append(script_run(folder, turn))
                else:
                    seconds, first = crew_run(folder, turn)
                    crews.append(seconds)
                    firsts.append(first)
            print(
                f"  turn {turn + 1}: import crewai {imports[-1]:.1f} s, script {scripts[-1]:.1f} s, "
                f"crew {crews[-1]:.1f} s, first call after {firsts[-1]:.1f} s",
                flush=True,
            )
        through, direct = call_times(folder)
        tasks = task_tokens(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return table(imports, scripts, crews, firsts, through, direct, tasks)


def make_project(folder: Path) -> None:
    """A project with the shipped configuration and the simulated sample; Hyperopt tunes, as in a core installation."""
    from crew.sample import write_sample

    shutil.copytree(ROOT / "config", folder / "config")
    write_sample(folder / "sample")
    path = folder / "config" / "goal.yaml"
    goal = yaml.safe_load(path.read_text(encoding="utf-8"))
    goal["train"] = {"tuner": "hyperopt"}
    path.write_text(yaml.safe_dump(goal), encoding="utf-8")


def environment(folder: Path, home: Path) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if k not in ("MODEL", "MLOPS_HOME", "MLOPS_PROJECT")}
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "GX_ANALYTICS_ENABLED": "false"}
    crewai = {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false"}
    paths = {"PYTHONPATH": str(ROOT), "MLOPS_HOME": str(home), "MLOPS_PROJECT": str(folder)}
    return {**env, **quiet, **crewai, **paths, "CREWAI_DISABLE_VERSION_CHECK": "true"}


def timed(command: list[str], folder: Path, home: Path | None = None) -> tuple[float, str]:
    """Seconds and output of a command that must succeed."""
    env = environment(folder, home or folder / "unused")
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return seconds, done.stdout


def script_run(folder: Path, turn: int) -> float:
    home = folder / f"script-{turn}"
    command = [sys.executable, str(ROOT / "bench" / "plain_loop.py"), "config/goal.yaml", str(home)]
    seconds, output = timed(command, folder, home)
    if output.strip() != "promoted":
        raise SystemExit(f"the script ended with {output!r}, not with a promotion: there is nothing to compare")
    return seconds


def crew_run(folder: Path, turn: int) -> tuple[float, float]:
    """Seconds of the run, and from the command to the intent of an agent's first tool call."""
    home = folder / f"crew-{turn}"
    began = time.time()
    seconds, output = timed([sys.executable, "-m", "crew", "run", "--json"], folder, home)
    result = json.loads(output)
    if result["outcome"] != "promoted":
        raise SystemExit(
            f"the crew ended with {result['outcome']!r}, not with a promotion: there is nothing to compare"
        )
    journal = home / "runs" / result["run_id"] / "journal.jsonl"
    for line in journal.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["kind"] == "intent" and record["role"]:  # an agent's, not the comparison that comes before
            return seconds, datetime.fromisoformat(record["ts"]).timestamp() - began
    raise SystemExit("the crew's journal holds no call")


def call_times(folder: Path) -> tuple[float, float]:
    """Median milliseconds of one cheap action through the gateway (policy, journal with fsync, MCP), and directly."""
    from tools.core.contract import CallContext
    from tools.core.dispatch import run_action
    from tools.registry import load_spec
    from tools.session import open_gateway

    arguments = {"loss": 0.02}
    env = environment(folder, folder / "calls")
    spec = load_spec("judge")
    backend = spec.load_backend({})
    ctx = CallContext(project=folder, home=folder / "calls", run_id="direct")

    def median_ms(call: "object") -> float:
        times = []
        for _ in range(CALLS):
            began = time.perf_counter()
            call()  # type: ignore[operator]
            times.append((time.perf_counter() - began) * 1000)
        return statistics.median(times)

    with open_gateway(folder, env=env) as gateway:
        gateway.call("judge", {"action": "plan_canary", **arguments})  # opens the session
        through = median_ms(lambda: gateway.call("judge", {"action": "plan_canary", **arguments}))
    direct = median_ms(lambda: run_action(spec, backend, "plan_canary", arguments, ctx))
    return through, direct


def task_tokens(folder: Path) -> dict[str, int]:
    """Task -> tokens of its tool definitions, as `mlops-crew tools` counts them."""
    _, output = timed([sys.executable, "-m", "crew", "tools", "--json"], folder, folder / "tools")
    return {task: tokens for role in json.loads(output)["roles"] for task, tokens in role["tasks"].items()}


def table(
    imports: list[float],
    scripts: list[float],
    crews: list[float],
    firsts: list[float],
    through: float,
    direct: float,
    tasks: dict[str, int],
) -> int:
    """Print the table; 1 when a bound is missed."""
    script, crew = statistics.median(scripts), statistics.median(crews)
    imported, first = statistics.median(imports), statistics.median(firsts)
    widest = max(tasks, key=lambda task: tasks[task])
    rows = [
        ("whole run: crew / plain script", f"{crew:.1f} s / {script:.1f} s", crew / script, BOUNDS["run"]),
        (
            "first tool call / `import crewai`",
            f"{first:.1f} s / {imported:.1f} s",
            first / imported,
            BOUNDS["first_call"],
        ),
        ("tool call: gateway - direct, ms", f"{through:.2f} - {direct:.2f}", through - direct, BOUNDS["call_ms"]),
        ("definitions of the widest task, tokens", widest, float(tasks[widest]), float(BOUNDS["task_tokens"])),
    ]
    print("\n| measure | measured | value | bound | |\n|---|---|--:|--:|---|")
    missed = 0
    for name, measured, value, bound in rows:
        kept = value <= bound
        missed += not kept
        print(f"| {name} | {measured} | {value:.4g} | {bound:g} | {'kept' if kept else 'MISSED'} |")
    print(f"\n{len(scripts)} turns, medians; {CALLS} calls.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
