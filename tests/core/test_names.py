"""Names that become file names."""

# ruff: noqa: E501

import pytest
from pydantic import BaseModel, ValidationError

from tools.core.names import MAX_NAME_CHARS, Name, NameOrEmpty, is_name
from tools.registry import INTEGRATIONS, load_spec

BAD = ["../../evil", "a/b", "..", ".", "x\0y", "C:\\x", "a..b", "", " ", ".hidden", "-flag", "a b", "ä", "a\n", "\u202ea", "%2e%2e", "a" * 101]  # fmt: skip


class Named(BaseModel):
    name: Name
    other: NameOrEmpty = ""


@pytest.mark.parametrize("value", BAD)
def test_what_could_leave_its_folder_is_no_name(value: str) -> None:
    assert not is_name(value)
    with pytest.raises(ValidationError, match="valid: letters, digits"):
        Named(name=value)


def test_what_people_call_things_is_a_name() -> None:
    for value in ("churn", "2024-05.v1", "a_b", "hist_gradient_boosting-1a2b", "A" * MAX_NAME_CHARS):
        assert Named(name=value, other=value).name == value
    assert Named(name="a", other="").other == ""


def test_every_argument_that_becomes_a_file_name_refuses_paths() -> None:
    """The arguments by which stores and folders are named, over every integration."""
    named = {
        f"{name}.{action.name}.{argument}"
        for name in INTEGRATIONS
        for action in load_spec(name).actions
        for argument in action.args.model_fields
        if argument in {"study", "test", "run_id"} or (name, argument) in {("dvc", "name"), ("wandb", "project"), ("serving", "version")}
    }  # fmt: skip
    assert len(named) >= 12
    for which in named:
        integration, action, argument = which.split(".")
        args = load_spec(integration).action(action).args
        with pytest.raises(ValidationError) as refused:
            args.model_validate({argument: "../../evil"})
        assert any(item["loc"] == (argument,) and "valid" in item["msg"] for item in refused.value.errors()), which
