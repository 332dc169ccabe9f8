"""Writes a new integration: its folder from the templates, and the three lines that make it known."""

import keyword
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.core.files import write_text
from tools.core.yamlfile import ConfigError

TEMPLATES = Path(__file__).parent
NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
MAX_NAME = 30  # characters; with an action's name it must fit the 64 that model providers allow for a tool
REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[A-Za-z0-9,._-]+\])?(?:[<>=!~][<>=!~.,*A-Za-z0-9+-]*)?")
REGISTRY, POLICY, PYPROJECT = "tools/registry.py", "config/policy.yaml", "pyproject.toml"


@dataclass(frozen=True)
class New:
    """What is to be written.

    Args:
        name: of the folder, in YAML and in tool names.
        title: what people call it.
        remote: a system reached over REST, with no embedded form.
        requires: requirements of its extra, for example `pagerduty>=7.2,<8`.
    """

    name: str
    title: str
    remote: bool
    requires: tuple[str, ...] = ()

    @property
    def requirements(self) -> tuple[str, ...]:
        return self.requires or (("httpx",) if self.remote else ())

    @property
    def distributions(self) -> list[str]:
        """The requirements without their versions."""
        found = [REQUIREMENT.fullmatch(requirement) for requirement in self.requirements]
        return [match[1] for match in found if match]


def check(new: New, project: Path) -> None:
    """Raise `ConfigError` unless the integration can be written there; nothing has been changed then."""
    if not (project / REGISTRY).is_file():
        raise ConfigError(f"{project} is no checkout of the project: it has no {REGISTRY}")
    if not NAME.fullmatch(new.name) or len(new.name) > MAX_NAME or keyword.iskeyword(new.name):
        raise ConfigError(
            f"{new.name!r} cannot be a name: lower-case letters, digits, single underscores, a letter first, at most "
            f"{MAX_NAME} characters, no word of Python (for example label_studio)"
        )
    if not new.title.strip() or not new.title.isprintable() or any(char in new.title for char in '"\\{}%'):
        raise ConfigError(f"{new.title!r} cannot be a title: it needs letters, and no quotes, braces, percent signs")
    for requirement in new.requires:
        if not REQUIREMENT.fullmatch(requirement):
            raise ConfigError(f"{requirement!r} is no requirement; write it as pagerduty>=7.2,<8")
    if (project / "tools" / "integrations" / new.name).exists():
        raise ConfigError(f"tools/integrations/{new.name} exists already; nothing was changed")


def write(new: New, project: Path) -> list[str]:
    """Write the folder, and the lines that are not there yet.

    Returns:
        What was done, one line each.

    Raises:
        ConfigError: see `check`; or a file does not look as expected. Nothing has been changed then.
        OSError: a file cannot be written. What was written may stay: called again, it completes the rest.
    """
    check(new, project)
    edits = [
        (REGISTRY, _registry_line),
        (POLICY, _policy_block),
        (PYPROJECT, _extra),
    ]
    texts = [(place, _edited(project / place, edit, new)) for place, edit in edits]
    files = render(new)
    done: list[str] = []
    for place, (text, line) in texts:
        if line:
            write_text(project / place, text)
        done.append(f"{place}: {line or 'is there already'}")
    folder = project / "tools" / "integrations" / new.name
    draft = folder.with_name(f".{new.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name, content in files.items():
        (draft / name).write_text(content, encoding="utf-8")
    draft.rename(folder)  # whole or not at all
    return [f"tools/integrations/{new.name}/: {', '.join(files)}", *done]


def render(new: New) -> dict[str, str]:
    """File name -> content of the new folder."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
    values = {
        "name": new.name,
        "title": new.title,
        "prefix": new.name.upper(),
        "cls": "".join(part.capitalize() for part in new.name.split("_")),
        "distributions": new.distributions,
    }
    templates = sorted((TEMPLATES / ("remote" if new.remote else "embedded")).glob("*.j2"))
    return {
        path.name.removesuffix(".j2"): environment.from_string(path.read_text(encoding="utf-8")).render(values)
        for path in templates
    }


Edit = Callable[[list[str], New], tuple[int, str] | None]


def _edited(path: Path, edit: Edit, new: New) -> tuple[str, str]:
    """The file with one more line, and that line; an empty line where it is there already."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read: {error}") from error
    found = edit(lines, new)
    if found is None:
        return "", ""
    position, line = found
    lines.insert(position, line)
    return "\n".join(lines) + "\n", line.strip()


def _registry_line(lines: list[str], new: New) -> tuple[int, str] | None:
    end = _end_of(lines, r"INTEGRATIONS\b.*= \{", lambda line: not line.startswith("}"), REGISTRY)
    if any(re.match(rf'\s*"{new.name}":', line) for line in lines[:end]):
        return None
    return end, f'    "{new.name}": "tools.integrations.{new.name}.spec",'


def _policy_block(lines: list[str], new: New) -> tuple[int, str] | None:
    end = _end_of(lines, r"integrations:\s*$", lambda line: line.startswith((" ", "#")), POLICY)
    if any(re.match(rf"  {new.name}:", line) for line in lines[:end]):
        return None
    return end, f'  {new.name}: {{allow: "*"}}'


def _extra(lines: list[str], new: New) -> tuple[int, str] | None:
    end = _end_of(lines, r"\[project\.optional-dependencies\]", lambda line: not line.startswith("["), PYPROJECT)
    if any(re.match(rf"{new.name}\s*=", line) for line in lines[:end]):
        return None
    return end, f"{new.name} = [{', '.join(_quoted(new.requirements))}]"


def _end_of(lines: Sequence[str], opening: str, inside: Callable[[str], bool], place: str) -> int:
    """Where a further line of a block goes: after its last line that is not blank."""
    start = next((number for number, line in enumerate(lines) if re.match(opening, line)), None)
    if start is None:
        raise ConfigError(f"{place} does not look as expected: no line that matches {opening}; nothing was changed")
    end = start + 1
    while end < len(lines) and inside(lines[end] or "    "):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    return end


def _quoted(texts: Sequence[str]) -> list[str]:
    return [f'"{text}"' for text in texts]
