"""An integration for the tests of durable runs: a store on disk, a lamp that burns as long as its process, a key.

What it did is in `<home>/shop/done.jsonl`, one line an effect, so that two effects of one write are seen.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from tools.core.contract import Action, Args, Backend, CallContext, Data, Effect, Integration, NoArgs, QuestionArgs
from tools.core.errors import NoDataError
from tools.core.writes import EACH_CALL, Facts, ReadBack, Undo


class ItemArgs(Args):
    item: str = Field(description="what")


class Shipped(Data):
    item: str
    parcel: int
    message: str


class Stock(Data):
    shipped: list[str]
    keys: list[str]
    message: str


class LampArgs(Args):
    brightness: int = Field(5, description="0 to 10")


class Lamp(Data):
    brightness: int
    message: str


class Told(Data):
    text: str


def _shipped(arguments: Facts, data: Facts | None, _: Facts | None) -> bool | None:
    return data is not None and arguments["item"] in data["shipped"]


def _parcel(arguments: Facts, data: Facts) -> dict[str, Any]:
    number = data["shipped"].index(arguments["item"]) + 1
    return {"item": arguments["item"], "parcel": number, "message": f"parcel {number}"}


def _lit(arguments: Facts, data: Facts | None, _: Facts | None) -> bool | None:
    return data is not None and data["brightness"] == arguments["brightness"]


def _lamp(_: Facts, data: Facts) -> dict[str, Any]:
    return dict(data)


def _nobody_knows(_: Facts, __: Facts | None, ___: Facts | None) -> bool | None:
    return None


def _darker(_: Facts, __: Facts | None, before: Facts | None) -> dict[str, Any] | None:
    return None if before is None else {"brightness": before["brightness"]}


SPEC = Integration(
    name="shop",
    title="Shop",
    summary="Ships and lights.",
    actions=(
        Action(
            "ship", "Ship an item.", ItemArgs, Shipped, Effect.RISKY,
            key=("item",), read_back=ReadBack("stock", _shipped, _parcel),
        ),
        Action("note", "Note an item.", ItemArgs, Told, Effect.WRITE, key=EACH_CALL, repeatable=True),
        Action(
            "post", "Send a letter.", ItemArgs, Told, Effect.RISKY,
            key=EACH_CALL, read_back=ReadBack("stock", _nobody_knows, _parcel),
        ),
        Action(
            "light", "Light the lamp.", LampArgs, Lamp, Effect.RISKY,
            idempotent=True, key=EACH_CALL, read_back=ReadBack("lamp", _lit, _lamp), undo=Undo("light", _darker),
            survives_process=False, ends=("light",),
        ),
        Action(
            "dark", "Put the lamp out.", NoArgs, Lamp, Effect.RISKY,
            idempotent=True, key=EACH_CALL, read_back=ReadBack("lamp", lambda _, data, __: not data, _lamp),
            ends=("light",),
        ),
        Action("lamp", "How the lamp burns.", NoArgs, Lamp, survives_process=False),
        Action("stock", "What was shipped.", NoArgs, Stock),
        Action("pick", "Choose.", QuestionArgs, Told, asks=True),
    ),
    backend="tests.helpers.shop:ShopBackend",
)  # fmt: skip


class ShopBackend(Backend):
    """The lamp is memory of this process; everything else is on disk."""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._brightness: int | None = None

    def ship(self, args: ItemArgs, ctx: CallContext) -> Shipped:
        number = len(_ships(ctx)) + 1
        _do(ctx, "ship", args.item)
        return Shipped(item=args.item, parcel=number, message=f"parcel {number}")

    def note(self, args: ItemArgs, ctx: CallContext) -> Told:
        if ctx.idempotency_key not in {item["key"] for item in done(ctx.home)}:
            _do(ctx, "note", args.item)
        return Told(text=f"noted {args.item}")

    def post(self, args: ItemArgs, ctx: CallContext) -> Told:
        _do(ctx, "post", args.item)
        return Told(text=f"posted {args.item}")

    def light(self, args: LampArgs, ctx: CallContext) -> Lamp:
        self._brightness = args.brightness
        return Lamp(brightness=args.brightness, message=f"burns at {args.brightness}")

    def dark(self, args: NoArgs, ctx: CallContext) -> Lamp:
        self._brightness = None
        return Lamp(brightness=0, message="dark")

    def lamp(self, args: NoArgs, ctx: CallContext) -> Lamp:
        if self._brightness is None:
            raise NoDataError("the lamp is out", tried="this process")
        return Lamp(brightness=self._brightness, message=f"burns at {self._brightness}")

    def stock(self, args: NoArgs, ctx: CallContext) -> Stock:
        keys = [str(item["key"]) for item in done(ctx.home)]
        return Stock(shipped=[item["item"] for item in _ships(ctx)], keys=keys, message=f"{len(keys)} done")

    def pick(self, args: QuestionArgs, ctx: CallContext) -> Told:
        assert ctx.answer is not None
        return Told(text=f"{ctx.answer.chosen} by {ctx.answer.decided_by}")

    def health(self, ctx: CallContext) -> str:
        return "open"


def done(home: Path) -> list[dict[str, Any]]:
    """Every effect on disk, oldest first: what, item, key."""
    file = home / "shop" / "done.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _ships(ctx: CallContext) -> list[dict[str, Any]]:
    return [item for item in done(ctx.home) if item["what"] == "ship"]


def _do(ctx: CallContext, what: str, item: str) -> None:
    with (ctx.store("shop") / "done.jsonl").open("a") as file:
        file.write(json.dumps({"what": what, "item": item, "key": ctx.idempotency_key}) + "\n")
