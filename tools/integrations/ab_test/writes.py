"""How it is read back whether a write happened. Pure."""

from typing import Any

from tools.core.writes import Facts, passed


def of_test(arguments: Facts) -> dict[str, Any]:
    return passed(arguments, ("test",))


def created(arguments: Facts, data: Facts | None, _: Facts | None) -> bool | None:
    """A test of that name that is between other versions is not ours."""
    if data is None:
        return False
    return (data["champion"], data["challenger"]) == (arguments["champion"], arguments["challenger"]) or None


def concluded(arguments: Facts, data: Facts | None, _: Facts | None) -> bool | None:
    if data is None:
        return None
    if data["state"] != "concluded":
        return False
    return (data["winner"], data["verdict"]) == (arguments["winner"], arguments["verdict"]) or None


def as_read(_: Facts, data: Facts) -> dict[str, Any]:
    return dict(data)
