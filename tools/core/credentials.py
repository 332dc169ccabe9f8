"""What a credential looks like: names of settings that hold one, shapes of text that is one, and its other spellings.

Pure; knows nothing of what is redacted where (`redact.py`).
"""

import base64
import html
import json
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass

_NAME = re.compile(
    r"(?:(?:^|_|API)KEY|(?:^|_)DSN|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|WEBHOOK|COOKIE|_PAT"
    r"|(?:ACCESS|ACCOUNT|APP|AUTH|ENCRYPTION|MASTER|PRIVATE|SECRET|SHARED|SIGNING)KEYS?)(?:_|$)"
    r"|(?:(?:^|_|API)KEY|(?:^|_)TOKEN|SECRET|PASSWORD|PASSPHRASE|WEBHOOK|COOKIE)S$"
    r"|(?:^|_)(?:BEARER|JWT|AUTHORIZATION|AUTH_HEADERS?|SESSION_?ID)$"
    r"|(?:_PASS|^PASS|_PWD?|_PIN|_AUTH|_SAS|CONNECTION_STRING|CONN_STR|DATABASE_URL|WEBHOOK_URL|_USERNAME)$",
    re.IGNORECASE,
)
# Numbers of tokens, columns, a folder, and the desktop's sessions.
_NO_SECRET = re.compile(
    r"(?:.*_)?(?:MAX|MIN|NUM|N|NEW|TOTAL|INPUT|OUTPUT|PROMPT|COMPLETION|CONTEXT|USED)_TOKENS"
    r"|(?:.*_)?(?:PRIMARY|FOREIGN|SORT|JOIN|PARTITION|GROUP|INDEX)_KEYS|MLOPS_KEYS|(?:XDG|I?TERM|SHELL)_SESSION_ID",
    re.IGNORECASE,
)
_WORDS = (
    r"password|passwd|passphrase|pwd|secret|token|credentials?|api[_-]?key|app(?:lication)?[_-]?key|access[_-]?key"
    r"|account[_-]?key|secret[_-]?key|private[_-]?key|shared[_-]?access[_-]?key|routing[_-]?key|integration[_-]?key"
    r"|connection[_-]?string"
)
# Bounded everywhere, so that no text takes time by the square of its length.
_BEFORE = r"(?:[a-z0-9]{1,30}[_-]){0,6}"
_KEY = re.compile(rf"(?:^|[^A-Za-z])(?:{_WORDS}|pass|pin)$", re.IGNORECASE)
_PART = re.compile(r"(?:[A-Z]?[a-z]*|[A-Z]*)\d*")
_VALUE = r"(?!\[redacted)(?!(?:true|false|none|null)\b)"

MIN_LINE_CHARS = 8  # of a line of a secret: shorter ones are in other texts too


def is_secret_name(name: str) -> bool:
    """Whether an environment variable's name says that it holds a secret."""
    return bool(_NAME.search(name)) and not _NO_SECRET.fullmatch(name)


def is_secret_key(key: str) -> bool:
    """Whether a mapping's key says that its value is a secret. A bare `key` does not: tags have one."""
    return bool(_KEY.search(key))


def secret_context(name: str, value: str) -> tuple[re.Pattern[str], ...]:
    """Where `value`, a word, stands as the secret of the setting `name`; group 1 is what is before it."""
    word, own = re.escape(value), re.escape(name)
    said = "|".join(part for part in re.split(r"[^A-Za-z]+", name) if _KEY.search(part)) or own
    beside = rf"(?:{own}|{_BEFORE}(?:{_WORDS}|pass|pin))\\?[\"']?\s*(?::|=>|=|\bis\b)\s*\\?[\"']?"
    return (
        re.compile(rf"(?i)((?<![A-Za-z0-9]){beside}){word}(?!\w)"),
        re.compile(rf"(?i)((?<![A-Za-z0-9])(?:{own}|{said}|bearer|basic)\s+[\"'`]?){word}(?!\w)"),
        re.compile(rf"(?i)([:/]){word}(?=@)"),
    )


def is_word(value: str) -> bool:
    """Whether a secret could as well be an ordinary word, name or number: too short, letters alone, digits alone.

    `production`, `Champion`, `s3cret` and `20261123` are; `hunter2-hunter2` is not.
    """
    return (
        len(value) < 6
        or (len(value) < 12 and value.isdigit())
        or (len(value) < 8 and value.isalnum() and not _is_mixed(value))
        or (len(value) < 16 and value.isalpha() and (value.islower() or value.isupper() or value.istitle()))
    )


def is_name_like(value: str) -> bool:
    """Whether each part of it is a word or a number, as in `churn-model-v2`."""
    return all(_PART.fullmatch(part) for part in re.split(r"[\W_]+", value))


def lines(value: str) -> Iterator[str]:
    """The lines of a secret of several, which are printed one by one; those that are no word, and no PEM marker."""
    found = [line.strip() for line in re.split(r"(?:\\[rn]|[\r\n])+", value)]
    for line in found if len(found) > 1 else ():
        if len(line) >= MIN_LINE_CHARS and not line.startswith("-----") and not is_word(line):
            yield line


def _is_mixed(value: str) -> bool:
    """Digits inside, not only at the end as in `model2`."""
    return any(char.isdigit() for char in value.rstrip("0123456789"))


@dataclass(frozen=True)
class Shape:
    """Text that is a credential whoever wrote it.

    `hints`: lower-case pieces, one of which such a text holds; looking for them is cheaper than for the pattern.
    `certain`: nothing else looks like it, so that it is replaced in a mapping's keys too.
    """

    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str = "[redacted]"
    certain: bool = False


def _shape(hints: str, pattern: str, replacement: str = "[redacted]", *, certain: bool = False) -> Shape:
    return Shape(tuple(hints.split()), re.compile(pattern), replacement, certain)


_LONG = r"(?=[A-Za-z_-]{0,200}\d)[A-Za-z0-9_-]"  # with a digit: `sk-learn-pipeline-of-features` is a name

SHAPES: tuple[Shape, ...] = (
    _shape(
        "-----begin",
        r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?s:.)*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
        certain=True,
    ),
    # With a port where a password would be, it is an address: `http://host:5000/users/@me`.
    _shape("://", r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)[^/\s:@\"']{0,100}:(?!\d{1,5}(?:/|$))[^\s\"'<>?#]{1,200}@",
           r"\1[redacted]@", certain=True),
    _shape("://", r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)(?=[^/\s:@]{0,200}\d)[^/\s:@\[\]]{16,300}@",
           r"\1[redacted]@", certain=True),
    _shape("hooks.slack.com webhooks/ webhook.office.com",
           r"(https://(?:hooks\.slack\.com/\w+|(?:ptb\.|canary\.)?discord(?:app)?\.com/api/webhooks"
           r"|[\w.-]+\.webhook\.office\.com)/)[^\s\"'<>]+", r"\1[redacted]", certain=True),
    _shape("eyj", r"\beyJ[A-Za-z0-9_-]{8,2000}\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)?", certain=True),
    # With a digit or 20 characters: "basic statistics" is prose.
    _shape("bearer basic",
           r"(?i)\b(bearer|basic)\s+(?:(?=[A-Za-z._~+/=-]{0,500}\d)[\w.~+/=-]{8,}|[\w.~+/=-]{20,})", r"\1 [redacted]"),
    # An AWS secret has no prefix: it is known by the access key beside it.
    _shape("akia asia",
           r"\b((?:AKIA|ASIA)[0-9A-Z]{16}\b[\s\S]{1,120}?)(?<![\w/+=-])[A-Za-z0-9/+]{40}(?![\w/+=-])", r"\1[redacted]",
           certain=True),
    _shape("akia asia abia acca", r"\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b", certain=True),
    _shape("aiza ya29.", r"\b(?:AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{20,})", certain=True),
    _shape("private_key_id", r"(private_key_id[\"']?\s*[:=]\s*[\"']?)[0-9a-f]{20,}", r"\1[redacted]"),
    _shape("ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"\b(?:gh[pousr]|github_pat)_[A-Za-z0-9_]{20,}", certain=True),
    _shape("glpat- gldt- glrt- glptt- glcbt- glsa_ glc_",
           rf"\b(?:gl(?:pat|dt|rt|ptt|cbt)-|glsa_|glc_){_LONG}{{16,}}", certain=True),
    _shape("pypi- npm_ hf_ dapi",
           r"\b(?:pypi-[A-Za-z0-9_-]{30,}|npm_[A-Za-z0-9]{30,}|hf_[A-Za-z0-9]{30,}|dapi[0-9a-f]{32}(?:-\d)?)",
           certain=True),
    _shape("sk- sk_live_ sk_test_ pk_live_ pk_test_ rk_live_ rk_test_",
           rf"\b(?:sk-|[spr]k_(?:live|test)_){_LONG}{{16,}}", certain=True),
    _shape("xox xapp-", rf"\b(?:xox[abeoprs]|xapp)-{_LONG}{{10,}}", certain=True),
    _shape("wandb_v1 gsk_ nvapi- lsv2_ hvs. hvb. atatt3 ddapp_ dop_v1_ shpat_ sg. r8_",
           r"\b(?:wandb_v1_[\w-]{16,}|(?:gsk|r8|ddapp|shpat)_[A-Za-z0-9]{24,}|nvapi-[\w-]{24,}|lsv2_[\w-]{24,}"
           r"|hv[sb]\.[\w-]{20,}|ATATT3[\w=-]{24,}|dop_v1_[0-9a-f]{40,}|SG\.[\w-]{16,}\.[\w-]{16,})", certain=True),
    _shape("u+", r"(?<!\w)u\+[A-Za-z0-9_-]{18}(?!\w)", certain=True),  # PagerDuty
    _shape("sig= signature= auth= key= code=", r"(?i)([?&](?:sig|signature|auth|key|code)=)(?!\[redacted)[^&\s\"'<>;]+",
           r"\1[redacted]"),
    # NAME=value, as programs print their environment. Only capitals, so that `sort_key=3` stays.
    _shape("key secret token pass _pwd= dsn= credential webhook cookie _pin= _auth= _pat= _sas= conn database_url=",
           r"\b((?:[A-Z0-9]{1,30}_){0,8}(?:API_?KEY|KEY|KEY_ID|DSN|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|WEBHOOK"
           r"|COOKIE|CONNECTION_STRING|CONN_STR|DATABASE_URL|WEBHOOK_URL)|[A-Z0-9_]{1,60}_(?:PASS|PWD|PIN|AUTH|PAT|SAS)"
           r"|PG_?PASSWORD)=(?!\[redacted)(?:\"[^\"\n]+\"|'[^'\n]+'|[^\s\"']+)", r"\1=[redacted]"),
    # password=..., ?token=..., AccountKey=...; the last with `:` only where the value does not read like prose.
    _shape("passw passphrase pwd secret token credential key connection",
           rf"(?i)((?<![A-Za-z0-9])(?-i:(?!(?:OLD)?PWD=)){_BEFORE}(?:{_WORDS})[\"']?\s?=\s?)"
           rf"{_VALUE}(?:\"[^\"\n]{{3,}}\"|'[^'\n]{{3,}}'|[^\s&;,\"'<>()\[\]]{{3,}})", r"\1[redacted]"),
    _shape("passw passphrase pwd secret token credential key connection",
           rf"(?i)((?<![A-Za-z0-9]){_BEFORE}(?:{_WORDS})\\?[\"']?\s?:\s?\\?[\"']?)"
           rf"{_VALUE}(?=[^\s&;,\"'<>()\[\]]{{0,200}}\d)[^\s&;,\"'<>()\[\]{{}}\\]{{6,}}", r"\1[redacted]"),
)  # fmt: skip


def spellings(value: str) -> Iterator[str]:
    """How a secret may be written: itself, escaped, percent-encoded, hexadecimal, base64 at any place in a longer text.

    Lower-case, as they are compared; the first is the value itself.
    """
    raw = value.encode("utf-8", "surrogatepass")
    escaped = [json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]]
    escaped += [text.replace("/", "\\/") for text in escaped[:2]]
    markup = [html.escape(value), html.escape(value).replace("&#x27;", "&#39;"), html.escape(value, quote=False)]
    shell = value.replace("'", "'\"'\"'")
    quoted = [urllib.parse.quote(raw, safe=""), urllib.parse.quote(raw), urllib.parse.quote_plus(raw)]
    twice = [json.dumps(text)[1:-1] for text in escaped] + [urllib.parse.quote(quoted[0], safe="")]
    yield from dict.fromkeys(
        form.lower() for form in (value, *escaped, *markup, shell, *quoted, *twice, *encodings(raw))
    )


def encodings(raw: bytes) -> Iterator[str]:
    """The spellings in which a word is no word any more: hexadecimal, percent signs throughout, base64."""
    yield from (raw.hex(), raw.hex(":"), raw.hex(" "))
    yield "".join(f"%{byte:02x}" for byte in raw)
    for before in range(3):  # bytes of the text in front, modulo 3, decide how base64 cuts the secret
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(bytes(before) + raw).decode()
            # Only characters that the secret alone decides.
            core = text[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]
            if len(core) >= 6:
                yield core


def parts(value: str) -> Iterator[str]:
    """Secrets inside a setting's value: an address's password, a webhook's path, the keys of a connection string."""
    for found in re.finditer(r"://[^/\s:@]{0,100}:(?!\d{1,5}(?:/|$))([^\s?#]+)@", value):
        yield found[1]
        yield urllib.parse.unquote(found[1])
    for found in re.finditer(r"://[^/\s]+/(?:services|workflows|triggers|(?:api/)?webhooks?\w*)/(\S+)", value):
        yield found[1]
        yield found[1].rpartition("/")[2]
    if found := re.fullmatch(r"(?i)\s*(?:[\w-]{1,40}:\s*)?(?:bearer|basic)\s+(\S+)\s*", value):
        yield found[1]
    for found in re.finditer(rf"(?i)(?:^|[?&;\s])[\w-]{{0,40}}(?:{_WORDS}|sig)=([^&;\s]{{4,}})", value):
        yield found[1]
        yield urllib.parse.unquote(found[1])
