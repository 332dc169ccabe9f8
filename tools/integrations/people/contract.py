"""What the people integration ships to the contract suite."""

import json
from pathlib import Path

from tools.core.contract_suite import Example
from tools.core.errors import ErrorKind
from tools.core.results import Status


def _trials(project: Path) -> None:
    """One study: the better a trial, the slower."""
    trials = [
        {"number": n, "value": 0.7 + 0.05 * n, "latency_ms": 2.0**n, "size_bytes": 1000, "config": {"family": "linear"}}
        for n in range(4)
    ]
    study = {"study": "s", "metric": "roc_auc", "direction": "maximize", "trials": trials}
    (project / "trials.json").write_text(json.dumps(study), encoding="utf-8")


_OPTION = {"name": "keep", "title": "Keep it", "consequences": "Nothing changes."}
EXAMPLES = (
    Example("weigh_options", {"trials_path": "trials.json", "objectives": ["quality", "latency"]}, _trials),
    Example(
        "choose",
        {"topic": "tradeoff", "question": "Which?", "options": [_OPTION]},
        status=Status.FAILED,
        error=ErrorKind.FIXABLE,
    ),
)
