"""The status page and the page of a check: HTML documents that need no script and ask nobody else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from urllib.parse import quote, urlencode

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from monitor.budget import BudgetStatus
from monitor.chart import chart, strip
from monitor.check_history import History, subject_text
from monitor.fleet_status import FleetStatus
from monitor.overview import LAST_HOUR, SPANS, IncidentStatus, ObjectiveStatus, Overview
from monitor.sparkline import sparkline
from monitor.status import URGENCY, CheckStatus, State, Status, Subject, without_secrets
from monitor.wording import NOTHING, ago, span_text, told_apart, unit_text, value_text

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
    """Renders the status page, and those of single checks.

    The style and the script are part of the document; ``policy`` is the Content-Security-Policy
    that allows these two by their hashes, and nothing else.
    """

    def __init__(self, home: str = "") -> None:
        style, script = read("base.css") + read("status.css"), read("status.js")
        environment = Environment(loader=FunctionLoader(read), autoescape=True, undefined=StrictUndefined)
        environment.trim_blocks = environment.lstrip_blocks = True
        environment.globals.update(
            style=Markup(style),  # noqa: S704 - a file of this package
            script=Markup(script),  # noqa: S704 - a file of this package
            home=home,
            refresh_seconds=REFRESH_SECONDS_WITHOUT_SCRIPT,
            all_spans=list(SPANS),
            last_hour=LAST_HOUR,
            **{call.__name__: call for call in _CALLED},
        )
        environment.filters.update(_FILTERS)
        self._status, self._check = (environment.get_template(name) for name in ("status.html", "check.html"))
        self._fleet = environment.get_template("fleet.html")
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

    def render(self, found: Overview) -> str:
        """Return the status page."""
        return self._status.render(overview=found, status=found.status)

    def render_fleet(self, found: FleetStatus) -> str:
        """Return the front page of many pipelines."""
        return self._fleet.render(fleet=found)

    def render_check(self, history: History) -> str:
        """Return the page of one check."""
        return self._check.render(history=history, check=history.check)


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
    return value, f"{subject.bound} {limit}"


def rest(check: CheckStatus) -> str:
    """Return how many subjects are not shown openly, and how they are."""
    found = len(check.listed) + check.unlisted
    states = [subject.state for subject in check.listed]
    words = [f"{states.count(state)} {state}" for state in State if state in states]
    kinds = {subject.kind for subject in check.listed}
    kind = kinds.pop() if len(kinds) == 1 else "part"
    said = words[0].split()[1] if len(words) == 1 and not check.unlisted else ", ".join(words)
    plural = kind if found == 1 else "entities" if kind == "entity" else f"{kind}s"
    return f"{found} more {plural}: {said}"


def worst(checks: Sequence[CheckStatus]) -> State:
    """Return the most urgent state of a dataset's checks."""
    return min((check.state for check in checks if check.state in URGENCY), key=URGENCY.index, default=State.DISABLED)


def query(dataset: str, check: str) -> str:
    """Return what names a check in an address."""
    return urlencode({"dataset": dataset, "check": check})


def sent(incident: IncidentStatus) -> str:
    """Return how many messages there were, and how the last one fares with whom."""
    count, last = len(incident.messages), incident.messages[0]
    told = ", ".join(f"{one.channel} {one.state}" for one in last.channels) or "to nobody"
    return f"{count} messages, the last: {told}" if count > 1 else f"1 message: {told}"


def goal(objective: ObjectiveStatus) -> str:
    """Return what should be good, and over how long."""
    of = "events" if objective.kind == "events" else "the time"
    return f"{100 * objective.objective:.6g} % of {of} in {span_text(objective.period_seconds)}"


def attained(objective: ObjectiveStatus) -> str:
    """Return the share that was good, as exactly as the objective has to be told from it."""
    if objective.attained_ratio is None:
        return NOTHING
    return told_apart("good_ratio", objective.attained_ratio, objective.objective)[0]


def left(objective: ObjectiveStatus) -> str:
    """Return how much of the budget is left."""
    ratio = objective.budget_left_ratio or 0.0
    return value_text("left_ratio", ratio) if ratio >= 0 else f"overspent by {value_text('over_ratio', -ratio)}"


def times(rate: float) -> str:
    """Return a burn rate: 1x spends the budget in just its period."""
    return f"{rate:.3g}x" if rate < 1_000 else f"{rate:,.0f}x"


def spent(budget: BudgetStatus) -> str:
    """Return how much of an hour's statement time is used."""
    return f"{budget.spent_seconds:,.1f} s of {budget.seconds_per_hour:,.0f} s used in this hour"


# What templates call by these names.
_CALLED = (
    chart, icon, left, moment, query, rest, sent, sparkline, strip, subject_text, title, value_and_limit,
    without_secrets, worst,
)  # fmt: skip
_FILTERS = {
    "ago": ago, "attained": attained, "goal": goal, "span": span_text, "times": times, "unbroken": unbroken,
    "spent": spent, "unit": unit_text,
}  # fmt: skip
