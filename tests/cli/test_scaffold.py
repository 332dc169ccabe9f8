"""`mlops-crew scaffold`: one folder, one registry line, one policy block, one extra, and the shared checks pass."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from crew.cli import main
from crew.scaffold.write import New, check, render, write
from tests.helpers.scaffolded import copy_of_the_project, loaded
from tools.core import contract_suite
from tools.core.contract import Effect
from tools.core.yamlfile import ConfigError

pytestmark = pytest.mark.timeout(400)
NAME = "acme_pager"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with one remote and one embedded integration more, both as scaffolded."""
    project = copy_of_the_project(tmp_path_factory.mktemp("checkout") / "project")
    before = os.environ.get("MLOPS_PROJECT")
    try:
        write(New("notebook", "Notebook", remote=False), project)
        assert main(["scaffold", NAME, "--remote", "--title", "Acme Pager", "--project", str(project)]) == 0
    finally:
        os.environ.pop("MLOPS_PROJECT", None)
        if before is not None:
            os.environ["MLOPS_PROJECT"] = before
    return project


def run(checkout: Path, *command: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """A program of this environment in the copy."""
    env = {**os.environ, "PYTHONPATH": str(checkout)}
    env.pop("MLOPS_PROJECT", None)
    program = Path(sys.executable).parent / command[0]
    return subprocess.run(
        [str(program), *command[1:]], cwd=checkout, env=env, capture_output=True, text=True, timeout=timeout_s
    )


def test_it_adds_a_folder_a_registry_line_a_policy_block_and_an_extra(checkout: Path) -> None:
    folder = checkout / "tools" / "integrations" / NAME
    assert {path.name for path in folder.iterdir()} == set(contract_suite.FILES)
    registry = (checkout / "tools" / "registry.py").read_text(encoding="utf-8")
    assert registry.count(f'    "{NAME}": "tools.integrations.{NAME}.spec",\n') == 1
    policy = yaml.safe_load((checkout / "config" / "policy.yaml").read_text(encoding="utf-8"))
    assert policy["integrations"][NAME] == {"allow": "*"}
    package = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert package["optional-dependencies"][NAME] == ["httpx"]
    with loaded(checkout, NAME) as spec:
        assert (spec.name, spec.title, spec.embedded, spec.extra) == (NAME, "Acme Pager", False, NAME)


def test_what_is_derived_from_the_specs_is_written_with_it(checkout: Path) -> None:
    assert "# ACME_PAGER_TOKEN=" in (checkout / ".env.example").read_text(encoding="utf-8")
    assert "| [Acme Pager](#acme-pager) |" in (checkout / "docs" / "integrations.md").read_text(encoding="utf-8")
    assert run(checkout, "python", "-m", "crew", "docs", "--check").returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("command", [("ruff", "check"), ("ruff", "format", "--check"), ("pyright",)], ids=" ".join)
def test_the_folders_pass_style_and_types(checkout: Path, command: tuple[str, ...]) -> None:
    (checkout / ".venv").exists() or (checkout / ".venv").symlink_to(Path(sys.prefix))
    folders = [f"tools/integrations/{name}" for name in (NAME, "notebook")]
    ended = run(checkout, *command, *folders)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_architecture_holds(checkout: Path) -> None:
    ended = run(checkout, "lint-imports", "--no-cache")
    assert ended.returncode == 0, ended.stdout[-3000:]


@pytest.mark.slow
def test_the_contract_suite_passes_over_every_transport_without_an_edit(checkout: Path) -> None:
    ended = run(
        checkout, "pytest", "-q", "-p", "no:cacheprovider", "tests/contracts", "-k", f"{NAME} or notebook or light"
    )
    assert ended.returncode == 0, ended.stdout[-4000:]
    assert " skipped" not in ended.stdout


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Acme", "cannot be a name"),
        ("a-b", "cannot be a name"),
        ("../evil", "cannot be a name"),
        ("class", "cannot be a name"),
        ("a__b", "cannot be a name"),
        ("x" * 31, "cannot be a name"),
        ("mlflow", "exists already"),
    ],
)
def test_a_name_that_is_bad_or_taken_changes_nothing(checkout: Path, name: str, told: str) -> None:
    before = fingerprint(checkout)
    with pytest.raises(ConfigError, match=told):
        write(New(name, "Title", remote=True), checkout)
    assert fingerprint(checkout) == before


@pytest.mark.parametrize(
    "new",
    [
        New("fine", 'a "quote"', True),
        New("fine", "{brace}", True),
        New("fine", " ", True),
        New("fine", "Fine", True, ("no; requirement",)),
        New("fine", "Fine", True, ('x"]\ninjected = ["',)),
    ],
    ids=["quote", "brace", "blank", "requirement", "injection"],
)
def test_a_bad_title_or_requirement_is_refused(checkout: Path, new: New) -> None:
    with pytest.raises(ConfigError):
        check(new, checkout)


def test_a_folder_without_the_sources_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no checkout of the project"):
        write(New("fine", "Fine", remote=False), tmp_path)


def test_it_completes_what_an_interrupted_one_left(tmp_path: Path) -> None:
    project = minimal(tmp_path)
    new = New("fine", "Fine", remote=False, requires=("river>=0.26,<0.27",))
    write(new, project)
    texts = fingerprint(project)
    for path in (project / "tools" / "integrations" / "fine").iterdir():
        path.unlink()
    (project / "tools" / "integrations" / "fine").rmdir()
    done = write(new, project)
    assert [line for line in done if "is there already" in line] == done[1:]
    assert fingerprint(project) == texts
    assert 'fine = ["river>=0.26,<0.27"]' in (project / "pyproject.toml").read_text(encoding="utf-8")
    assert 'requires=("river",)' in render(new)["spec.py"]


@pytest.mark.parametrize("place", ["tools/registry.py", "config/policy.yaml", "pyproject.toml"])
def test_a_file_that_looks_otherwise_stops_it_before_anything_is_changed(tmp_path: Path, place: str) -> None:
    project = minimal(tmp_path)
    (project / place).write_text("something = 1\n", encoding="utf-8")
    before = fingerprint(project)
    with pytest.raises(ConfigError, match="does not look as expected"):
        write(New("fine", "Fine", remote=True), project)
    assert fingerprint(project) == before


def test_an_unconfigured_remote_one_is_not_offered_and_doctor_says_what_it_lacks(checkout: Path) -> None:
    (checkout / "config" / "agents.yaml").write_text(
        (checkout / "config" / "agents.yaml")
        .read_text(encoding="utf-8")
        .replace("  integrations:\n    - synthetic\n", f"  integrations:\n    - synthetic\n    - {NAME}\n"),
        encoding="utf-8",
    )
    listed = run(checkout, "python", "-m", "crew", "tools", "synthesis")
    assert listed.returncode == 0, listed.stderr
    assert f"{NAME}: not offered. Acme Pager is not configured: set ACME_PAGER_URL, ACME_PAGER_TOKEN" in listed.stdout
    assert "create_item" not in listed.stdout
    told = run(checkout, "python", "-m", "crew", "doctor", "--integration", NAME)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "off" in told.stdout and "ACME_PAGER_TOKEN" in told.stdout


# Mutants of the scaffolded integration: what is changed, in which file, and what the suite says of it.
MUTANTS: dict[str, tuple[str, str, str, str]] = {
    "a write declared a read": (
        "spec.py", "effect=Effect.WRITE,", "effect=Effect.READ,", "is declared a read, yet it sends POST",
    ),
    "a wrong path": ("backend.py", '"POST", "v1/items"', '"POST", "v1/item"', "the system knows POST /api/v1/items"),
    "a wrong method": ("backend.py", '"POST", "v1/items"', '"PUT", "v1/items"', "sends PUT /api/v1/items"),
    "a wrong body": ("backend.py", '{"summary": args.summary}', '{"title": args.summary}', "with the body"),
    "a wrong query": ("backend.py", "size=50", "size=60", "with the query"),
    "200 taken for 201": ("backend.py", "success=201", "success=200", "ends as unknown, its example as ok"),
    "202 taken for done": ("backend.py", "success=201", "success=(201, 202)", "it is not known to be done"),
    "its token in an error": (
        "backend.py",
        "        made = answer.model(_Item)\n",
        "        made = answer.model(_Item)\n"
        "        raise NoDataError(f'no answer for {self.settings[\"ACME_PAGER_TOKEN\"]}', tried='here')\n",
        "shows the value of ACME_PAGER_TOKEN",
    ),
    "its token in a result": (
        "backend.py",
        'message=f"created item {made.id}"',
        'message=str(self.settings)',
        "shows the value of ACME_PAGER_TOKEN",
    ),
    "no credentials": ("backend.py", '    auth=Bearer("ACME_PAGER_TOKEN"),\n', "", "without the header Authorization"),
    "no idempotency key": ("backend.py", ", key=ctx.idempotency_key", "", "without the header Idempotency-Key"),
    "a write sent twice": (
        "backend.py",
        "        made = answer.model(_Item)\n",
        '        self._client.write("POST", "v1/items", json={"summary": args.summary}, success=201)\n'
        "        made = answer.model(_Item)\n",
        "which its example does not say",
    ),
    "an unknown write called failed": (
        "backend.py",
        "    def create_item(self, args: CreateItemArgs, ctx: CallContext) -> Item:\n",
        "    def create_item(self, args: CreateItemArgs, ctx: CallContext) -> Item:\n"
        "        from tools.core.errors import FinalError, UnknownOutcomeError\n"
        "        try:\n"
        "            return self._create_item(args, ctx)\n"
        "        except UnknownOutcomeError as error:\n"
        "            raise FinalError(error.message) from error\n\n"
        "    def _create_item(self, args: CreateItemArgs, ctx: CallContext) -> Item:\n",
        "it may have been done",
    ),
    "an error returned as success": (
        "backend.py",
        '        found = self._client.get("v1/items/{item_id}", item_id=args.item_id).model(_Item)\n',
        "        from tools.core.errors import ToolError\n"
        "        try:\n"
        '            found = self._client.get("v1/items/{item_id}", item_id=args.item_id).model(_Item)\n'
        "        except ToolError as error:\n"
        '            return Item(item_id="", summary="", message=error.message)\n',
        "ends as ok",
    ),
    "health that writes": (
        "backend.py",
        '        self._client.get("v1/items", query={"limit": 1})\n',
        '        self._client.write("POST", "v1/items", success=201)\n',
        "health sends POST /api/v1/items",
    ),
    "health that asks nothing": (
        "backend.py", '        self._client.get("v1/items", query={"limit": 1})\n', "",
        "health never sends GET /api/v1/items",
    ),
    "an undeclared argument": (
        "spec.py", 'limit: Annotated[int, Free("bounds what is read")]', "limit: int",
        "is declared neither Bound nor Free",
    ),
    "no example of an action": (
        "contract.py",
        'Example("get_item", {"item_id": "7"}, exchanges=(Exchange("GET", "/api/v1/items/7", Reply(200, _FIRST)),)),',
        "",
        "no example of success with its exchanges for get_item",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_contract_suite_fails_a_mutant_and_names_its_fault(mutant: str, tmp_path: Path) -> None:
    project = minimal(tmp_path)
    write(New(NAME, "Acme Pager", remote=True), project)
    file, old, new, told = MUTANTS[mutant]
    path = project / "tools" / "integrations" / NAME / file
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"the template has changed: {old}"
    path.write_text(text.replace(old, new), encoding="utf-8")
    faults = suite_over(project)
    assert any(told in fault for fault in faults), faults


def test_the_contract_suite_passes_what_is_not_mutated(tmp_path: Path) -> None:
    project = minimal(tmp_path)
    write(New(NAME, "Acme Pager", remote=True), project)
    assert suite_over(project) == []


def test_a_read_that_posts_its_query_passes_where_the_exchange_says_so(tmp_path: Path) -> None:
    project = minimal(tmp_path)
    write(New(NAME, "Acme Pager", remote=True), project)
    folder = project / "tools" / "integrations" / NAME
    edit(
        folder / "backend.py",
        'self._client.get("v1/items/{item_id}", item',
        'self._client.query("v1/items/{item_id}", json={}, item',
    )
    edit(
        folder / "contract.py",
        'Exchange("GET", "/api/v1/items/7", Reply(200, _FIRST))',
        'Exchange("POST", "/api/v1/items/7", Reply(200, _FIRST), body={})',
    )
    edit(
        folder / "contract.py",
        'Exchange("GET", "/api/v1/items/a%2Fb", Reply(404, _error(404, "no such item")))',
        'Exchange("POST", "/api/v1/items/a%2Fb", Reply(404), body={}, reads="queries are posted")',
    )
    assert any("get_item is declared a read, yet it sends POST" in fault for fault in suite_over(project))
    edit(
        folder / "contract.py",
        "Reply(200, _FIRST), body={})",
        'Reply(200, _FIRST), body={}, reads="queries are posted")',
    )
    assert suite_over(project) == []


def suite_over(project: Path) -> list[str]:
    """What the suite's checks say of the integration, one sentence for each that fails."""
    from tools.core import remote_suite

    faults: list[str] = []

    def tell(check: Callable[[], None]) -> None:
        try:
            check()
        except AssertionError as error:
            faults.append(str(error))

    home = project / ".mlops"
    with loaded(project, NAME) as spec:
        for static in contract_suite.STATIC_CHECKS:
            tell(lambda static=static: static(spec))
        standin = contract_suite.standin_of(spec)
        assert standin is not None
        with standin.serving() as play:
            for example in contract_suite.examples_of(spec):
                tell(lambda example=example: remote_suite.check_remote_example(spec, example, play, home))
            tell(lambda: remote_suite.check_health(spec, play, home))
            if not faults:  # a wrong one would fail each of them again
                for trouble in remote_suite.troubles(standin):
                    tell(lambda trouble=trouble: remote_suite.check_trouble(spec, trouble, play, home))
        assert spec.actions[0].effect is Effect.READ
    return faults


def minimal(tmp_path: Path) -> Path:
    """A folder with just the files that a scaffold edits."""
    project = tmp_path / "project"
    for name, text in {
        "tools/registry.py": 'INTEGRATIONS: dict[str, str] = {\n    "a": "tools.integrations.a.spec",\n}\n',
        "config/policy.yaml": 'autonomy: auto\nintegrations:\n  a: {allow: "*"}\n\n# the end\n',
        "pyproject.toml": '[project.optional-dependencies]\nray = ["ray"]\n\n[project.scripts]\n',
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text, encoding="utf-8")
    return project


def fingerprint(project: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes()
        for path in project.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".venv" not in path.parts
    }


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {path.name}"
    path.write_text(text.replace(old, new), encoding="utf-8")
