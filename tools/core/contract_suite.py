"""The contract every integration keeps, as checks that run over all of them.

Static checks take a spec. Live checks call the integration through a gateway, whatever transport serves it, with the
examples it ships in `tools/integrations/<name>/contract.py` (`examples` says what may be in it). What talks to a system
over HTTP is also played against its stand-in, with every trouble there is (`remote_suite`).

A further integration joins by being in the registry and shipping that file; nothing here is edited. Each check raises
`AssertionError` with a sentence that says what to change.
"""

import ast
import hashlib
import importlib
import inspect
import json
import re
import subprocess
import sys
import time
import typing
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tools.core.arguments import bound_arguments, declared
from tools.core.contract import Action, Args, Backend, CallContext, Data, Effect, Integration, QuestionArgs
from tools.core.dispatch import failure
from tools.core.errors import ErrorKind, FixableError, MissingDependencyError
from tools.core.examples import Example, contract_of, examples_of, standin_of, unreachable_of
from tools.core.remote_suite import check_shows_none, check_standin
from tools.core.results import Status, ToolResult
from tools.core.schema import agent_schema, input_schema, output_schema
from tools.core.server import as_mcp
from tools.core.standin import Play
from tools.core.writes import EACH_CALL, Undo

__all__ = ["STATIC_CHECKS", "Example", "examples_of", "standin_of", "unreachable_of"]

FILES = ("__init__.py", "spec.py", "backend.py", "tool.py", "contract.py")
CHARS_PER_TOKEN = 4.2  # of a definition; cl100k_base, which cannot be had offline, gave 4.5 on average over ours
MAX_TOOL_TOKENS = 200
MAX_MEAN_TOKENS = 100  # over all tools
MAX_SPEC_IMPORT_S = 2.0  # CPU time of importing every spec, pydantic included
UNREACHABLE_WITHIN_S = 30.0
READ_NAME = re.compile(r"(?:get|list|query|read)(?:_|$)|status$")
WORKING_FILES = ("-wal", "-shm", "-journal", ".log", "cache.db")
# Libraries of the project's shared parts: an integration may import them without naming them.
SHARED = frozenset(
    {"httpx", "numpy", "pandas", "polars", "pyarrow", "pydantic", "starlette", "threadpoolctl", "uvicorn", "yaml"}
)
NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")

Call = Callable[[str, Mapping[str, Any]], ToolResult]


def definition_tokens(action: Action) -> float:
    """About how many tokens a model pays for an action's definition on every request, at most: what the goal binds is
    never shown to it."""
    stated = [name for name, bound in bound_arguments(action.args).items() if not bound.name]
    schema = json.dumps(agent_schema(action, stated), separators=(",", ":"))
    text = " ".join((action.name, action.summary, schema))
    return len(text) / CHARS_PER_TOKEN


def check_folder(spec: Integration) -> None:
    """Every integration's folder is the same inside."""
    folder = Path(str(importlib.import_module(f"tools.integrations.{spec.name}").__file__)).parent
    missing = [name for name in FILES if not (folder / name).is_file()]
    assert not missing, f"{folder} has no {', '.join(missing)}"
    module = importlib.import_module(f"tools.integrations.{spec.name}")
    assert module.__doc__, f"{folder}/__init__.py does not say what it holds"
    assert spec.backend.startswith(f"{module.__name__}.backend:"), f"{spec.name}: the backend belongs in backend.py"


def check_actions(spec: Integration) -> None:
    """Names, descriptions, effects and sizes of the actions."""
    assert NAME.fullmatch(spec.name) and spec.title and spec.summary and spec.actions, spec.name
    names = [action.name for action in spec.actions]
    assert len(set(names)) == len(names), f"{spec.name}: an action's name is given twice"
    for action in spec.actions:
        where = f"{spec.name}.{action.name}"
        assert NAME.fullmatch(action.name), f"{where}: not a snake_case name"
        assert action.summary.endswith((".", "?")), f"{where}: the summary is not a sentence"
        if READ_NAME.match(action.name):
            assert action.effect is Effect.READ, f"{where}: its name says it reads, its effect is {action.effect}"
        assert 0 < action.timeout_s <= 6 * 3600, f"{where}: timeout_s {action.timeout_s}"
        assert action.asks == issubclass(action.args, QuestionArgs), f"{where}: asks, but its args are no QuestionArgs"
        tokens = definition_tokens(action)
        assert tokens <= MAX_TOOL_TOKENS, f"{where}: about {tokens:.0f} tokens, more than {MAX_TOOL_TOKENS}"
        for name, parameter in input_schema(action)["properties"].items():
            assert parameter.get("description"), f"{where}: parameter {name} is not described"
            assert "properties" not in parameter, f"{where}: parameter {name} is a nested object"


def check_results(spec: Integration) -> None:
    """Results are typed: a client can tell from the output schema what it gets."""
    for action in spec.actions:
        where = f"{spec.name}.{action.name}"
        assert issubclass(action.args, Args) and issubclass(action.result, Data), where
        for name, info in action.result.model_fields.items():
            assert info.annotation is not Any, f"{where}: result field {name} is untyped"
        assert output_schema(action)["properties"]["data"], where
        json.dumps(output_schema(action))


def check_content(spec: Integration) -> None:
    """Whatever an action returns, a client that reads only the text of its MCP result is told all of it."""
    for action in spec.actions:
        where = f"{spec.name}.{action.name}"
        schema = action.result.model_json_schema()
        data = {name: _example(member, schema) for name, member in schema.get("properties", {}).items()}
        for result in (ToolResult(status=Status.OK, message="Done.", data=data), failure(FixableError("not so"))):
            check_text(where, as_mcp(result))


def check_text(where: str, answer: Any) -> None:
    """The first content block of an MCP result is its structured content as JSON.

    Args:
        answer: with `content` and `structuredContent`, as the MCP SDK has it.
    """
    text = answer.content[0].text if answer.content else ""
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    assert isinstance(told, dict), f"{where}: the text of its result is no JSON object: {text[:80]!r}"
    missing = [name for name, value in (answer.structuredContent or {}).items() if told.get(name, ...) != value]
    assert answer.structuredContent and not missing, f"{where}: the text of its result lacks {', '.join(missing)}"


def _example(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    """A value of the type that a JSON schema describes; constraints on it are not looked at."""
    if "$ref" in schema:
        return _example(root["$defs"][schema["$ref"].rsplit("/", 1)[-1]], root)
    if "enum" in schema or "const" in schema:
        return schema.get("const", *schema.get("enum", ())[:1])
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], root)
    match schema.get("type"):
        case "object":
            named = {name: _example(member, root) for name, member in schema.get("properties", {}).items()}
            more = schema.get("additionalProperties")
            return {**named, "a name": _example(more, root)} if isinstance(more, dict) else named
        case "array":
            return [_example(schema.get("items", {}), root)]
        case "integer":
            return 3
        case "number":
            return 0.1 + 0.2
        case "boolean":
            return True
        case _:
            return "sqlite:///a/pfad/grün.db?x=1"


def check_settings(spec: Integration) -> None:
    """Settings are documented environment variables; secrets have no default."""
    for setting in spec.settings:
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", setting.name), f"{spec.name}: {setting.name}"
        assert len(setting.description) >= 8, f"{spec.name}: {setting.name} is not described"
        assert not (setting.secret and setting.default), f"{spec.name}: the secret {setting.name} has a default"
    contract = contract_of(spec)
    unreachable: Mapping[str, str] = getattr(contract, "UNREACHABLE", {})
    named = {setting.name for setting in spec.settings}
    assert set(unreachable) <= named, f"{spec.name}: UNREACHABLE names a setting it does not have"


def check_backend(spec: Integration) -> None:
    """The backend has exactly the methods of the actions, with their types."""
    module, _, name = spec.backend.partition(":")
    backend = getattr(importlib.import_module(module), name)
    assert issubclass(backend, Backend), f"{spec.backend} is no Backend"
    assert backend.health is not Backend.health, f"{spec.backend} has no health()"
    for action in spec.actions:
        where = f"{spec.backend}.{action.name}"
        method = getattr(backend, action.name, None)
        assert method is not None, f"{where}: no such method"
        hints = typing.get_type_hints(method)
        parameters = list(inspect.signature(method).parameters)
        assert parameters == ["self", "args", "ctx"], f"{where} takes {parameters}"
        assert hints.get("args") is action.args, f"{where}: args is not {action.args.__name__}"
        assert hints.get("ctx") is CallContext, f"{where}: ctx is not CallContext"
        assert hints.get("return") is action.result, f"{where}: does not return {action.result.__name__}"
    public = {key for key, value in vars(backend).items() if inspect.isfunction(value) and not key.startswith("_")}
    extra = public - {action.name for action in spec.actions} - {"health", "warm", "close"}
    assert not extra, f"{spec.backend}: {', '.join(sorted(extra))} belongs to no action"


def check_arguments(spec: Integration) -> None:
    """Every argument says who fills it in: bound by the gateway, or free with the reason why that is harmless."""
    for action in spec.actions:
        for name, info in action.args.model_fields.items():
            assert declared(info) is not None, f"{spec.name}.{action.name}: {name} is declared neither Bound nor Free"


def check_imports(spec: Integration) -> None:
    """`imports` names the libraries that the folder's modules import, so that nothing else may."""
    folder = Path(str(importlib.import_module(f"tools.integrations.{spec.name}").__file__)).parent
    ours = {"tools", *SHARED, *sys.stdlib_module_names}
    found = {name for path in folder.rglob("*.py") for name in _imported(path)} - ours
    unnamed, unused = sorted(found - set(spec.imports)), sorted(set(spec.imports) - found)
    assert not unnamed, f"{spec.name} imports {', '.join(unnamed)}, which its spec does not name under imports"
    assert not unused, f"{spec.name} names {', '.join(unused)} under imports and imports it nowhere"


def check_missing_dependency(spec: Integration) -> None:
    """Without its library the integration says how to install it."""
    from dataclasses import replace

    absent = replace(spec, requires=("a-distribution-that-does-not-exist",))
    try:
        absent.load_backend(absent.resolve_settings({}))
    except MissingDependencyError as error:
        assert spec.install_command() in error.message and spec.title in error.message, error.message
    else:
        raise AssertionError(f"{spec.name} was loaded without its library")


def check_writes(spec: Integration) -> None:
    """Every write says what makes a repetition the same write, how it is read back, and what takes it back."""
    names = {action.name: action for action in spec.actions}
    for action in spec.actions:
        where = f"{spec.name}.{action.name}"
        if action.effect is Effect.READ:
            assert action.key is None and action.read_back is None and action.undo is None, f"{where}: reads only"
            assert not action.repeatable and not action.ends, (
                f"{where}: a read may always be repeated, and ends nothing"
            )
            continue
        assert action.key is not None, f"{where}: key is missing: what makes a repetition the same write?"
        unknown = (
            [] if action.key == EACH_CALL else [name for name in action.key if name not in action.args.model_fields]
        )
        assert not unknown, f"{where}: key names no argument: {', '.join(unknown)}"
        if action.effect is Effect.RISKY:
            assert action.read_back is not None, f"{where}: read_back is missing: after a crash, did it happen?"
        assert action.read_back is not None or action.repeatable, f"{where}: neither read_back nor repeatable"
        others = [action.undo.action if isinstance(action.undo, Undo) else action.undo] if action.undo else []
        for other in (*others, *action.ends):
            assert other in names, f"{where}: undo or ends names no action: {other}"
        if action.read_back is not None:
            read = names.get(action.read_back.action)
            assert read is not None and read.effect is Effect.READ, f"{where}: read_back names no read"
            # Where nothing was found, and nobody had looked before, the condition must still answer.
            blank = dict.fromkeys(action.args.model_fields, "")
            assert action.read_back.happened(blank, None, None) in (True, False, None), where


STATIC_CHECKS: tuple[Callable[[Integration], None], ...] = (
    check_folder,
    check_actions,
    check_results,
    check_content,
    check_settings,
    check_backend,
    check_writes,
    check_arguments,
    check_imports,
    check_standin,
    check_missing_dependency,
)


def check_specs_are_light(modules: Mapping[str, str], vendors: Iterable[str]) -> None:
    """Importing every spec imports no vendor library and no MCP, and is quick."""
    heavy = sorted({*vendors, "mcp", "crewai", "pandas", "numpy", "httpx", "matplotlib"})
    program = f"""
import importlib, json, sys, time
began = time.process_time()
for module in {list(modules.values())!r}:
    importlib.import_module(module)
print(json.dumps([time.process_time() - began, [name for name in {heavy!r} if name in sys.modules]]))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    seconds, imported = json.loads(ended.stdout)
    assert imported == [], f"importing the specs imports {', '.join(imported)}"
    assert seconds <= MAX_SPEC_IMPORT_S, f"importing the specs takes {seconds:.1f} s of CPU time"


def check_wrong_calls_are_fixable(spec: Integration, call: Call) -> None:
    """An unknown action and an unknown argument are errors the caller can fix; they name what is valid."""
    unknown = call(f"{spec.actions[0].name}_x", {})
    assert unknown.error is not None and unknown.error.kind is ErrorKind.FIXABLE, unknown
    assert all(action.name in unknown.message for action in spec.actions), unknown.message
    for action in spec.actions:
        result = call(action.name, {"no_such_argument": 1})
        assert result.error is not None and result.error.kind is ErrorKind.FIXABLE, result
        assert "no_such_argument" in result.message, result.message


def check_example(spec: Integration, example: Example, call: Call) -> None:
    """An example ends as it must; good data is of the promised type and says in a sentence what it is."""
    result = call(example.action, example.arguments)
    assert result.status is example.status, f"{spec.name}.{example.action}: {result}"
    if result.ok:
        spec.action(example.action).result.model_validate(result.data)
    else:
        assert result.error is not None and result.message.strip(), result
        assert example.error in (None, result.error.kind), result
        assert "Traceback" not in result.message and "\n" not in result.message, result.message


def check_read_leaves_no_trace(spec: Integration, example: Example, call: Call, project: Path) -> None:
    """A repeated read changes no file of the project but the run's own (the first one may make an embedded store)."""
    if spec.action(example.action).effect is not Effect.READ:
        return
    before = _files(project)
    call(example.action, example.arguments)
    changed = {str(path) for path, _ in before.items() ^ _files(project).items()}
    assert not changed, f"{spec.name}.{example.action} reads, yet it changed {', '.join(sorted(changed))}"


def check_unreachable(spec: Integration, example: Example, call: Call) -> None:
    """With a real server that does not answer, a call ends within seconds in an error that names the server."""
    began = time.monotonic()
    result = call(example.action, example.arguments)
    took = time.monotonic() - began
    assert result.error is not None and result.status in (Status.FAILED, Status.UNKNOWN), result
    assert took <= UNREACHABLE_WITHIN_S, f"{spec.name}: an unreachable server took {took:.0f} s"
    place = re.compile("|".join(re.escape(_address(value)) for value in unreachable_of(spec).values()))
    assert place.search(f"{result.message} {result.error.tried}"), f"{spec.name}: the error names no server: {result}"


@contextmanager
def staged(spec: Integration) -> Generator[list[tuple[list[Example], dict[str, str], Play | None]]]:
    """The examples with the settings they run under: those that need no system, and those that its stand-in answers."""
    alone = [example for example in examples_of(spec) if not example.exchanges]
    played = [example for example in examples_of(spec) if example.exchanges]
    standin = standin_of(spec)
    with standin.serving() if standin is not None else nullcontext() as play:
        stages: list[tuple[list[Example], dict[str, str], Play | None]] = []
        if alone:
            # Without an embedded form even a refused call needs its settings.
            stages.append((alone, {} if spec.embedded or play is None else play.standin.settings_at(play.url), None))
        if played:
            assert play is not None, f"{spec.name}: examples have exchanges, and contract.py has no STANDIN"
            stages.append((played, play.standin.settings_at(play.url), play))
        yield stages


def replayed(call: Call, example: Example, play: Play | None) -> Call:
    """`call`, with the stand-in at the example's beginning, and an eye on what was sent."""

    def replay(action: str, arguments: Mapping[str, Any]) -> ToolResult:
        if play is None:
            return call(action, arguments)
        play.begin(example.exchanges)
        result = call(action, arguments)
        play.check_complete()
        assert not play.objections, f"{action} {play.objections[0]}"
        return result

    return replay


def _imported(path: Path) -> Iterator[str]:
    """Top-level modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


def _address(url: str) -> str:
    return url.split("://")[-1].split("/")[0]


def check_no_secret(spec: Integration, example: Example, settings: Mapping[str, str], project: Path) -> None:
    """With a planted value in every secret setting, what the backend itself answers shows none of them."""
    from tools.core.dispatch import run_action

    secrets = {s.name: f"planted-{s.name.lower()}-4711" for s in spec.settings if s.secret and s.name not in settings}
    # A secret that also points to a real system would have us call it.
    secrets = {s.name: secrets[s.name] for s in spec.settings if s.name in secrets and not s.real}
    if not secrets:
        return
    backend = spec.load_backend(spec.resolve_settings({**settings, **secrets}))
    try:
        context = CallContext(project=project, home=project / ".mlops", run_id="contract")
        result = run_action(spec, backend, example.action, example.arguments, context)
    finally:
        backend.close()
    check_shows_none(f"{spec.name}.{example.action}", secrets, result.model_dump_json())


def _files(project: Path) -> dict[Path, str]:
    """Content of the project's files, but for the runs' own, caches and databases' working files."""
    found: dict[Path, str] = {}
    for path in project.rglob("*"):
        name = path.relative_to(project)
        if path.is_file() and name.parts[:2] != (".mlops", "runs") and not name.name.endswith(WORKING_FILES):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found
