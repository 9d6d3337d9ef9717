"""What an incident looks like in Slack: blocks within Slack's limits, and the same as plain text.

Limits, from Slack's documentation of Block Kit: header 150 characters, section 3,000, ten fields of
2,000, button text 75 and address 3,000, fifty blocks; and in practice some 13,000 characters in all.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from alerts.message import Alert, Problem, Severity, State
from alerts.wording import MOST_PROBLEMS, TEST_MARK, clock, cut, duration, facts, percent, printable, text

LONGEST_HEADER, LONGEST_SECTION, LONGEST_FIELD, LONGEST_LINE = 150, 2_000, 300, 400
LONGEST_BUTTON, LONGEST_URL, MOST_BUTTONS, MOST_FIELDS = 75, 3_000, 5, 10
LONGEST_TEXT = 3_500
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
Block = dict[str, Any]


def blocks(alert: Alert) -> list[Block]:
    """Return the blocks of an incident as it stands; at most eight."""
    found: list[Block] = [_header(alert)]
    current = [problem for problem in alert.problems if problem.state is State.FIRING] or list(alert.problems)
    first = current[0] if current else None
    if first is not None:
        found.append(_section(_what(first, alert)))
        found.append({"type": "section", "fields": [_mrkdwn(field) for field in _fields(alert, first)]})
    others = [problem for problem in alert.problems if problem is not first]
    if others:
        found.append(_section("\n".join(_others(others))))
    if alert.consequences:
        quiet = "\n".join(
            f"• {escaped(entry, LONGEST_SECTION // MOST_PROBLEMS - 4)}" for entry in alert.consequences[:MOST_PROBLEMS]
        )
        found.append(_section(f"*Kept quiet, since this explains it*\n{quiet}"))
    if first is not None:
        found.append({"type": "context", "elements": [_mrkdwn(_context(alert, first))]})
    buttons = [_button(link.text, link.url) for link in alert.links if 0 < len(link.url) <= LONGEST_URL]
    if buttons:
        found.append({"type": "actions", "elements": buttons[:MOST_BUTTONS]})
    return found


def fallback(alert: Alert) -> str:
    """Return the whole message as text, for notifications and screen readers; what Slack would interpret is escaped."""
    return escaped(text(alert), LONGEST_TEXT)


def reply(alert: Alert) -> str:
    """Return what a thread is told of a transition."""
    said = escaped(alert.change, LONGEST_SECTION)
    if alert.state is not State.RESOLVED:
        return said
    spent = _spent(alert)
    return f"{said}. Resolved after {duration(alert.duration)}{f', {spent}' if spent else ''}."


def escaped(said: str, most: int) -> str:
    """Return a text that Slack shows as it is, of at most this many characters.

    Examples:
        >>> escaped("a < b & <!channel>", 100)
        'a &lt; b &amp; &lt;!channel&gt;'
        >>> escaped("<<<<", 9)
        '&lt;&lt;…'
    """
    parts = [_ESCAPES.get(char, char) for char in printable(said)]
    if sum(map(len, parts)) <= most:
        return "".join(parts)
    kept, length = [], 1
    for part in parts:
        if length + len(part) > most:
            break
        kept.append(part)
        length += len(part)
    return "".join(kept) + "\N{HORIZONTAL ELLIPSIS}"


def when(at: datetime) -> str:
    """Return a moment that Slack shows in the reader's own time, with UTC for everything else."""
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}} {{time}}|{clock(at)}>"


def _header(alert: Alert) -> Block:
    if alert.state is State.RESOLVED:
        mark = "\N{LARGE GREEN CIRCLE} Resolved"
    elif alert.severity is Severity.PAGE:
        mark = "\N{LARGE RED CIRCLE} Page"
    else:
        mark = "\N{LARGE YELLOW CIRCLE} Ticket"
    said = f"{TEST_MARK}: {alert.title}" if alert.is_test else f"{mark}: {alert.title}"
    # Plain text is not interpreted, so nothing in it has to be escaped.
    return {"type": "header", "text": {"type": "plain_text", "text": cut(printable(said), LONGEST_HEADER)}}


def _what(problem: Problem, alert: Alert) -> str:
    sentence = escaped(problem.sentence[:1].upper() + problem.sentence[1:], LONGEST_LINE)
    most = "; ".join(problem.contributors)
    parts = [f"*{sentence}.*"]
    if most:
        parts.append(f"Most of it: {escaped(most, LONGEST_LINE)}")
    if alert.state is State.RESOLVED:
        spent = _spent(alert)
        parts.insert(0, f"Over after {duration(alert.duration)}{f', {spent}' if spent else ''}. It was:")
    return "\n".join(parts)


def _fields(alert: Alert, problem: Problem) -> list[str]:
    found = [f"*Since*\n{when(alert.started)}"]
    if alert.ended is not None:
        found.append(f"*Until*\n{when(alert.ended)}")
    names = {
        "value": "Value",
        "limit": "Limit",
        "baseline": "Usually",
        "burn rate": "Burns",
        "budget left": "Budget left",
    }
    for name, value in facts(problem):
        if name in names:
            found.append(f"*{names[name]}*\n{escaped(value, LONGEST_FIELD - 40)}")
    if alert.team:
        found.append(f"*Owner*\n{escaped(alert.team, 100)}")
    return found[:MOST_FIELDS]


def _others(problems: list[Problem]) -> list[str]:
    found = []
    for problem in problems[:MOST_PROBLEMS]:
        mark = "\N{WHITE HEAVY CHECK MARK}" if problem.state is State.RESOLVED else "•"
        found.append(f"{mark} {escaped(f'{problem.name}: {problem.sentence}', LONGEST_SECTION // MOST_PROBLEMS - 4)}")
    if len(problems) > MOST_PROBLEMS:
        found.append(f"and {len(problems) - MOST_PROBLEMS} more")
    return found


def _context(alert: Alert, problem: Problem) -> str:
    parts = [problem.name, problem.alert, problem.tier and f"tier {problem.tier}"]
    if problem.objective is not None:
        parts.append(f"objective {percent(problem.objective)}")
    parts.append(f"update {alert.transition}")
    return escaped(" · ".join(part for part in parts if part), LONGEST_FIELD)


def _spent(alert: Alert) -> str:
    spent = max((problem.budget_spent_ratio or 0.0 for problem in alert.problems), default=0.0)
    return f"{percent(spent)} of the budget spent" if spent > 0 else ""


def _section(said: str) -> Block:
    return {"type": "section", "text": _mrkdwn(said)}


def _mrkdwn(said: str) -> dict[str, str]:
    return {"type": "mrkdwn", "text": said}


def _button(label: str, url: str) -> Block:
    shown = cut(printable(label), LONGEST_BUTTON)
    return {"type": "button", "text": {"type": "plain_text", "text": shown}, "url": url}
