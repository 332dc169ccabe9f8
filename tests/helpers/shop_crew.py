"""A crew that runs the shop: three tasks with runbooks, quick enough to be cut off everywhere."""

import importlib.machinery
import shutil
import sys
import types
from pathlib import Path
from typing import Any

import yaml

from tasks.base import Evidence, Inputs, Runbook, TaskResult, call, expect
from tests.helpers import shop
from tests.helpers.tiny_project import CONFIG
from tools import registry
from tools.core.grants import Grant, grant
from tools.core.tool import IntegrationTool
from tools.core.waiting import Wait

OPTIONS = [
    {"name": "red", "title": "Red", "consequences": "it is red"},
    {"name": "blue", "title": "Blue", "consequences": "it is blue"},
]
CALLS: dict[str, tuple[str, ...]] = {f"shop.{action.name}": () for action in shop.SPEC.actions}


class Result(TaskResult):
    told: list[str]


class ShopTool(IntegrationTool):
    spec = shop.SPEC


def grants(_: Inputs, __: Evidence) -> list[Grant]:
    question = {"topic": "colour", "question": "Which?", "options": OPTIONS}
    return [grant(name, **(question if name == "shop.pick" else {})) for name in CALLS]


def opening(_: Inputs) -> Runbook:
    lamp = expect((yield call("shop", "light", brightness=3)), shop.Lamp, "lighting")
    first = expect((yield call("shop", "ship", item="a")), shop.Shipped, "shipping")
    yield call("shop", "note", item="n")
    return Result(told=[lamp.message, first.message], summary="Opened.")


def selling(_: Inputs) -> Runbook:
    lamp = yield call("shop", "lamp")
    second = expect((yield call("shop", "ship", item="b")), shop.Shipped, "shipping")
    yield call("shop", "light", brightness=9)
    yield call("shop", "note", item="n")
    chosen = yield call("shop", "pick", topic="colour", question="Which?", options=OPTIONS)
    colour = expect(chosen, shop.Told, "choosing").text
    third = expect((yield call("shop", "ship", item=colour.split()[0])), shop.Shipped, "shipping")
    return Result(told=[lamp.message, second.message, colour, third.message], summary="Sold.")


def waiting(_: Inputs) -> Runbook:
    before = expect((yield call("shop", "stock")), shop.Stock, "looking")
    yield Wait("labels", "labels of the letters are to come", path=str(PATHS["labels"]), seen_ns=0)
    after = expect((yield call("shop", "lamp")), shop.Lamp, "looking")
    yield call("shop", "note", item="late")
    return Result(told=[before.message, after.message], summary="Waited.")


def closing(_: Inputs) -> Runbook:
    lamp = expect((yield call("shop", "lamp")), shop.Lamp, "looking")
    yield call("shop", "dark")
    stock = expect((yield call("shop", "stock")), shop.Stock, "looking")
    return Result(told=[lamp.message, *stock.shipped], summary="Closed.")


PATHS: dict[str, Path] = {}
BOOKS = {"open_up": opening, "sell": selling, "wait_for_letters": waiting, "close_up": closing}


def install() -> None:
    """Put the integration and the tasks where the program finds them."""
    for name, content in (("spec", {"SPEC": shop.SPEC}), ("tool", {"ShopTool": ShopTool})):
        _module(f"shop_of_tests.{name}", **content)
    registry.INTEGRATIONS["shop"] = "shop_of_tests.spec"
    for name, runbook in BOOKS.items():
        kind = type("Result", (Result,), {"__module__": f"tasks.{name}"})
        _module(f"tasks.{name}", Result=kind, runbook=_of(kind, runbook), CALLS=CALLS, grants=grants)


def uninstall() -> None:
    registry.INTEGRATIONS.pop("shop", None)
    for name in [*(f"tasks.{book}" for book in BOOKS), "shop_of_tests.spec", "shop_of_tests.tool"]:
        sys.modules.pop(name, None)


def _of(kind: type[TaskResult], runbook: Any) -> Any:
    def run(inputs: Inputs) -> Runbook:
        result = yield from runbook(inputs)
        return kind.model_validate(result.model_dump())

    return run


def _module(name: str, **content: Any) -> None:
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, None)
    vars(module).update(content)
    sys.modules[name] = module


def make_shop(folder: Path, tasks: tuple[str, ...] = ("open_up", "sell", "close_up"), autonomy: str = "auto") -> Path:
    """A project whose crew is one clerk."""
    shutil.copytree(CONFIG, folder / "config")
    (folder / "data").mkdir()
    for name in ("reference", "current"):
        (folder / "data" / f"{name}.csv").write_text("a,y\n1,yes\n2,no\n")
    goal = {
        "name": "shop", "task": "binary", "target": "y", "metric": "roc_auc",
        "data": {"reference": "data/reference.csv", "current": "data/current.csv"},
    }  # fmt: skip
    clerk = {"role": "Clerk", "goal": "Sell.", "backstory": "You sell.", "integrations": ["shop"]}
    listed = {name: {"agent": "clerk", "description": "Work.", "expected_output": "What was done."} for name in tasks}
    policy = yaml.safe_load((folder / "config" / "policy.yaml").read_text())
    policy["integrations"] = {"shop": {"allow": "*", "autonomy": autonomy}}
    for name, content in (("goal", goal), ("agents", {"clerk": clerk}), ("tasks", listed), ("policy", policy)):
        (folder / "config" / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder
