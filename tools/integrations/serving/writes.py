"""How it is read back what happened to production, and how it is taken back. Pure.

What is read is `ServingStatus`. Where the engine ended with its process, a canary ended with it, and a deployment has
to start the engine again: then nothing "happened" that still is so.
"""

from typing import Any

from tools.core.writes import Facts


def deployed(arguments: Facts, data: Facts | None, _: Facts | None) -> bool | None:
    if data is None or not data["running"]:
        return False
    return data["champion_version"] == arguments["version"] and data["canary_version"] is None


def canary_started(arguments: Facts, data: Facts | None, _: Facts | None) -> bool | None:
    if data is None or not data["running"]:
        return False
    share = (data["canary_version"], data["canary_percent"])
    return share == (arguments["version"], arguments["percent"])


def share_set(arguments: Facts, data: Facts | None, _: Facts | None) -> bool | None:
    if data is None or data["canary_version"] is None:
        return False
    return data["canary_percent"] == arguments["percent"]


def canary_promoted(arguments: Facts, data: Facts | None, before: Facts | None) -> bool | None:
    """On disk, so it is told of an engine that ended too. Without a version only what was before tells."""
    if data is None:
        return False
    wanted = arguments.get("version") or (before or {}).get("canary_version")
    return None if not wanted else data["champion_version"] == wanted


def canary_removed(_: Facts, data: Facts | None, __: Facts | None) -> bool | None:
    return data is not None and data["canary_version"] is None


def probation_ended(_: Facts, data: Facts | None, __: Facts | None) -> bool | None:
    """An engine that ended says nothing on it; ending it again is harmless."""
    return data is not None and bool(data["running"]) and data["former_version"] is None


def stopped(_: Facts, data: Facts | None, __: Facts | None) -> bool | None:
    return data is None or not data["running"]


def production(_: Facts, data: Facts) -> dict[str, Any]:
    kept = ("name", "champion_version", "champion_uri", "canary_version", "canary_percent", "former_version")
    return {
        **{name: data[name] for name in kept},
        "url": data["url"] or "",
        "metrics_url": data["metrics_url"] or "",
        "changed": True,
        "message": data["message"],
    }


def stop(_: Facts, data: Facts) -> dict[str, Any]:
    return {"stopped": True, "message": "The engine was stopped."}


def champion_before(_: Facts, data: Facts | None, before: Facts | None) -> dict[str, Any] | None:
    if before is None or not before.get("champion_version"):
        return None
    return {
        "name": before["name"],
        "version": before["champion_version"],
        "model_uri": before["champion_uri"],
    }


def share_before(_: Facts, data: Facts | None, before: Facts | None) -> dict[str, Any] | None:
    if before is None or before.get("canary_version") is None:
        return None
    return {"percent": before["canary_percent"]}
