"""What README.md and the pages below docs show runs, and their tables say what the code says.

Every fenced block is run or read by the project's own loaders, but those marked `<!-- not run: reason -->`. A block
whose first line is a comment with a path is that file; the others are sections of a goal
(docs/goal.md, read by `test_docs`) or of a policy (docs/policy.md, read by `core/test_policy_review`).
"""

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import anyio
import pandas as pd
import pytest
import yaml

from crew import cli
from crew.goal import load_goal
from crew.outcome import EXIT_CODES, Outcome
from crew.roles import MANAGER, AgentConfig, load_roles
from crew.sample import write_sample
from tasks.goal import METRICS
from tests.conftest import Project
from tools.core.policy import Policy
from tools.modeling.data import write_table
from tools.registry import INTEGRATIONS, load_spec
from tools.session import open_stack

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
    if path.name not in ("ARCHITECTURE.md", "CHANGELOG.md")
}
SHELL = ("sh", "bash")
OURS = re.compile(r"MODEL|MLOPS_|MLFLOW_|WANDB_|OPENAI_")

pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore")]


@dataclass(frozen=True)
class Block:
    page: str
    kind: str
    body: str
    reason: str  # why it is not run; empty when it is

    @property
    def file(self) -> str:
        """The path its first line names."""
        found = re.match(r"# ([\w./-]+/[\w.-]+|[\w-]+\.py)(?:, added)?\n", self.body)
        return found[1] if found else ""


FENCED = r"(?:<!-- not run: (?P<reason>.*?) -->\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$"
BLOCKS = [
    Block(page, found["kind"], found["body"], found["reason"] or "")
    for page, text in PAGES.items()
    for found in re.finditer(FENCED, text, re.MULTILINE | re.DOTALL)
]


def blocks(*kinds: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind in kinds and not block.reason]


def block(file: str) -> Block:
    return next(block for block in BLOCKS if block.file == file)


def table(first: str) -> list[list[str]]:
    """The rows, without the heading, of the one table whose heading begins with `first`."""
    (page,) = (text for text in PAGES.values() if f"\n| {first} |" in text)
    lines = iter(page.splitlines())
    next(line for line in lines if line.startswith(f"| {first} |"))
    next(lines)
    rows: list[list[str]] = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A user's environment, without what a developer may have set."""
    for name in list(os.environ):
        if OURS.match(name):
            monkeypatch.delenv(name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def folder(tmp_path: Path, environment: dict[str, str]) -> Path:
    """A project as `./start` leaves it, with the files that the pages have their reader write."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    write_sample(tmp_path / "sample")
    for shown in BLOCKS:
        if shown.file and not shown.file.startswith("config/"):
            (tmp_path / shown.file).parent.mkdir(exist_ok=True)
            (tmp_path / shown.file).write_text(shown.body)
    return tmp_path


@pytest.fixture
def with_registry(folder: Path, mlflow_database: Path) -> Path:
    """The project, its MLflow database already made."""
    (folder / ".mlops" / "mlflow").mkdir(parents=True)
    shutil.copy(mlflow_database, folder / ".mlops" / "mlflow")
    return folder


def test_every_block_is_run_read_or_left_out_for_a_reason() -> None:
    assert {block.kind for block in BLOCKS} <= {*SHELL, "console", "python", "yaml", "json", "text"}
    assert all(len(block.reason) > 20 for block in BLOCKS if block.reason)
    left_out = sum(bool(block.reason) for block in BLOCKS)
    assert sum(text.count("<!-- not run:") for text in PAGES.values()) == left_out < len(BLOCKS) / 2
    assert {block.kind for block in BLOCKS if block.reason} <= set(SHELL)
    fragments = {block.page for block in blocks("yaml") if not block.file}
    assert fragments == {"docs/goal.md", "docs/policy.md"}


def test_the_readme_is_short() -> None:
    assert len(README.encode()) <= 12 * 1024


@pytest.mark.parametrize("shown", blocks(*SHELL), ids=lambda shown: shown.body.splitlines()[0])
def test_the_commands_shown_work(shown: Block, folder: Path, environment: dict[str, str]) -> None:
    command = ["bash", "-euo", "pipefail", "-c", shown.body]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No run yet" in done.stdout and "Nothing waits" in done.stdout


def test_every_command_named_on_a_page_exists() -> None:
    known = {name for name, _, _ in cli._COMMANDS} | {"policy"}
    command = re.compile(r"(?:`|\$ |^)mlops-crew ([a-z]+(?:-[a-z]+)*)", re.MULTILINE)
    named = {name for text in PAGES.values() for name in command.findall(text)}
    assert len(named) > 10
    assert named - known == set()


def test_the_call_shown_goes_through_the_gateway(
    with_registry: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import tools.session

    monkeypatch.chdir(with_registry)
    monkeypatch.setattr(tools.session, "_default", None)
    (shown,) = (block for block in blocks("python") if not block.file)
    code = compile(shown.body, shown.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    async def run() -> None:
        waiting = types.FunctionType(code, {})()
        if inspect.isawaitable(waiting):
            await waiting

    try:
        anyio.run(run)
    finally:
        tools.session.default_gateway().close()
    assert capsys.readouterr().out == "no_data no registered model 'churn'\n"
    (journal,) = (with_registry / ".mlops" / "runs").glob("*/journal.jsonl")
    assert '"action":"get_champion"' in journal.read_text()


def test_the_trainer_shown_keeps_the_contract(with_registry: Path) -> None:
    folder = with_registry
    goal = load_goal(folder / "goals" / "own.yaml")
    rows = pd.read_csv(folder / goal.data.reference).head(1500)
    write_table(rows, folder / "rows.parquet")
    project = Project(folder)
    scoring: dict[str, Any] = {"target": goal.target, "task": goal.task}
    asked = project.ok("optuna", "ask", study="s", index=0, space=goal.train.space, direction="maximize", seed=1)
    scoring |= {"metric": goal.metric, "drop": [goal.data.time_column]}
    trained = project.ok(
        "mlflow", "train_model", train=["rows.parquet"], trainer=goal.train.trainer, config=asked["params"], **scoring
    )
    assert trained["validation_value"] > 0.7
    evaluated = project.ok("mlflow", "evaluate_model", model_uri=trained["model_uri"], data="rows.parquet", **scoring)
    assert evaluated["value"] > 0.8
    for backend in project.backends.values():
        backend.close()


@pytest.mark.parametrize("name", sorted({block.file for block in BLOCKS if block.file.startswith("goals/")}))
def test_the_goals_shown_are_goals_on_files_that_exist(name: str, folder: Path) -> None:
    goal = load_goal(folder / name)
    files = [goal.data.source] if goal.data.source else [goal.data.reference, goal.data.current]
    assert all((folder / file).is_file() for file in files)
    assert {goal.target, *goal.data.drop} <= set(pd.read_csv(folder / files[-1], nrows=1).columns)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_a_goal_on_a_file_below_mlops_data(path: Path) -> None:
    assert load_goal(path, {"MLOPS_DATA": "/data"}).data.source.startswith(f"/data/{path.stem.removesuffix('_dirty')}/")


def test_the_policy_shown_names_what_exists(folder: Path) -> None:
    path = folder / "config" / "policy.yaml"
    path.write_text(block("config/policy.yaml").body)
    Policy.load(path).check([load_spec(name) for name in INTEGRATIONS], [], "README.md")


def test_the_stack_shown_opens(folder: Path) -> None:
    (folder / "config" / "stack.yaml").write_text(block("config/stack.yaml").body)
    stack = open_stack(folder, {"GITHUB_TOKEN": "a"})
    assert [stack.config(name).transport for name in ("mlflow", "wandb", "github")] == ["stdio", "http", "stdio"]


def test_the_role_and_the_task_shown_are_taken_up(folder: Path) -> None:
    for name in ("agents", "tasks"):
        with (folder / "config" / f"{name}.yaml").open("a") as file:
            file.write("\n" + block(f"config/{name}.yaml").body)
    goal = load_goal(folder / "config" / "goal.yaml")
    specs = {name: load_spec(name) for name in INTEGRATIONS}
    roles = load_roles(folder / "config", specs, goal.placeholders())
    assert roles.agents["librarian"].granted == {"dvc.list_versions"}
    assert roles.definitions["count_versions"].runbook is None


def test_an_outside_client_configured_as_shown_gets_the_tools(folder: Path, environment: dict[str, str]) -> None:
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    (shown,) = blocks("json")
    text = shown.body.replace("/path/to/mlops-crew/.venv", sys.prefix).replace("/path/to/mlops-crew", str(folder))
    (server,) = json.loads(text)["mcpServers"].values()
    parameters = StdioServerParameters(**server, env=environment)

    async def names() -> set[str]:
        with open(os.devnull, "w") as nowhere:
            async with stdio_client(parameters, errlog=nowhere) as (read, write), ClientSession(read, write) as session:
                await session.initialize()
                return {tool.name for tool in (await session.list_tools()).tools}

    assert {"mlflow_get_champion", "serving_start_canary"} <= anyio.run(names)


def test_the_variables_of_the_model_are_told_here_and_in_the_example_environment() -> None:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("#") or not line for line in lines)
    found = [match[1] for line in lines if (match := re.match(r"# ([A-Z_]+)=", line))]
    assert len(found) == len(set(found))
    read_by_us = set(re.findall(r'"(MODEL\w*)"', (ROOT / "crew" / "goal.py").read_text()))
    assert read_by_us <= set(found)
    assert read_by_us <= {name for row in table("variable") for name in codes(row[0])}


def test_the_roles_table_is_agents_yaml() -> None:
    agents: dict[str, Any] = yaml.safe_load((ROOT / "config" / "agents.yaml").read_text(encoding="utf-8"))
    roles = {name: AgentConfig.model_validate(content) for name, content in agents.items() if name != MANAGER}
    assert {row[0]: codes(row[1]) for row in table("role")} == {r.role: list(r.integrations) for r in roles.values()}


def test_the_tables_of_commands_outcomes_and_exit_codes_are_complete() -> None:
    commands = {codes(row[0])[0].removeprefix("mlops-crew ") for row in table("command")}
    assert commands == {name for name, _, _ in cli._COMMANDS}
    assert {name for row in table("outcome") for name in codes(row[0])} == set(get_args(Outcome))
    assert {int(row[0]) for row in table("code")} == {0, cli.USAGE, *EXIT_CODES.values()}
    assert [name for names in METRICS.values() for name in names if f"`{name}`" not in README] == []
