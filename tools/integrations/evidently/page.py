"""Evidently's report as a page on which no script from data can run.

Evidently writes column names and categories into a `<script>` as they are, so that a category `</script><script>...` is
a script of its own. Here the same data are written again with every character escaped that HTML or JavaScript acts on;
only our own scripts carry the nonce without which the page runs nothing; and the report lies in a frame that has no
origin, no network and no way to the page around it.
"""

import html
import json
import re
import secrets
from pathlib import Path
from typing import Any

from tools.core.clean import clean_line, clean_text
from tools.core.files import write_text

_DATA = re.compile(r"<script>\s*var (metric_[0-9a-f]+) = ")

_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "base-uri 'none'; form-action 'none'"
)

_REPORT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<style>
@font-face {{ font-family: "Material Icons"; src: url(data:font/woff2;base64,{font}) format("woff2"); }}
.center-align {{ text-align: center; }}
.material-icons {{ font: 24px/1 "Material Icons"; display: inline-block; white-space: nowrap; direction: ltr; }}
</style>
</head>
<body>
<div id="root"></div>
<script nonce="{nonce}">var global = globalThis; var report = {data};</script>
<script nonce="{nonce}">{library}</script>
<script nonce="{nonce}">drawDashboard(report.dashboard, new Map(Object.entries(report.graphs)), "root");</script>
</body>
</html>
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="referrer" content="no-referrer">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>html, body, iframe {{ margin: 0; border: 0; width: 100%; height: 100%; display: block; }}</style>
</head>
<body><iframe title="{title}" sandbox="allow-scripts" srcdoc="{report}"></iframe></body>
</html>
"""


def write_page(snapshot: Any, path: Path, title: str) -> None:
    """Write a report of Evidently's.

    Args:
        snapshot: of `Report.run`.
        title: of the page.

    Raises:
        ValueError: this version of Evidently builds its page differently; nothing is written.
        OSError: it cannot be written.
    """
    import base64

    import evidently

    static = Path(evidently.__file__).parent / "nbextension" / "static"
    nonce = secrets.token_urlsafe(16)
    report = _REPORT.format(
        nonce=nonce,
        font=base64.b64encode((static / "material-ui-icons.woff2").read_bytes()).decode(),
        data=script_json(_data_of(snapshot.get_html_str(as_iframe=False))),
        library=(static / "index.js").read_text(encoding="utf-8"),
    )
    page = _PAGE.format(
        policy=html.escape(_POLICY.format(nonce=nonce)),
        title=html.escape(clean_line(title)),
        report=html.escape(report),
    )
    write_text(path, page)


def script_json(value: Any) -> str:
    """JSON that may stand inside a `<script>`, whatever texts are in it; they are cleaned as everywhere."""
    text = json.dumps(_clean(value))  # ASCII: line separators and surrogates are escaped
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _data_of(page: str) -> dict[str, Any]:
    """What Evidently's page draws: the two JSON values of its first script. All before it is constant."""
    begin = _DATA.search(page)
    if begin is None:
        raise ValueError("Evidently's page holds no data where this version is expected to write them")
    decoder = json.JSONDecoder()
    dashboard, end = decoder.raw_decode(page, begin.end())
    graphs = re.compile(rf";\s*var additional_graphs_{begin[1]} = ").match(page, end)
    if graphs is None:
        raise ValueError("Evidently's page holds no details where this version is expected to write them")
    return {"dashboard": dashboard, "graphs": decoder.raw_decode(page, graphs.end())[0]}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {clean_text(key): _clean(item) for key, item in value.items()}
    return value
