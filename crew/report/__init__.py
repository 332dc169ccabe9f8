"""The report of a run: one self-contained HTML file and a JSON of the same, built purely from the run's folder.

`collect` reads the journal, `evidence` the files it names, `story` says what was decided and why, `charts` and
`timeline` draw (inline SVG), `render` writes. Nothing here calls a tool, asks a model or knows a vendor library.
"""

from crew.report.render import ReportPaths, write_report

__all__ = ["ReportPaths", "write_report"]
