"""Sizes, depths and types: whatever is sent is checked, refused in plain words and recorded in a few kilobytes."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tools.core.bounds import MAX_DEPTH, MAX_STRING_BYTES, check_arguments, parse_json, recordable, spill
from tools.core.errors import FixableError


def nested(levels: int, *, lists: bool = False) -> Any:
    value: Any = "leaf"
    for _ in range(levels):
        value = [value] if lists else {"a": value}
    return value


def itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def doubling() -> Any:
    """2 to the 30th leaves in a few objects."""
    value: Any = ["x"] * 2
    for _ in range(29):
        value = [value, value]
    return value


class Odd:
    def __repr__(self) -> str:
        raise RuntimeError("never shown")

    __str__ = __repr__


REFUSED: dict[str, tuple[Any, str]] = {
    "text of 10 MB": ({"note": "A" * 10_000_000}, "note"),
    "text that is long in bytes only": ({"note": "€" * (MAX_STRING_BYTES // 2)}, "note"),
    "3,000 levels of objects": ({"config": nested(3000)}, "deeper than 32"),
    "100,000 levels of lists": ({"config": nested(100_000, lists=True)}, "deeper than 32"),
    "a list that holds itself": ({"config": itself()}, "deeper than 32"),
    "one structure used a billion times": ({"config": doubling()}, "1 MiB"),
    "lone surrogate": ({"name": "x\ud800y"}, "name: half a character"),
    "lone surrogate in a key": ({"x\udfff": 1}, "half a character"),
    "integer of 5,000 digits": ({"version": 10**5000}, "version: an integer of about 5,00"),
    "negative integer of 65 bits": ({"version": -(1 << 63) - 1}, "64 bits"),
    "NaN": ({"config": {"x": float("nan")}}, "config.x: nan"),
    "infinity": ({"percent": float("-inf")}, "percent: -inf"),
    "bytes": ({"name": b"\xff"}, "name: got bytes"),
    "an object": ({"name": Odd()}, "name: got Odd"),
    "a set": ({"name": {1}}, "name: got set"),
    "a number as a key": ({"a": {1: 2}}, "a: a key is int"),
    "deep under long names": ({"k" * 1000: {"k" * 1000: {"k" * 1000: {"k" * 1000: {"k" * 1000: 1 << 70}}}}}, "64 bits"),
    "200,000 keys": ({f"key{i}": i for i in range(200_000)}, "1 MiB"),
    "many texts": ({"rows": ["x" * 1000] * 1100}, "1 MiB"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_too_large_too_deep_or_no_json_is_refused_and_named(kind: str) -> None:
    value, said = REFUSED[kind]
    with pytest.raises(FixableError) as refused:
        check_arguments(value)
    message = refused.value.message
    assert said in message and len(message) < 500 and message.isprintable()


@pytest.mark.parametrize("kind", REFUSED)
def test_the_record_of_what_was_refused_is_small_json(kind: str) -> None:
    text = json.dumps(recordable(REFUSED[kind][0]), allow_nan=False)
    assert len(text) < 200_000
    text.encode()  # no half characters


def test_what_is_at_the_bounds_is_taken() -> None:
    check_arguments({"a": nested(MAX_DEPTH - 1)})
    check_arguments({"a": "x" * MAX_STRING_BYTES})
    check_arguments({"a": [(1 << 63) - 1, -(1 << 63), 1.5, True, None, "é\x00", ("tuple",)]})
    check_arguments({"rows": ["x" * 1000] * 1000})
    for value in (None, "", 0, [], {}):
        check_arguments(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a":' * 40_000 + "1" + "}" * 40_000, "deeper"),
        ("[" * 40 + "]" * 40, "deeper"),
        ("9" * 5000, "digits"),
        ("[NaN]", "nan"),
        ('"\\ud800"', "half a character"),
        ("{", "not JSON"),
        ("x" * (MAX_STRING_BYTES + 1), "256 KiB"),
    ],
)
def test_json_text_from_outside_is_read_within_the_same_bounds(text: str, said: str) -> None:
    with pytest.raises(FixableError, match=said):
        parse_json(text)
    assert parse_json('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}


def test_a_long_text_is_recorded_by_its_size_and_hash_and_no_part_of_it() -> None:
    text = "secret-begins" + "A" * 10_000_000
    kept = recordable({"note": text, "name": "churn"})
    assert kept["name"] == "churn" and "secret" not in kept["note"]
    assert f"{len(text):,} characters" in kept["note"] and hashlib.sha256(text.encode()).hexdigest() in kept["note"]


def test_ordinary_arguments_are_recorded_as_they_are() -> None:
    arguments = {"name": "churn", "version": 2, "share": 0.5, "paths": ["a.csv"], "deep": {"x": [None, True]}}
    assert recordable(arguments) == arguments
    assert recordable({"name": "x\ud800y"}) == {"name": "x\\ud800y"}


def test_a_small_result_stays_where_it_is(tmp_path: Path) -> None:
    data = {"rows": [1, 2, 3]}
    assert spill(data, tmp_path / "files", "c0001") is data
    assert not (tmp_path / "files").exists()


def test_a_large_result_goes_to_a_private_file_with_size_and_hash(tmp_path: Path) -> None:
    data = {"rows": ["x" * 100] * 5000, "count": 5000, "message": "read"}
    folder = tmp_path / "large"
    left = spill(data, folder, "c0001")
    assert left["spilled"] is True and left["kept"] == {"count": 5000, "message": "read"}
    assert left["left_out"] == ["rows"] and len(json.dumps(left)) < 1000
    file = tmp_path / left["file"]
    content = file.read_bytes()
    assert json.loads(content) == data
    assert (len(content), hashlib.sha256(content).hexdigest()) == (left["bytes"], left["sha256"])
    assert file.stat().st_mode & 0o077 == 0 and folder.stat().st_mode & 0o077 == 0
    assert spill(data, folder, "c0001") == left, "the same call again"


def test_what_stays_of_a_large_result_is_bounded_too(tmp_path: Path) -> None:
    data = {f"field{i}": "x" * 900 for i in range(1000)}
    assert len(json.dumps(spill(data, tmp_path / "large", "c1"))) < 32_000


def test_a_result_is_not_written_through_a_link(tmp_path: Path) -> None:
    data = {"rows": ["x" * 100] * 5000}
    victim = tmp_path / "victim"
    victim.write_text("precious")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    name = Path(str(spill(data, tmp_path / "large", "c1")["file"])).name
    (tmp_path / "large" / name).unlink()
    (tmp_path / "large" / name).symlink_to(victim)
    spill(data, tmp_path / "large", "c1")
    assert victim.read_text() == "precious" and not (tmp_path / "large" / name).is_symlink()
    os.symlink(elsewhere, tmp_path / "linked")
    with pytest.raises(OSError):
        spill(data, tmp_path / "linked", "c1")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("call_id", ["", "../c1", "a/b", "c1\n", "x" * 100])
def test_a_call_id_that_is_a_path_is_refused(tmp_path: Path, call_id: str) -> None:
    with pytest.raises(ValueError):
        spill({}, tmp_path, call_id)
