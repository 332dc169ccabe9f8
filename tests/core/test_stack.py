"""`stack.yaml`: how each server is reached, and which secrets it is given."""

import dataclasses
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.core.fake import load
from tools.core.contract import Integration, Setting
from tools.core.stack import Stack, StackFile, read_env
from tools.core.yamlfile import ConfigError

ENV = {"PATH": "/bin", "FAKE_SECRET": "fake-secret", "OTHER_TOKEN": "other-secret", "OPENAI_API_KEY": "model-secret"}


def make(content: dict[str, Any], env: dict[str, str] | None = None, spec: Integration | None = None) -> Stack:
    return Stack(
        StackFile.model_validate(content),
        own=["fake"],
        load_spec=lambda name: spec or load(name),
        env={**ENV, **(env or {})},
        project=Path("/project"),
        home=Path("/home/state"),
    )


def read(tmp_path: Path, text: str) -> Stack:
    path = tmp_path / "stack.yaml"
    path.write_text(text)
    return Stack.load(path, own=["fake"], load_spec=load, env=ENV, project=tmp_path, home=tmp_path)


def test_our_integrations_run_in_process_unless_the_file_says_otherwise() -> None:
    stack = make({})
    assert stack.config("fake").transport == "in-process"
    assert stack.names == ("fake",) and stack.spec("fake") is not None


def test_a_process_of_our_own_gets_its_settings_and_no_other_secret() -> None:
    config = make({"servers": {"fake": {"transport": "stdio"}}}).config("fake")
    assert config.command == (sys.executable, "-m", "tools", "fake")
    assert config.env == {
        "PATH": "/bin", "FAKE_SECRET": "fake-secret", "MLOPS_HOME": "/home/state", "MLOPS_PROJECT": "/project"
    }  # fmt: skip


def test_a_third_party_process_gets_only_what_the_file_hands_it() -> None:
    server = {"command": "srv", "args": ["-x"], "env": {"TOKEN": "$OTHER_TOKEN", "PRICE": "5$$"}}
    config = make({"mcpServers": {"other": server}}).config("other")
    assert config.command == ("srv", "-x")
    assert config.env == {"PATH": "/bin", "TOKEN": "other-secret", "PRICE": "5$"}


def test_headers_take_their_secrets_from_the_environment() -> None:
    server = {"url": "http://h/mcp", "headers": {"Authorization": "Bearer ${OTHER_TOKEN}"}}
    config = make({"mcpServers": {"other": server}}).config("other")
    assert (config.transport, config.url, config.headers["Authorization"]) == (
        "http", "http://h/mcp", "Bearer other-secret"
    )  # fmt: skip


def test_our_http_servers_are_sent_the_server_token() -> None:
    content = {"servers": {"fake": {"transport": "http", "url": "http://h/mcp"}}}
    assert make(content).config("fake").headers == {}
    assert make(content, {"MLOPS_SERVER_TOKEN": "tok"}).config("fake").headers == {"Authorization": "Bearer tok"}


def test_an_unset_variable_is_named() -> None:
    with pytest.raises(ConfigError, match=r"\$NOT_SET"):
        make({"mcpServers": {"other": {"command": "x", "env": {"A": "$NOT_SET"}}}}).config("other")


def test_a_stray_dollar_is_an_error_that_does_not_show_the_value() -> None:
    with pytest.raises(ConfigError) as caught:
        make({"mcpServers": {"other": {"command": "x", "env": {"A": "pa$ w0rd"}}}}).config("other")
    assert "w0rd" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "env", "name", "expected"),
    [
        ({}, {}, "fake", False),
        ({}, {"FAKE_URL": "http://prod"}, "fake", True),
        ({}, {"FAKE_URL": ""}, "fake", False),
        ({"servers": {"fake": {"transport": "stdio"}}}, {}, "fake", False),
        ({"servers": {"fake": {"transport": "http", "url": "http://h/mcp"}}}, {}, "fake", True),
        ({"mcpServers": {"other": {"command": "x"}}}, {}, "other", True),
    ],
)
def test_what_leaves_the_sandbox_counts_as_real(
    content: dict[str, Any], env: dict[str, str], name: str, expected: bool
) -> None:
    assert make(content, env).is_real(name) is expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("servers: {mlfow: {transport: stdio}}", "unknown server 'mlfow'.*ours are: fake"),
        ("mcpServers: {fake: {command: x}}", "'fake' under mcpServers is the name of one of our"),
        ("servers: {fake: {transport: http}}", "needs a url"),
        ("servers: {fake: {transport: grpc}}", "in-process"),
        ("mcpServers: {other: {command: x, url: y}}", "either command or url"),
        ("mcpServers: {other: {}}", "either command or url"),
        ("server: {}", "did you mean 'servers'"),
    ],
)
def test_a_wrong_file_is_an_error_that_names_the_valid(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read(tmp_path, text)


def test_dotenv_is_below_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("A_SETTING=file\nB_SETTING=file\nEMPTY\n")
    monkeypatch.setenv("A_SETTING", "process")
    env = read_env(tmp_path)
    assert (env["A_SETTING"], env["B_SETTING"], "EMPTY" in env) == ("process", "file", False)


def remote(**changes: Any) -> Integration:
    """The fake integration as one without an embedded form."""
    spec = load("fake")
    settings = (*spec.settings, Setting("FAKE_ADDRESS", "where it is", real=True, required=True))
    return dataclasses.replace(spec, **{"embedded": False, "settings": settings, **changes})


def test_what_has_no_embedded_form_is_usable_once_its_required_settings_are_set() -> None:
    told = make({}, spec=remote()).usable("fake")
    assert told is not None and "not configured: set FAKE_ADDRESS in the environment or .env" in told
    assert make({}, {"FAKE_ADDRESS": "http://h"}, remote()).usable("fake") is None
    assert make({}, {"FAKE_ADDRESS": ""}, remote()).usable("fake") is not None
    # Its own server over HTTP has the settings.
    assert make({"servers": {"fake": {"transport": "http", "url": "http://h"}}}, spec=remote()).usable("fake") is None


def test_what_has_no_embedded_form_and_no_library_says_how_to_install_it() -> None:
    lacking = remote(settings=(), requires=("no-such-distribution",), extra="fake")
    assert "uv sync --inexact --extra fake" in str(make({}, spec=lacking).usable("fake"))


def test_an_embedded_integration_and_somebody_elses_server_are_usable() -> None:
    servers = {"other": {"command": sys.executable}, "far": {"url": "http://nobody.invalid/mcp"}}
    stack = make({"mcpServers": servers})
    assert stack.usable("fake") is None and stack.usable("other") is None and stack.usable("far") is None


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"command": "no-such-program", "args": ["-y", "it"]}, "no program no-such-program.*no-such-program -y it"),
        ({"command": "./no-such", "cwd": "/"}, "no program ./no-such"),
        ({"command": "./etc", "cwd": "/"}, "etc is not a program that may be executed"),
        ({"command": sys.executable, "cwd": "/no/such/folder"}, "folder .cwd. /no/such/folder does not exist"),
        ({"command": sys.executable, "env": {"A": "$NOT_SET"}}, r"\$NOT_SET"),
    ],
)
def test_a_server_of_somebody_else_that_cannot_be_started_is_told_without_starting_it(
    server: dict[str, Any], said: str
) -> None:
    found = make({"mcpServers": {"other": server}}).usable("other")
    assert found is not None and re.search(said, found) and "stack.yaml" in found, found


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"type": "stdio", "command": "srv", "cwd": "sub", "timeout": 20}, ("stdio", 20.0, None)),
        ({"transport": "stdio", "command": "srv", "timeout": 60_000}, ("stdio", 60.0, None)),
        ({"type": "streamableHttp", "url": "http://h/mcp", "timeout": 30}, ("http", 30.0, None)),
        ({"serverUrl": "http://h/mcp"}, ("http", None, None)),
        ({"type": "http", "httpUrl": "http://h/mcp", "trust": False}, ("http", None, None)),
        ({"command": "srv", "autoApprove": [], "alwaysAllow": ["x"], "disabled": False}, ("stdio", None, None)),
        ({"command": "srv", "enabled": True, "startup_timeout_sec": 5, "tool_timeout_sec": 9}, ("stdio", 9.0, 5.0)),
    ],
)
def test_entries_are_taken_as_every_client_writes_them(
    entry: dict[str, Any], expected: tuple[str, float | None, float | None]
) -> None:
    config = make({"mcpServers": {"other": entry}}).config("other")
    assert (config.transport, config.timeout_s, config.start_timeout_s) == expected
    assert config.cwd == (Path("/project/sub") if "cwd" in entry else None)


def test_an_entry_that_is_not_enabled_is_left_out_and_the_old_transport_is_refused_in_words(tmp_path: Path) -> None:
    assert make({"mcpServers": {"other": {"command": "srv", "enabled": False}}}).names == ("fake",)
    with pytest.raises(ConfigError, match="sse is not supported; use the server's streamable HTTP"):
        read(tmp_path, 'mcpServers: {other: {type: sse, url: "http://h/sse"}}')


def test_the_project_cannot_say_where_the_signing_keys_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLOPS_KEYS", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    (tmp_path / ".env").write_text("MLOPS_KEYS=/tmp/known\nXDG_STATE_HOME=/tmp/known\nWANDB_PROJECT=mine\n")
    env = read_env(tmp_path)
    assert env["WANDB_PROJECT"] == "mine" and not {"MLOPS_KEYS", "XDG_STATE_HOME"} & env.keys()
