"""Who was live at a time, from the journals of all runs: version, share, digest, data version, approver, reason.

Pure but for `read_histories`. A call changed production where its `outcome`, or the `settled` of a resumed run, is ok.
One that had begun and has neither may have happened or not: until a later result tells, the answer says so. The same
holds from `begun` to `settled`: it was done at some moment between them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tools.core.audit import audit_journal
from tools.core.journal import JournalError, Record, read_journal

Change = Literal["deploy", "canary", "share", "promote", "rollback", "none", "stop", "register"]

# The one place that says which calls change who is live, and how. What the result states (`champion_version`,
# `canary_version`, `canary_percent`, `name`) goes before what follows from the arguments.
CHANGES: dict[str, Change] = {
    "serving.deploy_model": "deploy",
    "serving.start_canary": "canary",
    "serving.set_traffic": "share",
    "serving.promote_canary": "promote",
    "serving.rollback_canary": "rollback",
    "serving.end_probation": "none",
    "serving.stop": "stop",
    "mlflow.promote_version": "register",
}
# Reads that tell what is live; they end a doubt.
TELLS = {"serving.status": "running", "mlflow.get_champion": "version"}
DATA_VERSIONS = {"dvc.version_data": "version"}
DIGESTS = ("digest", "model_digest", "model_sha256", "sha256")
DEFAULT_CANARY_PERCENT = 5.0


@dataclass(frozen=True)
class Origin:
    """The call that made a version live. `approver` is a person's name, or the policy's rule."""

    ts: datetime
    run: str
    call: str
    action: str
    approver: str
    reason: str
    data_version: str


@dataclass(frozen=True)
class Live:
    """One version and its share of requests, in percent."""

    version: str
    share: float
    origin: Origin
    digest: str = ""


@dataclass(frozen=True)
class Answer:
    """Who was live. `champion` None: nobody, as far as the journals say. `registered`: the registry's champion.
    `doubts`: why the answer may be wrong; `notes`: what else is to be known."""

    model: str
    at: datetime
    champion: Live | None
    canary: Live | None
    registered: Live | None
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class History:
    """One run's records. `trust`: empty, or why its word is doubtful; `note`: what else is to be known about it."""

    run: str
    records: tuple[Record, ...]
    trust: str = ""
    note: str = ""


@dataclass(frozen=True)
class Event:
    """A call that concerns production, at the time when its effect was known. `happened` None: nobody knows."""

    ts: datetime
    origin: Origin
    name: str
    arguments: Mapping[str, Any]
    data: Mapping[str, Any]
    happened: bool | None
    trust: str
    order: tuple[str, int]


@dataclass
class _Slot:
    """What one serving engine, or one registered model, has."""

    name: str = ""
    champion: Live | None = None
    canary: Live | None = None
    doubts: list["Event"] = field(default_factory=list["Event"])  # calls that may have happened
    trusts: set[str] = field(default_factory=set[str])


def read_histories(home: Path, env: Mapping[str, str]) -> list[History]:
    """The journals under a state folder, oldest first, each verified."""
    found: list[History] = []
    for path in sorted((home / "runs").glob("*/journal.jsonl"), key=lambda path: path.parent.name):
        run = path.parent.name
        audit = audit_journal(path, env)
        records: list[Record] = []
        trust = f"the journal of run {run} was changed: {audit.problems[0].message}" if audit.problems else ""
        try:
            records.extend(read_journal(path))
        except (JournalError, OSError):
            trust = trust or f"the journal of run {run} cannot be read to its end"
        note = f"the journal of run {run} is of the format without a chain" if records and not audit.chained else ""
        found.append(History(run, tuple(records), trust, note))
    return found


def models(histories: Iterable[History]) -> list[str]:
    """Names of the models that any call concerned, sorted."""
    return sorted({name for event in events(histories) if (name := _model_of(event))})


def events(histories: Iterable[History]) -> list[Event]:
    """Every call that concerns production, in the order in which its effect was known."""
    found = [event for history in histories for event in _events(history)]
    return sorted(found, key=lambda event: (event.ts, event.order))


def who_was_live(histories: Iterable[History], at: datetime, model: str = "") -> list[Answer]:
    """Who was live at `at`: an answer for `model`, or for each model that the journals name."""
    kept = list(histories)
    digests = _digests(kept)
    slots: dict[str, _Slot] = {}
    for event in events(kept):
        if event.ts <= at:
            _apply(slots, event)
    answers: list[Answer] = []
    for name in [model] if model else models(kept):
        served = [slot for key, slot in slots.items() if not key.startswith("registry:") and slot.name == name]
        registry = slots.get(f"registry:{name}", _Slot())
        slot = served[0] if served else _Slot()
        others = [slot.name for key, slot in slots.items() if not key.startswith("registry:") and slot.name != name]
        answers.append(_answer(name, at, slot, registry, others, digests, kept))
    return answers


def _answer(
    name: str, at: datetime, slot: _Slot, registry: _Slot, others: list[str], digests: dict[tuple[str, str], str],
    histories: list[History],
) -> Answer:  # fmt: skip
    def signed(live: Live | None) -> Live | None:
        return (
            replace(live, digest=digests.get((name, live.version), digests.get(("", live.version), "")))
            if live
            else None
        )

    champion, registered = signed(slot.champion), signed(registry.champion)
    notes: list[str] = []
    if champion is None and registered is not None:
        if others and others[0]:
            notes.append(f"serving served {others[0]} then")
        elif slot.name:
            notes.append("serving was stopped then")
        else:
            notes.append("no call of these runs served it; the registry's champion is named")
            champion = registered
    if champion is not None and registered is not None and champion.version != registered.version:
        notes.append(f"the registry's champion was version {registered.version}, serving's version {champion.version}")
    used = {live.origin.run for live in (champion, slot.canary, registered) if live is not None}
    notes += [history.note for history in histories if history.note and history.run in used]
    unsure = [_doubt(event, of) for of in (slot, registry) for event in of.doubts]
    doubts = [*unsure, *sorted(slot.trusts | registry.trusts)]
    return Answer(name, at, champion, signed(slot.canary), registered, tuple(dict.fromkeys(doubts)), tuple(notes))


def _events(history: History) -> Iterator[Event]:
    """One run's calls that concern production."""
    calls: dict[str, dict[str, tuple[int, Record]]] = {}
    for place, record in enumerate(history.records):
        kind = str(record.get("kind"))
        if kind in ("intent", "approval_decided", "begun", "outcome", "settled") and not record.get("loads"):
            calls.setdefault(str(record.get("call_id")), {})[kind] = (place, record)
    begins = any("begun" in call for call in calls.values())
    for call in calls.values():
        if "intent" not in call:
            continue
        intent = call["intent"][1]
        if "begun" in call and "arguments" in call["begun"][1]:  # a person let it happen with other arguments
            intent = {**intent, "arguments": call["begun"][1]["arguments"]}
        name = f"{intent.get('server')}.{intent.get('action')}"
        if name not in CHANGES and name not in TELLS:
            continue
        decided = call["approval_decided"][1] if "approval_decided" in call else None
        end = call.get("settled") or call.get("outcome")
        status = end[1].get("status") if end is not None else None
        # Journals without `begun` tell only that the call was allowed.
        allowed = intent.get("decision") == "allow" or (decided is not None and decided.get("state") == "approved")
        began = call.get("begun") if begins else call["intent"] if allowed else None
        if (
            began is not None
            and name in CHANGES
            and (status in (None, "unknown") or ("settled" in call and status == "ok"))
        ):
            yield from _event(history, name, intent, decided, began, happened=None)
        if end is not None and status == "ok":
            yield from _event(history, name, intent, decided, end, happened=True)


def _event(
    history: History, name: str, intent: Record, decided: Record | None, moment: tuple[int, Record], *,
    happened: bool | None,
) -> Iterator[Event]:  # fmt: skip
    """The event at a record; none where its time cannot be read."""
    place, record = moment
    ts = _time(record.get("ts"))
    if ts is not None:
        yield Event(
            ts, _origin(history, intent, decided, place, ts), name, _dict(intent.get("arguments")),
            _dict(record.get("data")) if happened else {}, happened, history.trust, (history.run, place),
        )  # fmt: skip


def _origin(history: History, intent: Record, decided: Record | None, place: int, ts: datetime) -> Origin:
    call = str(intent.get("call_id"))
    approved = decided is not None and decided.get("state") in ("approved", "chosen")
    approver = str(decided.get("by")) if decided is not None and approved else f"the policy ({intent.get('rule')})"
    note = str(decided.get("note") or "") if decided is not None and approved else ""
    version = _dict(intent.get("arguments")).get("version")
    return Origin(
        ts=ts, run=history.run, call=call, action=f"{intent.get('server')}.{intent.get('action')}", approver=approver,
        reason=_reason(history, intent, version) or note or str(intent.get("rule") or ""),
        data_version=_data_version(history, place),
    )  # fmt: skip


def _reason(history: History, intent: Record, version: Any) -> str:
    """The reason that the call states, or the one of the run's promotion of the same version in the registry."""
    own = _dict(intent.get("arguments")).get("reason")
    if own:
        return str(own)
    for record in history.records:
        arguments = _dict(record.get("arguments"))
        named = CHANGES.get(f"{record.get('server')}.{record.get('action')}") == "register"
        if record.get("kind") == "intent" and named and version and str(arguments.get("version")) == str(version):
            return str(arguments.get("reason") or "")
    return ""


def _data_version(history: History, before: int) -> str:
    """The data that the run had versioned by then."""
    calls = {
        str(record.get("call_id")): DATA_VERSIONS[name]
        for record in history.records
        if record.get("kind") == "intent"
        and (name := f"{record.get('server')}.{record.get('action')}") in DATA_VERSIONS
    }
    found = ""
    for record in history.records[:before]:
        if record.get("kind") in ("outcome", "settled") and record.get("status") == "ok":
            key = calls.get(str(record.get("call_id")))
            found = str(_dict(record.get("data")).get(key) or found) if key else found
    return found


def _apply(slots: dict[str, _Slot], event: Event) -> None:
    """Change what is live by one event."""
    server = event.name.partition(".")[0]
    registers = CHANGES.get(event.name) == "register" or event.name == "mlflow.get_champion"
    if registers:
        name = str(event.arguments.get("name") or event.data.get("name") or "")
        slot = slots.setdefault(f"registry:{name}", _Slot(name))
    else:
        slot = slots.setdefault(server, _Slot())
    if event.happened is None:
        slot.doubts.append(event)
        return
    slot.doubts = [
        doubt for doubt in slot.doubts if doubt.origin.call != event.origin.call or doubt.origin.run != event.origin.run
    ]
    tells = event.name in TELLS
    if tells and (not slot.doubts or not event.data.get(TELLS[event.name])):
        return
    if tells:  # what it tells may be what a doubtful call did
        for doubt in slot.doubts:
            then = _then(slot, doubt)
            if (then.champion.version if then.champion else "") == _stated(event):
                slot.champion, slot.canary = then.champion, then.canary
    if registers:
        _set_champion(slot, _stated(event) or str(event.arguments.get("version") or ""), event)
    else:
        _serve(slot, event)
    if tells or registers or "champion_version" in event.data or CHANGES.get(event.name) in ("deploy", "stop"):
        slot.doubts = []
    if event.trust:
        slot.trusts.add(event.trust)


def _stated(event: Event) -> str:
    """The champion's version that a result states."""
    return str(event.data.get("champion_version") or event.data.get("version") or "")


def _then(slot: _Slot, event: Event) -> _Slot:
    """The slot if a call of unknown end had happened."""
    then = _Slot(slot.name, slot.champion, slot.canary)
    if CHANGES.get(event.name) == "register":
        _set_champion(then, str(event.arguments.get("version") or ""), event)
    else:
        _serve(then, event)
    return then


def _serve(slot: _Slot, event: Event) -> None:
    change, arguments = CHANGES.get(event.name), event.arguments
    match change:
        case "deploy":
            slot.name = str(arguments.get("name") or slot.name)
            slot.canary = None
            _set_champion(slot, str(arguments.get("version") or ""), event)
        case "canary":
            _set_canary(slot, str(arguments.get("version") or ""), _percent(arguments, DEFAULT_CANARY_PERCENT), event)
        case "share":
            if slot.canary is not None:
                _set_canary(slot, slot.canary.version, _percent(arguments, slot.canary.share), event)
        case "promote":
            version = str(arguments.get("version") or (slot.canary.version if slot.canary else ""))
            slot.canary = None
            _set_champion(slot, version, event)
        case "rollback":
            slot.canary = None
        case "stop":
            slot.champion = slot.canary = None
        case _:
            pass
    stated = event.data
    if "champion_version" in stated:
        slot.name = str(stated.get("name") or slot.name)
        if change != "stop":
            _set_champion(slot, str(stated["champion_version"] or ""), event)
        percent, canary = stated.get("canary_percent"), stated.get("canary_version")
        if canary:
            _set_canary(slot, str(canary), float(percent or 0.0), event)
        else:
            slot.canary = None
    if slot.champion is not None:
        slot.champion = replace(slot.champion, share=100.0 - (slot.canary.share if slot.canary else 0.0))


def _set_champion(slot: _Slot, version: str, event: Event) -> None:
    """Deploying again what is live already does not change since when, and by whom, it is."""
    if version and (slot.champion is None or slot.champion.version != version):
        slot.champion = Live(version, 100.0, event.origin)
        slot.trusts = set()


def _set_canary(slot: _Slot, version: str, percent: float, event: Event) -> None:
    same = slot.canary is not None and slot.canary.version == version
    slot.canary = Live(version, percent, slot.canary.origin if same and slot.canary else event.origin)


def _doubt(event: Event, slot: _Slot) -> str:
    """What is not known of a call, and what would be live if it had happened."""
    began = (
        f"{event.name} of run {event.origin.run} ({event.origin.call}) began at {event.ts:%Y-%m-%d %H:%M:%S} UTC and "
        "had no recorded end then: "
    )
    then = _then(slot, event)
    if CHANGES.get(event.name) == "register":
        return f"{began}the registry's champion may be version {event.arguments.get('version')}"
    if then.champion is None:
        return f"{began}nobody may be live"
    canary = f" with version {then.canary.version} at {then.canary.share:g} %" if then.canary else ""
    return f"{began}version {then.champion.version}{canary} may be live"


def _digests(histories: Iterable[History]) -> dict[tuple[str, str], str]:
    """(model, version) -> digest, wherever a result states both."""
    found: dict[tuple[str, str], str] = {}

    def look(value: Any, depth: int) -> None:
        if isinstance(value, list):
            for item in value[:100] if depth else ():
                look(item, depth - 1)
        elif isinstance(value, dict):
            digest = next((str(value[key]) for key in DIGESTS if isinstance(value.get(key), str) and value[key]), "")
            if digest and value.get("version") is not None:
                found[str(value.get("name") or ""), str(value["version"])] = digest
            for role in ("champion", "canary", "challenger"):
                stated, version = value.get(f"{role}_digest"), value.get(f"{role}_version")
                if stated and version is not None:
                    found[str(value.get("name") or ""), str(version)] = str(stated)
            for item in value.values() if depth else ():
                look(item, depth - 1)

    for history in histories:
        for record in history.records:
            if record.get("kind") in ("outcome", "settled") and record.get("status") == "ok":
                look(record.get("data"), 3)
    return found


def _model_of(event: Event) -> str:
    return str(event.arguments.get("name") or event.data.get("name") or "")


def _percent(arguments: Mapping[str, Any], otherwise: float) -> float:
    value = arguments.get("percent")
    return float(value) if isinstance(value, int | float) else otherwise


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _time(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
