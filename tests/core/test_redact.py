"""Redaction: known values wherever they occur, and text shaped like a credential; ordinary text stays."""

import pytest

from tools.core.redact import Redactor, is_secret_name


@pytest.mark.parametrize(
    "name",
    ["OPENAI_API_KEY", "X_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "PGPASSWORD", "SENTRY_DSN", "MY_APIKEY",
     "GOOGLE_CREDENTIALS", "KEY"],
)  # fmt: skip
def test_names_that_say_secret_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["PATH", "MONKEY", "TOKENIZERS_PARALLELISM", "MAX_TOKENS", "KEYBOARD", "MLFLOW_TRACKING_URI"]
)
def test_ordinary_names_are_not_secret(name: str) -> None:
    assert not is_secret_name(name)


def test_a_declared_secret_is_replaced_though_its_name_does_not_say_so() -> None:
    assert (
        Redactor({"WEBHOOK": "https://x/y/z123"}, ["WEBHOOK"]).text("at https://x/y/z123!") == "at [redacted:WEBHOOK]!"
    )


def test_a_secret_that_contains_another_is_replaced_whole() -> None:
    redactor = Redactor({"A_TOKEN": "abcdef", "B_TOKEN": "abcdefghij"})
    assert redactor.text("abcdefghij abcdef") == "[redacted:B_TOKEN] [redacted:A_TOKEN]"


def test_short_values_do_not_blank_out_ordinary_text() -> None:
    assert Redactor({"X_TOKEN": "true"}).text("it is true") == "it is true"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer abc123def456", "abc123def456"),
        ("authorization: basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
        ("postgresql://user:pa55@host/db", "pa55"),
        ("https://:token99@host", "token99"),
        ("key sk-proj-abcdefgh12345678ijkl", "abcdefgh12345678"),
        ("ghp_abcdefghijklmnopqrst0123456789uvwxyz", "ghp_abc"),
        ("AKIAABCDEFGHIJKLMNOP", "AKIAABCD"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "MIIE"),
        ("-----BEGIN PRIVATE KEY-----\ncut off MIIE", "MIIE"),
    ],
)
def test_text_shaped_like_a_credential_is_replaced(text: str, secret: str) -> None:
    assert secret not in Redactor({}).text(text)


@pytest.mark.parametrize(
    "text",
    [
        "basic statistics of the reference data",
        "bearer authentication",
        "pk_customer_identifier_column",
        "http://127.0.0.1:5000/api/2.0/mlflow",
        "models:/churn@champion",
        "wandb_offline_run_directory_of_2026",
        "2026-11-23T15:04:15.257+00:00",
        "evidently: drift in hour_of_day and temperature_celsius_mean_2024",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert Redactor({}).text(text) == text


def test_data_is_copied_with_keys_and_nested_values_cleaned() -> None:
    redactor = Redactor({"X_TOKEN": "secret-value"})
    data = {"secret-value": ["secret-value", {"n": 1, "f": 0.5, "none": None, "yes": True}]}
    assert redactor.data(data) == {
        "[redacted:X_TOKEN]": ["[redacted:X_TOKEN]", {"n": 1, "f": 0.5, "none": None, "yes": True}]
    }


def test_what_json_cannot_hold_becomes_text_without_secrets() -> None:
    error = ValueError("bad secret-value")
    assert Redactor({"X_TOKEN": "secret-value"}).data({"e": error}) == {"e": "bad [redacted:X_TOKEN]"}
