"""Every promise of SECURITY.md names a test that exists, and a test it names can fail."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
PROMISED = PAGE.split("## What is promised\n")[1].split("\n## ")[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PROMISED.splitlines()
    if line.startswith("| ") and line != "| promise | held by |"
]
HELD_BY = re.compile(r"`tests/\S+::test_\w+`(, `tests/\S+::test_\w+`)*")
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(?:(\w+)::)?(test_\w+)`", PAGE)


def test_each_promise_names_its_tests_and_nothing_else() -> None:
    assert len(ROWS) > 20
    wrong = [row[0] for row in ROWS if len(row) != 2 or not HELD_BY.fullmatch(row[1])]
    assert wrong == []
    assert len(NAMED) == PAGE.count("::test_")


@pytest.mark.parametrize(("file", "group", "name"), sorted(set(NAMED)), ids=lambda part: part)
def test_a_test_named_exists_and_checks_something(file: str, group: str, name: str) -> None:
    body: list[ast.stmt] = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    if group:
        body = next(node.body for node in body if isinstance(node, ast.ClassDef) and node.name == group)
    found = [node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name]
    assert len(found) == 1, f"{file} has no test {name}"
    (test,) = found
    skipped = [mark for mark in test.decorator_list if re.search(r"mark\.(skip|xfail)\b", ast.unparse(mark))]
    assert skipped == []
    checks = (ast.Assert, ast.With, ast.Call)
    assert any(isinstance(node, checks) for node in ast.walk(test))
