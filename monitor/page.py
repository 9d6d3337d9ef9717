"""The status page: one HTML document, rendered here, that needs no script and asks nobody else."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from importlib.resources import files
from urllib.parse import quote

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from monitor.sparkline import sparkline
from monitor.status import CheckStatus, State, Status, Subject
from monitor.wording import ago, span_text, told_apart, unit_text, value_text

# With scripts the page renews itself in place, every 5 s. Without, a reload moves the reader's place,
# so it is done less often.
REFRESH_SECONDS_WITHOUT_SCRIPT = 20
# The shapes tell states apart where colours cannot: in a tab's icon and in a picture of the page.
_SHAPES = {
    State.GOOD: ("#1f8a55", "<circle cx='8' cy='8' r='7'/>"),
    State.BAD: ("#c0342b", "<path d='M8 .6 15.4 8 8 15.4.6 8z'/>"),
    State.ERROR: ("#8a3fb0", "<path d='M8 1 15.6 15H.4z'/>"),
}
_OTHER_SHAPE = ("#9a7400", "<circle cx='8' cy='8' r='5.5' fill='none' stroke='#9a7400' stroke-width='3'/>")


def read(name: str) -> str:
    """Return a file of the templates."""
    return files("monitor").joinpath("templates", name).read_text(encoding="utf-8")


class Page:
    """Renders the status page.

    The style and the script are part of the document; ``policy`` is the Content-Security-Policy
    that allows these two by their hashes, and nothing else.
    """

    def __init__(self) -> None:
        style, script = read("base.css") + read("status.css"), read("status.js")
        environment = Environment(loader=FunctionLoader(read), autoescape=True, undefined=StrictUndefined)
        environment.trim_blocks = environment.lstrip_blocks = True
        environment.globals.update(
            style=Markup(style),  # noqa: S704 - a file of this package
            script=Markup(script),  # noqa: S704 - a file of this package
            refresh_seconds=REFRESH_SECONDS_WITHOUT_SCRIPT,
            sparkline=sparkline,
            value_and_limit=value_and_limit,
            title=title,
            icon=icon,
            moment=moment,
            rest=rest_text,
        )
        environment.filters.update(ago=ago, span=span_text, unbroken=unbroken, unit=unit_text)
        self._template = environment.get_template("status.html")
        self.policy = "; ".join(
            [
                "default-src 'none'",
                f"style-src '{hashed(style)}'",
                f"script-src '{hashed(script)}'",
                "img-src data:",
                "connect-src 'self'",
                "base-uri 'none'",
                "form-action 'none'",
                "frame-ancestors 'none'",
            ]
        )

    def render(self, status: Status) -> str:
        """Return the whole document."""
        return self._template.render(status=status)


def hashed(source: str) -> str:
    """Return what a Content-Security-Policy calls a style or a script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode("utf-8")).digest()).decode("ascii")


def unbroken(text: str) -> str:
    """Return a text in which no line ends between a number and its percent sign."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def title(status: Status) -> str:
    """Return the title: what matters first, since tabs show little of it."""
    urgent = status.counts.get(status.state, 0)
    said = "all good" if status.state is State.GOOD else f"{urgent} {status.state}" if urgent else "stopped"
    return f"{said} \N{MIDDLE DOT} {status.pipeline} \N{MIDDLE DOT} recwatch"


def icon(state: State) -> str:
    """Return the address of the page's icon: the shape of a state, as part of the page."""
    colour, shape = _SHAPES.get(state, _OTHER_SHAPE)
    drawn = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16' fill='{colour}'>{shape}</svg>"
    return "data:image/svg+xml," + quote(drawn, safe="/:='<> ")


def moment(at: datetime, now: datetime) -> str:
    """Return a moment in UTC, without its date where that is today's."""
    return f"{at:%H:%M:%S}" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M}"


def value_and_limit(subject: Subject) -> tuple[str, str]:
    """Return what was found, and the bound it is held against in words; empty where there is none."""
    if subject.band is not None:
        low, high = (value_text(subject.measure, bound) for bound in subject.band)
        return value_text(subject.measure, subject.value, 4), f"usual {low} to {high}"
    if subject.limit is None:
        return value_text(subject.measure, subject.value), ""
    value, limit = told_apart(subject.measure, subject.value, subject.limit)
    return value, f"at most {limit}"


def rest_text(check: CheckStatus) -> str:
    """Return how many subjects are not shown openly, and how they are."""
    found = len(check.listed) + check.unlisted
    states = [subject.state for subject in check.listed]
    words = [f"{states.count(state)} {state}" for state in State if state in states]
    kinds = {subject.kind for subject in check.listed}
    kind = kinds.pop() if len(kinds) == 1 else "part"
    said = words[0].split()[1] if len(words) == 1 and not check.unlisted else ", ".join(words)
    plural = kind if found == 1 else "entities" if kind == "entity" else f"{kind}s"
    return f"{found} more {plural}: {said}"
