"""The way back on a running engine: a half-done canary ends at 100 % stable, whoever stops it."""

import json
from pathlib import Path

import pytest

from crew.stopping import end_after_failure, end_at_stable
from tests.integrations import test_serving_integration as serving
from tests.integrations.test_serving_integration import models  # noqa: F401 - a fixture
from tools.core.gateway import Gateway
from tools.core.policy import Policy, PolicyFile
from tools.core.results import Status
from tools.core.stable import back_to_stable
from tools.core.stop import StopSwitch
from tools.session import open_gateway

# An engine of its own for each: starting one is most of the time.
pytestmark = [*serving.pytestmark, pytest.mark.timeout(600)]


def open_one(project: Path, store: str) -> Gateway:
    (project / "config").mkdir()
    (project / "config" / "stack.yaml").write_text("servers: {}\n")
    content = {"autonomy": "autonomous", "integrations": {"serving": {"allow": "*"}}}
    policy = Policy(PolicyFile.model_validate(content))
    return open_gateway(project, policy=policy, env={"MLFLOW_TRACKING_URI": store})


def start_canary(gateway: Gateway, models: dict[str, str]) -> None:  # noqa: F811
    served = {"model_uri": models["churned1"], "version": "1", "name": "churn"}
    assert gateway.call("serving", {"action": "deploy_model", **served}).ok
    canary = {"model_uri": models["churned2"], "version": "2", "percent": 20}
    assert gateway.call("serving", {"action": "start_canary", **canary}).ok


@pytest.mark.parametrize("how", ["the run ends", "a stop"])
def test_a_running_canary_is_rolled_back(tmp_path: Path, models: dict[str, str], how: str) -> None:  # noqa: F811
    with open_one(tmp_path, models["store"]) as gateway:
        start_canary(gateway, models)
        if how == "a stop":
            StopSwitch(tmp_path / ".mlops").pull("ann", "odd labels")
            assert gateway.call("serving", {"action": "set_traffic", "percent": 50}).status is Status.DENIED
            said = str(back_to_stable(gateway))
        else:
            gateway.stop()
            said = end_at_stable(gateway)
        assert said == "The canary (version 2) was rolled back. Production serves version 1 of churn, alone."
        status = gateway.call("serving", {"action": "status"}).data or {}
        assert (status["running"], status["champion_version"], status["canary_version"]) == (True, "1", None)
        again = {"action": "start_canary", "model_uri": models["churned2"], "version": "2", "percent": 20}
        assert gateway.call("serving", again).status is Status.DENIED
    state = json.loads((tmp_path / ".mlops" / "serving" / "state.json").read_text(encoding="utf-8"))
    assert state["champion"]["version"] == "1" and state["canary"] is None


def test_what_was_promoted_before_the_stop_goes_on_serving(tmp_path: Path, models: dict[str, str]) -> None:  # noqa: F811
    with open_one(tmp_path, models["store"]) as gateway:
        start_canary(gateway, models)
        assert gateway.call("serving", {"action": "promote_canary", "version": "2"}).ok
        gateway.stop()
        assert end_at_stable(gateway) == "Production serves version 2 of churn, alone."
    state = json.loads((tmp_path / ".mlops" / "serving" / "state.json").read_text(encoding="utf-8"))
    assert state["champion"]["version"] == "2"


def test_after_a_failure_it_is_said_what_production_serves_and_nothing_is_left_in_the_shadow(
    tmp_path: Path,
    models: dict[str, str],  # noqa: F811
) -> None:
    with open_one(tmp_path, models["store"]) as gateway:
        assert end_after_failure(gateway) == "", "a run that changed nothing says nothing on production"
        start_canary(gateway, models)
        assert gateway.call("serving", {"action": "promote_canary", "version": "2"}).ok
        assert (gateway.call("serving", {"action": "status"}).data or {})["former_version"] == "1"
        assert end_after_failure(gateway) == "Production serves version 2 of churn, alone."
        status = gateway.call("serving", {"action": "status"}).data or {}
        assert (status["champion_version"], status["former_version"], status["challenger_state"]) == ("2", None, None)
    state = json.loads((tmp_path / ".mlops" / "serving" / "state.json").read_text(encoding="utf-8"))
    assert state["champion"]["version"] == "2" and state["canary"] is None


def test_after_a_failure_a_canary_that_nobody_judges_any_more_is_rolled_back(
    tmp_path: Path,
    models: dict[str, str],  # noqa: F811
) -> None:
    with open_one(tmp_path, models["store"]) as gateway:
        start_canary(gateway, models)
        said = end_after_failure(gateway)
    assert said == "The canary (version 2) was rolled back. Production serves version 1 of churn, alone."
