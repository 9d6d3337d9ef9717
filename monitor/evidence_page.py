"""The page of one piece of evidence: no script, no request to anybody else, every text escaped."""

from __future__ import annotations

from datetime import datetime

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from checks.check import percent
from monitor.evidence import Evidence
from monitor.page import hashed, read
from monitor.wording import told_apart, unit_text

# More rows of a segment table than a person reads at once say nothing more.
SHOWN_DETAILS = 40


class EvidencePage:
    """Renders evidence; ``policy`` is the Content-Security-Policy that allows its style and nothing else."""

    def __init__(self) -> None:
        style = read("base.css") + read("evidence.css")
        environment = Environment(loader=FunctionLoader(read), autoescape=True, undefined=StrictUndefined)
        environment.trim_blocks = environment.lstrip_blocks = True
        environment.globals.update(style=Markup(style), held_against=held_against, plain=plain, when=when)  # noqa: S704 - our file
        environment.filters.update(percent=percent)
        self._template = environment.get_template("evidence.html")
        self.policy = (
            f"default-src 'none'; style-src '{hashed(style)}'; base-uri 'none'; form-action 'none';"
            " frame-ancestors 'none'"
        )

    def render(self, evidence: Evidence, has_report: bool = False) -> str:
        """Return the page, with a link to the report about it if there is one."""
        return self._template.render(evidence=evidence, body=evidence.body, has_report=has_report)


def held_against(evidence: Evidence) -> str:
    """Return the value and what it was held against, with the unit."""
    body = evidence.body
    value, limit = told_apart(body["measure"], body["value"], body["limit"])
    said = f"{value} {unit_text(body['measure'], value)}".rstrip() if body["value"] is not None else "no value"
    return f"{said}, limit {limit} {unit_text(body['measure'], limit)}".rstrip() if body["limit"] is not None else said


def when(evidence: Evidence) -> str:
    """Return the window, and when it was looked into, for a person."""
    start, end = (datetime.fromisoformat(bound) for bound in evidence.body["window"])
    first = f"{start:%H:%M:%S}" if start.date() == end.date() else f"{start:%H:%M:%S, %d %b}"
    return f"window {first} to {end:%H:%M:%S} UTC, {end:%d %b %Y}; looked into at {evidence.at:%H:%M:%S}"


def plain(details: dict[str, object]) -> list[tuple[str, str]]:
    """Return details as names and short texts, nested ones flattened."""
    found: list[tuple[str, str]] = []
    for name, value in details.items():
        if isinstance(value, dict):
            found += [(f"{name} {part}", said) for part, said in plain(value)]
        elif isinstance(value, list):
            found.append((name, "; ".join(_row(entry) for entry in value)))
        elif value is not None:
            found.append((name, f"{value:.6g}" if isinstance(value, float) else str(value)))
    return found[:SHOWN_DETAILS]


def _row(entry: object) -> str:
    if isinstance(entry, list):
        return " ".join(f"{part:.4g}" if isinstance(part, float) else str(part) for part in entry)
    return str(entry)
