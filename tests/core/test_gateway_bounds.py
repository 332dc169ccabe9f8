"""Whatever is sent, the gateway refuses it in the journal, goes on working, and writes no more than it can bear."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.core.fake import make_gateway

DEEP: Any = "x"
for _ in range(3000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "arguments",
    [
        {"x": DEEP},
        {"x": 10**5000},
        {"x": float("nan")},
        {"x": "half \ud800"},
        {"x": "x" * 10_000_000},
        {"x": {1: 2}},
        {"x": object()},
    ],
    ids=["3000 deep", "5000 digits", "nan", "half a character", "10 MB", "a key that is no text", "no JSON"],
)
def test_what_is_too_large_or_no_json_is_a_journalled_refusal(arguments: dict[str, Any], tmp_path: Path) -> None:
    with make_gateway(tmp_path) as gateway:
        result = gateway.call("fake", {"action": "double", **arguments})
        assert result.error is not None and result.error.kind == "fixable"
        kinds = [(record["kind"], record.get("decision")) for record in gateway.journal.records()]
        assert kinds == [("intent", "invalid"), ("outcome", None)]
        assert gateway.journal.path.stat().st_size < 100_000
        assert gateway.call("fake", {"action": "double", "x": 4}).ok
        json.dumps(gateway.journal.records())
