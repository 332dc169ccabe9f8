"""An integration made for the tests of the core: each action shows one behaviour of a backend."""

import os
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

import anyio
from pydantic import Field

from tools import registry
from tools.core.approval import ApprovalStore
from tools.core.channels import Approver, Prompt
from tools.core.client import listed_tools
from tools.core.contract import (
    Action,
    Args,
    Backend,
    CallContext,
    Data,
    Effect,
    Integration,
    Limited,
    NoArgs,
    QuestionArgs,
    Setting,
)
from tools.core.errors import NeedsPersonError, NoDataError, RetryableError
from tools.core.gateway import Gateway
from tools.core.journal import Journal
from tools.core.policy import Policy, PolicyFile
from tools.core.redact import Redactor
from tools.core.stack import ServerConfig, Stack, StackFile

SECRET = "s3cret-value-of-the-fake"


class DoubleArgs(Args):
    x: int = Field(description="a number", le=1000)
    unit: str | None = Field(default=None, description="of the number")


class DoubleResult(Data):
    twice: int
    by_name: dict[str, float] = Field(default_factory=dict)
    message: str


class AmountArgs(Args):
    trials: int | None = Limited("trials", "how many", default=1)


class FailArgs(Args):
    times: int = Field(description="how many calls fail first")


class DieArgs(Args):
    times: int = Field(default=1, description="how many calls end the process first")


class WaitArgs(Args):
    seconds: float = Field(default=60, description="how long at most")


class CountResult(Data):
    count: int


class TextResult(Data):
    text: str


class Empty(Data):
    pass


def _action(name: str, args: type[Args], result: type[Data], effect: Effect = Effect.READ, **more: Any) -> Action:
    return Action(name, f"Shows {name}.", args, result, effect, **more)


SPEC = Integration(
    name="fake",
    title="Fake",
    summary="Shows behaviours.",
    actions=(
        _action("double", DoubleArgs, DoubleResult),
        _action("add", AmountArgs, CountResult, Effect.WRITE),
        _action("put", AmountArgs, CountResult, Effect.WRITE, idempotent=True),
        _action("drop", NoArgs, CountResult, Effect.RISKY),
        _action("fail_read", FailArgs, CountResult),
        _action("fail_write", FailArgs, CountResult, Effect.WRITE),
        _action("fail_put", FailArgs, CountResult, Effect.WRITE, idempotent=True),
        _action("die_read", DieArgs, CountResult),
        _action("die_write", DieArgs, CountResult, Effect.WRITE),
        _action("wait_read", WaitArgs, CountResult, timeout_s=0.3),
        _action("wait_write", WaitArgs, CountResult, Effect.WRITE, timeout_s=0.3),
        _action("wait_long", WaitArgs, CountResult),
        _action("nothing", NoArgs, Empty),
        _action("boom", NoArgs, Empty),
        _action("person", NoArgs, Empty),
        _action("lie", NoArgs, DoubleResult),
        _action("leak", NoArgs, TextResult),
        _action("leak_error", NoArgs, TextResult),
        _action("chat", NoArgs, CountResult),
        _action("pick", QuestionArgs, TextResult, asks=True),
    ),
    backend="tests.core.fake:FakeBackend",
    settings=(
        Setting("FAKE_SECRET", "a secret", secret=True),
        Setting("FAKE_URL", "the real server; unset: embedded", real=True),
    ),
)


class FakeBackend(Backend):
    """Counts its effects in a file, so that they are seen from other processes too."""

    def _count(self, ctx: CallContext, name: str) -> int:
        with (ctx.store("fake") / name).open("a+") as file:
            file.write("x\n")
            file.flush()
            return file.seek(0) or len(file.readlines())

    def double(self, args: DoubleArgs, ctx: CallContext) -> DoubleResult:
        for step in range(3):
            ctx.progress(step + 1, 3, f"step {step + 1}")
        return DoubleResult(twice=args.x * 2, message=f"{args.x} twice")

    def add(self, args: AmountArgs, ctx: CallContext) -> CountResult:
        return CountResult(count=self._count(ctx, "add"))

    def put(self, args: AmountArgs, ctx: CallContext) -> CountResult:
        return CountResult(count=self._count(ctx, "put"))

    def drop(self, args: NoArgs, ctx: CallContext) -> CountResult:
        return CountResult(count=self._count(ctx, "drop"))

    def _fail(self, args: FailArgs, ctx: CallContext, name: str) -> CountResult:
        count = self._count(ctx, name)
        if count <= args.times:
            raise RetryableError(f"busy at call {count}")
        return CountResult(count=count)

    def fail_read(self, args: FailArgs, ctx: CallContext) -> CountResult:
        return self._fail(args, ctx, "fail_read")

    def fail_write(self, args: FailArgs, ctx: CallContext) -> CountResult:
        return self._fail(args, ctx, "fail_write")

    def fail_put(self, args: FailArgs, ctx: CallContext) -> CountResult:
        return self._fail(args, ctx, "fail_put")

    def _die(self, args: DieArgs, ctx: CallContext, name: str) -> CountResult:
        count = self._count(ctx, name)
        if count <= args.times:
            os._exit(9)
        return CountResult(count=count)

    def die_read(self, args: DieArgs, ctx: CallContext) -> CountResult:
        return self._die(args, ctx, "die_read")

    def die_write(self, args: DieArgs, ctx: CallContext) -> CountResult:
        return self._die(args, ctx, "die_write")

    def _wait(self, args: WaitArgs, ctx: CallContext) -> CountResult:
        begun = time.monotonic()
        self._count(ctx, "wait_begun")
        while time.monotonic() - begun < args.seconds:
            ctx.progress(time.monotonic() - begun, args.seconds, "waiting")
            threading.Event().wait(0.01)
        return CountResult(count=0)

    def wait_read(self, args: WaitArgs, ctx: CallContext) -> CountResult:
        return self._wait(args, ctx)

    def wait_write(self, args: WaitArgs, ctx: CallContext) -> CountResult:
        return self._wait(args, ctx)

    def wait_long(self, args: WaitArgs, ctx: CallContext) -> CountResult:
        return self._wait(args, ctx)

    def nothing(self, args: NoArgs, ctx: CallContext) -> Empty:
        raise NoDataError("nothing found", tried="the shelf")

    def boom(self, args: NoArgs, ctx: CallContext) -> Empty:
        raise OSError(28, "No space left on device")

    def person(self, args: NoArgs, ctx: CallContext) -> Empty:
        raise NeedsPersonError("log in first")

    def lie(self, args: NoArgs, ctx: CallContext) -> Any:
        return CountResult(count=1)

    def leak(self, args: NoArgs, ctx: CallContext) -> TextResult:
        ctx.progress(1, 1, f"using {self.settings['FAKE_SECRET']}")
        return TextResult(text=f"the key is {self.settings['FAKE_SECRET']}")

    def leak_error(self, args: NoArgs, ctx: CallContext) -> TextResult:
        raise OSError(f"login with {self.settings['FAKE_SECRET']} failed")

    def chat(self, args: NoArgs, ctx: CallContext) -> CountResult:
        print("chatter of a library")
        sys.stdout.flush()
        os.write(1, b"chatter of native code\n")
        subprocess.run([sys.executable, "-c", "print('chatter of a child', input)"], check=True)
        return CountResult(count=1)

    def pick(self, args: QuestionArgs, ctx: CallContext) -> TextResult:
        if ctx.answer is None:
            raise NeedsPersonError("nobody was asked")
        return TextResult(text=f"{ctx.answer.chosen} by {ctx.answer.decided_by}: {ctx.answer.note}")

    def health(self, ctx: CallContext) -> str:
        return "fine"

    def close(self) -> None:
        Path(os.environ.get("FAKE_CLOSED", os.devnull)).write_text("closed")


class FakeStack(Stack):
    """Serves the fake over stdio by a program that knows it."""

    def config(self, name: str) -> ServerConfig:
        config = super().config(name)
        if config.transport != "stdio" or name != "fake":
            return config
        return ServerConfig("stdio", command=(sys.executable, "-m", "tests.core.fake_server", "fake"), env=config.env)


def load(name: str) -> Integration:
    return SPEC if name == "fake" else registry.load_spec(name)


def make_gateway(
    home: Path,
    *,
    policy: dict[str, Any] | None = None,
    stack: dict[str, Any] | None = None,
    env: dict[str, str] | None = None,
    prompt: Prompt | None = None,
    with_approver: bool = True,
    run_id: str = "run",
    preferences: dict[str, str] | None = None,
) -> Gateway:
    """A gateway that serves the fake, in `home`; everything of the fake is allowed unless `policy` says otherwise."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.getcwd(), "FAKE_SECRET": SECRET, **(env or {})}
    redactor = Redactor(env, ["FAKE_SECRET"])
    return Gateway(
        stack=FakeStack(
            StackFile.model_validate(stack or {}), own=["fake"], load_spec=load, env=env, project=home, home=home
        ),
        policy=Policy(PolicyFile.model_validate(policy or {"integrations": {"fake": {"allow": "*"}}})),
        journal=Journal(home / "runs" / run_id / "journal.jsonl", redactor),
        approver=Approver(ApprovalStore(home / "approvals"), prompt=prompt, who="tester") if with_approver else None,
        redactor=redactor,
        project=home,
        home=home,
        run_id=run_id,
        preferences=preferences,
    )


def accept(gateway: Gateway, server: str) -> None:
    """What a person does with `mlops-crew tools accept`."""
    listed = anyio.run(listed_tools, server, gateway.stack.config(server))
    gateway.stack.pins.accept(server, listed, by="tester")


def effects(home: Path, name: str) -> int:
    """How often the fake did something."""
    file = home / "fake" / name
    return len(file.read_text().splitlines()) if file.exists() else 0


def install() -> None:
    """Put the fake into this process's registry."""
    module = types.ModuleType("fake_spec")
    module.SPEC = SPEC  # type: ignore[attr-defined]
    sys.modules["fake_spec"] = module
    registry.INTEGRATIONS["fake"] = "fake_spec"
