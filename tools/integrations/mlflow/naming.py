"""Which version of a registered model is the champion, in whoever's words: aliases, stages and tags as teams have them.

Pure: looks nothing up.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CHAMPION = "champion"
PRODUCTION = "Production"  # MLflow's stage, before aliases
_CORE = frozenset({"champion", "champ", "production", "prod", "live", "deployed"})
_BESIDE = frozenset({"current", "active", "in", "the", "model", "version", "main", "is", "serving", "release"})
_TAGS = frozenset({"stage", "status", "state", "env", "environment", "role", "alias", "deployment", "model stage"})


@dataclass(frozen=True)
class Names:
    """What is known of one version: its aliases, its stage (empty: none) and its tags."""

    version: int
    aliases: tuple[str, ...] = ()
    stage: str = ""
    tags: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Named:
    """The champion and what names it; `version` None: nothing does, or `candidates` are named alike."""

    version: int | None
    by: str = ""
    candidates: tuple[int, ...] = ()


def means_champion(name: str) -> bool:
    """Whether an alias or a stage says that a version is in production: Production, prod-live, CurrentChamp."""
    words = _words(name)
    return bool(words & _CORE) and words <= _CORE | _BESIDE


def champion_of(versions: Sequence[Names]) -> Named:
    """The champion among versions: by the alias champion, else the one version that other words name."""
    for names in versions:
        if CHAMPION in names.aliases:
            return Named(names.version, f"alias {CHAMPION}")
    said = {names.version: told for names in versions if (told := _said(names))}
    if len(said) == 1:
        return Named(*next(iter(said.items())))
    return Named(None, candidates=tuple(said))


def stated_champion(stated: str, versions: Sequence[Names]) -> Named:
    """The version that a goal calls the champion: by its number, an alias or a stage, in any spelling."""
    plain = stated.strip().casefold()
    number = re.fullmatch(r"(?:v|version)?\s*(\d+)", plain)
    for names in versions:
        if number and names.version == int(number[1]):
            return Named(names.version, f"version {names.version} in the goal")
    found = [(n, alias) for n in versions for alias in n.aliases if alias.casefold() == plain]
    found += [(n, n.stage) for n in versions if n.stage and n.stage.casefold() == plain]
    if len({names.version for names, _ in found}) == 1:
        return Named(found[0][0].version, f"{found[0][1]} in the goal")
    return Named(None, candidates=tuple(dict.fromkeys(names.version for names, _ in found)))


def _said(names: Names) -> str:
    """What says that a version is in production; empty: nothing."""
    for alias in names.aliases:
        if means_champion(alias):
            return f"alias {alias}"
    if names.stage and means_champion(names.stage):
        return f"stage {names.stage}"
    for key, value in (names.tags or {}).items():
        if " ".join(sorted(_words(key))) in _TAGS and means_champion(str(value)):
            return f"tag {key}: {value}"
    return ""


def _words(name: Any) -> frozenset[str]:
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", str(name))
    return frozenset(re.findall(r"[a-z]+", apart.casefold()))
