"""Watching after the release: how far back it looks is bound by what was sent, not by the clock of a fast machine."""

from typing import Any

from tasks import canary, check_data, release, watch_production
from tasks.base import Inputs, ToolCall
from tasks.goal import Goal
from tests.helpers.results import data_like
from tools.core.results import Status, ToolResult
from tools.integrations.judge.canary_spec import CanaryVerdict
from tools.integrations.serving.spec import Traffic
from tools.registry import load_spec


def goal() -> Goal:
    data = {"reference": "r.csv", "current": "c.csv"}
    return Goal.model_validate({"name": "m", "task": "binary", "target": "y", "metric": "roc_auc", "data": data})


def inputs() -> Inputs:
    results = {
        "check_data": check_data.Result.model_construct(slices={"live": "live.parquet"}, live_rows=1000),
        "canary": canary.Result.model_construct(
            verdict="promote", undecided=False, requests=400, next_row=400, summary="", reasons=[]
        ),
        "release": release.Result.model_construct(promoted=True, champion_version=2),
    }
    return Inputs(goal=goal(), results=results)


def asked(took_s: float) -> list[ToolCall]:
    """The calls of the runbook where each batch of requests took so long."""
    book, calls = watch_production.runbook(inputs()), list[ToolCall]()
    answer: ToolResult | None = None
    while True:
        try:
            wanted = next(book) if answer is None else book.send(answer)
        except StopIteration:
            return calls
        assert isinstance(wanted, ToolCall)
        calls.append(wanted)
        stated: dict[str, Any] = {}
        match wanted.action:
            case "status":
                stated = {"running": True, "metrics_url": "http://127.0.0.1:1/metrics", "former_version": None}
            case "send_traffic":
                stated = {"next_start": 600, "rows_left": 400, "requests": 200, "failed_requests": 0, "took_s": took_s}
            case "watch":
                stated = {"error_rate": 0.0, "requests": 200.0}
            case _:
                pass
        model = load_spec(wanted.tool).action(wanted.action).result
        answer = ToolResult(status=Status.OK, data=data_like(model, **stated))


def test_the_watch_reaches_back_to_the_reading_before_the_traffic_however_long_that_took() -> None:
    for took_s in (0.5, 700.0):
        lookback = [call.arguments["lookback"] for call in asked(took_s) if "lookback" in call.arguments]
        assert len(lookback) == 1 and took_s + watch_production.LOOKBACK_S <= lookback[0] < took_s + 62


def test_the_canarys_story_says_who_answered() -> None:
    verdict = load_spec("judge").action("judge_canary").result
    judged = data_like(verdict, message="Wait after 400 requests.", champion_value=None, challenger_value=None)
    found = CanaryVerdict.model_validate(judged)

    def sent(left_out: int = 0, **fallbacks: int) -> Traffic:
        made = Traffic.model_validate(data_like(Traffic, routed=30, fallbacks=fallbacks))
        return made.model_copy(update={"champion": made.champion.model_copy(update={"left_out": left_out})})

    assert canary._story(found, [sent(), sent()], [5.0]) == "Wait after 400 requests."
    assert canary._story(found, [sent(slow=8), sent(slow=20, lost=3)], [5.0]) == (
        "Wait after 400 requests. 31 of the 60 requests routed to the challenger were answered by the champion: 28 "
        "where it gave no answer in time and 3 where its process was gone."
    )
    assert canary._story(found, [sent(left_out=7), sent(left_out=5)], [5.0]) == (
        "Wait after 400 requests. 12 scores in the shadow were left out, because too much was waiting."
    )
