"""The people integration: which options a search comes down to, in which words, and the answer over every transport."""

import json
import os
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Project
from tests.contracts.test_contract_suite import PASSED, serving_http
from tools.core.approval import ApprovalStore
from tools.core.gateway import Gateway
from tools.core.policy import Policy, PolicyFile
from tools.core.results import Status
from tools.integrations.people.tradeoff import Candidate, options
from tools.session import open_gateway

QUESTION = {
    "topic": "tradeoff",
    "question": "Which model?",
    "options": [
        {"name": "quality", "title": "Best roc_auc", "consequences": "4 ms.", "numbers": {"roc_auc": 0.9}},
        {"name": "latency", "title": "Fastest", "consequences": "Two points less.", "preferences": ["size"]},
    ],
}


def trial(number: int, value: float | None, latency: float | None, size: float = 1e6, **more: Any) -> dict[str, Any]:
    return {"number": number, "value": value, "latency_ms": latency, "size_bytes": size,
            "config": {"family": "linear", "n": number}, **more}  # fmt: skip


def weigh(root: Path, trials: list[dict[str, Any]], *, metric: str = "roc_auc", **arguments: Any) -> dict[str, Any]:
    direction = "minimize" if metric == "mae" else "maximize"
    study = {"study": "s", "metric": metric, "direction": direction, "trials": trials}
    (root / "trials.json").write_text(json.dumps(study))
    given = {"objectives": ["quality", "latency"], **arguments}
    result = Project(root).call("people", "weigh_options", trials_path="trials.json", **given)
    assert result.ok and result.data is not None, result
    return result.data


def names(weighed: dict[str, Any]) -> dict[str, int]:
    return weighed["trials"]


def test_extremes_and_a_compromise_become_options_told_against_the_best(tmp_path: Path) -> None:
    weighed = weigh(tmp_path, [trial(0, 0.80, 1.0), trial(1, 0.90, 100.0), trial(2, 0.88, 4.0), trial(3, 0.70, 50.0)])
    assert names(weighed) == {"quality": 1, "latency": 0, "balanced": 2}
    told = {option["name"]: option["consequences"] for option in weighed["options"]}
    assert told["quality"].startswith("roc_auc 0.9 on the validation rows, 100 ms per prediction")
    assert told["latency"].startswith(
        "10 points less roc_auc (0.8 instead of 0.9), 100 times faster (1 instead of 100 ms)"
    )
    assert told["balanced"].startswith("2 points less roc_auc (0.88 instead of 0.9), 25 times faster (4 instead of")
    assert weighed["configs"]["latency"] == {"family": "linear", "n": 0}
    assert weighed["options"][2]["numbers"] == {"roc_auc": 0.88, "latency_ms": 4.0, "size_mib": 0.954}
    assert "roc_auc against latency" in weighed["question"]


def test_a_model_that_is_best_in_everything_leaves_nothing_to_ask(tmp_path: Path) -> None:
    weighed = weigh(tmp_path, [trial(0, 0.8, 5.0), trial(1, 0.9, 2.0), trial(2, 0.85, 9.0)])
    assert names(weighed) == {"quality": 1}
    assert weighed["question"] == ""
    assert weighed["options"][0]["preferences"] == ["latency", "balanced"]


def test_of_a_smaller_is_better_metric_the_smallest_is_the_best(tmp_path: Path) -> None:
    weighed = weigh(tmp_path, [trial(0, 3.0, 1.0), trial(1, 2.0, 9.0)], metric="mae")
    assert names(weighed) == {"quality": 1, "latency": 0}
    assert weighed["options"][1]["consequences"].startswith("1 (50 %) more mae (3 instead of 2), 9 times faster")


def test_latencies_within_a_quarter_are_no_reason_to_ask(tmp_path: Path) -> None:
    assert names(weigh(tmp_path, [trial(0, 0.80, 1.0), trial(1, 0.90, 1.2)])) == {"quality": 1}


def blocks(value: float, noise: float, seed: int) -> list[float]:
    return list(value + noise * np.random.default_rng(seed).normal(size=20))


def test_a_quality_that_is_better_by_noise_only_is_no_option(tmp_path: Path) -> None:
    """The slow one leads by half a point, and by as much as blocks of the rows differ by chance."""
    noisy = [
        trial(0, 0.895, 1.0, block_values=blocks(0.895, 0.03, 1)),
        trial(1, 0.9, 9.0, block_values=blocks(0.9, 0.03, 2)),
    ]
    assert names(weigh(tmp_path, noisy)) == {"quality": 0}


def test_a_small_lead_that_all_blocks_agree_on_is_one(tmp_path: Path) -> None:
    """The same lead and the same spread of the blocks, but both models find the same blocks hard."""
    shared = np.array(blocks(0.0, 0.03, 1))
    agreed = [
        trial(0, 0.895, 1.0, block_values=list(0.895 + shared)),
        trial(1, 0.9, 9.0, block_values=list(0.9 + shared)),
    ]
    assert names(weigh(tmp_path, agreed)) == {"quality": 1, "latency": 0}


def test_one_option_may_answer_several_wishes(tmp_path: Path) -> None:
    small = trial(0, 0.8, 1.0, 1e3)
    weighed = weigh(tmp_path, [small, trial(1, 0.9, 9.0, 1e6)], objectives=["quality", "latency", "size"])
    fast = next(option for option in weighed["options"] if option["name"] == "latency")
    assert "size" in fast["preferences"]
    assert fast["title"].startswith("Fastest") and "smallest" in fast["title"]


FOUR = [
    trial(0, 0.90, 100.0, 1e8, fairness_gap=0.30),
    trial(1, 0.80, 1.0, 1e8, fairness_gap=0.25),
    trial(2, 0.79, 100.0, 1e4, fairness_gap=0.25),
    trial(3, 0.78, 100.0, 1e8, fairness_gap=0.01),
    trial(4, 0.86, 8.0, 1e6, fairness_gap=0.10),
]
ALL = ["quality", "latency", "size", "fairness"]


@pytest.mark.parametrize("preference", ["", *ALL, "balanced"])
def test_there_are_at_most_four_options_and_the_stated_preference_is_one(tmp_path: Path, preference: str) -> None:
    weighed = weigh(tmp_path, FOUR, objectives=ALL, preference=preference)
    words = [word for option in weighed["options"] for word in (option["name"], *option["preferences"])]
    assert len(weighed["options"]) == 4
    assert {"quality", preference or "quality"} <= set(words)
    assert len(words) == len(set(words))


def test_the_fairest_is_told_with_both_gaps(tmp_path: Path) -> None:
    weighed = weigh(tmp_path, FOUR, objectives=["quality", "fairness"])
    fairest = next(option for option in weighed["options"] if option["name"] == "fairness")
    assert fairest["consequences"] == "12 points less roc_auc (0.78 instead of 0.9), fairness gap 0.01 instead of 0.3."


def test_what_breaks_the_goals_bounds_is_no_option(tmp_path: Path) -> None:
    trials = [trial(0, 0.6, 1.0), trial(1, 0.9, 50.0, violations={"max_latency_ms": 0.2}), trial(2, 0.8, 9.0)]
    weighed = weigh(tmp_path, [*trials, trial(3, 0.78, 2.0)], min_metric=0.7)
    assert names(weighed) == {"quality": 2, "latency": 3}
    assert weighed["dropped"] == ["1 trials break the goal's constraints", "1 trials miss the goal's 0.7"]


def test_failed_and_unmeasured_trials_are_left_out(tmp_path: Path) -> None:
    weighed = weigh(tmp_path, [trial(0, None, None), trial(1, 0.9, None), trial(2, 0.8, 3.0)])
    assert names(weighed) == {"quality": 2}
    assert weighed["dropped"] == ["1 trials lack latency_ms"]


def test_an_objective_that_no_trial_measured_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(
        json.dumps({"study": "s", "metric": "mae", "direction": "minimize", "trials": [trial(0, 1.0, 1.0)]})
    )
    result = Project(tmp_path).call("people", "weigh_options", trials_path="t.json", objectives=["quality", "fairness"])
    assert result.status is Status.NO_DATA and "fairness_gap" in result.message


@pytest.mark.parametrize(
    "objectives", [["quality"], ["latency"], ["quality", "speed"], ["quality", "size", "size"], []]
)
def test_objectives_that_cannot_be_weighed_are_refused(tmp_path: Path, objectives: list[str]) -> None:
    (tmp_path / "t.json").write_text(
        json.dumps({"study": "s", "metric": "mae", "direction": "minimize", "trials": [trial(0, 1.0, 1.0)]})
    )
    result = Project(tmp_path).call("people", "weigh_options", trials_path="t.json", objectives=objectives)
    assert result.error is not None and result.error.kind.value == "fixable"


def test_the_plot_is_a_picture_of_every_trial_with_the_options_numbered(tmp_path: Path) -> None:
    trials = [trial(0, 0.8, 1.0), trial(1, 0.9, 9.0, config={"family": "<b>&"})]
    weighed = weigh(tmp_path, trials, objectives=["quality", "latency", "size"])
    svg = ET.fromstring((tmp_path / weighed["plot_path"]).read_text())
    kinds = [element.get("class") for element in svg.iter()]
    panels, chosen = 2, len(weighed["options"])
    assert kinds.count("trial") == panels * len(trials)
    assert kinds.count("option") == (panels + 1) * chosen


def test_no_option_is_really_no_better_than_another_in_anything() -> None:
    """On random fronts: one to three options of distinct trials, and no pick is covered by another one."""
    random = np.random.default_rng(7)
    for _ in range(300):
        found = [
            Candidate(n, "f", float(random.random()), {"latency": float(np.exp(random.normal())), "size": 1.0})
            for n in range(int(random.integers(1, 12)))
        ]
        picks = options(found, ["quality", "latency"], 1.0, balanced="balanced")
        assert 1 <= len(picks) <= 3
        assert sorted(wish for pick in picks for wish in pick.wishes) == ["balanced", "latency", "quality"]
        for a in picks:
            for b in picks:
                if a is not b:
                    better = b.candidate.value > a.candidate.value
                    faster = 1.25 * b.candidate.costs["latency"] <= a.candidate.costs["latency"]
                    assert better or faster


@contextmanager
def gateway_over(transport: str, project: Path) -> Iterator[Gateway]:
    (project / "config").mkdir()
    env: Mapping[str, str] = {name: os.environ[name] for name in PASSED if name in os.environ}
    env = {**env, "MLOPS_PROJECT": str(project), "PYTHONPATH": os.getcwd()}
    env |= {"MLOPS_GATEWAY_KEY": "a-key-that-both-sides-share", "MLOPS_SERVER_TOKEN": "a-token-of-both-sides"}
    policy = Policy(PolicyFile.model_validate({"autonomy": "supervised", "integrations": {"people": {"allow": "*"}}}))

    def opened(server: str) -> Gateway:
        (project / "config" / "stack.yaml").write_text(f"servers: {{people: {{{server}}}}}")
        return open_gateway(project, run_id="r", policy=policy, env=env)

    if transport != "http":
        with opened(f"transport: {transport}") as gateway:
            yield gateway
        return
    with serving_http("people", env) as url, opened(f'transport: http, url: "{url}"') as gateway:
        yield gateway


@pytest.mark.parametrize("transport", ["in-process", "stdio", "http"])
def test_a_choice_comes_back_over_every_transport(tmp_path: Path, transport: str) -> None:
    store = ApprovalStore(tmp_path / ".mlops" / "approvals")

    def person() -> None:
        while not store.pending():
            time.sleep(0.02)
        store.choose(store.pending()[0].id, "latency", by="ann", note="users wait")

    thread = threading.Thread(target=person)
    with gateway_over(transport, tmp_path) as gateway:
        thread.start()
        result = gateway.call("people", {"action": "choose", **QUESTION})
        thread.join()
    assert result.ok and result.data is not None, result
    assert (result.data["chosen"], result.data["decided_by"], result.data["note"]) == ("latency", "ann", "users wait")
    assert result.data["by_preference"] is False
    assert result.message == "Fastest. Chosen by ann: users wait."


def test_without_a_gateway_nobody_chooses(tmp_path: Path) -> None:
    result = Project(tmp_path).call("people", "choose", **QUESTION)
    assert result.error is not None and result.error.kind.value == "needs_person"
