"""`mlops-crew`, the command line. Every way a command can end is handled here: exit codes, errors, closed pipes."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from crew.commands import (
    approvals,
    audit,
    check_data,
    docs,
    doctor,
    ending,
    locks,
    policy,
    reconcile,
    resume,
    run,
    runs,
    sample,
    scaffold,
    serve,
    stop,
    tools,
    who_was_live,
)
from tools.core.child_env import PRIVATE_UMASK

DEBUG = "MLOPS_DEBUG"
USAGE = 2

app = typer.Typer(
    name="mlops-crew",
    help="A crew of agents that keeps a model in production good: drift, retraining, canary, promotion.",
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_COMMANDS: tuple[tuple[str, str, Callable[..., int]], ...] = (
    ("run", "The loop", run.run),
    ("resume", "The loop", resume.resume),
    ("locks", "The loop", locks.locks),
    ("reconcile", "The loop", reconcile.reconcile),
    ("stop", "The loop", stop.stop),
    ("sample", "The loop", sample.sample),
    ("runs", "Look back", runs.runs),
    ("show", "Look back", runs.show),
    ("report", "Look back", runs.report),
    ("audit", "Look back", audit.audit),
    ("who-was-live", "Look back", who_was_live.who_was_live),
    ("approvals", "Decide", approvals.approvals),
    ("approve", "Decide", approvals.approve),
    ("reject", "Decide", approvals.reject),
    ("choose", "Decide", approvals.choose),
    ("check-data", "Set up", check_data.check_data),
    ("doctor", "Set up", doctor.doctor),
    ("tools", "Set up", tools.tools),
    ("serve", "Set up", serve.serve),
    ("scaffold", "Develop", scaffold.scaffold),
    ("docs", "Develop", docs.docs),
)
for _name, _panel, _command in _COMMANDS:
    app.command(_name, rich_help_panel=_panel)(_command)
app.add_typer(policy.app, rich_help_panel="Set up")


def _print_version(wanted: bool) -> None:
    if wanted:
        import importlib.metadata

        print(f"mlops-crew {importlib.metadata.version('mlops-crew')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
) -> None:
    """Options before the command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong use or configuration, 3 data rejected,
    130 stopped. Never raises; what went wrong is told in one block on standard error."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    code = _run(arguments)
    ending.note_status(str(code))
    return code


def _run(arguments: list[str]) -> int:
    os.umask(PRIVATE_UMASK)  # journals, reports, models and data are this user's alone
    try:
        code = app(args=arguments, prog_name="mlops-crew", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except SystemExit:  # typer's answer to a closed pipe
        ending.silence_stdout()
        return ending.BROKEN_PIPE
    except BrokenPipeError:
        ending.silence_stdout()
        return ending.BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - the last boundary: a person reads one block, not a traceback
        return _report(error)
    return int(code or 0)


def _report(error: Exception) -> int:
    """Tell what went wrong, and return the exit code."""
    from crew.display import Display

    if os.environ.get(DEBUG) == "1":
        import traceback

        traceback.print_exception(error)
    message, code = _explain(error)
    Display(sys.stderr).error(message)
    return code


def _explain(error: Exception) -> tuple[str, int]:
    from crew.commands.console import CommandError
    from crew.resuming import NotResumable
    from crew.runs import UnknownRunError
    from tools.core.approval import ApprovalError
    from tools.core.errors import ToolError, in_words
    from tools.core.journal import JournalError
    from tools.core.yamlfile import ConfigError

    match error:
        case CommandError():
            return str(error), error.code
        case typer.TyperException():
            return f"{error.format_message()}\nSee: mlops-crew --help", error.exit_code
        case ConfigError():
            return f"Configuration: {error}", USAGE
        case ToolError():
            return error.message + (f"\nTried: {error.tried}" if error.tried else ""), 1
        case JournalError() | ApprovalError() | UnknownRunError() | NotResumable():
            return str(error), 1
        case OSError():
            return in_words(error), 1
        case _:
            what = f"{type(error).__name__}: {error}"
            return f"Unexpected: {what}\nThis is a bug; {DEBUG}=1 shows the traceback.", 1


if __name__ == "__main__":
    sys.exit(main())
