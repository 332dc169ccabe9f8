"""The serving engine on machines as people have them: busy on every core, and behind a proxy."""

import os
import socket
from contextlib import AbstractContextManager
from typing import Any

import pytest

from evals.faults import computing
from tests.conftest import Project
from tests.integrations import test_serving_integration as serving
from tests.integrations.test_serving_integration import canary, models, project, traffic  # noqa: F401 - fixtures
from tools.core.proxies import BYPASS

pytestmark = [*serving.pytestmark, pytest.mark.timeout(900)]
BATCH, BATCHES = 200, 8
MACHINES = ["idle", "busy"]


def machine(kind: str) -> AbstractContextManager[None]:
    """Keeps every core busy with two processes of its own, or none."""
    return computing(2 * (os.cpu_count() or 1) if kind == "busy" else 0)


def judged(
    project: Project,  # noqa: F811
    models: dict[str, str],  # noqa: F811
    challenger: str,
    rows: int = BATCH,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Traffic until the judge is sure, or the batches are used up: the last verdict, and what each batch said."""
    project.ok("serving", "deploy_model", model_uri=models["churned1"], version="1", name="churn")
    canary(project, models[challenger], percent=30)
    sent: list[dict[str, Any]] = []
    while True:
        sent.append(traffic(project, models, rows=rows, batch=len(sent), start=rows * (len(sent) % 2)))
        arguments = {"evidence": sent[-1]["evidence_path"], "metric": "accuracy", "task": "binary", "tolerance": 0.2}
        verdict = project.ok("judge", "judge_canary", **arguments)
        if verdict["verdict"] != "wait" or len(sent) == BATCHES:
            return verdict, sent


@pytest.mark.parametrize("kind", MACHINES)
def test_a_good_challenger_is_promoted_however_busy_the_machine(
    project: Project,  # noqa: F811
    models: dict[str, str],  # noqa: F811
    kind: str,
) -> None:
    with machine(kind):
        verdict, sent = judged(project, models, "churned2")
    assert verdict["verdict"] == "promote", verdict["reasons"]
    routed, fallbacks = sum(each["routed"] for each in sent), sum(sum(each["fallbacks"].values()) for each in sent)
    assert routed >= 20 and fallbacks <= routed // 20, sent[-1]["message"]
    assert verdict["served_by_challenger"] == routed - fallbacks
    for each in sent:
        for variant in ("champion", "challenger"):
            measured = each[variant]
            assert measured["left_out"] == measured["errors"] == 0
            assert measured["scored"] == each["requests"] == BATCH, "every shadow score was waited for"


@pytest.mark.parametrize("kind", MACHINES)
def test_a_challenger_that_is_far_slower_is_found_however_busy_the_machine(
    project: Project,  # noqa: F811
    models: dict[str, str],  # noqa: F811
    kind: str,
) -> None:
    with machine(kind):
        verdict, _ = judged(project, models, "slow", rows=80)
    assert verdict["verdict"] == "rollback"
    harmed = [check["name"] for check in verdict["checks"] if check["harm_proven"]]
    assert set(harmed) <= {"latency", "fallbacks"} and harmed


def test_everything_on_this_machine_is_reached_past_a_proxy_that_is_dead(
    project: Project,  # noqa: F811
    models: dict[str, str],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{held.getsockname()[1]}"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, dead)
    for name in BYPASS:
        monkeypatch.delenv(name, raising=False)
    project.ok("serving", "deploy_model", model_uri=models["churned1"], version="1", name="churn")
    made = canary(project, models["churned2"], percent=30)
    project.ok("prometheus", "scrape", target=made["metrics_url"])
    assert traffic(project, models, rows=20)["failed_requests"] == 0
    watched = project.ok("prometheus", "watch", target=made["metrics_url"], seconds=1.0, lookback=60.0)
    assert watched["failed_scrapes"] == 0 and watched["requests"] > 0
    project.ok("serving", "rollback_canary")
