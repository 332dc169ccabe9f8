"""The runbooks and guardrails of the strategic tasks, played without a gateway: every answer that people may give."""

from collections.abc import Mapping
from typing import Any

import pytest

from crew.roles import Condition
from tasks import (
    assess_champion,
    canary,
    choose_tradeoff,
    establish_champion,
    register_challenger,
    release,
    search_architecture,
    settle_canary,
    tune,
)
from tasks.base import Evidence, Inputs, TaskFailedError, TaskResult, ToolCall
from tasks.decision import decided
from tasks.goal import Goal
from tests.helpers.results import data_like
from tools.core.errors import ErrorKind
from tools.core.results import ErrorInfo, Status, ToolResult
from tools.integrations.people.spec import Choice, Weighed
from tools.modeling.search import SearchResult

OPTIONS = [
    {"name": "quality", "title": "Best", "consequences": "Slow.", "numbers": {"latency_ms": 9.0}, "preferences": []},
    {"name": "latency", "title": "Fast", "consequences": "Worse.", "numbers": {"latency_ms": 1.0, "size_mib": 0.1},
     "preferences": ["balanced"]},
]  # fmt: skip
WEIGHED = data_like(
    Weighed, question="Which?", options=OPTIONS, configs={"quality": {"family": "b"}, "latency": {"family": "l"}},
    plot_path="p.svg", message="2 options.",
)  # fmt: skip
ONE = {**WEIGHED, "question": "", "options": OPTIONS[:1], "message": "One option."}


def goal(**changes: Any) -> Goal:
    fields: dict[str, Any] = {
        "name": "g", "task": "binary", "target": "y", "metric": "roc_auc", "data": {"source": "a.csv"},
        "objectives": ["quality", "latency"], **changes,
    }  # fmt: skip
    return Goal.model_validate(fields)


def ok(**data: Any) -> ToolResult:
    return ToolResult(status=Status.OK, data=data, message=str(data.get("message", "")))


def chosen(name: str, by: str = "ann", note: str = "why") -> ToolResult:
    return ok(**data_like(Choice, chosen=name, decided_by=by, note=note, message=f"{name}. Chosen by {by}: {note}."))


UNANSWERED = ToolResult(status=Status.NEEDS_APPROVAL, message="the goal states no preference; nobody answered x")
REFUSED = ToolResult(status=Status.DENIED, message="rejected by ann: neither")


def play(module: Any, inputs: Inputs, answers: Mapping[str, ToolResult]) -> tuple[TaskResult, Evidence]:
    """Run a task's runbook on prepared answers, by action, or by tool and action."""
    calls: list[tuple[str, str, dict[str, Any], ToolResult]] = []
    book = module.runbook(inputs)
    wanted: ToolCall = next(book)
    while True:
        result = answers.get(f"{wanted.tool}.{wanted.action}") or answers[wanted.action]
        calls.append((wanted.tool, wanted.action, wanted.arguments, result))
        try:
            wanted = book.send(result)
        except StopIteration as done:
            return done.value, Evidence(tuple(calls), inputs)


SEARCHED = search_architecture.Result(config={"family": "b"}, value=0.9, trials=3, trials_path="t.json", summary="s")


class TestTradeoff:
    def inputs(self, **changes: Any) -> Inputs:
        return Inputs(goal(**changes), {"search_architecture": SEARCHED})

    @pytest.mark.parametrize("name", ["quality", "latency"])
    def test_the_config_is_that_of_the_option_that_was_chosen(self, name: str) -> None:
        answers = {"weigh_options": ok(**WEIGHED), "choose": chosen(name)}
        result, evidence = play(choose_tradeoff, self.inputs(), answers)
        assert isinstance(result, choose_tradeoff.Result)
        assert (result.option, result.config, result.open) == (name, WEIGHED["configs"][name], False)
        assert choose_tradeoff.guardrail(result, evidence) == []

    @pytest.mark.parametrize("answer", [UNANSWERED, REFUSED])
    def test_without_an_answer_it_stays_open(self, answer: ToolResult) -> None:
        result, evidence = play(choose_tradeoff, self.inputs(), {"weigh_options": ok(**WEIGHED), "choose": answer})
        assert isinstance(result, choose_tradeoff.Result)
        assert result.open and not result.config and answer.message in result.summary
        assert choose_tradeoff.guardrail(result, evidence) == []

    def test_one_option_is_taken_without_asking(self) -> None:
        result, evidence = play(choose_tradeoff, self.inputs(), {"weigh_options": ok(**ONE)})
        assert isinstance(result, choose_tradeoff.Result)
        assert (result.option, result.asked) == ("quality", False)
        assert choose_tradeoff.guardrail(result, evidence) == []

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ({"option": "quality"}, "the choice was 'latency'"),
            ({"config": {"family": "b"}}, "config must be exactly"),
            ({"open": True}, "the choice was 'latency'"),
        ],
    )
    def test_another_choice_than_the_recorded_one_is_refused(self, change: dict[str, Any], told: str) -> None:
        answers = {"weigh_options": ok(**WEIGHED), "choose": chosen("latency")}
        result, evidence = play(choose_tradeoff, self.inputs(), answers)
        claimed = result.model_copy(update=change)
        assert told in choose_tradeoff.guardrail(claimed, evidence)[0]  # type: ignore[arg-type]

    def test_a_choice_nobody_made_and_options_nobody_weighed_are_refused(self) -> None:
        answers = {"weigh_options": ok(**WEIGHED), "choose": chosen("latency")}
        result, evidence = play(choose_tradeoff, self.inputs(), answers)
        assert isinstance(result, choose_tradeoff.Result)
        weighed_only = Evidence(evidence.calls[:1], evidence.inputs)
        assert choose_tradeoff.guardrail(result, weighed_only) == ["nobody was asked (people choose was not called)"]
        assert "not weighed" in choose_tradeoff.guardrail(result, Evidence((), evidence.inputs))[0]
        tool, action, arguments, answer = evidence.calls[1]
        painted = [{**OPTIONS[0], "consequences": "Better in everything."}, OPTIONS[1]]
        lying = (tool, action, {**arguments, "options": painted}, answer)
        told = choose_tradeoff.guardrail(result, Evidence((evidence.calls[0], lying), evidence.inputs))
        assert "exactly" in told[0]
        unanswered = Evidence((evidence.calls[0], (tool, action, arguments, UNANSWERED)), evidence.inputs)
        assert choose_tradeoff.guardrail(result, unanswered) == ["nobody chose: open must be true"]

    @pytest.mark.parametrize(("latency", "kept"), [(1.2, False), (3.0, True)])
    def test_tuning_may_not_give_up_what_was_chosen(self, latency: float, kept: bool) -> None:
        picked, _ = play(choose_tradeoff, self.inputs(), {"weigh_options": ok(**WEIGHED), "choose": chosen("latency")})
        given = Inputs(
            goal(train={"tuner": "hyperopt"}),
            {"search_architecture": SEARCHED, "choose_tradeoff": picked, **checked()},
        )
        best = {"family": "l", "params": {"trees": 900}}
        point = {"trial": 1, "family": "l", "value": 0.91, "latency_ms": latency, "size_bytes": 2**20}
        values = {"best_config": best, "best_value": 0.91, "start_value": 0.88}
        tuned = ok(**data_like(SearchResult, trials_path="t", message="Best.", pareto=[point], **values))
        result, evidence = play(tune, given, {"tune": tuned, "log_trials": ok()})
        assert isinstance(result, tune.Result)
        assert evidence.calls[0][2]["config"] == {"family": "l"}
        assert result.config == ({"family": "l"} if kept else best)
        assert ("3 instead of 1 ms" in result.summary) is kept
        assert tune.guardrail(result, evidence) == []
        other = result.model_copy(update={"config": best if kept else {"family": "l"}})
        assert tune.guardrail(other, evidence) != []


class TestTuners:
    BEST = ok(**data_like(SearchResult, trials_path="t", message="Best.", best_config={"family": "l"}, best_value=0.9))

    def tuned(self, ray: ToolResult, installed: tuple[str, ...] = ("ray", "hyperopt"), **train: Any) -> Any:
        given = Inputs(
            goal(objectives=["quality"], train=train), {"search_architecture": SEARCHED, **checked()},
            installed=frozenset(installed),
        )  # fmt: skip
        return play(tune, given, {"ray.tune": ray, "hyperopt.tune": self.BEST, "log_trials": ok()})

    @pytest.mark.parametrize("train", [{}, {"tuner": "ray"}])
    @pytest.mark.parametrize("status", [Status.FAILED, Status.UNKNOWN])
    def test_where_ray_does_not_start_hyperopt_tunes_and_it_is_said(
        self, status: Status, train: dict[str, str]
    ) -> None:
        why = "Ray does not start on this machine: timed out."
        answer = ToolResult(status=status, message=why, error=ErrorInfo(kind=ErrorKind.FINAL, message=why))
        result, evidence = self.tuned(answer, **train)
        assert (result.engine, result.config) == ("hyperopt", {"family": "l"})
        assert result.summary.startswith("Hyperopt tuned, for Ray did not: Ray does not start on this machine: timed")
        assert [f"{tool}.{action}" for tool, action, *_ in evidence.calls][:2] == ["ray.tune", "hyperopt.tune"]
        assert evidence.calls[0][2] == evidence.calls[1][2], "the same question"
        assert tune.guardrail(result, evidence) == []

    @pytest.mark.parametrize(
        ("status", "kind", "installed"),
        [
            (Status.FAILED, ErrorKind.FIXABLE, ("ray", "hyperopt")),
            (Status.DENIED, ErrorKind.DENIED, ("ray", "hyperopt")),
            (Status.FAILED, ErrorKind.FINAL, ("ray",)),
        ],
    )
    def test_wrong_arguments_a_denial_and_nothing_else_to_tune_with_end_the_task(
        self, status: Status, kind: ErrorKind, installed: tuple[str, ...]
    ) -> None:
        answer = ToolResult(status=status, message="no", error=ErrorInfo(kind=kind, message="no"))
        with pytest.raises(TaskFailedError, match="tuning with ray"):
            self.tuned(answer, installed)


class TestTrackers:
    DOWN = ToolResult(
        status=Status.FAILED, message="W&B at wandb.example does not answer.",
        error=ErrorInfo(kind=ErrorKind.RETRY, message="W&B at wandb.example does not answer."),
    )  # fmt: skip
    LATE = ToolResult(status=Status.UNKNOWN, message="wandb.log_trials gave no answer within 180 s")

    @pytest.mark.parametrize("down", [DOWN, LATE], ids=["down", "no answer in time"])
    def test_a_tracker_that_is_down_is_told_and_ends_nothing(self, down: ToolResult) -> None:
        inputs = Inputs(
            goal(), {**checked(), "assess_champion": assess_champion.Result.model_construct(window="all", summary="s")}
        )
        best = {"family": "l"}
        found = ok(**data_like(SearchResult, trials_path="t", message="Best.", best_config=best, best_value=0.9))
        result, evidence = play(search_architecture, inputs, {"search": found, "log_trials": down})
        assert isinstance(result, search_architecture.Result) and result.config == best
        for tracker in ("mlflow", "wandb"):
            assert f"The trials are not in {tracker}: {down.message.rstrip('.')}." in result.summary
        assert search_architecture.guardrail(result, evidence) == []
        untried = Evidence(tuple(made for made in evidence.calls if made[0] != "wandb"), inputs)
        assert "wandb" in search_architecture.guardrail(result, untried)[0]


def checked() -> dict[str, TaskResult]:
    from tasks import check_data

    names = ("reference", "reference_all", "train", "holdout", "live", "reference_holdout", "current_all")
    return {"check_data": check_data.Result.model_construct(usable=True, slices={n: n for n in names}, summary="s")}


class TestCanaryDeadline:
    def inputs(self, verdict: str = "wait", settled: TaskResult | None = None, **canary_goal: Any) -> Inputs:
        judged = canary.Result.model_construct(
            verdict=verdict, undecided=verdict == "wait", requests=400, champion_value=0.81, challenger_value=0.8249,
            evidence_path="e", reasons=["quality: not yet proven."], next_row=400, summary="Wait after 400 requests.",
        )  # fmt: skip
        results: dict[str, TaskResult] = {
            "canary": judged,
            "establish_champion": establish_champion.Result(version=1, model_uri="m:1", trained_now=False, summary="s"),
            "register_challenger": register_challenger.Result.model_construct(version=2, model_uri="m:2", summary="s"),
        }
        if settled is not None:
            results["settle_canary"] = settled
        return Inputs(goal(canary=canary_goal), results)

    def settle(self, answer: ToolResult) -> settle_canary.Result:
        result, evidence = play(settle_canary, self.inputs(), {"choose": answer})
        assert isinstance(result, settle_canary.Result)
        assert settle_canary.guardrail(result, evidence) == []
        return result

    def test_the_question_states_the_evidence_and_what_follows(self) -> None:
        _, evidence = play(settle_canary, self.inputs(), {"choose": chosen("promote")})
        arguments = evidence.calls[0][2]
        assert "quality: not yet proven." in arguments["question"]
        keep, promote = arguments["options"]
        assert keep["numbers"] == {"requests": 400, "champion_value": 0.81, "challenger_value": 0.8249}
        assert (
            "Version 2 serves all traffic, although after 400 requests the judge is not sure" in promote["consequences"]
        )

    @pytest.mark.parametrize(
        ("answer", "choice", "is_open"),
        [
            (chosen("promote"), "promote", False),
            (chosen("keep_champion"), "keep_champion", False),
            (UNANSWERED, "keep_champion", True),
            (REFUSED, "keep_champion", True),
        ],
    )
    def test_what_was_chosen_is_done_and_without_an_answer_the_champion_stays(
        self, answer: ToolResult, choice: str, is_open: bool
    ) -> None:
        settled = self.settle(answer)
        assert (settled.choice, settled.open) == (choice, is_open)
        given = self.inputs(settled=settled)
        answers = {name: ok() for name in ("promote_canary", "promote_version", "rollback_canary")}
        result, evidence = play(release, given, answers)
        assert isinstance(result, release.Result)
        assert result.promoted is (choice == "promote")
        assert settled.summary in result.summary
        done = [action for _, action, _, _ in evidence.calls]
        assert done == (["promote_canary", "promote_version"] if choice == "promote" else ["rollback_canary"])
        assert release.guardrail(result, evidence) == []
        assert release.guardrail(result.model_copy(update={"promoted": not result.promoted}), evidence) != []

    @pytest.mark.parametrize("verdict", ["promote", "rollback"])
    def test_a_verdict_of_the_judge_is_not_overruled(self, verdict: str) -> None:
        other = "keep_champion" if verdict == "promote" else "promote"
        settled = settle_canary.Result(choice=other, open=False, decided_by="a", note="", summary="s")  # type: ignore[arg-type]
        assert (decided(self.inputs(verdict, settled)).verdict == "promote") is (verdict == "promote")

    def test_a_model_may_not_rename_the_options_or_claim_another_choice(self) -> None:
        result, evidence = play(settle_canary, self.inputs(), {"choose": chosen("keep_champion")})
        assert isinstance(result, settle_canary.Result)
        claimed = result.model_copy(update={"choice": "promote"})
        assert settle_canary.guardrail(claimed, evidence) == ["the choice was 'keep_champion': 'promote'"]
        tool, action, arguments, answer = evidence.calls[0]
        swapped = [{**o, "title": "Keep the champion"} for o in arguments["options"]]
        lying = Evidence(((tool, action, {**arguments, "options": swapped}, answer),), evidence.inputs)
        assert "exactly the options" in settle_canary.guardrail(result, lying)[0]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objectives": ["latency"]}, "must hold quality"),
        ({"objectives": ["quality", "quality"]}, "at most once"),
        ({"objectives": ["quality", "speed"]}, "Input should be"),
        ({"preference": "size"}, "not one of the objectives"),
        ({"objectives": ["quality", "fairness"]}, "fairness.column"),
        ({"train": {"trainer": "mine:train"}}, "built-in trainer"),
        ({"canary": {"at_deadline": "wait"}}, "at_deadline"),
    ],
)
def test_a_goal_that_cannot_be_weighed_is_refused_with_the_reason(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        goal(**changes)


def test_what_a_goal_states_on_each_topic() -> None:
    assert goal().stated == {}
    stated = goal(preference="balanced", canary={"at_deadline": "promote"}).stated
    assert stated == {choose_tradeoff.TOPIC: "balanced", settle_canary.TOPIC: "promote"}


@pytest.mark.parametrize(
    ("text", "when_open", "when_decided", "when_skipped"),
    [
        ("choose_tradeoff.open", True, False, False),
        ("not choose_tradeoff.open", False, True, False),
        ("unless choose_tradeoff.open", False, True, True),
    ],
)
def test_unless_holds_also_where_the_task_did_not_run(
    text: str, when_open: bool, when_decided: bool, when_skipped: bool
) -> None:
    condition = Condition.parse(text)
    fields: dict[str, Any] = {"option": "", "config": {}, "asked": True, "decided_by": "", "note": "", "summary": "s"}
    ran = [{"choose_tradeoff": choose_tradeoff.Result(open=value, **fields)} for value in (True, False)]
    held = [condition.holds(goal(), results) for results in (*ran, {})]
    assert held == [when_open, when_decided, when_skipped]


def test_the_trade_off_is_due_only_with_more_than_one_objective() -> None:
    condition = Condition.parse("goal.objectives")
    assert condition.holds(goal(), {}) and not condition.holds(goal(objectives=["quality"]), {})
    assert condition.unmet({}) == "the goal names one objective"
