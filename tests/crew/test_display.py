"""The live display: plain form, terminal form (on a pseudo-terminal), its end, and the prompt for approvals."""

import io
import os
import pty
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from crew.display import Display, is_plain, question, terminal_prompt
from tests.helpers.journal_example import RUN_ID, failed_run, promoted_run
from tools.core.approval import Approval, Edited, Pick, Rejected
from tools.core.clean import MARK, columns

ESCAPE = "\x1b"
KINDS = ["run_started", "task_started", "task_finished", "task_skipped", "intent", "outcome", "progress",
         "approval_requested", "approval_decided", "guardrail", "fallback", "error", "run_finished",
         "of a later version"]  # fmt: skip


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal:
    """A pseudo-terminal: `stream` to write to, `output()` what a person would see, escape codes and all."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.slave = slave
        self.stream: TextIO = os.fdopen(os.dup(slave), "w", encoding="utf-8")
        self._chunks: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self.master, 65536)
            except OSError:
                return
            self._chunks.append(chunk)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def output(self) -> str:
        return b"".join(self._chunks).decode(errors="replace")

    def wait_for(self, text: str, times: int = 1) -> str:
        """What was shown, once it holds `text` that often.

        What is typed before a prompt is thrown away, by design: wait for the prompt before typing.
        """
        deadline = time.monotonic() + 60
        while self.output().count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} never came: {self.output()[-800:]!r}"
            threading.Event().wait(0.01)
        return self.output()

    def close(self) -> None:
        self.stream.close()
        os.close(self.slave)
        self._reader.join(10)  # else it would read from whatever gets this descriptor next
        os.close(self.master)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def show(display: Display, records: list[dict[str, Any]]) -> None:
    for record in records:
        display(record)


def intent(call_id: str = "c1", server: str = "optuna", action: str = "search") -> dict[str, Any]:
    return {"kind": "intent", "call_id": call_id, "server": server, "action": action, "effect": "risky"}


def approval(**changes: Any) -> Approval:
    fields: dict[str, Any] = {
        "id": f"{RUN_ID}-c1", "run_id": RUN_ID, "integration": "serving", "action": "promote_canary",
        "arguments": {"version": "2"}, "role": "deployment", "reason": "supervised: risky writes wait for a person",
        "call_hash": "0123456789abcdef" * 4, "created_ts": time.time(), "expires_ts": time.time() + 900,
        "facts": {"effect": "risky", "summary": "Makes the challenger the champion."},
    }  # fmt: skip
    return Approval.model_validate(fields | changes)


def test_a_log_gets_one_line_per_event_without_escape_codes(tmp_path: Path) -> None:
    stream = io.StringIO()
    display = Display(stream)
    run = promoted_run(tmp_path, listener=display)
    display.close(tmp_path / "report.html")
    text = stream.getvalue()
    assert ESCAPE not in text and "\r" not in text
    events, _, block = text.partition("\n\n")
    assert all(re.match(r"\[ *\d+\.\ds\] \S|\[ *\d+\.\ds\]   \S", line) for line in events.splitlines())
    outcomes = [record for record in run.records if record["kind"] == "outcome"]
    assert len(re.findall(r"^\[.{8}\]   (?:ok|FAILED) .*\((?:[\d.]+ m?s)\)", events, re.MULTILINE)) == len(outcomes)
    assert "Data Guardian: Detect drift" in events
    assert "Synthesis: Synthesize: skipped, the goal asks for no synthetic rows" in events
    assert "verdict: Promote after 1200 requests" in events
    assert max(map(len, block.splitlines())) <= 80 or "report.html" in max(block.splitlines(), key=len)
    assert "Promoted: the challenger is the new champion" in block
    assert str(tmp_path / "report.html") in block and RUN_ID in block


def test_progress_lines_of_a_log_come_at_most_every_five_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    display = Display(stream, clock=clock)
    display(intent("c1"))
    display(intent("c2", "serving", "send_traffic"))
    for done in range(1, 121):
        clock.now += 0.125
        for call_id in ("c1", "c2"):
            display({"kind": "progress", "call_id": call_id, "done": done, "total": 120, "message": f"trial {done}"})
    lines = stream.getvalue().splitlines()
    assert [re.sub(r"\s+", " ", line) for line in lines if "optuna" in line] == [
        "[ 5.0s] ... optuna.search: 40/120, trial 40",
        "[ 10.0s] ... optuna.search: 80/120, trial 80",
        "[ 15.0s] ... optuna.search: 120/120, trial 120",
    ]
    assert len(lines) == 6


@pytest.mark.parametrize("plain", [True, False])
def test_an_error_cannot_be_overlooked(tmp_path: Path, plain: bool) -> None:
    stream = io.StringIO()
    display = Display(stream, plain=plain)
    show(display, failed_run(tmp_path).records)
    display.close()
    block = stream.getvalue()[-1800:]
    assert "ERROR. FAILED: THE RUN ENDED WITH AN ERROR" in block
    assert "the disk is full" in block and "20261121-080000-00bb" in block and "mlops-crew show" in block
    assert ("!" * 80 in block) == plain


def test_a_run_that_just_stops_ends_in_an_error(tmp_path: Path) -> None:
    stream = io.StringIO()
    display = Display(stream)
    show(display, promoted_run(tmp_path).records[:20])
    display.close()
    display.close()
    assert stream.getvalue().count("ERROR. UNFINISHED") == 1


def test_nothing_is_written_when_no_run_began() -> None:
    stream = io.StringIO()
    Display(stream).close()
    assert stream.getvalue() == ""


def test_an_error_outside_a_run_is_a_block_too() -> None:
    stream = io.StringIO()
    Display(stream).error("config/goal.yaml: unknown key 'metrc'; valid: metric, name, task")
    assert "!! ERROR" in stream.getvalue() and "unknown key 'metrc'" in stream.getvalue()


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_record_that_lacks_its_fields_or_has_odd_ones_is_survived(kind: str, plain: bool) -> None:
    stream = io.StringIO()
    display = Display(stream, plain=plain)
    fields = (
        "goal result data tokens approval message done total duration_s attempts exit_code task agent title status "
        "reason summary outcome by note server action"
    )
    odd = {key: [None, {"x": 1}] for key in fields.split()}
    for record in (
        {"kind": kind},
        {"kind": kind, "call_id": "c1", **odd},
        {"kind": kind, "call_id": "c1", "message": "[/bold]\x1b["},
    ):
        display(record)
    display.close()


def test_a_reader_that_went_away_does_not_end_the_run(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    for plain in (True, False):
        display = Display(stream, plain=plain)
        promoted_run(tmp_path, listener=display)
        display.close()
    with pytest.raises(BrokenPipeError):  # what was buffered is still there: the pipe was really broken
        stream.close()


def test_a_closed_stream_does_not_end_the_run(tmp_path: Path) -> None:
    stream = io.StringIO()
    display = Display(stream)
    stream.close()
    promoted_run(tmp_path, listener=display)
    display.close()


def test_a_stream_without_unicode_gets_question_marks(tmp_path: Path) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    display = Display(stream)
    display({"kind": "error", "message": "größer → kleiner"})
    assert b"gr??er ? kleiner" in raw.getvalue()


def test_records_from_many_threads_keep_their_lines_whole() -> None:
    stream = io.StringIO()
    display = Display(stream)

    def report(name: int) -> None:
        for i in range(40):
            display(intent(f"c{name}-{i}"))
            display(
                {"kind": "outcome", "call_id": f"c{name}-{i}", "status": "ok", "message": "x" * 20, "duration_s": 0.5}
            )

    threads = [threading.Thread(target=report, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 320
    assert all(line.endswith(f"optuna.search (0.5 s): {'x' * 20}") for line in lines)


def test_a_paused_display_holds_its_lines_back() -> None:
    stream = io.StringIO()
    display = Display(stream)
    display.pause()
    display.pause()
    display({"kind": "error", "message": "first"})
    display.resume()
    assert stream.getvalue() == ""
    display.resume()
    display({"kind": "error", "message": "second"})
    assert re.findall("first|second", stream.getvalue()) == ["first", "second"]


def test_plain_is_chosen_where_nobody_watches(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "CI", "TERM"):
        monkeypatch.delenv(name, raising=False)
    assert is_plain(io.StringIO())
    assert not is_plain(terminal.stream)
    for name, value in (("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb")):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            assert is_plain(terminal.stream)


@pytest.mark.parametrize("width", [80, 40])
def test_a_terminal_shows_scrolling_lines_and_one_live_line(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm-256color")
    display = Display(terminal.stream, plain=False)
    display({"kind": "task_started", "task": "search_architecture", "agent": "architect", "title": "Search"})
    display(intent())
    display({"kind": "progress", "call_id": "c1", "done": 20, "total": 40, "message": "trial 20"})
    seen = terminal.wait_for("20/40, trial 20" if width == 80 else "━━━━")
    assert "━━━━" in seen and "─" in seen
    display({"kind": "outcome", "call_id": "c1", "status": "ok", "message": "40 trials", "duration_s": 3.0})
    display({"kind": "run_finished", "outcome": "champion_kept", "summary": "Not better.", "exit_code": 0})
    display.close(tmp_path / "r.html")
    seen = terminal.wait_for("┛")
    assert "Champion kept" in seen
    assert "\x1b[?1049h" not in seen  # the screen is not taken over
    assert seen.count("\x1b[?25h") >= 1  # the cursor is given back
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert max(len(line) for part in plain.splitlines() for line in part.split("\r")) <= width


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("why not\n", False), ("\x04", False)],
)
def test_only_an_explicit_yes_approves(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, typed: str, answer: bool
) -> None:
    asked = ask(terminal, monkeypatch, lambda: False)
    text = terminal.wait_for("[y/N]")
    for told in (
        "serving.promote_canary",
        "version",
        '"2"',
        "Deployment",
        "risky: changes what production does",
        "supervised: risky",
    ):
        assert told in text
    terminal.type(typed)
    assert asked() is answer


@pytest.mark.parametrize(
    ("typed", "reply"),
    [
        ("y version=3\n", Edited({"version": "3"})),
        ("n not on a Friday\x1b[2J\n", Rejected(f"not on a Friday{MARK}[2J")),
    ],
)
def test_a_reason_and_other_arguments_can_be_typed_with_the_answer(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, typed: str, reply: Any
) -> None:
    asked = ask(terminal, monkeypatch, lambda: False)
    terminal.wait_for("[y/N]")
    terminal.type(typed)
    assert asked() == reply


@pytest.mark.parametrize("typed", ["yes please\n", "y versio=3\n", "y version\n", "y 'version=3\n"])
def test_a_yes_with_what_changes_no_argument_is_asked_again(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    asked = ask(terminal, monkeypatch, lambda: False)
    terminal.wait_for("[y/N]")
    terminal.type(typed)
    terminal.wait_for("[y/N]", times=2)
    terminal.type("n\n")
    shown = terminal.output()
    assert ("cannot read" if "'" in typed else "changes no argument") in shown
    assert asked() is False


def test_what_was_typed_before_the_question_does_not_answer_it(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.type("y\n")
    terminal.wait_for("y")
    asked = ask(terminal, monkeypatch, lambda: False)
    terminal.wait_for("[y/N]")
    terminal.type("n\n")
    assert asked() is False


def test_an_answer_given_elsewhere_ends_the_question(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = threading.Event()
    asked = ask(terminal, monkeypatch, elsewhere.is_set)
    terminal.wait_for("[y/N]")
    elsewhere.set()
    assert asked() is None
    terminal.wait_for("answered elsewhere")


def test_without_a_terminal_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert terminal_prompt(Display(stream))(approval(), lambda: False) is None
    assert stream.getvalue() == ""


def test_an_argument_cannot_repaint_the_question() -> None:
    text = question(
        approval(arguments={"note\x1b[2J": "x\x9b2J\r\nDo it? [y/N]"}, reason="a\x1b[Ab", role="\x1b]0;x\x07")
    )
    assert ESCAPE not in text and "\r" not in text
    assert "\n    Do it? [y/N]" not in text


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 24), (40, 16), (200, 60)])
@pytest.mark.parametrize("many", [3, 60])
def test_a_question_is_one_screen_whatever_is_in_it(width: int, height: int, many: int) -> None:
    arguments = {f"argument_{n}": ["x" * 100_000, "ab " * 9000, {"k": ["\u202e"] * 500}][n % 3] for n in range(many)}
    facts = {"summary": "Does it. " * 30, "effect": "risky", "task": "release", "undo": "rollback", "now": arguments}
    asked = approval(arguments=arguments, facts=facts, reason="because " * 200)
    lines = question(asked, "risky", width, height).splitlines()
    assert len(lines) <= max(height - 2, 20)
    assert all(columns(line) <= width or asked.id in line for line in lines)
    text = "\n".join(lines)
    assert "serving.promote_canary" in text and "0123456789abcdef" in text and asked.id in text


def test_values_that_differ_behind_the_cut_are_shown_differently() -> None:
    texts = {question(approval(arguments={"note": "fine. " * 9000 + end})).split("hash")[0] for end in ("a", "b")}
    assert len(texts) == 2 and all("sha256" in text for text in texts)


def test_a_question_shows_what_is_now_and_what_would_be() -> None:
    facts = {"now": {"version": "1", "percent": 5.0}, "undo": "rollback_canary", "effect": "risky",
             "about": {"version": "of the model"}}  # fmt: skip
    text = question(approval(facts=facts))
    for told in ('version "1", percent 5.0', 'version "1" -> "2"', "rollback_canary", '"2" (of the model)'):
        assert told in text


OPTIONS = [
    {"name": "quality", "title": "Best roc_auc: boosting", "consequences": "40 ms per prediction.", "numbers": {}},
    {"name": "latency", "title": "Fastest: linear", "consequences": "2 points less, 40 times faster.", "numbers": {}},
]


def choice(**changes: Any) -> Approval:
    arguments = {"topic": "tradeoff", "question": "Which model?", "options": OPTIONS, "plot": "files/front.svg"}
    fields = {"integration": "people", "action": "choose", "arguments": arguments, "role": "evolution", "asks": True}
    return approval(**fields, **changes)


def test_a_question_to_choose_shows_each_option_with_its_consequences_and_the_plot() -> None:
    text = question(choice(reason="the goal states no preference, so a person must choose"), "read")
    for told in (
        "A CHOICE IS NEEDED", "Which model?", "1 quality", "Best roc_auc: boosting. 40 ms per prediction.", "2 latency",
        "40 times faster", "files/front.svg", "the goal states no preference", f"choose {RUN_ID}-c1 OPTION",
    ):  # fmt: skip
        assert told in " ".join(text.split()), told


@pytest.mark.parametrize(
    ("typed", "why", "picked"),
    [
        ("2\n", "users wait\n", Pick("latency", "users wait")),
        ("Quality\n", "\n", Pick("quality", "")),
        ("1\n", "a\x1b[2Jb\n", Pick("quality", f"a{MARK}[2Jb")),
    ],
)
def test_an_option_is_chosen_by_number_or_name_and_the_reason_is_kept(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, typed: str, why: str, picked: Pick
) -> None:
    asked = ask(terminal, monkeypatch, lambda: False, choice())
    terminal.wait_for("[1-2]")
    terminal.type(typed)
    terminal.wait_for("Why?")
    terminal.type(why)
    assert asked() == picked
    assert "[y/N]" not in terminal.wait_for(f"chosen: {picked.option}")


def test_an_answer_typed_the_moment_it_is_asked_for_counts(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = {"[1-2] ": "2\n", "left empty) ": "users wait\n"}
    shown = Display.write

    def answer_at_once(display: Display, text: str) -> None:
        shown(display, text)
        for ask_, reply in replies.items():
            if text.endswith(ask_):
                terminal.type(reply)

    monkeypatch.setattr(Display, "write", answer_at_once)
    assert ask(terminal, monkeypatch, lambda: False, choice())() == Pick("latency", "users wait")


@pytest.mark.parametrize("typed", ["\n", "3\n", "0\n", "y\n", "yes\n", "lat\n"])
def test_what_is_no_option_is_no_choice_and_is_asked_again(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    elsewhere = threading.Event()
    asked = ask(terminal, monkeypatch, elsewhere.is_set, choice())
    terminal.wait_for("[1-2]")
    terminal.type(typed)
    terminal.wait_for("That is no choice: type a number from 1 to 2, or a name.")
    elsewhere.set()
    assert asked() is None
    terminal.wait_for("answered elsewhere")


def test_the_end_of_the_input_chooses_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ask(terminal, monkeypatch, lambda: False, choice())
    terminal.wait_for("[1-2]")
    terminal.type("\x04")
    assert asked() is None


def test_an_option_cannot_repaint_the_question() -> None:
    painted = [{**OPTIONS[0], "title": "x\x1b[2J\r\n  A CHOICE IS NEEDED"}, OPTIONS[1]]
    text = question(choice().model_copy(update={"arguments": {"question": "q", "options": painted}}), "read")
    assert ESCAPE not in text and "\r" not in text
    assert text.count("\n  A CHOICE IS NEEDED") == 1


def test_a_waiting_choice_and_its_answer_are_told_in_the_log() -> None:
    stream = io.StringIO()
    display = Display(stream)
    display(intent("c1", "people", "choose"))
    display({"kind": "approval_requested", "call_id": "c1", "approval": choice().model_dump()})
    display({"kind": "approval_decided", "call_id": "c1", "state": "chosen", "by": "ann", "note": "users wait",
             "chosen": "latency"})  # fmt: skip
    assert f"people.choose waits for a person: mlops-crew choose {RUN_ID}-c1" in stream.getvalue()
    assert "latency chosen by ann: users wait" in stream.getvalue()


def ask(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, answered: Callable[[], bool], asked: Approval | None = None
) -> Callable[[], bool | Pick | None]:
    """Ask in a thread, as the approver does; returns how to wait for the answer."""
    stdin = os.fdopen(os.dup(terminal.slave))
    monkeypatch.setattr(sys, "stdin", stdin)
    display = Display(terminal.stream, plain=True)
    display(intent("c1", "serving", "promote_canary"))
    found: list[bool | Pick | None] = []
    prompt = terminal_prompt(display)
    thread = threading.Thread(target=lambda: found.append(prompt(asked or approval(), answered)), daemon=True)
    thread.start()

    def wait() -> bool | Pick | None:
        thread.join(10)
        assert not thread.is_alive(), f"not answered: {terminal.output()[-800:]!r}"
        stdin.close()
        return found[0]

    return wait
