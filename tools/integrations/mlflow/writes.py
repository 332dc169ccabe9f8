"""How it is read back whether a change of the registry happened, and how it is taken back. Pure."""

from typing import Any

from tools.core.writes import Facts, passed


def of_name(arguments: Facts) -> dict[str, Any]:
    return passed(arguments, ("name",))


def promoted(arguments: Facts, data: Facts | None, before: Facts | None) -> bool | None:
    """A promotion whose follow-up is missing is made again: that completes it. A third champion is somebody else's."""
    if data is not None and data["version"] == arguments["version"]:
        return not data.get("unfinished")
    if data is None:
        return False
    return False if before is not None and before["version"] == data["version"] else None


def promotion(arguments: Facts, data: Facts) -> dict[str, Any]:
    version = data["version"]
    return {
        "name": data["name"],
        "version": version,
        "previous_version": data.get("previous"),
        "promoted_at": data["since"],
        "already_champion": False,
        "message": f"{data['name']} version {version} is the champion now.",
    }


def promoting_back(arguments: Facts, data: Facts | None, before: Facts | None) -> dict[str, Any] | None:
    former = (data or {}).get("previous_version") or (before or {}).get("version")
    if former is None or former == arguments["version"]:
        return None
    reason = f"the promotion of version {arguments['version']} is taken back"
    return {"name": arguments["name"], "version": former, "reason": reason}


def retiring(arguments: Facts, data: Facts | None, _: Facts | None) -> dict[str, Any] | None:
    if data is None or not data.get("is_new"):
        return None
    return {"name": data["name"], "version": data["version"], "reason": "its registration is taken back"}


def retired(arguments: Facts, data: Facts | None, _: Facts | None) -> bool | None:
    """Retired, and no alias of a candidate is left on it; otherwise it is retired again, which completes it."""
    found = _version(arguments, data)
    if found is None:
        return None
    return bool(found["retired"]) and not {"challenger", "backup"} & set(found["aliases"])


def retirement(arguments: Facts, data: Facts) -> dict[str, Any]:
    found = _version(arguments, data)
    assert found is not None
    return {
        "name": data["name"],
        "version": found["version"],
        "retired_at": found["retired"],
        "already_retired": False,
        "message": f"{data['name']} version {found['version']} is retired.",
    }


def _version(arguments: Facts, data: Facts | None) -> Facts | None:
    listed = data["versions"] if data is not None else ()
    return next((item for item in listed if item["version"] == arguments["version"]), None)
