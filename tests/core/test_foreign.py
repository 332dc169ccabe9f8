"""What comes from somebody else's server is bounded and plain before anybody holds or reads it."""

from tools.core.foreign import capped, clean_schema, clean_text, cut, kept_blocks, skeleton


def test_text_from_outside_becomes_one_line_that_can_be_read() -> None:
    assert clean_text("a\x1b[2J\u202eb\u200bc\r\nd\ue000\U000e0041", 100) == "a[2Jbc d"
    assert len(clean_text("x" * 5000, 100)) == 100
    assert clean_schema({"properties": {"q": {"description": "a\x07\u2066b"}}}) == {
        "properties": {"q": {"description": "ab"}}
    }
    assert skeleton("MLflow") == skeleton("mlf1ow") == skeleton("ml-fl\uff4fw")


def test_what_is_too_large_is_cut_and_says_so() -> None:
    text = cut("é" * 1000, 100)
    assert text.startswith("é" * 50) and "2,000 bytes" in text
    assert capped({"a": "x" * 1000}, 100) != {"a": "x" * 1000} and capped({"a": 1}, 100) == {"a": 1}
    kept = kept_blocks([{"type": "text", "text": "x" * 90}] * 3, 150)
    assert len(kept) == 2 and "2 content blocks left out" in kept[-1]["text"]
