"""Plays one case in a project of its own and prints its score as JSON.

    python -m evals.play agate --seed 0

The crew runs as `mlops-crew run` would, on the shipped configuration. With `--llm` the model that MODEL names reasons;
otherwise the runbooks decide.
"""

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from evals import faults, world
from evals.scoring import Case, Played, score
from tools.core.yamlfile import load_yaml_model

ROOT = Path(__file__).resolve().parents[1]
CASES = Path(__file__).parent / "cases"
TRAINER = Path(__file__).parent / "own_trainer.py"


def names() -> list[str]:
    """The cases, sorted."""
    return sorted(path.parent.name for path in CASES.glob("*/case.yaml"))


def load_case(name: str) -> Case:
    """A case.

    Raises:
        ConfigError: there is none of that name, or its file is wrong; names the key.
    """
    return load_yaml_model(CASES / name / "case.yaml", Case)


def make_project(folder: Path, name: str, case: Case, seed: int) -> world.Tables:
    """The project that the crew is given: shipped configuration, the case's goal and tables."""
    tables = world.build(case.changes, seed, case.reference_rows, case.current_rows, case.label_noise)
    shutil.copytree(ROOT / "config", folder / "config")
    fault = CASES / name / "fault.py"
    if fault.exists():
        for file in (fault, TRAINER):
            shutil.copy(file, folder / file.name)
    (folder / "data").mkdir()
    tables.reference.to_csv(folder / "data" / "reference.csv", index=False)
    tables.current.to_csv(folder / "data" / "current.csv", index=False)
    tables.fresh.to_csv(folder / "fresh.csv", index=False)
    (folder / "config" / "goal.yaml").write_text(yaml.safe_dump(goal(name, case)), encoding="utf-8")
    return tables


def goal(name: str, case: Case) -> dict[str, Any]:
    """The goal file's content: a small budget, with the case's own keys on top, section by section."""
    content: dict[str, Any] = {
        "name": name,
        "task": "binary",
        "target": world.TARGET,
        "metric": "roc_auc",
        "data": {
            "reference": "data/reference.csv",
            "current": "data/current.csv",
            "time_column": world.TIME,
        },
        "constraints": {"max_latency_ms": 2000},  # a bound, so that noise of a busy machine decides nothing
        "train": {"tuner": "hyperopt"},
        "budget": {"search_trials": 4, "tuning_trials": 3},
        "canary": {"batch_requests": 200, "percent": 20, "at_deadline": "keep_champion"},
    }
    for key, value in case.goal.items():
        content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
    return content


def play(name: str, seed: int, *, llm: bool = False, keep: Path | None = None) -> dict[str, Any]:
    """Play a case and score it.

    Args:
        llm: let the model of MODEL reason.
        keep: keep the project there, to look at its report; a temporary one is removed.
    """
    from crew.mlops_crew import MlopsCrew
    from tools.core.journal import read_journal
    from tools.core.policy import Level

    case = load_case(name)
    with contextlib.ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlops-crew-eval-")))
        project = folder / f"{name}-{seed}"
        tables = make_project(project, name, case, seed)
        hear = stack.enter_context(faults.under(case.faults, project / "outside"))
        crew = MlopsCrew(project=project, seed=seed, runbook=not llm, on_record=hear, autonomy=Level.AUTONOMOUS)
        started = time.monotonic()
        ended = crew.run()
        seconds = time.monotonic() - started
        champion, value = _champion(project, name)
        found = score(
            case.expect,
            Played(
                outcome=ended.outcome,
                records=list(read_journal(ended.folder / "journal.jsonl")),
                results={task: result.model_dump(mode="json") for task, result in ended.results.items()},
                champion=champion,
                serving=_serving(project / ".mlops"),
                value=value,
                attainable=tables.attainable,
                seconds=seconds,
            ),
        )
    return {
        "case": name,
        "seed": seed,
        "mode": "llm" if llm else "runbook",
        **found.as_dict(),
        "summary": ended.summary,
    }


def _champion(project: Path, name: str) -> tuple[int | None, float | None]:
    """The version in production according to the registry, and its AUC on fresh rows.

    After an outage the registry is not there any more: its database is, and is read.
    """
    from tools.session import open_gateway

    database = project / "outside" / "mlflow.db"
    env = {"MLFLOW_TRACKING_URI": f"sqlite:///{database}"} if database.exists() else {}
    with open_gateway(project, env=env) as gateway:
        champion = gateway.call("mlflow", {"action": "get_champion", "name": name})
        if not champion.ok or champion.data is None:
            return None, None
        version = int(champion.data["version"])
        if env:
            return version, None  # its artifacts were the server's
        scored = gateway.call(
            "mlflow",
            {
                "action": "evaluate_model",
                "model_uri": champion.data["model_uri"],
                "data": "fresh.csv",
                "target": world.TARGET,
                "task": "binary",
                "metric": "roc_auc",
                "drop": [world.TIME],
            },
        )
    return version, scored.data["value"] if scored.ok and scored.data is not None else None


def _serving(home: Path) -> int | None:
    state = home / "serving" / "state.json"
    if not state.is_file():
        return None
    champion = json.loads(state.read_text(encoding="utf-8")).get("champion")
    return int(champion["version"]) if champion else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=names())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--llm", action="store_true", help="let the model that MODEL names reason")
    parser.add_argument("--keep", type=Path, help="folder in which the project is kept")
    options = parser.parse_args()
    print(json.dumps(play(options.case, options.seed, llm=options.llm, keep=options.keep)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
