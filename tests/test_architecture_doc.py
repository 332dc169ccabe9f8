"""The pages name what is there, and the drawing is what import-linter enforces."""

import re
import tomllib
from pathlib import Path

import pytest

from tools.core import contract_suite

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
}
PAGE = PAGES["ARCHITECTURE.md"]
TOP = "crew|tasks|tools|config|tests|notebooks|bench|examples|docs|bin"
WRITTEN_LATER = {"config/pins.json"}  # by a command, in a project that uses it


@pytest.mark.parametrize("name", PAGES)
def test_every_path_a_page_names_exists(name: str) -> None:
    text = PAGES[name]
    named = set(re.findall(rf"(?<![\w/.-])(?:{TOP})/[\w./-]*\w", text))
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link}
    assert sorted(link for link in links if not ((ROOT / name).parent / link).exists()) == []
    named |= set(re.findall(r"`\.?/?(\w+\.(?:md|toml)|start|check|\.env\.example)`", text))
    assert sorted(path for path in named - WRITTEN_LATER if not (ROOT / path).exists()) == []


def test_the_files_of_an_integration_are_those_of_the_contract() -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith("| an integration | a folder"))
    assert set(re.findall(r"`(\w+\.py)`", row)) == set(contract_suite.FILES)


def drawing() -> dict[str, list[set[str]]]:
    """Box -> its layers from the top, each the names on one line."""
    boxes: dict[str, list[set[str]]] = {}
    current: list[set[str]] = []
    goes_on = False
    for line in PAGE.split("```text\n")[1].split("```")[0].splitlines():
        if title := re.match(r"┌ (.+?) ─", line):
            current = boxes.setdefault(title[1], [])
        elif row := re.match(r"│ (.+?)(?:  .*)?│$", line.replace("│   ", "│ ")):
            names = {name.strip() for name in row[1].split("|") if name.strip()}
            if goes_on:
                current[-1] |= names
            else:
                current.append(names)
            goes_on = row[1].rstrip().endswith("|")
    return boxes


def test_the_drawing_is_what_import_linter_enforces() -> None:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    enforced = {
        (contract.get("containers") or ["the program"])[0]: [
            {name.strip() for name in layer.split("|")} for layer in contract["layers"]
        ]
        for contract in linter["contracts"]
        if contract["type"] == "layers"
    }
    assert drawing() == enforced


def test_the_journal_table_names_the_kinds_that_are_written() -> None:
    rows = [line for line in PAGE.split("## The journal")[1].split("## ")[0].splitlines() if line.startswith("| `")]
    told = {kind for line in rows for kind in re.findall(r"`(\w+)`", line.split("|")[1])}
    files = [path for top in ("crew", "tools") for path in (ROOT / top).rglob("*.py")]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    assert told == set(re.findall(r'journal\.append\(\s*"(\w+)"', source))


def test_every_class_and_method_the_page_names_exists() -> None:
    files = [path for top in ("crew", "tasks", "tools") for path in (ROOT / top).rglob("*.py")]
    source = "\n".join(path.read_text(encoding="utf-8") for path in files)
    named = re.findall(r"`([A-Z][a-z]\w*)(?:\.(\w+))?(?=[`(.])", PAGE)
    assert len(named) > 15
    missing = [name for name, _ in named if not re.search(rf"^(?:class|def) {name}\b", source, re.MULTILINE)]
    assert missing == []
    attributes = {attribute for _, attribute in named if attribute}
    assert [name for name in attributes if not re.search(rf"^    (?:def {name}\b|{name}:)", source, re.MULTILINE)] == []
