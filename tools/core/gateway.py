"""The one path by which a tool is called, whoever calls: agents, notebooks, the command line, outside MCP clients.

validate arguments -> policy -> (a person) -> journal the intent -> call -> check the result -> journal the outcome

The gateway owns an event loop in a thread of its own, so that it may be called from any thread and from any loop.
"""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread

from tools.core.admission import Admission, normal
from tools.core.bounds import recordable, spill
from tools.core.calls import PERSON, Call, Caller
from tools.core.channels import Approver
from tools.core.consent import Consent, state_text
from tools.core.contract import Action, Effect
from tools.core.dispatch import failure
from tools.core.errors import (
    DeniedError,
    ErrorKind,
    FinalError,
    NeedsPersonError,
    ToolError,
    UnknownOutcomeError,
    in_words,
)
from tools.core.journal import Journal
from tools.core.limits import Usage
from tools.core.locks import EVERYTHING, LockedError, ProductionLocks
from tools.core.outside import OutsideModels
from tools.core.policy import Decision, Level, Policy, ProposedCall, Verdict
from tools.core.redact import Redactor
from tools.core.results import ErrorInfo, Status, ToolResult
from tools.core.roots import Roots, roots_from
from tools.core.sending import Sender
from tools.core.settle import Past, Recall, Settlement, Settler, last_number, past_calls, still_standing
from tools.core.stack import Stack
from tools.core.standing import Standing
from tools.core.stop import AtWork, StopSwitch
from tools.core.waiting import Suspended, Wait
from tools.core.windows import WindowStore
from tools.core.writes import idempotency_key

_log = logging.getLogger(__name__)


class Gateway:
    """Calls tools under a policy, with a journal.

    Thread-safe. Use as a context manager, or call `close`; closing stops every server and what it started.

    Args:
        stack: the servers.
        policy: what may be called.
        journal: where calls are recorded; not closed by the gateway.
        approver: asks a person; None denies what needs one.
        redactor: applied to results before anybody sees them.
        preferences: topic of a question -> the preference that the goal states; no caller can state one.
        project, home, run_id: see `CallContext`.
        roots: what paths in arguments may lead to; by default what the project and `MLOPS_DATA_ROOTS` give.
        locks: what a run holds already, which is let go of by the run; by default a risky call takes the lock of its
            model, for as long as what it did lasts in this process.
        patience_s: seconds that a question may go unanswered before the run is suspended; None: it is waited for until
            it expires.
    """

    def __init__(
        self,
        *,
        stack: Stack,
        policy: Policy,
        journal: Journal,
        approver: Approver | None,
        redactor: Redactor,
        project: Path,
        home: Path,
        run_id: str,
        preferences: Mapping[str, str] | None = None,
        roots: Roots | None = None,
        patience_s: float | None = None,
        locks: ProductionLocks | None = None,
    ) -> None:
        self.stack = stack
        self.roots = roots or roots_from(stack.env, project, home, run_id)
        self.policy = policy
        self.journal = journal
        self.run_id = run_id
        self.project = project
        self.home = home
        self._redactor = redactor
        # A journal may be continued: its call ids must stay unique, and what it used up stays used.
        records = journal.records()
        self._usage = Usage.from_records(records, policy.file.limits, self._limited, WindowStore(home))
        journal.subscribe(self._usage.note)
        self.stop_switch = StopSwitch(home)
        self.at_work = AtWork(home)
        self.at_work.begin()
        self._under_way: dict[str, Call] = {}
        self._count = last_number(records)
        self.recall = Recall(past_calls(records))
        self._settler = Settler(journal, self.recall, self.action_of, self._read)
        self._stopping = threading.Event()
        self._admission = Admission(stack, policy, self.roots, self._stopping.is_set)
        self._sender = Sender(
            stack=stack,
            journal=journal,
            redactor=redactor,
            project=project,
            home=home,
            run_id=run_id,
            roots=self.roots,
            is_stopping=self._stopping.is_set,
            is_held=self._stopped,
            held=self._held,
            read_back=self._settler.read_back,
        )
        self._patience_s = patience_s
        self._locks = locks or ProductionLocks(home, run_id, policy.environment)
        self._is_run = locks is not None
        self.in_force: list[Past] = []  # what ends with this process
        self._asked_at: float | None = None
        self._closed = False
        self.closed = threading.Event()
        self._lock = threading.Lock()
        self._consent = Consent(
            run_id=run_id,
            approver=approver,
            journal=journal,
            redactor=redactor,
            preferences=preferences or {},
            timeout_s=policy.approval_timeout_s,
            is_stopping=self._stopping.is_set,
            is_suspending=self._is_impatient,
            read_state=self._read_state,
        )
        self._outside = OutsideModels(
            policy.file.models.outside_store,
            self._consent,
            self._sender.attempt,
            lambda server: self.policy.level(server, stack.is_real(server)),
        )
        self._exit = ExitStack()
        self._portal: anyio.from_thread.BlockingPortal | None = None

    def __enter__(self) -> "Gateway":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def call(self, tool: str, arguments: Mapping[str, Any], caller: Caller = PERSON) -> ToolResult:
        """Call `tool` (a server's name) with `{"action": ..., **arguments}` and wait. Never from the event loop.

        Raises:
            JournalError: the call cannot be recorded; if it had begun, its effect is in the journal as an intent.
        """
        return self._submit(tool, arguments, caller).result()

    async def call_tool(self, tool: str, arguments: Mapping[str, Any], caller: Caller = PERSON) -> ToolResult:
        """`call`, to be awaited in any event loop."""
        return await asyncio.wrap_future(self._submit(tool, arguments, caller))

    def settle_past(self) -> list[Settlement]:
        """Find out about the journal's calls that began and have no outcome; what is found is recorded. Blocks."""
        return self._start().call(self._settler.settle_past)

    def settle_by_person(self, past: Past, *, happened: bool) -> None:
        """Record what a person says of a call whose read back does not tell. Blocks.

        Raises:
            NeedsPersonError: it is said to have happened, and what it returned cannot be read.
        """
        self._start().call(self._settler.settle_by_person, past, happened)

    def make_again(self, past: Past) -> ToolResult:
        """Make a recorded call again, under its id and key, and by the leave that was given for it. Blocks."""
        return self._start().call(self._make_again, past)

    def warm(self, server: str) -> None:
        """Have an integration get ready in the background for calls that will come soon. Returns at once.

        Only where its calls need nobody's leave: in this process, and on the autonomous level.
        """
        level = self.policy.level(server, self.stack.is_real(server))
        if level is Level.AUTONOMOUS and self.stack.config(server).transport == "in-process" and not self.is_stopping:
            self._start().start_task_soon(self._sender.warm, server)

    def stop(self) -> None:
        """Ask every long call to end soon; new calls are refused. Returns at once."""
        self._stopping.set()

    def wind_down(self) -> None:
        """After `stop`, once the calls under way have ended: reads and the way back to stable may be made again."""
        self.stop_switch.halt_here("the run is being stopped")
        self._stopping.clear()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def close(self) -> None:
        """Stop every server and what it started. Safe to call twice.

        Raises:
            ExceptionGroup: what backends raised while they were stopped; everything else has been stopped all the same.
        """
        self._stopping.set()
        self.closed.set()
        with self._lock:
            self._closed = True
            portal, self._portal = self._portal, None
        try:
            if portal is not None:
                with self._exit:
                    failed = portal.call(self._sender.close)
                if failed:
                    raise ExceptionGroup("not everything could be stopped", failed)
        finally:
            self.at_work.end()
            if not self._is_run:
                self._locks.release()

    def tools(self, server: str) -> list[dict[str, Any]]:
        """The tools of a third-party server as `{"name", "description", "inputSchema"}`: those a person has accepted.

        Raises:
            ConfigError: what was accepted cannot be read.
        """
        return self.stack.pins.tools(server)

    @property
    def standing(self) -> Standing:
        """Which servers of other people are left out, as far as they were contacted."""
        return self._sender.standing

    def leave_out(self, server: str, why: str) -> None:
        """A server of somebody else cannot be used as things are set up; told once."""
        self.standing.failed(server, why)

    def look_again(self) -> None:
        """Look in the background at servers of other people that are due to be looked at. Returns at once."""
        for server in self.standing.due():
            if not self.is_stopping:
                self._start().start_task_soon(self._sender.look_again, server)

    def _submit(self, tool: str, arguments: Mapping[str, Any], caller: Caller) -> "Future[ToolResult]":
        return self._start().start_task_soon(self._call, tool, dict(arguments), caller)

    def _start(self) -> anyio.from_thread.BlockingPortal:
        with self._lock:
            if self._portal is None:
                if self._closed:
                    raise FinalError("the gateway is closed")
                self._portal = self._exit.enter_context(anyio.from_thread.start_blocking_portal("asyncio"))
                self._sender.tasks = self._exit.enter_context(self._portal.wrap_async_context_manager(_task_group()))
            return self._portal

    async def _call(self, tool: str, arguments: dict[str, Any], caller: Caller) -> ToolResult:
        started = time.monotonic()
        try:
            call = self._prepare("", tool, arguments, caller)
        except ToolError as error:
            call_id = self._next_id()
            # Nothing was begun, but an attempt is evidence too.
            given = recordable({name: value for name, value in arguments.items() if name != "action"})
            decision = "deny" if isinstance(error, DeniedError) else "invalid"
            self.journal.append(
                "intent", call_id=call_id, server=recordable(tool), action=recordable(arguments.get("action")),
                arguments=given, role=caller.role, task=caller.task, effect=None, decision=decision, rule=error.message,
                level=None, real=None,
            )  # fmt: skip
            return self._finish(call_id, failure(error), started, attempts=0)
        past = self.recall.take(call, self._redactor.data(call.arguments))
        if past is not None and past.result is not None and not self.recall.is_made_again(past, self.action_of):
            self.journal.publish(
                {"kind": "recalled", "call_id": past.id, "server": past.server, "action": past.action,
                 "arguments": past.edited or past.arguments}
            )  # fmt: skip
            return past.result
        decision = self._decide(call)
        if past is not None:
            call.id = past.id
            return await self._decided(call, decision, past, started)
        call.id = self._next_id()
        self.journal.append(
            "intent", call_id=call.id, server=call.server, action=call.action, arguments=call.arguments,
            role=caller.role, task=caller.task, effect=call.effect.value, decision=decision.verdict.value,
            rule=decision.rule, level=decision.level.value, real=self.stack.is_real(call.server),
        )  # fmt: skip
        return await self._decided(call, decision, None, started)

    def _prepare(self, call_id: str, tool: str, arguments: dict[str, Any], caller: Caller) -> Call:
        """See `Admission.prepare`. Whatever else goes wrong there refuses the call too: nothing was begun.

        Raises:
            ToolError: the call is not valid, does not belong to the task, or could not be looked at.
        """
        try:
            return self._admission.prepare(call_id, tool, arguments, caller)
        except ToolError:
            raise
        except Exception as error:
            _log.exception("a call could not be prepared")
            raise FinalError(f"the call could not be looked at, and was not made: {in_words(error)}") from error

    async def _decided(self, call: Call, decision: Decision, past: Past | None, started: float) -> ToolResult:
        """Do what was decided on a call. `past`: it was asked for before, by a process that ended."""
        if decision.verdict is not Verdict.DENY and (unknown := self._unaccepted(call)) is not None:
            return self._finish(call.id, unknown, started, attempts=0)
        wanted = call.arguments
        answer = self._consent.stated(call) if decision.verdict is Verdict.ALLOW else None
        approval_id = past.approval_id if past is not None else ""
        if past is not None and past.begun is None and approval_id and not self._consent.was_spent(approval_id):
            approval_id = ""  # answered, but not used yet: it is held against what is so now
        is_spent = bool(approval_id)
        if approval_id and past is not None:  # spent on this very call, which did not happen or did not last
            answer = past.answer or answer
            call.arguments = past.edited or call.arguments
            if decision.verdict is Verdict.ASK:
                decision = Decision(Verdict.ALLOW, f"by the leave of {approval_id}", decision.level)
        elif decision.verdict is Verdict.ASK and (lapsed := self._lapsed(past)):
            self.journal.append(
                "approval_decided", call_id=call.id, approval_id=lapsed, state="expired", by="nobody", note=""
            )  # fmt: skip
            rule = f"{decision.rule}; nobody answered approval {lapsed}"
            decision = Decision(Verdict.ASK, rule, decision.level)
        elif decision.verdict is Verdict.ASK:
            self._asked_at = time.monotonic()
            asked = call
            try:
                leave = await self._consent.ask(asked, decision, lambda edits: self._anew(asked, edits))
            except BaseException:  # the waiting caller gave up; nothing was begun
                gone = FinalError("the caller gave up while a person was asked; nothing was done")
                self._finish(call.id, failure(gone), started, attempts=0)
                raise
            decision, answer, approval_id, call = leave.decision, leave.answer, leave.approval_id, leave.call
            if decision.verdict is Verdict.ASK and self._is_impatient() and not self.is_stopping:
                raise Suspended(self._wait_for_person(call))
        if decision.verdict is Verdict.ASK:
            result = ToolResult(
                status=Status.NEEDS_APPROVAL,
                message=decision.rule,
                error=ErrorInfo(kind=ErrorKind.NEEDS_PERSON, message=decision.rule),
            )
            return self._finish(call.id, result, started, attempts=0)
        if decision.verdict is Verdict.DENY:
            return self._finish(call.id, failure(DeniedError(decision.rule)), started, attempts=0)
        try:
            held = self._usage.reserve(call, free=self._to_stable(call))
        except DeniedError as error:
            return self._finish(call.id, failure(error), started, attempts=0)
        stopped = self._stopped(call)
        if stopped:  # since the decision: a person may have thought for hours
            self._usage.settle(held, None)
            return self._finish(call.id, failure(DeniedError(stopped)), started, attempts=0)
        try:
            self._lock_production(call)
            self._begin(
                call, approval_id, is_spent=is_spent, again=past is not None, is_edited=call.arguments != wanted
            )
        except (DeniedError, LockedError) as error:
            self._usage.settle(held, None)
            return self._finish(call.id, failure(error), started, attempts=0)
        self._under_way[call.id] = call
        try:
            result, attempts = await self._outside.attempt(call, answer)
            self._usage.settle(held, result)
        except BaseException as error:  # the waiting caller was cancelled, or we have a bug: the record says so
            lost = UnknownOutcomeError(f"the call was abandoned ({type(error).__name__}); read the state back")
            self._finish(call.id, failure(lost), started, attempts=1)
            raise
        finally:
            del self._under_way[call.id]
        if call.arguments != wanted:  # whoever called must not believe that what it asked for was done
            result = result.model_copy(update={"message": f"{result.message} ({decision.rule})".strip()})
        finished = self._finish(call.id, result, started, attempts)
        self._unlock_production(call, finished)
        return finished

    def _lapsed(self, past: Past | None) -> str:
        """The question about a call that expired unanswered while the run was suspended; empty where there is none."""
        found = past.lapsed(time.time()) if past is not None else ""
        return found if found and self._consent.is_unanswered(found) else ""

    def _lock_production(self, call: Call) -> None:
        """Nobody else may change what a risky call changes.

        Raises:
            LockedError: another process holds the lock.
        """
        if call.effect is not Effect.RISKY or call.definition is None:
            return
        model = call.arguments.get("name")
        named = model if isinstance(model, str) and model else None
        if not self._locks.covers(named):
            self._locks.acquire(named or EVERYTHING)

    def _unlock_production(self, call: Call, result: ToolResult) -> None:
        """Outside a run nothing is held longer than what was done lasts in this process."""
        if call.definition is None or call.effect is Effect.READ:
            return
        if result.ok:
            done = Past(call.id, call.server, call.action, call.arguments, call.caller.task, None, call.effect.value)
            self.in_force = still_standing(self.in_force, done, call.definition)
        if not self._is_run and not self.in_force:
            self._locks.release()

    def _begin(self, call: Call, approval_id: str, *, is_spent: bool, again: bool, is_edited: bool) -> None:
        """Record that the call begins, and use its approval up. From here on it may have happened.

        Raises:
            DeniedError: the approval was used before, or on another call.
        """
        if call.definition is not None and call.definition.key is not None:
            call.key = idempotency_key(self.run_id, call.id, call.name, call.arguments, call.definition.key)
        if call.effect is Effect.READ and not approval_id:
            return
        self._consent.check_unused(approval_id, but_for=call.id if is_spent else "")
        if not is_spent:
            self._consent.spend(approval_id)
        edited = {"arguments": call.arguments} if is_edited else {}
        self.journal.append(
            "begun", call_id=call.id, key=call.key, approval_id=approval_id or None, again=again, **edited
        )  # fmt: skip

    def _anew(self, call: Call, edits: Mapping[str, Any]) -> tuple[Call, Decision]:
        """The call with what a person changed, held against grants, limits and the policy as they are now.

        Raises:
            ToolError: the changed call is not valid, or does not belong to the task.
        """
        given = {**call.arguments, **edits, "action": call.action}
        changed = self._prepare(call.id, call.server, given, call.caller)
        return changed, self._decide(changed)

    async def _read_state(self, call: Call) -> str | None:
        """What the call would change, read by the action that its contract names; None where it names none."""
        back = getattr(call.definition, "read_back", None)
        spec = self.stack.spec(call.server)
        if back is None or spec is None:
            return None
        action = spec.action(back.action)
        arguments = normal(action, back.arguments(call.arguments))
        read = Call(
            id=call.id, server=call.server, action=action.name, caller=call.caller, arguments=arguments,
            effect=action.effect, limited={}, may_repeat=True, timeout_s=action.timeout_s, definition=action,
        )  # fmt: skip
        result, _ = await self._sender.attempt(read, None)
        if result.error is not None and result.status is not Status.NO_DATA:
            raise FinalError(result.message)
        return state_text(result.data, getattr(back, "state", ()))

    def _decide(self, call: Call) -> Decision:
        stopped = self._stopped(call)
        if stopped:
            level = self.policy.level(call.server, self.stack.is_real(call.server))
            return Decision(Verdict.DENY, stopped, level)
        return self.policy.decide(self._proposed(call))

    def _stopped(self, call: Call) -> str:
        return self.stop_switch.refusal(call.name, call.effect, to_stable=self._to_stable(call))

    def _unaccepted(self, call: Call) -> ToolResult | None:
        """The result of a call of somebody else's tool that no person has accepted; nobody is asked about it."""
        if call.definition is not None:
            return None
        try:
            self.stack.pins.require(call.server, call.action)
        except NeedsPersonError as error:
            return failure(error).model_copy(update={"status": Status.NEEDS_APPROVAL})
        return None

    def _held(self, server: str, action: str, call_id: str) -> str:
        """The stop, looked at again when a call's turn has come: it may have waited behind a long one."""
        call = self._under_way.get(call_id)
        if call is not None:
            return self._stopped(call)
        # A write that is no longer waited for must not happen unseen. Reads look a call up that was cut off.
        known = self.action_of(server, action)
        is_read = known is not None and known.effect is Effect.READ
        return "" if is_read else f"{server}.{action} is no longer waited for"

    def _proposed(self, call: Call) -> ProposedCall:
        preference, preferred = self._consent.preference(call)
        return ProposedCall(
            integration=call.server,
            action=call.action,
            effect=call.effect,
            arguments=call.arguments,
            limited=call.limited,
            role=call.caller.role,
            granted=call.caller.granted,
            task=call.caller.task,
            in_task=call.caller.scope.grants is not None,
            real=self.stack.is_real(call.server),
            used=self._usage.used(call.caller),
            asks=call.asked is not None,
            preference=preference,
            preferred=preferred,
            to_stable=self._to_stable(call),
        )

    def _to_stable(self, call: Call) -> bool:
        """Whether the call only brings production back to what it safely served: by the policy, or by the task."""
        return self.policy.is_to_stable(call.server, call.action) or call.caller.scope.goes_back(
            call.name, call.arguments
        )

    def _limited(self, server: str, action: str) -> Mapping[str, str]:
        """Argument name -> limit name of an action that a journal names; empty where it is no longer known."""
        found = self.action_of(server, action)
        return found.limits() if found is not None else {}

    async def _make_again(self, past: Past) -> ToolResult:
        started = time.monotonic()
        try:
            call = self._prepare(
                past.id, past.server, {**past.arguments, "action": past.action}, Caller(task=past.task)
            )
        except ToolError as error:
            return self._finish(past.id, failure(error), started, attempts=0)
        return await self._decided(call, self._decide(call), past, started)

    async def _read(self, server: str, action: str, arguments: Mapping[str, Any]) -> ToolResult:
        """A read that the gateway makes of its own accord, if the policy lets anybody make it."""
        try:
            call = self._prepare("", server, {**arguments, "action": action}, PERSON)
        except ToolError as error:
            return failure(error)
        decision = self._decide(call)
        if decision.verdict is not Verdict.ALLOW:
            return failure(DeniedError(decision.rule))
        return (await self._sender.attempt(call, None))[0]

    def action_of(self, server: str, action: str) -> Action | None:
        """An action that a journal names; None where it is no longer known, or a third party's."""
        spec = self.stack.spec(server) if server in self.stack.names else None
        return next((item for item in spec.actions if item.name == action), None) if spec is not None else None

    def _is_impatient(self) -> bool:
        """Whether the question under way has gone unanswered for as long as it may."""
        asked, patience_s = self._asked_at, self._patience_s
        return asked is not None and patience_s is not None and time.monotonic() - asked > patience_s

    def _wait_for_person(self, call: Call) -> Wait:
        asked = next(
            record["approval"]
            for record in reversed(self.journal.records())
            if record["kind"] == "approval_requested" and record["call_id"] == call.id
        )
        how = (
            f"mlops-crew choose {asked['id']} OPTION" if call.asked is not None else f"mlops-crew approve {asked['id']}"
        )
        what = f"{call.name} waits for a person; answer with: {how}"
        return Wait("person", what, approval=str(asked["id"]), until_ts=float(asked["expires_ts"]))

    def _next_id(self) -> str:
        with self._lock:
            self._count += 1
            return f"c{self._count:04d}"

    def _finish(self, call_id: str, result: ToolResult, started: float, attempts: int) -> ToolResult:
        clean = ToolResult.model_validate(self._redactor.data(result.model_dump(mode="json")))
        clean.call_id = call_id
        clean.content = self._redactor.data(result.content)
        if clean.data is not None:
            try:
                clean.data = {**spill(clean.data, self.home / "runs" / self.run_id / "files" / "results", call_id)}
            except OSError as error:
                clean = failure(FinalError(f"the result is too large to hand on and cannot be kept: {error.strerror}"))
                clean.call_id = call_id
        self.journal.append(
            "outcome", call_id=call_id, status=clean.status.value, message=clean.message, data=clean.data,
            error=clean.error.model_dump(mode="json") if clean.error else None,
            duration_s=round(time.monotonic() - started, 4), attempts=attempts,
        )  # fmt: skip
        return clean


@asynccontextmanager
async def _task_group() -> AsyncGenerator[anyio.abc.TaskGroup]:
    """A task group made inside the event loop that will run it."""
    async with anyio.create_task_group() as group:
        yield group
