"""Servers of other people in a crew: what a role gets of them, what is left out, and names that no tool has."""

import sys
from pathlib import Path
from typing import Any

import pytest

from crew.roles import AgentConfig
from crew.third_party import granted_tools, misnamed, tools_for_agent
from tests.core.fake import make_gateway
from tools.core.gateway import Gateway

TOOLS = ("search", "read", "delete")


def agent(*integrations: Any) -> AgentConfig:
    return AgentConfig.model_validate(
        {"role": "r", "goal": "g", "backstory": "b", "integrations": list(integrations)}
    )  # fmt: skip


def gateway(
    home: Path, block: dict[str, Any], accepted: tuple[str, ...] = TOOLS, command: str = sys.executable
) -> Gateway:
    made = make_gateway(
        home,
        stack={"mcpServers": {"docs": {"command": command, "args": ["-c", "1/0"]}}},
        policy={"integrations": {"docs": block}},
    )
    definitions = [{"name": name, "description": name, "inputSchema": {"type": "object"}} for name in accepted]
    if accepted:
        made.stack.pins.accept("docs", definitions, by="tester")
    return made


@pytest.mark.parametrize(
    ("granted", "block", "given"),
    [
        ("docs", {"allow": "*"}, TOOLS),
        ("docs", {"allow": "*", "forbid": ["delete"]}, ("search", "read")),
        ("docs", {"allow": ["read"]}, ("read",)),
        (
            "docs",
            {"allow": "*", "autonomy": "observe", "effects": {"search": "read", "read": "read"}},
            ("search", "read"),
        ),
        ({"docs": ["search", "serch"]}, {"allow": "*"}, ("search",)),
        ({"docs": ["search"]}, {"allow": "*", "forbid": ["search"]}, ()),
    ],
)
def test_a_role_gets_what_it_is_granted_and_the_policy_could_allow(
    tmp_path: Path, granted: Any, block: dict[str, Any], given: tuple[str, ...]
) -> None:
    with gateway(tmp_path, block) as made:
        found = granted_tools(made.stack, made.policy, "analyst", agent(granted), "docs")
        assert tuple(tool["name"] for tool in found) == given
        assert made._sender.connections == {}, "no server is asked"  # pyright: ignore[reportPrivateUsage]


def test_names_that_no_tool_has_are_told_with_the_nearest(tmp_path: Path) -> None:
    block = {
        "allow": ["search", "reed"], "forbid": ["drop"], "effects": {"search": "read", "serch": "read"},
    }  # fmt: skip
    with gateway(tmp_path, block) as made:
        agents = {"analyst": agent({"docs": ["search", "deleet"]}), "other": agent("docs")}
        told = [str(item) for item in misnamed(made.stack, made.policy.file, agents)]
    assert told[0].startswith("agents.yaml: analyst: docs has no tool 'deleet', did you mean 'delete'?")
    assert [text.split(": docs has no tool ")[0] for text in told[1:]] == [
        f"policy.yaml: integrations.docs.{key}" for key in ("effects", "allow", "forbid")
    ]
    assert "'serch', did you mean 'search'? (there: delete, read, search)" in told[1]


def test_of_a_server_that_nobody_asked_nothing_is_claimed(tmp_path: Path) -> None:
    with gateway(tmp_path, {"allow": "*", "effects": {"serch": "read"}}, accepted=()) as made:
        assert misnamed(made.stack, made.policy.file, {}) == []
        (found,) = misnamed(made.stack, made.policy.file, {}, listed={"docs": ["search"]})
        assert found.name == "serch"


def test_a_server_that_is_dead_costs_its_own_tools_and_is_told_once(
    tmp_path: Path,
) -> None:
    told: list[dict[str, Any]] = []
    role = agent("docs")
    with gateway(tmp_path / "dies", {"allow": "*", "effects": {"search": "read"}}) as made:
        made.journal.subscribe(lambda record: told.append(record) if record["kind"] == "server" else None)
        assert len(tools_for_agent(made, "analyst", role, "docs")) == 3, "nobody has tried it yet"
        assert not made.call("docs", {"action": "search"}).ok
        assert tools_for_agent(made, "analyst", role, "docs") == []
        assert tools_for_agent(made, "analyst", role, "docs") == []
        (record,) = told
        assert record["server"] == "docs" and "ZeroDivisionError" in record["left_out"]
    with gateway(tmp_path / "gone", {"allow": "*"}, command="no-such-program") as made:
        made.journal.subscribe(lambda record: told.append(record) if record["kind"] == "server" else None)
        assert tools_for_agent(made, "analyst", role, "docs") == []
        assert "no program no-such-program" in told[-1]["left_out"]
        assert made._sender.connections == {}  # pyright: ignore[reportPrivateUsage]
    with gateway(tmp_path / "spoilt", {"allow": "*"}) as made:
        made.stack.pins.path.write_text("{")
        made.journal.subscribe(lambda record: told.append(record) if record["kind"] == "server" else None)
        assert tools_for_agent(made, "analyst", role, "docs") == []
        assert "cannot be read as accepted tools" in told[-1]["left_out"]
