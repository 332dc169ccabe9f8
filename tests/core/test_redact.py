"""Redaction: known values wherever they occur, and text shaped like a credential; ordinary text stays."""

import base64
import html
import json
import shlex
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from tools.core.dispatch import failure, short, translate
from tools.core.errors import FinalError, FixableError
from tools.core.foreign import clean_text, cut
from tools.core.model_ref import parse_model_ref
from tools.core.redact import Redactor, is_secret_name, weak_secrets
from tools.core.roots import Roots
from tools.core.stdio import Tail
from tools.registry import INTEGRATIONS, load_spec


@pytest.mark.parametrize(
    "name",
    ["OPENAI_API_KEY", "X_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD", "PGPASSWORD", "SENTRY_DSN", "MY_APIKEY",
     "GOOGLE_CREDENTIALS", "KEY", "DB_PASS", "SMTP_PWD", "AZURE_STORAGE_CONNECTION_STRING", "DATABASE_URL",
     "STAGING_DATABASE_URL", "SLACK_WEBHOOK_URL", "HF_AUTH", "SERVICE_PAT", "MY_PIN", "COOKIE", "BLOB_SAS",
     "MINIO_ACCESSKEY", "SECRETKEY", "PRIVATEKEY", "STORAGE_ACCOUNTKEY", "API_TOKENS", "DB_PASSWORDS", "OPENAI_KEYS",
     "API_KEYS", "CLIENT_SECRETS", "BEARER", "GATEWAY_BEARER", "JWT", "SERVICE_JWT", "AUTHORIZATION", "AUTH_HEADER",
     "SMTP_PW", "GH_PAT_RO", "SESSION_ID", "APP_SESSIONID"],
)  # fmt: skip
def test_names_that_say_secret_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    ["PATH", "MONKEY", "TOKENIZERS_PARALLELISM", "MAX_TOKENS", "KEYBOARD", "MLFLOW_TRACKING_URI", "PWD", "OLDPWD",
     "SSH_AUTH_SOCK", "AUTHOR", "COMPASS", "SPIN", "BASE_URL", "CONNECTION_TIMEOUT", "XAUTHORITY",
     "MLOPS_KEYS", "MAX_NEW_TOKENS", "TOTAL_TOKENS", "PRIMARY_KEYS", "MONKEYS", "TURKEY", "JWT_ALGORITHM",
     "AUTHORIZATION_URL", "XDG_SESSION_ID", "TERM_SESSION_ID", "MLFLOW_S3_PATH", "RANDOM_SEED"],
)  # fmt: skip
def test_ordinary_names_are_not_secret(name: str) -> None:
    assert not is_secret_name(name)


def test_a_setting_of_a_spec_that_is_named_like_a_secret_is_declared_as_one() -> None:
    settings = [setting for name in INTEGRATIONS for setting in load_spec(name).settings]
    undeclared = {setting.name for setting in settings if is_secret_name(setting.name) and not setting.secret}
    assert undeclared == {"MLFLOW_TRACKING_USERNAME"}


def test_a_declared_secret_is_replaced_though_its_name_does_not_say_so() -> None:
    assert (
        Redactor({"WEBHOOK": "https://x/y/z123"}, ["WEBHOOK"]).text("at https://x/y/z123!") == "at [redacted:WEBHOOK]!"
    )


def test_a_secret_that_contains_another_is_replaced_whole() -> None:
    redactor = Redactor({"A_TOKEN": "ab1cdef!", "B_TOKEN": "ab1cdef!ghij"})
    assert redactor.text("ab1cdef!ghij ab1cdef!") == "[redacted:B_TOKEN] [redacted:A_TOKEN]"


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
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQOY\n-----END PGP PRIVATE KEY BLOCK-----", "lQOY"),
        ("http://bob:p@ss/w0rd@host/x", "w0rd"),
        ("https://ghtoken1234567890abcdef@github.com/x", "ghtoken1234567890abcdef"),
        ("http://h/x?api_key=abcdefgh12345678&b=1", "abcdefgh12345678"),
        ("http://h/x?a=1&token=abc123xyz789", "abc123xyz789"),
        ("https://a.blob.core.windows.net/c?sv=2025&sig=aB%2Fc3D%3D&se=2026", "aB%2Fc3D"),
        ("connection failed: password=hunter2hunter2 host=x", "hunter2hunter2"),
        ("{'password': 'hunter2hunter2'}", "hunter2hunter2"),
        ('{"api_key": "abcdefgh12345678"}', "abcdefgh12345678"),
        ('{\\"client_secret\\": \\"abcdefgh12345678\\"}', "abcdefgh12345678"),
        ("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=Zm9v/bar+9=;EndpointSuffix=x", "Zm9v/bar+9="),
        ("Endpoint=sb://x/;SharedAccessKeyName=r;SharedAccessKey=Zm9vYmFy9=", "Zm9vYmFy9="),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9", "dozjgNryP4J3"),
        ("ASIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"),
        ("AKIAIOSFODNN7EXAMPLE, wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI"),
        ("AIzaSyD-1234567890abcdefghijklmnopqrstu", "AIzaSyD"),
        ('{"type": "service_account", "private_key_id": "0123456789abcdef0123456789abcdef01234567"}', "0123456789abc"),
        ('{"private_key": "-----BEGIN PRIVATE KEY-----\\nMIIEvQ\\n-----END PRIVATE KEY-----\\n"}', "MIIEvQ"),
        ("https://hooks.slack.com/services/T00/B00/abcDEFghiJKL", "abcDEFghiJKL"),
        ("https://discord.com/api/webhooks/123/abc-DEF_ghi", "abc-DEF_ghi"),
        ("xoxb-1234567890-abcdefghij", "1234567890-abcdefghij"),
        ("github_pat_11ABCDEFG0abcdefghijkl_mnopqrstuvwxyz", "11ABCDEFG0"),
        ("glpat-abcDEF1234567890wxyz", "abcDEF1234567890"),
        ("pypi-AgEIcHlwaS5vcmcCJGFiY2RlZmdoaWprbG1ub3A", "AgEIcHlwaS5vcmc"),
        ("npm_abcdefghijklmnopqrstuvwxyzABCDEFGHIJ", "abcdefghijklmnop"),
        ("hf_abcdefghijklmnopqrstuvwxyzABCDEFGH", "abcdefghijklmnop"),
        ("sk-ant-api03-abcdef1234567890abcdef", "abcdef1234567890abcdef"),
        ("sk_live_4eC39HqLyjWDarjtT1zdp7dc", "4eC39HqLyjWDarjtT1zdp7dc"),
        ("DD-API-KEY: 0123456789abcdef0123456789abcdef", "0123456789abcdef"),
        ("DD-APPLICATION-KEY: 0123456789abcdef0123456789abcdef01234567", "0123456789abcdef"),
        ("Authorization: Token token=y_NbAkKc66ryYTWUXYEu", "y_NbAkKc66ryYTWUXYEu"),
        ('{"routing_key": "0123456789abcdef0123456789abcdef"}', "0123456789abcdef"),
        ("AZURE_CLIENT_SECRET=abc~DEF.123 PATH=/usr/bin", "abc~DEF.123"),
        ("export SMTP_PASS='two words'", "two words"),
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
        "http://127.0.0.1:5000/users/@me",
        "pk_customer_2_identifier_column",
        "sk-learn-pipeline-of-features",
        "max_tokens=512, n_tokens: 3, tokenizer=bert",
        "Token: the access expired; password is required",
        "password=None, token=null, secret=false",
        "sort_key=customer_id, key=value, auth=basic",
        "PWD=/home/somebody OLDPWD=/ LANG=C.UTF-8",
        "sig=0.05 and significance: 0.05",
        "models:/m-0123456789abcdef0123456789abcdef",
        "sha256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "user@example.org wrote to https://example.org/a@b",
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


STRONG = "qx7canary/Aws+0009=="
ODD = 'it\'s "9"\nand ü\\ more'


def _base64(before: str) -> Callable[[str], str]:
    return lambda value: base64.b64encode(f"{before}{value}and after".encode()).decode()


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str, "upper case": str.upper, "hex": lambda v: v.encode().hex(), "HEX": lambda v: v.encode().hex().upper(),
    "base64": _base64(""), "base64 after one": _base64("u"), "base64 after two": _base64("us"),
    "base64 of user:password": _base64("user:"),
    "base64 without padding": lambda v: base64.b64encode(v.encode()).decode().rstrip("="),
    "base64 for addresses": lambda v: base64.urlsafe_b64encode(b"xy" + v.encode()).decode(),
    "percent-encoded": lambda v: urllib.parse.quote(v, safe=""), "quoted": urllib.parse.quote,
    "as a form": urllib.parse.quote_plus, "percent-encoded, small": lambda v: urllib.parse.quote(v, safe="").lower(),
    "percent-encoded twice": lambda v: urllib.parse.quote(urllib.parse.quote(v, safe=""), safe=""),
    "JSON": json.dumps, "JSON, not ASCII": lambda v: json.dumps(v, ensure_ascii=False), "repr": repr,
    "JSON in JSON": lambda v: json.dumps(json.dumps(v)), "JSON with \\/": lambda v: json.dumps(v).replace("/", "\\/"),
    "shell": shlex.quote, "HTML": html.escape, "HTML, decimal": lambda v: html.escape(v).replace("&#x27;", "&#39;"),
    "hex with colons": lambda v: v.encode().hex(":"), "hex with spaces": lambda v: v.encode().hex(" "),
    "over two lines": lambda v: v[:5] + "\n" + v[5:],
}  # fmt: skip


@pytest.mark.parametrize("secret", [STRONG, ODD, "hunter2-hunter2"])
@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_replaced_in_every_spelling(form: str, secret: str) -> None:
    redactor = Redactor({"X_TOKEN": secret})
    spelt = FORMS[form](secret)
    clean = redactor.text(f"before {spelt} after")
    assert "[redacted:X_TOKEN]" in clean and clean.startswith("before ") and clean.endswith(" after")
    core = spelt[6:16] if "base64" in form else spelt.strip("\"'")
    assert core not in clean
    assert "[redacted:X_TOKEN]" in json.dumps(redactor.data({"data": [{"text": spelt}]}))


def test_the_password_of_any_address_is_a_secret_wherever_it_occurs() -> None:
    env = {"MLFLOW_TRACKING_URI": "http://bob:s3cr3t-Pw@host", "OTHER": "postgresql://u:p%40ss-w0rd@host/db"}
    redactor = Redactor(env)
    assert "s3cr3t-Pw" not in redactor.text("login of bob with s3cr3t-Pw failed")
    assert "p@ss-w0rd" not in redactor.text("tried p@ss-w0rd") and "p%40ss-w0rd" not in redactor.text("p%40ss-w0rd")
    webhook = Redactor({"SLACK_WEBHOOK_URL": "https://hooks.slack.com/services/T0/B0/qx7canary11"})
    assert "qx7canary" not in webhook.text("POST /services/T0/B0/qx7canary11: 404, token qx7canary11")
    assert "Zm9v9bar" not in Redactor({"AZ": "AccountName=a;AccountKey=Zm9v9bar+z;"}).text("key Zm9v9bar+z!")


WORDS = ["champion", "production", "version", "cobalt", "Churn", "model2", "12345", "ok"]


@pytest.mark.parametrize("word", WORDS)
def test_a_secret_that_is_a_word_does_not_change_what_the_word_means_elsewhere(word: str) -> None:
    redactor = Redactor({"DB_PASSWORD": word})
    data: dict[str, Any] = {
        word: {f"{word}_id": 1, "stage": word, "uri": f"models:/{word}/{word}"},
        "message": f"the {word} is {word}; model: {word}, name={word} key={word}",
        "tags": [{"key": word, "value": word}],
    }
    assert redactor.data(data) == data


@pytest.mark.parametrize("word", [*WORDS, "ab12!"])
@pytest.mark.parametrize(
    "text",
    [
        "DB_PASSWORD={}", "export DB_PASSWORD='{}'", "DB_PASSWORD: {}", "{{'DB_PASSWORD': '{}'}}",
        '{{"db_password": "{}"}}', "password={} host=x", "the password is {}", "--password {}", "password: {}",
        "postgresql://user:{}@host/db", "https://{}@host", "Authorization: Bearer {}", "wrong password '{}'",
    ],
)  # fmt: skip
def test_a_secret_that_is_a_word_is_replaced_where_it_stands_as_one(text: str, word: str) -> None:
    clean = Redactor({"DB_PASSWORD": word}).text(text.format(word))
    assert word not in clean.replace("DB_PASSWORD", "") and "[redacted" in clean


def test_a_word_is_replaced_under_a_key_that_says_what_it_is_and_in_encodings() -> None:
    redactor = Redactor({"DB_PASSWORD": "production"})
    assert redactor.data({"password": "production", "stage": "production"}) == {
        "password": "[redacted:DB_PASSWORD]", "stage": "production",
    }  # fmt: skip
    basic = base64.b64encode(b"admin:production").decode()
    assert basic[8:-4] not in redactor.text(f"sent {basic}") and b"production".hex() not in redactor.text(
        b"production".hex()
    )


def test_weak_secrets_are_named_and_switches_are_none() -> None:
    env = {"DB_PASSWORD": "champion", "X_TOKEN": "hunter2-hunter2", "Y_AUTH": "true", "Z": "short", "HOME": "/home"}
    assert weak_secrets({**env, "SMTP_USERNAME": "mailer"}) == ["DB_PASSWORD"]
    assert Redactor({"SMTP_USERNAME": "mailer"}).text("user mailer") == "user mailer"
    assert "qx7-user" not in Redactor({"SMTP_USERNAME": "qx7-user"}).text("user qx7-user")
    assert weak_secrets(env, ["Z"]) == ["DB_PASSWORD", "Z"]


def test_keys_are_renamed_only_where_they_hold_a_secret_and_two_stay_two() -> None:
    redactor = Redactor({"A_TOKEN": "qx7canary-1", "B_TOKEN": "qx7canary-2", "C_PASSWORD": "target"})
    data = {"target": 1, "password": 2, "token=abcdefgh1": 3, "pk_customer_2_identifier": 4, "qx7canary-1": 5}
    assert list(redactor.data(data)) == [
        "target", "password", "token=abcdefgh1", "pk_customer_2_identifier", "[redacted:A_TOKEN]",
    ]  # fmt: skip
    assert list(redactor.data({"http://u:p1@h/1": 1, "http://u:p2@h/1": 2}).values()) == [1, 2]


def test_what_was_redacted_stays_as_it_is() -> None:
    redactor = Redactor({"DB_PASSWORD": "hunter2-hunter2", "W_TOKEN": "champion"})
    for text in ("DB_PASSWORD=hunter2-hunter2", "http://u:hunter2-hunter2@h?token=abcdefgh1", "token champion"):
        once = redactor.text(text)
        assert redactor.text(once) == once and "redacted" in once


def test_the_cost_grows_with_the_text_and_not_with_its_square() -> None:
    import time

    redactor = Redactor({f"S{i}_TOKEN": f"qx7canary{i:04d}-x" for i in range(5)})
    for piece in (
        "a-",
        "a_",
        "http://",
        "key=",
        "password ",
        "eyJ",
        "AKIA",
        "A" * 40 + " ",
        "://a:b",
        "-----BEGIN A",
        "sk-",
    ):
        began = time.process_time()
        redactor.text(piece * (100_000 // len(piece)))
        assert time.process_time() - began < 5, piece


LONG = "qx7canary" + "Kp3vLm9Q" * 9


@pytest.mark.parametrize("before", range(0, 76, 5))
@pytest.mark.parametrize("secret", [STRONG, LONG])
def test_base64_that_is_wrapped_is_replaced_wherever_the_line_breaks(secret: str, before: int) -> None:
    text = base64.encodebytes(b"u" * before + secret.encode() + b" and after" * 9).decode()
    inner = base64.b64encode(bytes(before % 3) + secret.encode()).decode()[4:-4]
    clean = Redactor({"X_TOKEN": secret}).text(text)
    assert "[redacted:X_TOKEN]" in clean
    for start in range(0, len(inner) - 12, 4):
        assert inner[start : start + 12] not in clean.replace("\n", "")


def left_of(secret: str, text: str) -> int:
    """The most characters of a secret's beginning or end that are in a text."""
    pieces = [piece for n in range(1, len(secret)) for piece in (secret[:n], secret[-n:]) if piece in text]
    return max(map(len, pieces), default=0)


@pytest.mark.parametrize("mark", ["…", "...", "…)", "\\u2026", "... [cut]", "…' names no model", ""])
@pytest.mark.parametrize("secret", ["qx7canary-Kp3v99-Lm0QzT", "hunter2-hunter2", STRONG, LONG])
def test_what_a_cut_leaves_of_a_secret_is_replaced(secret: str, mark: str) -> None:
    redactor = Redactor({"X_TOKEN": secret})
    before = mark.partition(")")[0].partition("'")[0].partition(" ")[0]
    for size in range(6, len(secret)):
        end, start = f"got 'eee{secret[:size]}{mark}", f"{before}{secret[-size:]}eee"
        for text in (end, start) if mark else (f"got 'eee{secret[:size]}", f"{secret[-size:]}eee"):
            clean = redactor.text(text)
            assert left_of(secret, clean) < 6 and "eee" in clean and "[redacted" in clean, (text, clean)
            assert redactor.text(clean) == clean
            assert redactor.data({"message": [text]}) == {"message": [clean]}


def test_what_a_cut_leaves_of_a_spelling_is_replaced() -> None:
    redactor = Redactor({"X_TOKEN": STRONG})
    for name, form in FORMS.items():
        spelt = form(STRONG).strip("\"'") if "base64" not in name else base64.b64encode(STRONG.encode()).decode()
        if "lines" not in name:
            half = spelt[: len(spelt) * 2 // 3]
            clean = redactor.text(f"was {half}…").replace("\\", "").replace('"', "")
            assert clean == "was [redacted:X_TOKEN]…", name


def test_names_at_the_ends_of_a_text_stay_though_a_secret_begins_or_ends_like_them() -> None:
    redactor = Redactor(
        {"A_TOKEN": "production-Kp3v99-Lm0QzT", "B_TOKEN": "churn-model-2026-Kp3v99", "C_TOKEN": "x9Kp-staging"}
    )
    data: dict[str, Any] = {
        "stage": "production", "uri": "models:/production", "name": "churn-model", "version": "churn-model-2026",
        "where": "staging", "said": "staging is not production", "keys": {"x9Kp-stag": 1, "production-Kp3v99": 2},
        "list": "production, churn-model and more", "prose": "it waits ... production",
    }  # fmt: skip
    assert redactor.data(data) == data
    assert redactor.text("in production-Kp3v99-L") == "in [redacted:A_TOKEN]"


def test_a_cut_beside_a_secret_takes_no_time_by_the_square() -> None:
    import time

    redactor = Redactor({"A_TOKEN": "a1" * 400, "B_TOKEN": LONG, "C_TOKEN": "..." * 20 + "x1"})
    for piece in ("a1", "a1…", "qx7can", "qx7can...", "…", ".", "a1a1a1...a1a1a1"):
        began = time.process_time()
        redactor.text(piece * (100_000 // len(piece)))
        assert time.process_time() - began < 5, piece


@pytest.mark.parametrize(
    "secret", ["first line qx7canaryA\nsecond qx7canaryB\n", r"first line qx7canaryA\nsecond qx7canaryB"]
)
def test_each_line_of_a_secret_is_one(secret: str) -> None:
    redactor = Redactor({"MULTI_TOKEN": secret})
    assert redactor.text("1: first line qx7canaryA") == "1: [redacted:MULTI_TOKEN]"
    assert redactor.text("2: second qx7canaryB") == "2: [redacted:MULTI_TOKEN]"
    pem = Redactor({"MY_KEY": "-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBg\nproduction\n-----END CERTIFICATE-----"})
    assert pem.text("-----BEGIN CERTIFICATE----- production") == "-----BEGIN CERTIFICATE----- production"
    assert pem.text("MIIEvQIBADANBg") == "[redacted:MY_KEY]"


def test_the_token_of_a_header_is_a_secret_of_its_own() -> None:
    assert (
        Redactor({"AUTH_HEADER": "Authorization: Bearer qx7canary-1"}).text("got qx7canary-1")
        == "got [redacted:AUTH_HEADER]"
    )


def message_of(call: Callable[[], object]) -> str:
    with pytest.raises(FixableError) as raised:
        call()
    return raised.value.message


MLFLOW = load_spec("mlflow")


def tail_of(text: str) -> str:
    """What is kept of a server's last words, in a sentence."""

    async def read() -> str:
        tail = Tail()
        send, receive = anyio.create_memory_object_stream[bytes](9)
        async with send, receive:
            for start in range(0, len(text), 1000):
                await send.send(text[start : start + 1000].encode())
            await send.aclose()
            await tail.read(receive)  # type: ignore[arg-type] - a stream of bytes in memory
        return tail.text

    return f"it said: {anyio.run(read)}"


@pytest.mark.parametrize(
    "cut_at",
    [
        lambda text: failure(FinalError(text)).message, lambda text: translate(MLFLOW, "x", ValueError(text)).message,
        short, lambda text: clean_text(text, 300), lambda text: clean_text("\u200b" * 900 + text, 300), tail_of,
        lambda text: message_of(lambda: parse_model_ref(f"http://{text}")),
        lambda text: message_of(lambda: Roots(Path("/p"), Path("/p/.mlops"), run_id=f"/{text}")),
        lambda text: cut(text, 700),
    ],
    ids=["failure", "translate", "short", "clean_text", "invisible", "tail", "model_ref", "roots", "cut"],
)  # fmt: skip
def test_wherever_a_text_is_cut_less_than_six_characters_of_a_secret_stay(cut_at: Callable[[str], str]) -> None:
    secret = "hunter2-hunter2-Lm0QzT"
    redactor = Redactor({"X_TOKEN": secret})
    for before in (*range(20, 130), *range(260, 310), *range(540, 710)):
        clean = redactor.text(cut_at("e" * before + secret + "t" * (4106 - before % 40)))
        assert left_of(secret, clean) < 6, (before, clean)
