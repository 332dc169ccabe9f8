"""The evaluation scenarios of `evals/`: the whole crew in small worlds with a known truth, scored.

Run: python bench/evals.py [--seeds 3] [--cases agate onyx ...] [--jobs 2] [--json FILE] [--reckless]

Each case is played in a project and a process of its own: by the runbooks, and where MODEL names a model, by that model
too; both are printed side by side. Columns, as shares of the seeds:

- detected: the trouble was noticed; where nothing is wrong, that no alarm was raised;
- located: the column, segment or part in trouble was named (a dash where there is nothing to name);
- decided: the run ended in a decision that is right for the case;
- recovered: afterwards the right version is in production, serving and registry agree, and it is as good on fresh rows
  as the case asks (the rule behind the labels is known, so what is attainable is too);
- false: actions that should not have happened, mean per run; time in seconds and tool calls, means;
- own (LLM mode): tasks that the model finished itself; the runbook finished the rest for it. Tokens, mean per run.

`--reckless` needs no key: the model is a script (`evals/reckless.py`) that calls the riskiest tools it is given and
answers nonsense. Its table says nothing about models, and all about what holds when one fails.

What to doubt: the worlds are small and simulated, one kind of trouble each, and the cases' authors knew the crew. The
seeds vary the data, the search and the routing, not the story. Times are of a machine that plays `--jobs` at once.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)  # else this file, started as a script, would hide the package of the same name

from evals import reckless  # noqa: E402
from evals.openai_server import OpenAIServer  # noqa: E402
from evals.play import load_case, names  # noqa: E402

TIMEOUT_S = 900
Row = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=names(), default=names(), metavar="CASE")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--json", type=Path, help="file for every run's score")
    parser.add_argument("--reckless", action="store_true", help="play LLM mode with the scripted reckless model")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        if options.reckless:
            server = stack.enter_context(OpenAIServer(reckless.answer))
            os.environ.update(MODEL="reckless", MODEL_BASE_URL=server.url)
        return bench(options)


def bench(options: argparse.Namespace) -> int:
    modes = ["runbook", *(["llm"] if os.environ.get("MODEL") else [])]
    work = [(case, seed, mode) for case in options.cases for seed in range(options.seeds) for mode in modes]
    rows: list[Row] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for row in pool.map(play, work):
            rows.append(row)
            told = "ok" if row["passed"] else "; ".join(row["notes"])
            print(f"  {row['case']} {row['seed']} {row['mode']}: {row['outcome']}, {told}", file=sys.stderr, flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    for mode in modes:
        table(options.cases, [row for row in rows if row["mode"] == mode], mode)
    if len(modes) == 1:
        print("\nMODEL is not set, so only the runbooks were played.")
    return 0 if all(row["passed"] for row in rows if row["mode"] == "runbook") else 1


def play(work: tuple[str, int, str]) -> Row:
    """Play one case in a process of its own. A run that does not end is a failed one."""
    case, seed, mode = work
    command = [sys.executable, "-m", "evals.play", case, "--seed", str(seed), *(["--llm"] if mode == "llm" else [])]
    env = {**os.environ, "MLOPS_PROJECT": "", "MLOPS_HOME": ""}
    try:
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return broken(case, seed, mode, f"no end within {TIMEOUT_S} s")
    if done.returncode != 0:
        return broken(case, seed, mode, f"exit code {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def broken(case: str, seed: int, mode: str, why: str) -> Row:
    wrong = dict.fromkeys(("passed", "detected", "located", "decided", "recovered"), False)
    numbers = {"false_actions": 0, "seconds": float(TIMEOUT_S), "calls": 0, "own": None, "tokens": 0}
    return {"case": case, "seed": seed, "mode": mode, "outcome": "none", "notes": [why], **wrong, **numbers}


def table(cases: list[str], rows: list[Row], mode: str) -> None:
    seeds = len({row["seed"] for row in rows})
    more = ["own", "tokens"] if mode == "llm" else []
    print(f"\n{mode} mode, {seeds} seeds\n")
    heads = ["detected", "located", "decided", "recovered", "false", "time", "calls", *more]
    print(f"| case | what | {' | '.join(heads)} |")
    print(f"|---|---|{'--:|' * len(heads)}")
    for case in cases:
        mine = [row for row in rows if row["case"] == case]
        print(line(case, load_case(case).group, mine, mode))
    print(line("all", f"{sum(row['passed'] for row in rows)} of {len(rows)} runs right in everything", rows, mode))


def line(name: str, what: str, rows: list[Row], mode: str) -> str:
    located = [row["located"] for row in rows if row["located"] is not None]
    cells = [
        f"{mean(row['detected'] for row in rows):.0%}",
        f"{mean(located):.0%}" if located else "-",
        f"{mean(row['decided'] for row in rows):.0%}",
        f"{mean(row['recovered'] for row in rows):.0%}",
        f"{mean(row['false_actions'] for row in rows):.1f}",
        f"{mean(row['seconds'] for row in rows):.0f} s",
        f"{mean(row['calls'] for row in rows):.0f}",
    ]
    if mode == "llm":
        cells += [f"{mean(row['own'] or 0 for row in rows):.0%}", f"{mean(row['tokens'] for row in rows):,.0f}"]
    return f"| {name} | {what} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
