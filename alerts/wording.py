"""An alert as plain text: for the console, mails, and whoever cannot see a channel's own layout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from alerts.message import Alert, Problem, Severity, State
from checks.check import percent

MOST_PROBLEMS = 8
# What began less before its alarm began with it.
A_MOMENT = timedelta(minutes=1)
TEST_MARK = "TEST, nothing is wrong"


def mark(alert: Alert) -> str:
    """Return the state of an incident in capitals: PAGE, TICKET, RESOLVED or NOT WATCHED; TEST if a person asked."""
    if alert.is_test:
        return TEST_MARK
    if alert.state is State.RESOLVED:
        return "RESOLVED" if alert.is_watched else "NOT WATCHED"
    return "PAGE" if alert.severity is Severity.PAGE else "TICKET"


def headline(alert: Alert) -> str:
    """Return an incident in one line: what is broken, how bad, since when."""
    if alert.state is State.RESOLVED:
        return f"{mark(alert)} {alert.title}, after {duration(alert.duration)}{_spent(alert)}"
    first = next(iter(alert.problems), None)
    bad = f": {first.sentence}" if first is not None else ""
    return f"{mark(alert)} {alert.title}{bad}; {since(alert.began, alert.started)}"


def text(alert: Alert) -> str:
    """Return the whole message as plain text."""
    return "\n".join(lines(alert))


def lines(alert: Alert) -> Iterator[str]:
    """Yield the whole message line by line."""
    yield from news(alert)
    for number, problem in enumerate(alert.problems[:MOST_PROBLEMS]):
        # The first line has said what the first problem is, and since when if it is the only one.
        is_said = number == 0 and alert.state is State.FIRING
        when = "" if is_said and len(alert.problems) == 1 else f" ({state(problem)})"
        yield f"  {problem.title}{when}{'' if is_said or not problem.sentence else f': {problem.sentence}'}"
        yield from figures(problem)
    more = len(alert.problems) - MOST_PROBLEMS
    if more > 0:
        yield f"and {more} more"
    if alert.triage:
        first, *rest = alert.triage[:MOST_PROBLEMS]
        yield first
        yield from (f"  {line}" for line in rest)
    if alert.consequences:
        yield f"Kept quiet: {'; '.join(together(alert.consequences)[:MOST_PROBLEMS])}"
    if alert.team:
        yield f"Owner: {alert.team}"
    for link in alert.links:
        yield f"{link.text}: {link.url}"


def shown(alert: Alert) -> Iterable[str]:
    """Return the lines of a message where those before it stand above: what is kept quiet changes nothing of them."""
    return news(alert) if alert.is_aside else lines(alert)


def news(alert: Alert) -> Iterator[str]:
    """Yield the first line of a message, and what has changed since the one before."""
    yield headline(alert)
    if alert.transition > 1 and alert.change:
        yield f"Now: {alert.change}"


def together(consequences: Iterable[str]) -> list[str]:
    """Return what is kept quiet, with one line for all of one kind that have one reason.

    Examples:
        >>> together(["page of a, which contract explains", "page of b, which contract explains", "c, by itself"])
        ['page of a and b, which contract explains', 'c, by itself']
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for said in consequences:
        what, comma, why = said.partition(", ")
        kind, of, name = what.rpartition(" of ")
        groups.setdefault((kind + of, comma + why), []).append(name)
    listed = {key: " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) for key, names in groups.items()}
    return [f"{kind}{names}{why}" for (kind, why), names in listed.items()]


def state(problem: Problem) -> str:
    """Return since when a problem goes on, or when it ended."""
    return ended(problem) if problem.until is not None else since(problem.began, problem.since)


def figures(problem: Problem) -> Iterator[str]:
    """Yield the figures behind a problem, and what contributes most."""
    said = facts(problem)
    if said:
        yield f"    {', '.join(f'{name} {value}' for name, value in said)}"
    if problem.contributors:
        yield f"    most of it: {'; '.join(problem.contributors)}"


def ended(problem: Problem) -> str:
    """Return when a problem was resolved, or ended because nobody looks any more."""
    return f"{'resolved' if problem.is_watched else 'not watched any more'} at {clock(problem.until)}"


def facts(problem: Problem) -> list[tuple[str, str]]:
    """Return the figures of a problem by their names, for a list or a table."""
    found = []
    if problem.value:
        found.append(("value", problem.value))
    if problem.limit:
        found.append(("limit", problem.limit))
    if problem.baseline:
        found.append(("baseline", problem.baseline))
    if problem.burn_rate is not None and problem.until is None:
        found.append(("burn rate", f"{problem.burn_rate:.3g}x"))
    if problem.budget_left_ratio is not None:
        found.append(("budget left", left(problem.budget_left_ratio)))
    if problem.tier:
        found.append(("tier", problem.tier))
    return found


def _spent(alert: Alert) -> str:
    spent = max((problem.budget_spent_ratio or 0.0 for problem in alert.problems), default=0.0)
    return f"; it spent {percent(spent)} of the budget" if spent > 0 else ""


def left(ratio: float) -> str:
    """Return how much of a budget is left.

    Examples:
        >>> left(0.634), left(-1.25)
        ('63.4 %', 'none, overspent by 125 %')
    """
    return percent(ratio) if ratio >= 0 else f"none, overspent by {percent(-ratio)}"


def clock(at: datetime | None) -> str:
    """Return a time of day in UTC, with the date, since people read it from anywhere."""
    return "an unknown time" if at is None else f"{at.astimezone(UTC):%H:%M UTC, %d %b}"


def since(began: datetime | None, alarm: datetime) -> str:
    """Return since when something has been bad, and when its alarm fired if that was later.

    Examples:
        >>> since(datetime(2026, 3, 3, 12, 0, tzinfo=UTC), datetime(2026, 3, 3, 12, 31, tzinfo=UTC))
        'bad since 12:00, alarm at 12:31 UTC, 03 Mar'
    """
    if began is None or alarm - began < A_MOMENT:
        return f"since {clock(alarm)}"
    is_one_day = began.astimezone(UTC).date() == alarm.astimezone(UTC).date()
    return f"bad since {clock(began).partition(' ')[0] if is_one_day else clock(began)}, alarm at {clock(alarm)}"


def duration(length: timedelta) -> str:
    """Return a duration in its two largest units.

    Examples:
        >>> duration(timedelta(minutes=83)), duration(timedelta(seconds=42))
        ('1 h 23 min', '42 s')
    """
    rest, parts = int(length.total_seconds()), []
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        whole, rest = divmod(rest, size)
        if whole:
            parts.append(f"{whole} {unit}")
    return " ".join(parts[:2]) or "0 s"


def cut(said: str, most: int) -> str:
    """Return a text of at most this many characters; a cut one ends in an ellipsis.

    Examples:
        >>> cut("abcdef", 4), cut("abc", 4)
        ('abc…', 'abc')
    """
    return said if len(said) <= most else said[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def printable(said: str) -> str:
    """Return a text without control characters and halves of surrogate pairs, which could break a channel's format."""
    clean = said.encode("utf-8", "replace").decode("utf-8")
    return "".join(char if char.isprintable() or char == "\n" else " " for char in clean)
