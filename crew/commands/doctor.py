"""`mlops-crew doctor`: what is installed, configured and reachable, and how to fix what is not."""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn, TypeVar

import typer

from crew.commands.console import (
    Colour,
    CommandError,
    JsonOption,
    Place,
    ProjectOption,
    paint,
    place_of,
    print_json,
    say,
    table,
)

if TYPE_CHECKING:
    from crew.checks import Check, IntegrationCheck
    from tools.core.stack import Stack

T = TypeVar("T")

AT_ONCE = 3  # most of the time goes into imports, which share the interpreter anyway
TIMEOUT_S = 20.0

_MARKS: dict[str, tuple[str, Colour]] = {
    "ok": ("ok", "green"), "off": ("off", "dim"), "warn": ("WARN", "yellow"), "broken": ("BROKEN", "red"),
}  # fmt: skip


def doctor(
    integration: Annotated[
        list[str] | None, typer.Option("--integration", metavar="NAME", help="Check only these (repeat it).")
    ] = None,
    project: ProjectOption = None,
    as_json: JsonOption = False,
) -> int:
    """Check the installation, the configuration and every integration; say how to fix what is broken.

    Exits with 1 when something that the default loop needs is broken. An optional account that is not set up is fine.
    """
    place = place_of(project)

    from crew.checks import is_broken
    from tools.core.yamlfile import ConfigError
    from tools.session import open_stack

    general: list[Check] = [] if integration else _check_project(place)
    if not as_json and general:
        say(paint("Project", "bold") + f"  {place.project}")
        _print(general)
    try:
        stack = open_stack(place.project, place.env)
    except ConfigError:
        if integration:
            raise
        stack = None  # told above
    found = _check_all(stack, place, integration or stack.names) if stack is not None else []
    broken = is_broken([*general, *found])
    if as_json:
        print_json(
            {
                "ok": not broken,
                "project": [dataclasses.asdict(check) for check in general],
                "integrations": [dataclasses.asdict(check) for check in found],
            }
        )
        return int(broken)
    if found:
        say(("\n" if general else "") + paint("Integrations", "bold"))
        _print(found)
    say()
    if broken:
        named = ", ".join(check.name for check in [*general, *found] if check.state == "broken")
        say(paint(f"BROKEN: {named}. The lines starting with `fix` say what to do.", "red"))
    else:
        say(paint("Everything that the default loop needs works.", "green"))
    return int(broken)


def _check_project(place: Place) -> "list[Check]":
    """Each check within its own time; one that is not done in time is named, and the others go on."""
    from crew.checks import project_jobs, slow

    jobs = project_jobs(place.project, place.home, place.env)
    found = bounded(jobs, 1, TIMEOUT_S)
    return [check for name in jobs for check in found.get(name, [slow(name, TIMEOUT_S)])]


def _check_all(stack: "Stack", place: Place, names: Sequence[str]) -> "list[IntegrationCheck]":
    from crew.checks import check_integration, timed_out

    for name in names:
        if name not in stack.names:
            raise CommandError(f"unknown integration {name!r}; valid: {', '.join(stack.names)}", code=2)

    def job(name: str) -> "Callable[[], IntegrationCheck]":
        return lambda: check_integration(name, stack, place.project, place.home, place.env)

    answers = bounded({name: job(name) for name in names}, AT_ONCE, TIMEOUT_S)
    return [answers.get(name) or timed_out(name, stack, place.env, TIMEOUT_S) for name in names]


def bounded(jobs: dict[str, Callable[[], T]], at_once: int, timeout_s: float) -> dict[str, T]:
    """Run jobs in threads, a few at a time, each for at most `timeout_s`; those that took longer are not in the result.

    A thread that hangs is left behind and does not keep the process alive. What a job raises is raised.
    """
    waiting = list(jobs.items())
    answers: dict[str, T] = {}
    done: queue.SimpleQueue[tuple[str, Callable[[], T]]] = queue.SimpleQueue()
    running: dict[str, float] = {}

    def work(name: str, job: Callable[[], T]) -> None:
        try:
            answer = job()
        except Exception as error:  # noqa: BLE001 - raised again where somebody waits
            done.put((name, partial(_raise, error)))
        else:
            done.put((name, lambda: answer))

    while waiting or running:
        while waiting and len(running) < at_once:
            name, job = waiting.pop(0)
            running[name] = time.monotonic() + timeout_s
            threading.Thread(target=work, args=(name, job), daemon=True).start()
        try:
            name, answer = done.get(timeout=max(min(running.values()) - time.monotonic(), 0.01))
        except queue.Empty:
            running = {name: end for name, end in running.items() if end > time.monotonic()}
            continue
        if running.pop(name, None) is not None:
            answers[name] = answer()
    return answers


def _raise(error: Exception) -> NoReturn:
    raise error


def _print(checks: "Sequence[Check]") -> None:
    rows: list[list[str]] = []
    colours: list[dict[int, Colour]] = []
    for check in checks:
        mark, colour = _MARKS[check.state]
        rows.append([mark, check.name, _detail(check)])
        colours.append({0: colour})
        if check.fix:
            rows.append(["", "fix", check.fix])
            colours.append({1: "bold", 2: "bold"})
    say(table(rows, indent=2, colours=colours))


def _detail(check: "Check") -> str:
    """The finding, with the versions and the settings of an integration."""
    installed: dict[str, str | None] = getattr(check, "installed", {})
    settings: dict[str, str | None] = getattr(check, "settings", {})
    versions = ", ".join(
        f"{name} {version}" for name, version in installed.items() if version and version not in check.detail
    )
    given = ", ".join(
        f"{name}={value}" if value != "set" else f"{name} set" for name, value in settings.items() if value
    )
    return "; ".join(part for part in (check.detail, versions, given) if part)
