"""What is derived from the specs agrees with them, and a departure is told with the command that mends it."""

import shutil
from pathlib import Path

import pytest

from crew import derived
from tools.core.contract import Setting
from tools.core.yamlfile import ConfigError
from tools.registry import INTEGRATIONS, load_spec, vendors

ROOT = Path(__file__).parents[1]
DERIVED = (".env.example", "docs/settings.md", "docs/integrations.md", "pyproject.toml")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in (*DERIVED, "config/policy.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_everything_derived_agrees_with_the_specs() -> None:
    assert derived.problems(ROOT) == []


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (".env.example", "# MLFLOW_TRACKING_URI=", "# MLFLOW_URI="),
        ("docs/settings.md", "| `DVC_REPO` |", "| `DVC_FOLDER` |"),
        ("docs/integrations.md", "| `promote_version` | risky |", "| `promote_version` | read |"),
        ("pyproject.toml", '"evidently", ', ""),
    ],
)
def test_a_departure_is_told_and_written_away_and_what_is_written_by_hand_stays(
    checkout: Path, name: str, old: str, new: str
) -> None:
    edit(checkout / name, old, new)
    assert derived.problems(checkout) == [f"{name} departs from the specs; run: mlops-crew docs --write"]
    assert derived.write(checkout) == [name]
    assert derived.problems(checkout) == [] and derived.write(checkout) == []
    assert (checkout / name).read_text(encoding="utf-8") == (ROOT / name).read_text(encoding="utf-8")


def test_an_integration_without_a_policy_block_is_told(checkout: Path) -> None:
    edit(checkout / "config" / "policy.yaml", '  wandb: {allow: "*"}\n', "")
    assert [text for text in derived.problems(checkout) if "no block for wandb" in text]


def test_a_library_that_no_dependency_brings_is_told(checkout: Path) -> None:
    edit(checkout / "pyproject.toml", '    "wandb>=0.31,<0.32",\n', "")
    edit(checkout / "pyproject.toml", 'ray = ["ray', 'other = ["ray')
    told = derived.problems(checkout)
    assert "pyproject.toml: the list of dependencies does not bring wandb, which wandb requires" in told
    assert "pyproject.toml has no extra ray, which the spec of ray names" in told


def test_a_file_without_its_marks_is_an_error_and_not_overwritten(checkout: Path) -> None:
    edit(checkout / "docs" / "settings.md", derived.BEGIN, "")
    with pytest.raises(ConfigError, match=r"docs/settings.md has lost the lines"):
        derived.write(checkout)


def test_every_setting_is_in_the_table_and_in_the_example_environment() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    settings: list[tuple[str, Setting]] = [(name, s) for name in INTEGRATIONS for s in load_spec(name).settings]
    for name, setting in settings:
        assert f"| `{name}` | `{setting.name}` |" in page
        assert example.count(f"\n# {setting.name}=") == 1


def test_the_vendors_are_those_of_the_specs() -> None:
    assert {"mlflow", "wandb", "optuna", "ray", "evidently", "great_expectations"} <= set(vendors())
