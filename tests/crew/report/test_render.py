"""The report, from a made-up journal (`helpers.journal_example`)."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crew.report import write_report
from crew.report.collect import read_run
from crew.report.evidence import run_file
from crew.report.render import report_facts
from tests.helpers.journal_example import RUN_ID, Example, failed_run, promoted_run, quiet_run
from tests.helpers.page import Page
from tools.registry import load_spec


def report_of(run: Example) -> tuple[str, dict[str, Any]]:
    paths = write_report(run.write())
    return paths.html.read_text(encoding="utf-8"), json.loads(paths.json.read_text(encoding="utf-8"))


def test_the_report_needs_no_network_and_nothing_beside_it(tmp_path: Path) -> None:
    html, _ = report_of(promoted_run(tmp_path))
    page = Page(html)
    assert page.open == []
    assert not {"script", "img", "iframe", "object", "embed"} & set(page.tags)
    assert not [url for url in page.values("src", "href", "srcset", "xlink:href") if re.match(r"\w+:(?!,)|//", url)]
    assert not re.search(r"@import|url\(", html)


def test_the_sections_are_in_the_order_of_the_story(tmp_path: Path) -> None:
    html, _ = report_of(promoted_run(tmp_path))
    assert Page(html).headings == [
        "Promoted: the challenger is the new champion", "The loop", "Drift", "Metric over the run", "Trials",
        "Offline comparison", "Canary", "Production", "Data checks", "Model versions", "Decisions", "Timeline of calls",
        "Guardrails and fallbacks", "Tasks, tokens and cost", "Goal and settings",
    ]  # fmt: skip


def test_every_picture_has_a_text_and_every_link_inside_the_page_a_target(tmp_path: Path) -> None:
    html, _ = report_of(promoted_run(tmp_path))
    page = Page(html)
    assert len(page.values("aria-label")) == page.tags.count("svg") >= 12
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.values("href") if link.startswith("#")} <= set(ids)


def test_the_link_to_evidentlys_report_leads_to_the_file(tmp_path: Path) -> None:
    run = promoted_run(tmp_path)
    html, facts = report_of(run)
    link = facts["drift"]["evidently_report"]
    assert f'href="{link}"' in html
    assert (run.folder / link).read_text() == "<html>Evidently</html>"


def test_the_judges_decision_and_evidentlys_are_shown_with_why_they_disagree(tmp_path: Path) -> None:
    html, facts = report_of(promoted_run(tmp_path))
    decided = next(d for d in facts["decisions"] if d["what"] == "Did the data drift?")
    assert decided["result"] == "yes"
    assert facts["drift"]["decisions"][0]["severity"] == "high"
    (apart,) = facts["drift"]["disagreements"]
    assert apart.startswith("data_usage_gb: drift by Evidently")
    assert "only 2.0% of the rows moved, and less than 5% does not count" in apart
    assert apart.split(";")[0] in Page(html).text


def test_the_json_tells_what_was_decided_why_and_by_whom(tmp_path: Path) -> None:
    _, facts = report_of(promoted_run(tmp_path))
    assert facts["run"]["outcome"] == "promoted"
    judged = [call["id"] for call in facts["calls"] if call["action"] == "judge_canary"][-1]
    assert facts["verdict"]["evidence"][0] == judged
    assert "proven" in facts["verdict"]["reasons"][0]
    assert "maria" in facts["verdict"]["by"]
    approved = [d for d in facts["decisions"] if d["by"] == "maria"]
    assert [d["what"] for d in approved] == ["May serving.start_canary run?", "May serving.promote_canary run?"]
    search = next(step for step in facts["tasks"] if step["task"] == "search_architecture")
    assert search["fallback"] == "the guardrail kept failing after 2 attempts"
    assert facts["usage"] == {"tasks_with_llm": 1, "prompt_tokens": 4210, "completion_tokens": 388, "cost_usd": 0.0031}
    assert [study["engine"] for study in facts["searches"]] == ["optuna", "hyperopt"]
    assert len(facts["canary"]["trajectory"]["looks"]) == 60


def test_text_from_the_run_cannot_become_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
    run = promoted_run(tmp_path)
    spoiled = json.dumps(evil)[1:-1]
    for record in run.records:
        for key in ("message", "reason", "summary", "title", "note", "rule"):
            if key in record:
                record[key] = evil
        if record["kind"] == "run_started":
            record["goal"] = {"name": evil, "metric": evil, evil: evil}
        if record["kind"] == "outcome" and record["data"]:
            text = json.dumps(record["data"])
            for word in ("data_usage_gb", "roc_auc", "champion", "accuracy", "quality", "promote", "app_wallet"):
                text = text.replace(f'"{word}"', f'"{spoiled}"')
            record["data"] = json.loads(text)
    for path in (run.folder / "files").rglob("*.json"):
        path.write_text(path.read_text().replace("data_usage_gb", spoiled).replace("hist_gradient_boosting", spoiled))
    html, facts = report_of(run)
    page = Page(html)
    assert not {"script", "img"} & set(page.tags)
    assert not [value for _, name, value in page.attributes if name.startswith("on")]
    assert facts["run"]["goal_name"] == evil


@pytest.mark.parametrize("which", ["files", "unreadable", "wrong shape"])
def test_a_file_that_cannot_be_had_leaves_its_part_out(tmp_path: Path, which: str) -> None:
    run = promoted_run(tmp_path)
    for path in [p for p in (run.folder / "files").rglob("*") if p.is_file()]:
        if which == "files":
            path.unlink()
        else:
            path.write_text("{" if which == "unreadable" else json.dumps({"trials": 3, "looks": {}, "columns": ["x"]}))
    html, facts = report_of(run)
    page = Page(html)
    assert facts["drift"]["histograms"] == {}
    assert facts["canary"]["trajectory"]["looks"] == []
    assert "Promoted" in page.text
    assert ("Evidently's own report" in page.text) == (which != "files")


def test_any_prefix_of_a_journal_gives_a_report(tmp_path: Path) -> None:
    run = promoted_run(tmp_path)
    whole = run.write() / "journal.jsonl"
    lines = whole.read_bytes().splitlines(keepends=True)
    for kept in range(0, len(lines), 5):
        whole.write_bytes(b"".join(lines[:kept]) + lines[kept][: len(lines[kept]) // 2])
        html = write_report(run.folder).html.read_text()
        page = Page(html)
        assert page.open == []
        assert "cut off" in page.text
        assert "Unfinished" in page.text or kept == 0


def test_a_record_damaged_in_the_middle_is_told(tmp_path: Path) -> None:
    run = promoted_run(tmp_path)
    journal = run.write() / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:40], b"\x00\xff garbage\n", *lines[41:]]))
    paths = write_report(run.folder)
    facts = json.loads(paths.json.read_text())
    assert facts["run"]["outcome"] == "unfinished"
    assert "line 41" in facts["run"]["journal_damage"]


def test_a_failed_run_names_the_error_and_the_call(tmp_path: Path) -> None:
    html, facts = report_of(failed_run(tmp_path))
    assert facts["verdict"]["tone"] == "bad"
    assert any("No space left on device" in reason for reason in facts["verdict"]["reasons"])
    failed = [call["id"] for call in facts["calls"] if call["status"] == "failed"]
    assert facts["verdict"]["evidence"] == failed
    page = Page(html)
    assert page.headings[0] == "Failed: the run ended with an error"
    assert "Canary" not in page.headings


def test_a_run_without_drift_says_why_nothing_was_done(tmp_path: Path) -> None:
    _, facts = report_of(quiet_run(tmp_path))
    assert facts["verdict"]["headline"].startswith("No action")
    assert facts["verdict"]["reasons"][0].startswith("Champion: the loss did not rise")
    assert {step["state"] for step in facts["tasks"]} == {"done", "skipped"}


def test_a_folder_without_a_journal_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path)


def test_only_files_of_the_run_are_read(tmp_path: Path) -> None:
    run = read_run(promoted_run(tmp_path).write())
    (tmp_path / "secret.json").write_text("{}")
    (run.folder / "inside.json").write_text("{}")
    assert run_file(run, str(tmp_path / "secret.json")) is None
    assert run_file(run, f".mlops/runs/{RUN_ID}/../../../secret.json") is None
    assert run_file(run, str(run.folder / "inside.json")) == run.folder / "inside.json"
    assert run_file(run, f"/another/machine/{RUN_ID}/inside.json") == run.folder / "inside.json"


def test_infinite_numbers_do_not_break_the_json(tmp_path: Path) -> None:
    run = promoted_run(tmp_path)
    for record in run.records:
        if record["kind"] == "outcome" and record["data"] and "checks" in record["data"]:
            record["data"]["difference_low"] = float("-inf")
            record["data"]["checks"][0]["e_value"] = float("nan")
    _, facts = report_of(run)
    assert facts["canary"]["verdict"]["difference_low"] is None


@pytest.mark.parametrize("make", [promoted_run, quiet_run, failed_run])
def test_the_example_has_the_shapes_of_real_results(tmp_path: Path, make: Callable[[Path], Example]) -> None:
    """Else the other tests would prove nothing: a renamed field must fail here."""
    run = make(tmp_path)
    intents = {record["call_id"]: record for record in run.records if record["kind"] == "intent"}
    for record in run.records:
        if record["kind"] == "outcome" and record["status"] == "ok":
            intent = intents[record["call_id"]]
            load_spec(intent["server"]).action(intent["action"]).result.model_validate(record["data"])


def test_a_choice_is_shown_with_its_options_its_picture_who_chose_and_why(tmp_path: Path) -> None:
    run = choosing_run(tmp_path)
    html, facts = report_of(run)
    page = Page(html)
    assert "Choices" in page.headings
    chosen, unanswered = facts["choices"]
    assert (chosen["chosen"], chosen["decided_by"], chosen["note"]) == ("latency", "ann", "users <wait>")
    assert "users &lt;wait&gt;" in html
    told = "roc_auc against latency, ms per prediction. latency: 0.88 at 1; quality: 0.9 at 40."
    assert told in page.values("aria-label")
    assert (run.folder / chosen["plot"]).is_file()
    assert unanswered["chosen"] == "" and "nobody chose" in html
    made = {d["what"]: (d["result"], d["by"], d["why"]) for d in facts["decisions"]}
    assert made["Which model?"] == ("Fastest", "ann", "users <wait>")
    assert made["And now?"] == ("nobody chose", "nobody", "nobody answered")


def test_a_choice_whose_files_are_gone_is_still_told(tmp_path: Path) -> None:
    run = choosing_run(tmp_path)
    for path in (run.folder / "files").iterdir():
        path.unlink()
    html, facts = report_of(run)
    assert facts["choices"][0]["chosen"] == "latency" and "users &lt;wait&gt;" in html


def choosing_run(project: Path) -> Example:
    """Two questions to choose: one that a person answered, one that nobody did."""
    run = Example(project / ".mlops" / "runs" / RUN_ID, project)
    run.add("run_started", run_id=RUN_ID, goal={"name": "churn"}, mode="runbook")
    run.begin("choose_tradeoff", "evolution")
    measured = [{"number": 0, "value": 0.88, "latency_ms": 1.0, "size_bytes": 9, "config": {}},
                {"number": 1, "value": 0.9, "latency_ms": 40.0, "size_bytes": 9, "config": {}}]  # fmt: skip
    plot, trials = run.file("front.svg", "<svg/>"), run.file("trials.json", {"trials": measured})
    weighed = {"metric": "roc_auc", "objectives": ["quality", "latency"], "trials": {"quality": 1, "latency": 0},
               "plot_path": plot}  # fmt: skip
    run.call("people", "weigh_options", weighed, 0.1, trials_path=trials)
    options = [
        {"name": "quality", "title": "Best", "consequences": "40 ms.", "numbers": {"roc_auc": 0.9}},
        {"name": "latency", "title": "Fastest", "consequences": "Worse.", "numbers": {"roc_auc": 0.88}},
    ]
    answer = {
        "chosen": "latency",
        "title": "Fastest",
        "decided_by": "ann",
        "note": "users <wait>",
        "message": "Fastest.",
    }
    run.call("people", "choose", answer, 3.0, decision="ask", question="Which model?", options=options, plot=plot)
    run.call("people", "choose", {}, 3.0, decision="ask", status="needs_approval", message="nobody answered",
             question="And now?", options=options)  # fmt: skip
    run.end("Fastest.", 3.2)
    return run


def test_requests_that_the_champion_answered_in_the_challengers_place_are_shown(tmp_path: Path) -> None:
    made = promoted_run(tmp_path)
    for record in made.records:
        data = record.get("data")
        if isinstance(data, dict) and "failed_requests" in data:
            data |= {"routed": 16, "fallbacks": {"slow": 2, "lost": 1}}
            data["challenger"] |= {"late": 3, "left_out": 7}
    made.write()
    run = read_run(made.folder)
    facts = report_facts(run)["canary"]
    assert (facts["routed"], facts["fallbacks"], facts["left_out"]) == (64, 12, 28)
    html = write_report(made.folder).html.read_text(encoding="utf-8")
    assert "answered by the champion instead" in html and "12 of 64 routed to the challenger" in html
    assert "28: too much was waiting" in html
    assert '<td class="n">3</td><td class="n">7</td>' in html
