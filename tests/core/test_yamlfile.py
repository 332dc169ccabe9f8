"""Reading YAML into a model: one message says everything that is wrong."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from tools.core.yamlfile import ConfigError, load_yaml, load_yaml_model


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    size: int = 1
    colour: str = "red"


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    inner: Inner = Inner()
    many: dict[str, Inner] = {}


def read(tmp_path: Path, text: str) -> Outer:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    return load_yaml_model(path, Outer)


def test_a_right_file_is_read(tmp_path: Path) -> None:
    assert read(tmp_path, "name: a\ninner: {size: 2}\nmany: {x: {colour: blue}}").many["x"].colour == "blue"


def test_every_wrong_key_is_named_with_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, "inner: {sise: 2}\nmany: {x: {size: big}}\nother: 1")
    message = str(caught.value)
    assert "file.yaml" in message
    assert "missing key 'name'" in message
    assert "unknown key 'inner.sise', did you mean 'size'? (valid keys: size, colour)" in message
    assert "many.x.size" in message and "'big'" in message
    assert "unknown key 'other' (valid keys: name, inner, many)" in message


@pytest.mark.parametrize(
    "text", ["name: [", "name: a\n\tb: c", "name: a\nname: b", "inner: {size: 1, size: 2}\nname: a"]
)
def test_broken_yaml_is_a_config_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"file\.yaml: not valid YAML"):
        read(tmp_path, text)


def test_a_key_given_twice_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'size' is given twice"):
        read(tmp_path, "name: a\ninner:\n  size: 1\n  size: 2")


def test_merge_keys_still_work(tmp_path: Path) -> None:
    text = "name: a\ninner: &base {size: 3}\nmany:\n  x:\n    <<: *base\n    colour: green\n"
    assert read(tmp_path, text).many["x"] == Inner(size=3, colour="green")


@pytest.mark.parametrize("text", ["", "- a", "just text", "1"])
def test_a_file_that_is_no_mapping_says_which_keys_are_expected(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="expected a mapping with the keys name, inner, many"):
        read(tmp_path, text)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        load_yaml(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"name: \xe9"])
def test_a_file_that_is_not_utf8_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(path)


def test_a_folder_in_place_of_the_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path)


def test_yaml_cannot_make_python_objects(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read(tmp_path, "name: !!python/object/apply:os.getcwd []")
