"""The cleaner: nothing that a terminal or a page would act on survives, nothing is hidden, ordinary text stays."""

import random
import unicodedata

import pytest

from tools.core.clean import MARK, clean_data, clean_line, clean_text, columns, cut, shown, wrap

HOSTILE = {
    "CSI": "a\x1b[2J\x1b[Hb",
    "OSC": "a\x1b]0;owned\x07b",
    "DCS": "a\x1bP1$qm\x1b\\b",
    "C1 CSI": "a\x9b31mb",
    "an escape sequence that never ends": "a\x1b]8;;http://x",
    "carriage return": "approved\rrejected",
    "backspace": "no\x08\x08yes",
    "NUL": "a\x00b",
    "bidirectional override": "a\u202eb",
    "bidirectional isolate": "a\u2066b\u2069",
    "direction marks": "a\u200eb\u200fc\u061cd",
    "zero width": "a\u200bb\u200dc\ufeffd\u2060e",
    "soft hyphen": "a\u00adb",
    "tags": "a\U000e0041\U000e0042b",
    "variation selectors as a carrier": "a\ufe01\ufe02\ufe03\U000e0101b",
    "line separator": "a\u2028b\u2029c\x85d",
    "surrogate": "a\ud800b",
    "invisible letters": "a\u3164b\u115fc\u2800d",
    "private use": "a\ue000b",
    "interlinear annotation": "a\ufff9b\ufffac\ufffbd",
    "wide": "a\ufdfdb",
}  # fmt: skip


def is_harmless(text: str) -> bool:
    return (
        all(
            (char.isascii() and (char == "\n" or char.isprintable())) or unicodedata.category(char)[0] not in "CZ"
            for char in text
        )
        and text.encode() is not None
    )


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_a_terminal_would_act_on_becomes_a_mark_where_it_stood(text: str) -> None:
    for cleaned in (clean_line(text), clean_text(text)):
        assert is_harmless(cleaned), repr(cleaned)
        assert MARK in cleaned and cleaned[0] == text[0]
        assert [c for c in cleaned if c.isascii()] == [c for c in text if c.isascii() and c.isprintable()]


@pytest.mark.parametrize(
    "text",
    ["roc_auc 0.914", "Größe in €", "売上高", "Ελλάδα", "naïve", "e\u0301te\u0301", "⚠ 5 % “so”", "x" * 5000, ""],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert clean_line(text) == text and clean_text(text) == text


def test_lines_stay_where_they_may_and_go_where_one_is_meant() -> None:
    assert clean_text("a\r\nb\tc\nd") == "a\nb c\nd"
    assert clean_line("a\r\nb\n\n\nc   d ") == "a b c d"
    assert clean_line("a\nDo it? [y/N]") == "a Do it? [y/N]"


def test_a_flood_of_combining_marks_ends() -> None:
    cleaned = clean_line("a" + "\u0316" * 500 + "b")
    assert cleaned == "a" + "\u0316" * 4 + MARK + "b"


def test_no_text_at_all_gets_through_uncleaned() -> None:
    draw = random.Random(7)
    for _ in range(2000):
        text = "".join(chr(draw.choice((draw.randrange(0x300), draw.randrange(0x110000)))) for _ in range(20))
        cleaned = clean_line(text)
        assert is_harmless(cleaned) and "\n" not in cleaned, (text, cleaned)
        assert clean_line(cleaned) == cleaned
        cleaned.encode()


def test_data_is_cleaned_with_its_keys() -> None:
    assert clean_data({"a\x1b": ["b\r", {"c": 1}], "n": None}) == {f"a{MARK}": [f"b{MARK}", {"c": 1}], "n": None}


def test_width_counts_cells() -> None:
    assert (columns("abc"), columns("売上"), columns("e\u0301")) == (3, 4, 1)
    assert cut("売上高売上高", 7) == "売上高…" and columns(cut("x" * 90, 20)) == 20
    assert all(columns(line) <= 10 for line in wrap("売上高 " * 9 + "y" * 50, 10))
    assert wrap("", 10) == [""] and "".join(wrap("z" * 25, 10)) == "z" * 25


def test_long_values_are_cut_and_told_apart_by_their_hash() -> None:
    one, other = shown("a" * 5000 + "1", 70), shown("a" * 5000 + "2", 70)
    assert one != other and columns(one) <= 70 and "5,001 characters, sha256 " in one
    assert shown({"a": [1, 2]}, 40) == '{"a": [1, 2]}' and shown("short", 40) == "short"
    assert columns(shown("売" * 500, 60)) <= 60 and shown("x" * 200, 20).startswith("xxxxxxxxx… #")
    assert "sha256" in shown("\u200b" * 4000, 70)  # it would show as one mark
