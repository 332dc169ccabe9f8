"""The words and number formats that the terminal display and the report share. Pure."""

from typing import Literal

DASH = "\N{EN DASH}"  # no value
Tone = Literal["good", "neutral", "warn", "bad"]

# outcome of a run -> (headline, how it is coloured)
OUTCOMES: dict[str, tuple[str, Tone]] = {
    "promoted": ("Promoted: the challenger is the new champion", "good"),
    "rolled_back": ("Rolled back: the champion serves all traffic again", "warn"),
    "champion_kept": ("Champion kept: the challenger was not better", "neutral"),
    "no_action": ("No action: no reason to retrain is proven", "neutral"),
    "data_rejected": ("Data rejected: the data checks failed, nothing was promoted", "warn"),
    "inconclusive": ("Inconclusive: the evidence did not decide, the champion stays", "warn"),
    "undecided": ("Undecided: nobody chose between the options, production stays as it is", "warn"),
    "completed": ("Completed", "good"),
    "failed": ("Failed: the run ended with an error", "bad"),
    "stopped": ("Stopped: the run was interrupted before it decided", "bad"),
    "suspended": ("Suspended: the run waits and goes on later", "neutral"),
    "unfinished": ("Unfinished: the journal ends before the run did", "bad"),
    "calls": ("Single tool calls, no run of the crew", "neutral"),
}

_UPPER = {"dvc": "DVC", "mlflow": "MLflow", "wandb": "W&B", "llm": "LLM"}


def headline(outcome: str, production: str = "") -> tuple[str, Tone]:
    """The outcome in words and its tone; an unknown one is shown as it is.

    Args:
        production: what production serves after a run failed that had changed it, which then is the news.
    """
    words, tone = OUTCOMES.get(outcome, (title(outcome) or "Unknown outcome", "warn"))
    return (f"{words}. {production}".rstrip(".") if production else words), tone


def title(name: str) -> str:
    """`data_guardian` as `Data Guardian`."""
    return " ".join(_UPPER.get(word, word.capitalize()) for word in name.replace("-", "_").split("_") if word)


def sentence(name: str) -> str:
    """`search_architecture` as `Search architecture`."""
    return name.replace("_", " ").capitalize()


def duration(seconds: float | None) -> str:
    """`0.04 s`, `3.1 s`, `2 min 05 s`, `1 h 02 min`; a dash for None."""
    if seconds is None:
        return DASH
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def number(value: object) -> str:
    """A number with at most four significant digits; whole numbers with separators; a dash for None."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e15:
            return f"{int(value):,}"
        return f"{value:.4g}" if abs(value) < 1e5 else f"{value:,.0f}"
    return str(value)


def one_line(text: str, width: int) -> str:
    """One line of at most `width` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= width else flat[: max(width - 1, 0)].rstrip() + "…"
