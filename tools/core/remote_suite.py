"""What the contract suite asks of an integration that talks to a system over HTTP, played against its stand-in.

Every example with exchanges is played as it is, and then again with each trouble at each of its requests: refusals,
missing access, rate limits, failures, slowness, a lost connection, another success status, a page instead of JSON, a
redirect to another host, secrets in the system's own words. The backend is called straight, without the gateway, so
that nothing is repeated and nothing redacted on the way. Each check raises `AssertionError` with a sentence that names
the fault.
"""

import base64
import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tools.core.contract import CallContext, Effect, Integration
from tools.core.dispatch import run_action
from tools.core.errors import ErrorKind, ToolError
from tools.core.examples import Example, examples_of, standin_of
from tools.core.results import Status, ToolResult
from tools.core.standin import Exchange, Play, Reply, StandIn, http_server

KEY = "key-of-the-contract-suite"  # what a write finds as its idempotency key
WAIT_S = 7  # what a played rate limit asks to wait
NEEDED_ERRORS = ((400, 422), (401,), (404,), (429,), (500,))


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong at one request.

    Args:
        name: as `Example.handles` names it.
        reply: what the stand-in does; None: it does not apply to this exchange.
        judge: what is wrong with the result, empty if nothing; told whether something may have been changed.
    """

    name: str
    reply: Callable[[StandIn, Exchange, "Scene"], Reply | None]
    judge: Callable[[ToolResult, bool], str]


@dataclass(frozen=True)
class Scene:
    """Where an integration is played: its settings, the secrets among them, and another host."""

    settings: Mapping[str, str]
    secrets: Mapping[str, str]
    elsewhere: str


def check_standin(spec: Integration) -> None:
    """An integration that reaches a system over HTTP ships a stand-in, and an example of success for each action."""
    standin = standin_of(spec)
    if standin is None:
        assert spec.embedded, f"{spec.name} has no embedded form, so its contract.py needs a STANDIN"
        return
    named = {setting.name: setting for setting in spec.settings}
    unknown = sorted(set(standin.settings) - set(named))
    assert not unknown, f"{spec.name}: STANDIN sets {', '.join(unknown)}, which are no settings of its spec"
    assert any("{url}" in value for value in standin.settings.values()), (
        f"{spec.name}: no setting of STANDIN has {{url}}"
    )
    for statuses in NEEDED_ERRORS:
        assert set(statuses) & set(standin.errors), (
            f"{spec.name}: STANDIN.errors lacks {' or '.join(map(str, statuses))}"
        )
    secrets = [value for name, value in standin.settings.items() if named[name].secret]
    assert all(len(value) >= 12 for value in secrets), f"{spec.name}: the secrets of STANDIN need 12 characters"
    shown = json.dumps([*standin.auth.values(), *standin.auth_query.values()])
    used = any(form in shown for value in secrets for form in (value, _base64(value))) or "Basic " in shown
    assert used or not secrets, f"{spec.name}: STANDIN.auth does not ask for the secrets of its settings"
    if not spec.embedded:
        assert any(s.required for s in spec.settings), f"{spec.name} has no embedded form and no required setting"
        lacking = {action.name for action in spec.actions} - {example.action for example in _succeeding(spec)}
        assert not lacking, f"{spec.name}: no example of success with its exchanges for {', '.join(sorted(lacking))}"
        assert standin.health, f"{spec.name}: STANDIN.health does not say what health() sends"
    for example in examples_of(spec):
        unknown = sorted(set(example.handles) - {trouble.name for trouble in troubles(standin)})
        assert not unknown, f"{spec.name}.{example.action}: handles names no trouble: {', '.join(unknown)}"
        if spec.action(example.action).effect is Effect.READ:
            for exchange in example.exchanges:
                assert not exchange.writes, _reads_by_writing(spec, example.action, exchange.name)


def check_remote_example(spec: Integration, example: Example, play: Play, home: Path) -> None:
    """The example sends exactly what the system takes, and ends as it must."""
    scene = _scene(spec, play, "")
    result = _call(spec, example, play, scene, {}, home)
    play.check_complete()
    where = f"{spec.name}.{example.action}"
    assert not play.objections, f"{where} {play.objections[0]}"
    said = f" ({result.message})" if result.message else ""
    assert result.status is example.status, f"{where} ends as {result.status}, its example as {example.status}{said}"
    if result.ok:
        spec.action(example.action).result.model_validate(result.data)
    else:
        assert result.error is not None and example.error in (None, result.error.kind), f"{where}: {result}"


def check_trouble(spec: Integration, trouble: Trouble, play: Play, home: Path) -> None:
    """The trouble, at every request of every example of success, ends as its reader needs it."""
    reached: list[str] = []

    def elsewhere(request: object) -> Reply:
        reached.append(str(request))
        return Reply(200, {})

    with http_server(elsewhere) as (url, _):
        scene = _scene(spec, play, url)
        for example in _succeeding(spec):
            written = False
            for position, exchange in enumerate(example.exchanges):
                written |= exchange.writes
                reply = trouble.reply(play.standin, exchange, scene)
                if reply is None:
                    continue
                began = time.monotonic()
                result = _call(spec, example, play, scene, {position: reply}, home)
                took = time.monotonic() - began
                where = f"{spec.name}.{example.action}, where {exchange.name} meets {trouble.name}"
                assert not reached, f"{where}: it follows the system's redirect to another host"
                assert not play.objections, f"{where}: {play.objections[0]}"
                assert took <= play.standin.slow_s, (
                    f"{where}: it took {took:.1f} s, more than {play.standin.slow_s:g} s"
                )
                if trouble.name not in example.handles:
                    problem = trouble.judge(result, written)
                    assert not problem, f"{where}: {problem}, but it ends as {_told(result)}"


def check_health(spec: Integration, play: Play, home: Path) -> None:
    """`health` reaches the system, and tells a person when access is refused."""
    scene = _scene(spec, play, "")
    health = play.standin.health
    play.begin(health)
    failed = ""
    try:
        _health(spec, scene, home)
    except ToolError as error:
        failed = error.message
    play.check_complete()
    assert not play.objections, f"{spec.name}.health {play.objections[0]}"
    assert not failed, f"{spec.name}.health fails although the system answers: {failed}"
    assert not any(exchange.writes for exchange in health), f"{spec.name}.health changes something"
    play.begin(health, {0: Reply(401, play.standin.error(401, "not authorized"))})
    try:
        told = _health(spec, scene, home)
    except ToolError as error:
        check_shows_none(f"{spec.name}.health", scene.secrets, error.message + str(error.tried))
    else:
        raise AssertionError(f"{spec.name}.health says {told!r} although access is refused")


def troubles(standin: StandIn) -> tuple[Trouble, ...]:
    """Every trouble that is played, those of `STANDIN.errors` among them."""
    return (
        *(Trouble(str(status), _status(status), _JUDGES.get(status, _not_done)) for status in standin.errors),
        Trouble("secrets in its words", _echo, _not_done),
        Trouble("no answer in time", lambda s, e, w: Reply(hold=True), _lost),
        Trouble("a lost connection", lambda s, e, w: Reply(cut=True), _lost),
        Trouble("another success status", _other_success, _unconfirmed),
        Trouble("a page instead of JSON", _page, _unconfirmed),
        Trouble("a redirect to another host", _redirect, _not_done),
    )


def _status(status: int) -> Callable[[StandIn, Exchange, Scene], Reply]:
    headers = {"Retry-After": str(WAIT_S)} if status == 429 else {}
    return lambda standin, exchange, scene: Reply(status, standin.error(status, f"played {status}"), headers)


def _echo(standin: StandIn, exchange: Exchange, scene: Scene) -> Reply:
    status = 400 if 400 in standin.errors else 422
    text = "you sent " + " and ".join([*scene.secrets.values(), *standin.auth.values(), *standin.auth_query.values()])
    return Reply(status, standin.error(status, text))


def _other_success(standin: StandIn, exchange: Exchange, scene: Scene) -> Reply:
    """202: accepted, and not done yet."""
    return dataclasses.replace(exchange.reply, status=202 if exchange.reply.status != 202 else 200)


def _page(standin: StandIn, exchange: Exchange, scene: Scene) -> Reply | None:
    if exchange.reply.body is None or not 200 <= exchange.reply.status < 300:
        return None
    return Reply(exchange.reply.status, "<html><title>Sign in</title></html>", exchange.reply.headers)


def _redirect(standin: StandIn, exchange: Exchange, scene: Scene) -> Reply:
    return Reply(307, None, {"Location": f"{scene.elsewhere}{exchange.path}"})


def _not_done(result: ToolResult, written: bool) -> str:
    return "it was not done" if result.ok else ""


def _fixable(result: ToolResult, written: bool) -> str:
    return _kind(result, written, ErrorKind.FIXABLE, "the caller can correct it (FixableError)")


def _person(result: ToolResult, written: bool) -> str:
    problem = _kind(result, written, ErrorKind.NEEDS_PERSON, "a person must give access (NeedsPersonError)")
    named = result.error is not None and re.search(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b", result.error.message)
    return problem or ("" if named else "a person must be told which setting to check")


def _nothing_there(result: ToolResult, written: bool) -> str:
    fixable = result.error is not None and result.error.kind is ErrorKind.FIXABLE
    where = result.error is not None and result.error.tried
    if fixable or (written and result.status is Status.UNKNOWN) or (result.status is Status.NO_DATA and where):
        return ""
    return "nothing is there (NoDataError, which says where was looked)"


def _later(result: ToolResult, written: bool) -> str:
    problem = _kind(result, written, ErrorKind.RETRY, "it may work later (RetryableError)")
    if problem or result.status is Status.UNKNOWN:
        return problem
    waits = result.error is not None and result.error.wait_s == WAIT_S
    return "" if waits else f"the system asked to wait {WAIT_S} s (RetryableError.wait_s)"


def _lost(result: ToolResult, written: bool) -> str:
    if written:
        return "" if result.status is Status.UNKNOWN else "it may have been done (UnknownOutcomeError)"
    retry = result.error is not None and result.error.kind is ErrorKind.RETRY
    return "" if retry else "it may work later (RetryableError)"


def _unconfirmed(result: ToolResult, written: bool) -> str:
    if written:
        return "" if result.status is Status.UNKNOWN else "it is not known to be done (UnknownOutcomeError)"
    return "the answer is not what the system promises" if result.ok else ""


_JUDGES: dict[int, Callable[[ToolResult, bool], str]] = {
    400: _fixable, 401: _person, 403: _person, 404: _nothing_there, 422: _fixable, 429: _later,
    500: _lost, 502: _lost, 503: _lost, 504: _lost,
}  # fmt: skip


def _kind(result: ToolResult, written: bool, kind: ErrorKind, wanted: str) -> str:
    """A later request may be refused after an earlier one changed something: then unknown is right too."""
    if (result.error is not None and result.error.kind is kind) or (written and result.status is Status.UNKNOWN):
        return ""
    return wanted


def _call(
    spec: Integration, example: Example, play: Play, scene: Scene, replies: Mapping[int, Reply], home: Path
) -> ToolResult:
    """One call of a fresh backend, with what holds of every call: no secret, no write by a read."""
    play.begin(example.exchanges, replies)
    backend = spec.load_backend(spec.resolve_settings(scene.settings))
    try:
        writes = spec.action(example.action).effect is not Effect.READ
        context = CallContext(home.parent, home, "contract", idempotency_key=KEY if writes else "")
        result = run_action(spec, backend, example.action, example.arguments, context)
    finally:
        backend.close()
    if spec.action(example.action).effect is Effect.READ:
        for request, exchange in _pairs(play, example):
            posted_query = exchange is not None and exchange.reads and exchange.name == request
            assert posted_query or request.startswith(("GET ", "HEAD ")), _reads_by_writing(
                spec, example.action, request
            )
    check_shows_none(f"{spec.name}.{example.action}", scene.secrets, result.model_dump_json())
    return result


def _pairs(play: Play, example: Example) -> Iterator[tuple[str, Exchange | None]]:
    for number, request in enumerate(play.seen):
        yield request.name, example.exchanges[number] if number < len(example.exchanges) else None


def _reads_by_writing(spec: Integration, action: str, request: str) -> str:
    return (
        f"{spec.name}.{action} is declared a read, yet it sends {request}: declare what it does, or, where queries are "
        f"posted, say so in the exchange (reads=...)"
    )


def check_shows_none(where: str, secrets: Mapping[str, str], text: str) -> None:
    """No secret is in the text: not as it is, nor in base64, hexadecimal or quoted for a URL."""
    for name, value in secrets.items():
        for form in (value, _base64(value), value.encode().hex(), quote(value, safe="")):
            assert form not in text, f"{where} shows the value of {name} in its result"


def _scene(spec: Integration, play: Play, elsewhere: str) -> Scene:
    settings = play.standin.settings_at(play.url)
    secrets = {s.name: settings[s.name] for s in spec.settings if s.secret and settings.get(s.name)}
    return Scene(settings, secrets, elsewhere)


def _succeeding(spec: Integration) -> list[Example]:
    return [example for example in examples_of(spec) if example.exchanges and example.status is Status.OK]


def _health(spec: Integration, scene: Scene, home: Path) -> str:
    backend = spec.load_backend(spec.resolve_settings(scene.settings))
    try:
        return backend.health(CallContext(project=home.parent, home=home, run_id="contract"))
    finally:
        backend.close()


def _base64(value: str) -> str:
    """Without its end, which depends on what follows."""
    return base64.b64encode(value.encode()).decode().rstrip("=")[:-1]


def _told(result: ToolResult) -> str:
    return f"{result.status} ({result.error.kind}: {result.message})" if result.error else str(result.status)
