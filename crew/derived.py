"""What is derived from the integrations' specs, and never written by hand: settings, tables, lists of libraries.

`mlops-crew docs --write` writes it, `--check` (and a test) says what departs from it. Each file keeps what is written
by hand, outside of the marked part.
"""

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from tools.core.contract import Action, Integration, Setting
from tools.core.files import write_text
from tools.core.yamlfile import ConfigError
from tools.registry import INTEGRATIONS, load_spec, vendors

COMMAND = "mlops-crew docs --write"
ENV_MARK = f"# === derived from the integrations' specs by `{COMMAND}`; not to be edited below ===\n"
BEGIN = f"<!-- derived from the integrations' specs by `{COMMAND}` -->\n"
END = "<!-- end of the derived part -->\n"
LINE = 118


def specs() -> list[Integration]:
    return [load_spec(name) for name in INTEGRATIONS]


def derived(project: Path) -> dict[str, str]:
    """File -> its text as it should be.

    Raises:
        ConfigError: a file is missing, or has lost its marks.
    """
    makers: dict[str, Callable[[str], str]] = {
        ".env.example": _environment,
        "docs/settings.md": lambda text: _between(text, settings_table(specs()), "docs/settings.md"),
        "docs/integrations.md": lambda text: _between(text, integrations_page(specs()), "docs/integrations.md"),
        "pyproject.toml": _forbidden,
    }
    return {place: make(_read(project / place)) for place, make in makers.items()}


def write(project: Path) -> list[str]:
    """Write what departs; gives the files."""
    changed = [(place, text) for place, text in derived(project).items() if text != _read(project / place)]
    for place, text in changed:
        write_text(project / place, text)
    return [place for place, _ in changed]


def problems(project: Path) -> list[str]:
    """What departs from the specs, one sentence each, with what to do."""
    found = [
        f"{place} departs from the specs; run: {COMMAND}"
        for place, text in derived(project).items()
        if text != _read(project / place)
    ]
    return found + list(_policy_problems(project)) + list(_requirement_problems(project))


def _policy_problems(project: Path) -> Iterator[str]:
    blocks = yaml.safe_load(_read(project / "config" / "policy.yaml"))["integrations"]
    for name in INTEGRATIONS:
        if name not in blocks:
            yield f'config/policy.yaml has no block for {name}: add a line {name}: {{allow: "*"}} below integrations'


def _requirement_problems(project: Path) -> Iterator[str]:
    """Every distribution that a spec requires is brought by the core or by the spec's extra, which exists."""
    package = tomllib.loads(_read(project / "pyproject.toml"))["project"]
    core = {_distribution(text) for text in package["dependencies"]}
    extras = {name: {_distribution(text) for text in texts} for name, texts in package["optional-dependencies"].items()}
    for spec in specs():
        if spec.extra is not None and spec.extra not in extras:
            yield f"pyproject.toml has no extra {spec.extra}, which the spec of {spec.name} names"
            continue
        brought = core | extras.get(spec.extra or "", set())
        for name in spec.requires:
            if _distribution(name) not in brought:
                where = f"the extra {spec.extra}" if spec.extra else "the list of dependencies"
                yield f"pyproject.toml: {where} does not bring {name}, which {spec.name} requires"


def _distribution(requirement: str) -> str:
    """The normalized name in a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0]).lower()


def settings_table(found: list[Integration]) -> str:
    """Every setting of every integration."""
    rows = [
        f"| `{spec.name}` | `{setting.name}` | {_meaning(setting)} | {', '.join(_marks(setting))} |"
        for spec in found
        for setting in spec.settings
    ]
    return _table("| integration | setting | meaning | |", rows)


def integrations_page(found: list[Integration]) -> str:
    """The table of integrations, and one of the actions of each."""
    rows = [
        f"| [{spec.title}](#{_anchor(spec)}) | `{spec.name}` | {len(spec.actions)} | {_form(spec)} | {_extra(spec)} |"
        for spec in found
    ]
    parts = [_table("| integration | name | actions | form | extra |", rows)]
    for spec in found:
        names = ", ".join(f"`{setting.name}`" for setting in spec.settings) or "none"
        actions = [f"| `{a.name}` | {a.effect.value} | {_undo(a)} | {a.summary} |" for a in spec.actions]
        parts.append(
            f"### {spec.title}\n\n{spec.summary} Settings: {names}.\n\n"
            + _table("| action | effect | undone by | what it does |", actions)
        )
    return "\n".join(parts)


def _form(spec: Integration) -> str:
    needs = ", ".join(f"`{setting.name}`" for setting in spec.settings if setting.required)
    if not spec.embedded:
        return f"needs {needs}"
    real = ", ".join(f"`{setting.name}`" for setting in spec.settings if setting.real)
    return f"embedded, or real by {real}" if real else "embedded"


def _extra(spec: Integration) -> str:
    return f"`{spec.extra}`" if spec.extra else ""


def _undo(action: Action) -> str:
    """The action that reverses a write, as far as the contract knows one."""
    undo = getattr(action, "undo", None)
    if not undo:
        return ""
    name = getattr(undo, "action", undo)
    return f"`{name}`" if isinstance(name, str) and re.fullmatch(r"[a-z_]+", name) else str(name).replace("|", "or")


def _anchor(spec: Integration) -> str:
    return re.sub(r"[^a-z0-9 _-]", "", spec.title.lower()).replace(" ", "-")


def _meaning(setting: Setting) -> str:
    default = f" (default: `{setting.default}`)" if setting.default else ""
    return setting.description.replace("|", "or") + default


def _marks(setting: Setting) -> list[str]:
    return [mark for mark in ("required", "real", "secret") if getattr(setting, mark)]


def _table(head: str, rows: list[str]) -> str:
    columns = head.count("|") - 1
    return "\n".join([head, "|" + "---|" * columns, *rows]).replace("|  |", "| |") + "\n"


def _environment(text: str) -> str:
    """`.env.example`: every setting once, as a comment."""
    hand, mark, _ = text.partition(ENV_MARK)
    if not mark:
        raise ConfigError(f".env.example has lost the line {ENV_MARK.strip()!r}")
    told = set(re.findall(r"^# ([A-Z][A-Z0-9_]*)=", hand, re.MULTILINE))
    parts: list[str] = []
    for spec in specs():
        lines: list[str] = []
        for setting in spec.settings:
            if setting.name not in told:
                told.add(setting.name)
                marks = f" ({', '.join(_marks(setting))})" if _marks(setting) else ""
                description = setting.description[0].upper() + setting.description[1:]
                lines += [f"# {description}{marks}.", f"# {setting.name}={setting.default or ''}"]
        if lines:
            parts.append("\n".join([f"\n# --- {spec.title} ---\n", *lines, ""]))
    return hand + mark + "".join(parts)


def _forbidden(text: str) -> str:
    """pyproject.toml: what only integrations may import."""
    lines: list[str] = []
    for module in vendors():
        word = f'"{module}",'
        if lines and len(lines[-1]) + 1 + len(word) <= LINE:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    place = r'(^name = "only integrations know a vendor library"$.*?^forbidden_modules = \[[^\n]*\n)(.*?)(^\]$)'
    found = re.search(place, text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise ConfigError('pyproject.toml has lost the contract "only integrations know a vendor library"')
    return "".join((text[: found.start(2)], *(f"{line}\n" for line in lines), text[found.end(2) :]))


def _between(text: str, content: str, place: str) -> str:
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"{place} has lost the lines {BEGIN.strip()!r} and {END.strip()!r}")
    return f"{before}{begin}\n{content}\n{end}{after}"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
