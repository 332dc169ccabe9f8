"""Other people's text on every way to a person: the live display, the commands, the report, the pages it links to."""

import html
import io
import json
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from crew.display import Display
from crew.report import write_report
from tests.conftest import Project
from tests.helpers.browser import dom_of
from tests.helpers.journal_example import Example, failed_run, promoted_run
from tools.integrations.evidently.page import script_json

ROOT = Path(__file__).parents[1]
CODES = "\x1b[2J\x1b]0;owned\x07\r\x9b31m\u202e\u2066\u200b\u2028\U000e0041\x00"
SCRIPT = "</script></title></style><script>document.title='owned'</script><svg/onload=document.title='owned'>"
EVIL = f"{CODES}{SCRIPT}<!--<img src=x onerror=document.title='owned'>\"'{{{{7*7}}}}"
KEPT = {"kind", "ts", "call_id", "run_id", "task", "agent", "server", "action", "status", "state", "outcome", "mode",
        "report_path", "json_path", "profile_path", "path", "decision", "effect"}  # fmt: skip


def spoiled(value: Any, key: str = "") -> Any:
    """Every text with hostile text after it, but for what the report finds its way by."""
    if isinstance(value, str):
        return value if key in KEPT or key.endswith(("_path", "_ts", "_at")) else value + EVIL
    if isinstance(value, dict):
        return {name: spoiled(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [spoiled(item, key) for item in value]
    return value


def hostile(text: str) -> list[str]:
    """What is in a text that a terminal or an eye would fall for."""
    return sorted(
        {
            c
            for c in text
            if c != "\n" and (unicodedata.category(c)[0] == "C" or unicodedata.category(c) in ("Zl", "Zp"))
        }
    )


def spoil(run: Example) -> Example:
    for place, record in enumerate(run.records):
        run.records[place] = spoiled(record)
    return run


class Handlers(HTMLParser):
    """What could run in a page: scripts, and attributes of events."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag] if tag in ("script", "iframe", "object", "embed", "img") else []
        self.found += [name for name, value in attrs if name.startswith("on") or "javascript:" in (value or "")]


@pytest.fixture
def runs(tmp_path: Path) -> list[Example]:
    return [spoil(make(tmp_path)) for make in (promoted_run, failed_run)]


@pytest.mark.parametrize("plain", [True, False])
def test_the_live_display_shows_no_code_of_anybody_elses(runs: list[Example], plain: bool) -> None:
    for run in runs:
        stream = io.StringIO()
        display = Display(stream, plain=plain)
        for record in run.records:
            display(record)
            if record["kind"] == "intent":
                display({"kind": "progress", "call_id": record["call_id"], "done": 1, "total": 2, "message": EVIL})
        display.error(EVIL)
        display.write(EVIL)
        display.close(Path(f"x{EVIL.replace(chr(0), '')}"))
        shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r\n?", "", stream.getvalue()) if not plain else stream.getvalue()
        assert hostile(shown) == [], shown[:500]
        assert "\x1b[2J" not in stream.getvalue().replace("\x1b[2K", "") and "\x1b]" not in stream.getvalue()


def test_no_command_shows_one(runs: list[Example], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from crew import cli

    (tmp_path / "config").mkdir(exist_ok=True)
    for run in runs:
        run.write()
        for command in (["show", run.folder.name], ["report", run.folder.name], ["runs"]):
            assert cli.main([*command, "--project", str(tmp_path)]) == 0
    for command in (["show", f"no{CODES}"], ["approve", CODES], ["tools", f"no{CODES}"], ["run", f"no{CODES}"]):
        assert cli.main([*command, "--project", str(tmp_path)]) != 0
    shown = capsys.readouterr()
    assert hostile(shown.out) == [] and hostile(shown.err) == []
    assert "owned" in shown.out  # it is not hidden either


def test_every_command_writes_through_the_cleaner() -> None:
    own = {"say", "print_json", "_print_version"}
    for path in (ROOT / "crew").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for found in re.finditer(r"(?<![\w.])print\(|typer\.echo|sys\.std(?:out|err)\.write", source):
            function = re.findall(r"def (\w+)\(", source[: found.start()])[-1]
            assert function in own, f"{path.name}: {function} prints past the cleaner"


def test_the_report_runs_nothing_and_shows_no_code(runs: list[Example], tmp_path: Path) -> None:
    for run in runs:
        page = write_report(run.write()).html
        text = page.read_text(encoding="utf-8")
        assert hostile(text) == [] and "49}}" not in text
        assert "default-src 'none'" in text.split("<style>")[0]
        dom = dom_of(page, tmp_path)
        assert "<title>owned" not in dom
        handlers = Handlers()
        handlers.feed(text)
        assert handlers.found == []


def test_what_stands_in_a_script_cannot_leave_it() -> None:
    told = script_json({EVIL: [EVIL, "\ud800", "]]>"]})
    assert told.isascii() and not set("<>&") & set(told)
    assert "document.title" in json.loads(told.replace("\\u003c", "<")).popitem()[0]


def test_evidentlys_report_draws_what_it_holds_and_runs_nothing_of_it(project: Project, tmp_path: Path) -> None:
    import pandas as pd

    evil = EVIL.replace("\x00", "").replace("\r", "")
    for name, offset in (("reference", 0), ("current", 9)):
        frame = pd.DataFrame({f"n{evil}": [float(i % 7 + offset) for i in range(60)], evil: [evil, "b", "c"] * 20})
        frame.to_csv(project.root / f"{name}.csv", index=False)
    drift = project.ok("evidently", "detect_drift", reference="reference.csv", current="current.csv")
    summary = project.ok("evidently", "summarize_data", data="current.csv")
    for path in (drift["report_path"], summary["report_path"]):
        text = (project.root / path).read_text(encoding="utf-8")
        assert "document.title='owned'</script>" not in text and 'sandbox="allow-scripts"' in text
        # The frame alone, under the page's policy as it inherits it: the strictest look, nothing around it helps.
        policy, inner = (
            html.unescape(re.search(p, text)[1]) for p in (r'Policy" content="([^"]*)"', r'srcdoc="([^"]*)"')
        )  # type: ignore[index]
        alone = tmp_path / "inner.html"
        alone.write_text(
            inner.replace("<head>", f'<head><meta http-equiv="Content-Security-Policy" content="{policy}">', 1)
        )
        dom = dom_of(alone, tmp_path)
        assert "<title>owned" not in dom
        drawn = dom.split('id="root">')[1]
        assert "document.title='owned'" in html.unescape(drawn), "the report drew nothing"
