"""The model registry: versions, the aliases champion, challenger, previous_champion and backup, and who was champion
when.

Each promotion is an event kept as a tag of the registered model (MLflow itself forgets who held an alias before;
mlflow issue 2169). The order of a promotion makes a crash harmless at any point:

1. the event is written, not done;
2. the champion alias moves, in one request: there is never a time without a champion;
3. the follow-up is written (previous_champion alias, tags; other aliases and the stage that said the same move too);
4. the event is marked done.

An event that is not done and whose version is not the champion never took effect; one whose version is the champion
is completed by the next promotion. MLflow has no compare-and-set, so two promotions at one time are for the caller to
prevent.
"""

import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tools.core.errors import FixableError, NoDataError
from tools.integrations.mlflow.naming import (
    CHAMPION,
    PRODUCTION,
    Named,
    Names,
    champion_of,
    means_champion,
    stated_champion,
)
from tools.integrations.mlflow.spec import (
    Backup,
    Champion,
    ProductionHistory,
    ProductionPeriod,
    Promotion,
    RegisteredVersion,
    Retirement,
    VersionInfo,
    Versions,
)
from tools.integrations.mlflow.tracking import Store, addressed, iso, reported

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CHALLENGER = "challenger"
PREVIOUS = "previous_champion"
BACKUP = "backup"
EVENT_TAG = "mlops.promotion."
RETIRED_TAG = "mlops.retired_at"
OUTSIDE = "the alias was moved outside the crew"
LOGGED_MODEL = re.compile(r"^models:/(m-[0-9a-f]{32})$")
REGISTERED_MODEL = re.compile(r"^models:/([^/@]+)(?:/(\d+)|@([^/]+))$")
REASON_LIMIT = 1000


@dataclass(frozen=True)
class Event:
    """One promotion. `at` is UTC; `previous` is the champion before it, None when there was none."""

    at: str
    version: int
    previous: int | None
    reason: str
    done: bool = False

    @property
    def tag(self) -> str:
        """Key of its tag: sorts by time, and holds only characters that tag keys may hold."""
        return EVENT_TAG + re.sub(r"[^0-9]", "", self.at.removesuffix("+00:00"))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


class Registry:
    """One store's registry. Made per call."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.client: MlflowClient = store.client()

    def register(self, model_uri: str, name: str, note: str) -> RegisteredVersion:
        """Register a logged model once, and make it the challenger.

        Raises:
            FixableError: no such model or run, or a name that cannot be one.
        """
        from mlflow.exceptions import MlflowException

        if not re.match(r"""^[^/:'"`]+$""", name):
            raise FixableError(f"{name!r} cannot name a registered model: it may not be empty or hold / : or quotes")
        with reported(self.store.tracking_uri):
            model_id = logged_model_id(self.client, model_uri)
            run_id = self.client.get_logged_model(model_id).source_run_id
        with reported(self.store.registry_uri, writing=f"registering {name}"):
            try:
                self.client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            known = [v for v in self._all_versions(name) if model_id in (v.source or "")]
            version = known[0] if known else self._create(name, model_id, run_id, note)
            number = int(version.version)
            if self._champion(self._model(name)).version != number:
                self.client.set_registered_model_alias(name, CHALLENGER, str(number))
        return RegisteredVersion(
            name=name,
            version=number,
            model_uri=uri_of(name, number),
            run_id=run_id,
            is_new=not known,
            message=f"{name} version {number} is {'registered as challenger' if not known else 'registered already'}.",
        )

    def _create(self, name: str, model_id: str, run_id: str | None, note: str) -> "ModelVersion":
        # A database registry looks the logged model up at the process-wide address.
        with addressed(self.store):
            version = self.client.create_model_version(
                name, f"models:/{model_id}", run_id=run_id, description=note or None, model_id=model_id
            )
        # What mlflow.register_model leaves on the model, so that MLflow's pages link both ways.
        tag = "mlflow.modelVersions"
        links = json.loads(self.client.get_logged_model(model_id).tags.get(tag) or "[]")
        links.append({"name": name, "version": version.version})
        self.client.set_logged_model_tags(model_id, {tag: json.dumps(links)})
        return version

    def champion(self, name: str, stated: str = "") -> Champion:
        """The version in production: the one that the goal states, else the one that the registry names, in whoever's
        words (`naming`).

        Raises:
            NoDataError: no such model, or it has no champion.
            FixableError: the model has no version of the stated name.
        """
        with reported(self.store.registry_uri):
            model = self._model_to_read(name)
            named = self._stated(model, stated) if stated else self._champion(model)
            if named.version is None:
                how = f"alias {CHAMPION}, other aliases, stages and tags of {name}"
                if named.candidates:
                    which = ", ".join(str(number) for number in named.candidates)
                    raise NoDataError(
                        f"versions {which} of {name} are all named as its champion", tried=self._where(how)
                    )
                raise NoDataError(f"{name} has no champion yet", tried=self._where(how))
            number = named.version
            version = self.client.get_model_version(name, str(number))
        events = _events(model)
        period = _periods(events, number)[0]
        since = period.since if period.version == number else None
        last = events[-1] if events and events[-1].version == number else None
        by = "" if named.by == f"alias {CHAMPION}" else f" ({named.by})"
        return Champion(
            name=name,
            version=number,
            model_uri=uri_of(name, number),
            named_by=named.by,
            run_id=version.run_id or None,
            since=since,
            previous=last.previous if last else None,
            unfinished=last is not None and not last.done,
            message=f"{name} version {number} is the champion{by}" + (f" since {since[:19]}Z." if since else "."),
        )

    def versions(self, name: str) -> Versions:
        """Every version, newest first.

        Raises:
            NoDataError: no such model, or it has no version.
        """
        with reported(self.store.registry_uri):
            model = self._model_to_read(name)
            found = self._all_versions(name)
        if not found:
            raise NoDataError(f"{name} has no version", tried=self._where(f"versions of {name}"))
        listed = [
            VersionInfo(
                version=int(v.version),
                model_uri=uri_of(name, int(v.version)),
                run_id=v.run_id or None,
                aliases=sorted(a for a, number in model.aliases.items() if int(number) == int(v.version)),
                stage=_stage(v),
                created=iso(v.creation_timestamp),
                retired=v.tags.get(RETIRED_TAG),
                note=v.description or "",
            )
            for v in found
        ]
        champion = champion_of(_names(model, found)).version
        told = f"version {champion} is the champion" if champion else "no champion"
        return Versions(
            name=name,
            versions=listed,
            message=f"{name}: {len(listed)} version{'' if len(listed) == 1 else 's'}, {told}.",
        )

    def promote(self, name: str, number: int, reason: str) -> Promotion:
        """Make a version the champion; see the module's docstring for the order.

        Raises:
            FixableError: no such version, no reason, or a retired version that is not the previous champion.
            UnknownOutcomeError: the registry stopped answering in between.
        """
        reason = _reason(reason)
        with reported(self.store.registry_uri):
            model, version = self._model_to_change(name, number)
            champion = self._champion(model).version
        retired = version.tags.get(RETIRED_TAG)
        if retired and number not in (_alias(model, PREVIOUS), champion):
            raise FixableError(f"{name} version {number} was retired at {retired}; promote another version")
        events = _events(model)
        with reported(self.store.registry_uri, writing=f"promoting {name} version {number}"):
            last = events[-1] if events else None
            if last and not last.done:
                if last.version == _alias(model, CHAMPION):
                    self._finish(name, last)
                else:
                    self.client.delete_registered_model_tag(name, last.tag)
            if _alias(model, CHAMPION) == number:
                at = last.at if last and last.version == number else None
                return Promotion(
                    name=name,
                    version=number,
                    previous_version=last.previous if at and last else None,
                    promoted_at=at,
                    already_champion=True,
                    message=f"{name} version {number} was the champion already.",
                )
            previous = None if champion == number else champion  # named by other words than the alias until now
            event = Event(now(), number, previous, reason)
            self._write(name, event)
            self.client.set_registered_model_alias(name, CHAMPION, str(number))
            self._finish(name, event)
        return Promotion(
            name=name,
            version=number,
            previous_version=previous,
            promoted_at=event.at,
            already_champion=False,
            message=f"{name} version {number} is the champion now"
            + (f"; version {previous} is the previous champion." if previous else "."),
        )

    def _write(self, name: str, event: Event) -> None:
        self.client.set_registered_model_tag(name, event.tag, json.dumps(asdict(event)))

    def _finish(self, name: str, event: Event) -> None:
        """What follows the move of the alias; may be repeated."""
        client, number = self.client, str(event.version)
        if event.previous is not None:
            self._move_names(name, event.previous, event.version)
            client.set_registered_model_alias(name, PREVIOUS, str(event.previous))
            client.set_model_version_tag(name, str(event.previous), "mlops.demoted_at", event.at)
        client.set_model_version_tag(name, number, "mlops.promoted_at", event.at)
        client.set_model_version_tag(name, number, "mlops.promotion_reason", event.reason)
        if RETIRED_TAG in client.get_model_version(name, number).tags:
            client.delete_model_version_tag(name, number, RETIRED_TAG)
        model = self._model(name)
        for alias in (CHALLENGER, BACKUP):
            if _alias(model, alias) == event.version:
                client.delete_registered_model_alias(name, alias)
        self._write(name, replace(event, done=True))

    def _move_names(self, name: str, before: int, after: int) -> None:
        """What else says of the version before that it is in production says it of the new one: whoever loads the model
        by such a name gets what was promoted."""
        model, old = self._model(name), self.client.get_model_version(name, str(before))
        for alias, number in model.aliases.items():
            if int(number) == before and means_champion(alias):
                self.client.set_registered_model_alias(name, alias, str(after))
        if means_champion(_stage(old)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # stages are on their way out of MLflow; this registry uses them
                self.client.transition_model_version_stage(name, str(after), PRODUCTION)
                self.client.transition_model_version_stage(name, str(before), "Archived")

    def set_backup(self, name: str, number: int, reason: str) -> Backup:
        """Have a version stand by: the alias moves to it, in one request; it is no challenger any more.

        Raises:
            FixableError: no such version, no reason, it is the champion, or it could not be promoted (retired).
            UnknownOutcomeError: the registry stopped answering in between.
        """
        reason = _reason(reason)
        with reported(self.store.registry_uri):
            model, version = self._model_to_change(name, number)
            champion = self._champion(model).version
        if champion == number:
            raise FixableError(f"{name} version {number} is the champion; a backup is another version")
        retired = version.tags.get(RETIRED_TAG)
        if retired and number != _alias(model, PREVIOUS):
            raise FixableError(f"{name} version {number} was retired at {retired}; choose another version")
        already = _alias(model, BACKUP) == number
        with reported(self.store.registry_uri, writing=f"setting the backup of {name}"):
            self.client.set_model_version_tag(name, str(number), "mlops.backup_reason", reason)
            self.client.set_registered_model_alias(name, BACKUP, str(number))
            if _alias(model, CHALLENGER) == number:
                self.client.delete_registered_model_alias(name, CHALLENGER)
        return Backup(
            name=name,
            version=number,
            model_uri=uri_of(name, number),
            already_backup=already,
            message=f"{name} version {number} {'stands by already' if already else 'stands by as the backup'}.",
        )

    def retire(self, name: str, number: int, reason: str) -> Retirement:
        """Tag a version as retired and take the aliases challenger and backup off it. Its files stay.

        Raises:
            FixableError: no such version, no reason, or it is the champion.
            UnknownOutcomeError: the registry stopped answering in between.
        """
        reason = _reason(reason)
        with reported(self.store.registry_uri):
            model, version = self._model_to_change(name, number)
            champion = self._champion(model).version
        if champion == number:
            raise FixableError(f"{name} version {number} is the champion; promote another version before retiring it")
        before = version.tags.get(RETIRED_TAG)
        at = before or now()
        with reported(self.store.registry_uri, writing=f"retiring {name} version {number}"):
            if not before:
                self.client.set_model_version_tag(name, str(number), "mlops.retirement_reason", reason)
                self.client.set_model_version_tag(name, str(number), RETIRED_TAG, at)
            for alias in (CHALLENGER, BACKUP):
                if _alias(model, alias) == number:
                    self.client.delete_registered_model_alias(name, alias)
        return Retirement(
            name=name,
            version=number,
            retired_at=at,
            already_retired=before is not None,
            message=f"{name} version {number} {'was retired already' if before else 'is retired'}.",
        )

    def history(self, name: str) -> ProductionHistory:
        """Which version was in production when, newest first.

        Raises:
            NoDataError: no such model, or none of its versions was ever in production.
        """
        with reported(self.store.registry_uri):
            model = self._model_to_read(name)
            champion = self._champion(model).version
        periods = _periods(_events(model), champion)
        if not periods:
            raise NoDataError(
                f"no version of {name} was in production yet", tried=self._where(f"promotion tags of {name}")
            )
        return ProductionHistory(
            name=name,
            periods=periods,
            message=f"{name}: {len(periods)} period{'' if len(periods) == 1 else 's'} in production, the last one of "
            f"version {periods[0].version}.",
        )

    def count(self) -> int:
        """How many registered models there are (counted up to 1,000)."""
        with reported(self.store.registry_uri):
            return len(self.client.search_registered_models(max_results=1000))

    def _champion(self, model: "RegisteredModel") -> Named:
        if (number := _alias(model, CHAMPION)) is not None:
            return Named(number, f"alias {CHAMPION}")
        return champion_of(_names(model, self._all_versions(model.name)))

    def _stated(self, model: "RegisteredModel", stated: str) -> Named:
        """The version that the goal states; once one was promoted over it, that one.

        Raises:
            FixableError: there is none, or several.
        """
        if _events(model) and (number := _alias(model, CHAMPION)) is not None:
            return Named(number, f"alias {CHAMPION}")
        versions = _names(model, self._all_versions(model.name))
        named = stated_champion(stated, versions)
        if named.version is not None:
            return named
        known = ", ".join(_described(names) for names in versions[:10]) or "none"
        which = f"names {len(named.candidates)} versions" if named.candidates else "is none of its versions"
        raise FixableError(
            f"`champion: {stated}` of the goal {which} of {model.name}: give a version's number, an alias or a stage; "
            f"versions: {known}"
        )

    def _where(self, what: str) -> str:
        return f"{what} in the registry {self.store.registry_uri}"

    def _model(self, name: str) -> "RegisteredModel":
        return self.client.get_registered_model(name)

    def _found(self, name: str) -> "RegisteredModel | None":
        from mlflow.exceptions import MlflowException

        try:
            return self._model(name)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
                return None
            raise

    def _model_to_read(self, name: str) -> "RegisteredModel":
        if model := self._found(name):
            return model
        raise NoDataError(f"no registered model {name!r}", tried=self._where(f"registered model {name}"))

    def _model_to_change(self, name: str, number: int) -> "tuple[RegisteredModel, ModelVersion]":
        """The model and one of its versions, or `FixableError` with the valid names or numbers."""
        model = self._found(name)
        if model is None:
            names = sorted(m.name for m in self.client.search_registered_models(max_results=20))
            raise FixableError(f"no registered model {name!r}; registered models: {', '.join(names) or 'none'}")
        versions = self._all_versions(name)
        for version in versions:
            if int(version.version) == number:
                return model, version
        valid = ", ".join(str(v.version) for v in versions) or "none"
        raise FixableError(f"{name} has no version {number}; versions: {valid}")

    def _all_versions(self, name: str) -> "list[ModelVersion]":
        """Newest first."""
        found: list[ModelVersion] = []
        token: str | None = None
        while token is None or token:
            page = self.client.search_model_versions(f"name='{name}'", max_results=200, page_token=token)
            found.extend(page)
            token = page.token or ""
        return sorted(found, key=lambda version: -int(version.version))


def logged_model_id(client: "MlflowClient", model_uri: str) -> str:
    """The logged model behind an address.

    Raises:
        FixableError: it is none, or the run has no model.
    """
    if match := LOGGED_MODEL.match(model_uri):
        return match[1]
    if match := re.match(r"^runs:/([0-9a-f]{32})/(.+)$", model_uri):
        return last_model_id(client, match[1], match[2])
    version = _version_at(client, model_uri)
    if version and (match := re.search(r"\bm-[0-9a-f]{32}\b", version.source or "")):
        return match[0]
    raise FixableError(
        f"{model_uri!r} names no logged model; valid: models:/m-ID (as train_model returns), models:/NAME/VERSION, "
        "models:/NAME@ALIAS, or runs:/RUN_ID/NAME"
    )


def _version_at(client: "MlflowClient", model_uri: str) -> "ModelVersion | None":
    match = REGISTERED_MODEL.match(model_uri)
    if match is None:
        return None
    name, number, alias = match.groups()
    return client.get_model_version(name, number) if number else client.get_model_version_by_alias(name, alias)


def last_model_id(client: "MlflowClient", run_id: str, name: str = "") -> str:
    """The model that a run logged last (of that name).

    Raises:
        FixableError: it logged none.
    """
    outputs: Any = client.get_run(run_id).outputs
    for output in reversed(outputs.model_outputs if outputs else []):
        if not name or client.get_logged_model(output.model_id).name == name:
            return output.model_id
    raise FixableError(f"run {run_id} has no logged model" + (f" named {name!r}" if name else ""))


def uri_of(name: str, version: int) -> str:
    return f"models:/{name}/{version}"


def _reason(reason: str) -> str:
    reason = reason.strip()
    if not reason:
        raise FixableError("reason is empty; say on what evidence")
    return reason[:REASON_LIMIT]


def _alias(model: "RegisteredModel", alias: str) -> int | None:
    number = model.aliases.get(alias)
    return None if number is None else int(number)


def _stage(version: "ModelVersion") -> str:
    """The stage of a version in registries that have them; empty: none."""
    stage = str(getattr(version, "current_stage", None) or "")
    return "" if stage == "None" else stage


def _names(model: "RegisteredModel", versions: "Sequence[ModelVersion]") -> list[Names]:
    """What names each version, newest first. An archived or retired one is in production by no tag."""
    found: list[Names] = []
    for version in versions:
        number = int(version.version)
        aliases = tuple(alias for alias, at in model.aliases.items() if int(at) == number)
        stage = _stage(version)
        gone = stage == "Archived" or RETIRED_TAG in version.tags
        found.append(Names(number, aliases, stage, {} if gone else dict(version.tags)))
    return found


def _described(names: Names) -> str:
    beside = [*names.aliases, *([names.stage] if names.stage else [])]
    return f"{names.version} ({', '.join(beside)})" if beside else str(names.version)


def _events(model: "RegisteredModel") -> list[Event]:
    """Promotions, oldest first."""
    tags: dict[str, str] = model.tags
    return [Event(**json.loads(tags[key])) for key in sorted(tags) if key.startswith(EVENT_TAG)]


def _periods(events: list[Event], champion: int | None) -> list[ProductionPeriod]:
    """Times in production, newest first, from the promotions and the present champion."""
    periods: list[ProductionPeriod] = []
    for event in events:
        if not event.done and event.version != champion:
            continue  # it never took effect
        before = periods[-1].version if periods else None
        if event.previous is not None and event.previous != before:
            periods.append(ProductionPeriod(version=event.previous, since=None, until=event.at, reason=OUTSIDE))
        elif periods:
            periods[-1].until = event.at
        periods.append(ProductionPeriod(version=event.version, since=event.at, until=None, reason=event.reason))
    if champion is not None and (not periods or periods[-1].version != champion):
        periods.append(ProductionPeriod(version=champion, since=None, until=None, reason=OUTSIDE))
    return periods[::-1]
