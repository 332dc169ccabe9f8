"""`mlops-crew reconcile`: do registry and serving agree? A person says which is right where nothing else tells."""

from typing import Annotated, Literal

import typer

from crew.commands.console import CommandError, Place, ProjectOption, place_of, say


def reconcile(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The registered model.")],
    keep: Annotated[
        Literal["registry", "serving"] | None,
        typer.Option(help="Which one is right; the other one is changed. Without it nothing is."),
    ] = None,
    project: ProjectOption = None,
) -> int:
    """Compare registry, serving and unfinished runs of a model. Exits with 1 when something disagrees."""
    place = place_of(project)
    return _put_right(place, model, keep) if keep else _say(place, model)


def _say(place: Place, model: str) -> int:
    from crew.reconcile import look
    from tools.session import open_gateway

    with open_gateway(place.project, env=place.env) as gateway:
        found = look(gateway, model, place.home)
    for item in found:
        done = f"the next run repairs it: {item.repair.why}" if item.repair else item.how
        say(f"{item.what}; {done}")
    if not found:
        say(f"Registry and serving of {model} agree.")
    return int(bool(found))


def _put_right(place: Place, model: str, keep: str) -> int:
    from tools.session import open_gateway

    with open_gateway(place.project, env=place.env) as gateway:
        champion = gateway.call("mlflow", {"action": "get_champion", "name": model})
        status = gateway.call("serving", {"action": "status"})
        if not champion.ok or champion.data is None or not status.ok or status.data is None:
            raise CommandError(f"nothing to compare: {champion.message} {status.message}")
        if keep == "registry":
            version, uri = str(champion.data["version"]), champion.data["model_uri"]
            call = {"action": "deploy_model", "model_uri": uri, "version": version, "name": model}
            result = gateway.call("serving", call)
        else:
            version = int(status.data["champion_version"])
            reason = "a person said that what serves is right"
            call = {"action": "promote_version", "name": model, "version": version, "reason": reason}
            result = gateway.call("mlflow", call)
    if not result.ok:
        raise CommandError(result.message)
    say(result.message)
    return 0
