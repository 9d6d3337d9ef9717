"""What an incident looks like in Slack: blocks within Slack's limits, and the same as plain text.

Limits, from Slack's documentation of Block Kit: header 150 characters, section 3,000, ten fields of
2,000, button text 75 and address 3,000, fifty blocks; and in practice some 13,000 characters in all.
Characters are counted as UTF-16 does, which is the strictest way to count them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from alerts.message import Alert, Link, Problem, Severity, State
from alerts.wording import (
    A_MOMENT,
    MOST_PROBLEMS,
    TEST_MARK,
    clock,
    duration,
    ended,
    left,
    printable,
    since,
    text,
    together,
)
from checks.check import percent

LONGEST_HEADER, LONGEST_FIGURE, LONGEST_SENTENCE, LONGEST_LINE, LONGEST_REPLY = 150, 80, 400, 190, 2_000
LONGEST_TEXT = 3_500
# Eight of them fit into a section.
LONGEST_QUIET = 350
# All addresses together, so that many long ones cannot push a message over the limit for all of it.
LONGEST_BUTTON, LONGEST_URLS, MOST_BUTTONS = 75, 3_000, 5
MOST_CONTRIBUTORS = 3
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_CHECKED, _BULLET = "\N{WHITE HEAVY CHECK MARK}", "\N{BULLET}"
Block = dict[str, Any]


def blocks(alert: Alert, cause: str = "") -> list[Block]:
    """Return the blocks of an incident as it stands: at most eight, with at most 8,000 characters to read.

    Args:
        alert: The incident.
        cause: What ``triage`` says, where no thread says it.
    """
    found = [_header(alert)]
    first, others = next(iter(alert.problems), None), alert.problems[1:]
    if first is not None:
        found.append(_section(_what(alert, first, "" if cause else next(iter(alert.triage), ""))))
    if cause:
        found.append(_section(cause))
    found.append({"type": "section", "fields": [_mrkdwn(field) for field in _fields(alert, first)]})
    if others:
        found.append(_section(_list("Also", [_other(problem) for problem in others])))
    if alert.consequences:
        quiet = [f"{_BULLET} {_line(entry, LONGEST_QUIET)}" for entry in together(alert.consequences)]
        found.append(_section(_list("Kept quiet, since this explains it", quiet)))
    found.append({"type": "context", "elements": [_mrkdwn(said) for said in _context(alert, first)]})
    buttons = _buttons(alert.links)
    if buttons:
        found.append({"type": "actions", "elements": buttons})
    return found


def fallback(alert: Alert) -> str:
    """Return the whole message as text, for notifications and screen readers; what Slack would interpret is escaped."""
    return escaped(text(alert), LONGEST_TEXT)


def triage(alert: Alert) -> str:
    """Return what is known of the cause, line by line; empty if nothing is."""
    if not alert.triage:
        return ""
    first, *rest = alert.triage[:MOST_PROBLEMS]
    return "\n".join(
        [f"*{_line(first, LONGEST_SENTENCE)}*", *(f"{_BULLET} {_line(entry, LONGEST_LINE)}" for entry in rest)]
    )


def reply(alert: Alert) -> str:
    """Return what a thread is told of a transition."""
    said = _line(alert.change or alert.title, LONGEST_REPLY)
    if alert.is_test:
        said = f"{TEST_MARK}: {said}"
    if alert.state is State.FIRING:
        return said
    return f"{said}. {'Resolved' if alert.is_watched else 'Ended'} {_after(alert)}."


def escaped(said: str, most: int) -> str:
    """Return a text that Slack shows as it is, of at most this many characters.

    Examples:
        >>> escaped("a < b & <!channel>", 100)
        'a &lt; b &amp; &lt;!channel&gt;'
        >>> escaped("<<<<", 9)
        '&lt;&lt;…'
    """
    return _fitted([_ESCAPES.get(char, char) for char in printable(said[: most + 1])], most)


def when(at: datetime) -> str:
    """Return a moment that Slack shows in the reader's own time, with UTC for everything else."""
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}} {{time}}|{clock(at)}>"


# -- blocks ----------------------------------------------------------------------------------------


def _header(alert: Alert) -> Block:
    """Return the first line: what is broken, how bad, and since when."""
    is_over, first = alert.state is State.RESOLVED, next(iter(alert.problems), None)
    if alert.is_test:
        mark = TEST_MARK
    elif is_over:
        mark = "\N{LARGE GREEN CIRCLE} Resolved" if alert.is_watched else "\N{MEDIUM WHITE CIRCLE} Not watched any more"
    elif alert.severity is Severity.PAGE:
        mark = "\N{LARGE RED CIRCLE} Page"
    else:
        mark = "\N{LARGE YELLOW CIRCLE} Ticket"
    bad = ""
    if first is not None and first.is_calm:
        bad = ", the last run was good"
    elif first is not None and first.value and first.limit and not is_over:
        bad = printable(_one_line(f", {first.value} (limit {first.limit})"))
    end = f", {f'after {duration(alert.duration)}' if is_over else since(alert.began, alert.started)}"
    if _units(bad) <= LONGEST_FIGURE // 2:
        end = f"{bad}{end}"
    title = _plain(alert.title, LONGEST_HEADER - _units(f"{mark}: {end}"))
    # Plain text is not interpreted, so nothing in it has to be escaped.
    return {"type": "header", "text": _plain_text(f"{mark}: {title}{end}")}


def _what(alert: Alert, problem: Problem, cause: str) -> str:
    how = f"Over {_after(alert)}. It was:" if alert.is_watched else f"Ended {_after(alert)}:"
    parts = [how] if alert.state is State.RESOLVED else []
    sentence = _line(problem.sentence or problem.name, LONGEST_SENTENCE).rstrip(".")
    parts.append(f"*{sentence[:1].upper()}{sentence[1:]}.*")
    most = [_line(entry, LONGEST_LINE) for entry in problem.contributors[:MOST_CONTRIBUTORS]]
    if len(most) == 1:
        parts.append(f"Most of it: {most[0]}")
    elif most:
        parts += ["Most of it:", *(f"{_BULLET} {entry}" for entry in most)]
    if cause:
        parts.append(_line(cause, LONGEST_SENTENCE))
    return "\n".join(parts)


def _fields(alert: Alert, problem: Problem | None) -> list[str]:
    found = [f"*Since*\n{when(alert.began)}"]
    if alert.started - alert.began >= A_MOMENT:
        found.append(f"*Alarm*\n{when(alert.started)}")
    if alert.ended is not None:
        found.append(f"*Until*\n{when(alert.ended)}")
    if problem is not None and problem.value:
        held = [(" against a limit of ", problem.limit), ("; usually ", problem.baseline)]
        against = "".join(f"{words}{_line(figure, LONGEST_FIGURE)}" for words, figure in held if figure)
        name = "Value" if alert.state is State.FIRING else "Worst value"
        found.append(f"*{name}*\n{_line(problem.value, LONGEST_FIGURE)}{against}")
    if problem is not None and problem.burn_rate is not None and alert.state is State.FIRING:
        found.append(f"*Burn rate*\n{problem.burn_rate:.3g}x what the budget allows")
    if problem is not None and problem.budget_left_ratio is not None:
        found.append(f"*Budget left*\n{left(problem.budget_left_ratio)}")
    if alert.team:
        found.append(f"*Owner*\n{_line(alert.team, LONGEST_FIGURE)}")
    return found


def _other(problem: Problem) -> str:
    if problem.state is State.RESOLVED:
        return f"{_CHECKED} {_line(problem.title, LONGEST_LINE - 50)}: {ended(problem)}"
    return f"{_BULLET} {_line(f'{problem.title}: {problem.sentence}', LONGEST_LINE)}"


def _list(title: str, lines: Sequence[str]) -> str:
    more = len(lines) - MOST_PROBLEMS
    return "\n".join([f"*{title}*", *lines[:MOST_PROBLEMS], *([f"and {more} more"] if more > 0 else [])])


def _context(alert: Alert, problem: Problem | None) -> list[str]:
    parts = [alert.pipeline]
    if problem is not None:
        parts += [problem.name, problem.check and f"check {problem.check}", problem.alert]
        parts.append(problem.tier and f"tier {problem.tier}")
        parts.append(f"objective {percent(problem.objective)}" if problem.objective is not None else "")
    found = [" · ".join(_line(part, LONGEST_FIGURE) for part in parts if part)]
    if alert.transition > 1:
        # What is kept quiet stands in a block of its own.
        change = "" if alert.is_aside else f": {_line(alert.change, LONGEST_LINE)}"
        found.append(f"Update {alert.transition}, {when(alert.at)}{change}")
    return found


def _buttons(links: Sequence[Link]) -> list[Block]:
    """Return links as buttons; Slack refuses a whole message for one address that is none."""
    found: list[Block] = []
    room = LONGEST_URLS
    for link in links:
        is_address = link.url.startswith(("https://", "http://")) and not set(link.url) & set(" \t\r\n<>|")
        if len(found) == MOST_BUTTONS or not is_address or len(link.url) > room:
            continue
        room -= len(link.url)
        label = _plain(link.text, LONGEST_BUTTON).strip() or "Open"
        found.append({"type": "button", "text": _plain_text(label), "url": link.url})
    return found


def _section(said: str) -> Block:
    return {"type": "section", "text": _mrkdwn(said)}


def _mrkdwn(said: str) -> Block:
    # Otherwise Slack looks for channels, people and addresses in what is meant as plain words.
    return {"type": "mrkdwn", "text": said, "verbatim": True}


def _plain_text(said: str) -> Block:
    return {"type": "plain_text", "text": said, "emoji": False}


# -- words -----------------------------------------------------------------------------------------


def _after(alert: Alert) -> str:
    spent = max((problem.budget_spent_ratio or 0.0 for problem in alert.problems), default=0.0)
    return f"after {duration(alert.duration)}" + (f", {percent(spent)} of the budget spent" if spent > 0 else "")


def _line(said: str, most: int) -> str:
    return escaped(_one_line(said), most)


def _plain(said: str, most: int) -> str:
    return _fitted(list(printable(_one_line(said)[: most + 1])), most)


def _one_line(said: str) -> str:
    return " ".join(said.split())


def _fitted(parts: Sequence[str], most: int) -> str:
    """Return parts, none of which may be torn, of at most this many characters together."""
    if sum(map(_units, parts)) <= most:
        return "".join(parts)
    kept, room = [], most - 1
    for part in parts:
        room -= _units(part)
        if room < 0:
            break
        kept.append(part)
    return "".join(kept) + "\N{HORIZONTAL ELLIPSIS}"


def _units(said: str) -> int:
    return len(said.encode("utf-16-le")) // 2
