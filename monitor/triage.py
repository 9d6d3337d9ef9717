"""The first five minutes of an incident: what deviated, in which order, and what caused it most likely."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select

from alerts.evaluate import BLIND, BURN
from alerts.message import Problem
from alerts.wording import printable
from checks.chance import most_by_chance
from checks.check import Outcome, Verdict
from checks.window import Window, micros, moment
from monitor import evidence, happenings, schema
from monitor.causes import Cause, Deviation, in_order, likely
from monitor.evidence import Evidence
from monitor.happenings import Happening
from monitor.records import dump, load_verdict
from monitor.store import Store
from monitor.wording import value_text

# The order that finds the cause soonest, whatever deviated first.
WALK = (
    "freshness", "contract", "unknown_ids", "duplicates", "ingestion", "popularity", "feedback_loop",
    "feature_drift", "density", "click_through", "signal",
)  # fmt: skip
# What an alarm tells of began before it fires: by as much as the fast tiers look back.
REACH = timedelta(hours=1)
# A subject that was not bad for so many windows has begun anew.
CALM_WINDOWS = 5
# What began so many windows before an alarm, or fewer, may have caused it.
SHORTLY_WINDOWS = 3
# How many times its share of all rows a segment has of the bad ones, at least, to name it.
LEAST_LIFT = 1.2
# Of the timeline, in a message.
MOST_TOLD = 4
# What a new model may change by itself.
DISTRIBUTIONS = ("popularity", "feedback_loop", "feature_drift", "density", "click_through")


@dataclass(frozen=True)
class Triage:
    """What is known of an incident.

    Args:
        pipeline: Which pipeline.
        span: What was looked at.
        deviations: By when they began.
        walked: Checks in the order of the walk, with how they fared in words; those that never ran are left out.
        cause: The most likely one; None where nothing deviated.
        segment: What explains it most, in words; empty if nothing is known.
        evidence: Ids of evidence about the cause.
        happenings: Deploys and other events of the time, and an hour before.
        about: What it is about, of all that the span holds; empty if it is about all.
    """

    pipeline: str
    span: Window
    deviations: tuple[Deviation, ...]
    walked: tuple[tuple[str, str], ...]
    cause: Cause | None
    segment: str
    evidence: str
    happenings: tuple[Happening, ...]
    about: tuple[str, ...] = ()


def triage(store: Store, span: Window, alarms: Collection[tuple[str, str, str]] = ()) -> Triage:
    """Return what is known of a span of time, from the state alone.

    Args:
        store: The state.
        span: What is looked at.
        alarms: Alert, dataset and check of what has raised an alarm: what was not bad with them at last is left out.

    Cost:
        One read of the bad verdicts of the span, and a few short ones.
    """
    ran, bad = _verdicts(store, span)
    # That a check cannot run or judge says nothing of the data, and neither has its cause there.
    is_blind = bool(alarms) and all(alert in BLIND for alert, _dataset, _check in alarms)
    about = {(dataset, check) for alert, dataset, check in alarms if is_blind or alert not in BLIND}
    any_time = {verdict.check for verdict in bad if verdict.is_whole}
    bad = _of_one_time(store, bad, about) if about else bad
    found = list(in_order(_deviations(bad)))
    fared = dict.fromkeys(ran, "as usual") | dict.fromkeys(any_time, "deviated at another time")
    fared |= {one.verdict.check: "deviated" for one in found}
    done = tuple(happenings.between(store, span))
    own = _own(found, about, is_blind)
    early = own if is_blind else [one for one in found if _began_with(one, own)]
    cause = _rolled_out(likely(early, next(iter(own), None)), done)
    piece = _evidence(store, cause, span) if cause is not None else None
    return Triage(
        store.pipeline, span, tuple(found),
        tuple((check, fared[check]) for check in WALK if check in ran),
        cause, _segment(cause, piece, bad), piece.id if piece is not None else "",
        done, tuple(sorted(f"{check} on {dataset}" for dataset, check in about)),
    )  # fmt: skip


def _own(found: Sequence[Deviation], about: Collection[tuple[str, str]], is_blind: bool) -> list[Deviation]:
    """Return what has raised the alarms, by when it began; empty if nothing did."""
    own = [one for one in found if (one.verdict.dataset, one.verdict.check) in about]
    failed = [one for one in own if one.verdict.outcome is Outcome.ERROR]
    judged = [one for one in own if one.verdict.outcome is Outcome.BAD]
    # What is bad has no cause in runs that failed before it was.
    return sorted(failed if is_blind else judged or failed, key=lambda one: one.began)


def _began_with(one: Deviation, own: Sequence[Deviation]) -> bool:
    """Return whether something began with the alarm or shortly before; what was there long before explains no start."""
    if not own or one in own:
        return True
    first = own[0]
    if one.verdict.outcome is Outcome.ERROR and one.last.end <= first.began:
        return False
    shortly = SHORTLY_WINDOWS * max(one.first.duration, first.first.duration)
    return one.began >= first.began - shortly


def _rolled_out(cause: Cause | None, done: Sequence[Happening]) -> Cause | None:
    """Return a model roll-out as the cause where one came shortly before only distributions changed."""
    if cause is None or cause.deviation.verdict.check not in DISTRIBUTIONS:
        return cause
    first = cause.deviation.first
    models = [one for one in done if one.kind == "model" and first.start - happenings.BEFORE <= one.at < first.end]
    if not models:
        return cause
    says = f"{models[-1].text}, at {models[-1].at:%H:%M:%S}; then {cause.kind}: {cause.says}"
    return Cause("model roll-out", says, cause.deviation)


def _verdicts(store: Store, span: Window) -> tuple[set[str], list[Verdict]]:
    """Return the checks that ran, and the bad verdicts and errors, by the end of their windows."""
    table = schema.verdicts
    found = _kept(store, table.c.end_us > micros(span.start), table.c.start_us < micros(span.end))
    wrong = table.c.outcome.in_([Outcome.BAD.value, Outcome.ERROR.value])
    with store.reading() as connection:
        ran = {row.check_id for row in connection.execute(found.with_only_columns(table.c.check_id).distinct())}
        rows = connection.execute(found.where(wrong).order_by(table.c.end_us)).all()
    return ran, [load_verdict(row) for row in rows]


def _kept(store: Store, *here: ColumnElement[bool]) -> Select[Any]:
    """Return the statement for verdicts by check, whose key begins with it: those of all time must not be read."""
    table, runs = schema.verdicts, schema.runs
    ours = (table.c[name] == runs.c[name] for name in ("pipeline", "dataset", "check_id"))
    return select(table).join_from(runs, table, and_(*ours, *here)).where(runs.c.pipeline == store.pipeline)


def _of_one_time(store: Store, bad: Sequence[Verdict], about: Collection[tuple[str, str]]) -> list[Verdict]:
    """Return, of each subject, what was bad without a break until the last bad window of some checks.

    What was over by then explains nothing of it, and neither does what began later.
    """
    last: dict[tuple[str, str, str], list[Verdict]] = {}
    for verdict in bad:
        so_far = last.setdefault(_subject(verdict), [])
        if so_far and _is_over(so_far[-1], verdict):
            so_far.clear()
        so_far.append(verdict)
    ours = (found[-1] for (*of, _), found in last.items() if tuple(of) in about)
    own = max(ours, key=lambda verdict: verdict.window.end, default=None)
    kept = list(last.values())
    if own is not None:
        good = _last_good(store, min(found[-1].window.end for found in kept), _when(own).start)
        kept = [found for of, found in last.items() if _stood(found, own, good.get(of))]
    return sorted((verdict for found in kept for verdict in found), key=lambda verdict: verdict.window.end)


def _subject(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.dataset, verdict.check, dump(verdict.subject)


def _last_good(store: Store, since: datetime, until: datetime) -> dict[tuple[str, str, str], datetime]:
    """Return when the last good window of each subject ended, of those that ended in a time."""
    table = schema.verdicts
    subject = (table.c.dataset, table.c.check_id, table.c.subject)
    ended = _kept(store, table.c.end_us > micros(since), table.c.end_us <= micros(until))
    found = ended.with_only_columns(*subject, func.max(table.c.end_us)).group_by(*subject)
    with store.reading() as connection:
        rows = connection.execute(found.where(table.c.outcome == Outcome.GOOD.value)).all()
    return {(dataset, check, about): moment(end) for dataset, check, about, end in rows}


def _stood(found: Sequence[Verdict], own: Verdict, good: datetime | None) -> bool:
    """Return whether something was bad at the time of a verdict.

    A longer window holds until the next one like it is judged; ``good`` is when the last good one had ended before.
    """
    last, time = found[-1].window, _when(own)
    if good is not None and good > last.end:
        return False
    holds = last.duration if last.duration > time.duration else timedelta(0)
    if found[-1].measure == "lag_seconds":
        # An age is looked at again long before its window is over.
        holds = last.end - found[-2].window.end if len(found) > 1 else timedelta(0)
    elif own.measure == "lag_seconds" and not holds:
        # What was bad until the newest event came, in the window that it came in, may have been over with it.
        return time.start <= last.start < time.end
    return _when(found[0]).start < time.end and last.end + holds > time.start


def _is_over(last: Verdict, verdict: Verdict) -> bool:
    """Return whether what was bad last was over before a verdict found it bad again."""
    if verdict.measure == "lag_seconds" and verdict.value:
        # The newest event came after it.
        return verdict.window.end - timedelta(seconds=verdict.value) >= last.window.end
    return verdict.window.start - last.window.end > CALM_WINDOWS * verdict.window.duration


def _when(verdict: Verdict) -> Window:
    """Return the time that a verdict is about: its window, or, of an age, what has passed since the newest event."""
    window, age = verdict.window, verdict.value
    if verdict.measure != "lag_seconds" or not age:
        return window
    return Window(max(window.start, window.end - timedelta(seconds=age)), window.end)


def _deviations(bad: Sequence[Verdict]) -> Iterator[Deviation]:
    groups: dict[tuple[str, str, str, Outcome], list[Verdict]] = {}
    for verdict in bad:
        if verdict.is_whole:
            key = (verdict.dataset, verdict.check, str(verdict.subject), verdict.outcome)
            groups.setdefault(key, []).append(verdict)
    for found in groups.values():
        # Of equals the last, which the message is about.
        yield Deviation(max(reversed(found), key=_badness), found[0].window, found[-1].window, len(found))


def _badness(verdict: Verdict) -> float:
    """Return what is the greater the worse one of several verdicts on one subject is, whatever chance each allows."""
    value = verdict.value or 0.0
    return -value if verdict.limit is not None and value < verdict.limit else value


def _evidence(store: Store, cause: Cause, span: Window) -> Evidence | None:
    verdict = cause.deviation.verdict
    found = evidence.latest(store, verdict) if verdict.outcome is Outcome.BAD else None
    return found if found is not None and found.at >= span.start else None


def _segment(cause: Cause | None, piece: Evidence | None, bad: Sequence[Verdict]) -> str:
    """Return the segment that explains most: by the evidence, else the source that is worst off."""
    if cause is None or cause.deviation.verdict.outcome is Outcome.ERROR:
        return ""
    segments = piece.body.get("segments", ()) if piece is not None else ()
    top = next((one for one in segments if one["lift"] >= LEAST_LIFT and _is_beyond_chance(one)), None)
    if top is not None:
        return (
            f"{top['column']} {top['value']}: {100 * top['share']:.3g} % of them,"
            f" {top['lift']:.3g} times its share of all rows"
        )
    about = cause.deviation.verdict
    sources = [
        one for one in bad
        if one.source is not None and (one.dataset, one.check, one.entity) == (about.dataset, about.check, about.entity)
    ]  # fmt: skip
    named = sorted({str(one.source) for one in sources})
    return f"source {', '.join(named)}" if 0 < len(named) <= 2 else ""


def _is_beyond_chance(segment: Mapping[str, Any]) -> bool:
    """Return whether more rows of a segment are bad than chance would spread there."""
    bad, share, lift = (float(segment[name]) for name in ("bad", "share", "lift"))
    usual = bad / lift
    # In a segment of most rows there is less room for chance than by Poisson's law.
    spread = usual * (1 - share / lift)
    return bad - usual > most_by_chance(spread) - spread


# -- in words --------------------------------------------------------------------------------


def told(found: Triage) -> str:
    """Return a triage as text for a terminal or a thread."""
    lines = [f"{found.pipeline}, {_span(found.span)}"]
    lines += [f"about {', '.join(found.about)}; --since tells all of a time", ""] if found.about else [""]
    if not found.deviations:
        return "\n".join([*lines, _nothing(found)])
    if found.cause is None:
        lines += [_nothing(found)]
    else:
        lines += [f"Most likely: {found.cause.kind}", f"  {found.cause.says}"]
    lines += [f"  segment   {found.segment}"] if found.segment else []
    lines += [f"  evidence  /evidence/{found.evidence} on the status page"] if found.evidence else []
    lines += [f"  runbook   recwatch runbook {BURN}", "", "What deviated, first to last (first window ending)"]
    lines += [f"  {line}" for line in timeline(found)]
    walked = (f"  {check:<14} {fared}" for check, fared in found.walked)
    lines += ["", "Where to look, in the order that finds the cause", *walked]
    # Words of the data are no orders to a terminal.
    return printable("\n".join(lines))


def _nothing(found: Triage) -> str:
    """Return what is said where there is no cause: that all was well is known only of what was judged."""
    if found.deviations:
        return "What has deviated explains nothing of what alarms."
    return "Nothing has deviated." if found.walked else "Nothing is known: no check has judged this time yet."


def brief(store: Store, problems: Sequence[Problem], now: datetime) -> tuple[str, ...]:
    """Return what a message says of the cause of some problems: a few lines, empty if nothing deviated.

    Args:
        store: The state.
        problems: What has raised alarms.
        now: The moment.
    """
    since = min(problem.since for problem in problems)
    alarms = [(problem.alert, problem.dataset, problem.check) for problem in problems]
    found = triage(store, Window(since - REACH, max(now, since) + timedelta(microseconds=1)), alarms)
    if found.cause is None:
        return ()
    deviation = found.cause.deviation
    # The same message has the figures of the last run.
    at = f" (at worst, {_clock(deviation.verdict.window.end, now)})" if deviation.was_worse else ""
    segment = [f"Segment: {found.segment}"] if found.segment else []
    return (f"Most likely {found.cause.kind}: {found.cause.says}{at}", *segment, *timeline(found)[:MOST_TOLD])


def timeline(found: Triage) -> list[str]:
    """Return deviations and events on one timeline, a line each."""
    entries = [(one.first.end, _line(one)) for one in found.deviations]
    entries += [(one.at, f"{one.kind}: {one.text}") for one in found.happenings]
    last = found.span.end
    return [f"{_clock(at, last)}  {' '.join(line.split())}" for at, line in sorted(entries)]


def _clock(at: datetime, last: datetime) -> str:
    """Return a time in UTC, with its date where that is not the one of the last moment looked at."""
    return f"{at:%H:%M:%S} UTC" if at.date() == last.date() else f"{at:%d %b %H:%M:%S} UTC"


def _line(found: Deviation) -> str:
    verdict = found.verdict
    name = " ".join([verdict.check, *verdict.subject.values()])
    lasted = f"{found.windows} windows, until {found.last.end:%H:%M:%S}" if found.windows > 1 else "1 window"
    if verdict.outcome is Outcome.ERROR:
        return f"{name} could not run: {verdict.reason} ({lasted})"
    times = f", {found.strain:.3g} times its limit" if verdict.limit else ""
    if found.fell_short:
        times = f", less than {value_text(verdict.measure, verdict.limit)}"
    worst = "at worst " * found.was_worse + value_text(verdict.measure, verdict.value)
    return f"{name} {worst}{times}: {verdict.reason} ({lasted})"


def _span(span: Window) -> str:
    return f"{span.start:%Y-%m-%d %H:%M:%S} to {span.end:%Y-%m-%d %H:%M:%S} UTC"


def postmortem(found: Triage, now: datetime) -> str:
    """Return the skeleton of a postmortem in Markdown, with what is known filled in."""
    calm = "nothing deviated" if found.walked and not found.deviations else "nothing known"
    kind = _literal(found.cause.kind) if found.cause is not None else calm
    says = found.cause.says if found.cause is not None else _nothing(found)
    lines = "\n".join(f"- {_literal(line)}" for line in timeline(found)) or "- nothing"
    return f"""\
# Postmortem: {kind} ({found.pipeline}, {now:%Y-%m-%d})

**Status:** draft. **Looked at:** {_span(found.span)}.

## Impact

Who noticed what, for how long, and what it cost. Fill in.

## Cause

Most likely: **{kind}**. {_literal(says)}
{f"Segment: {_literal(found.segment)}." if found.segment else ""}

## Timeline (UTC)

{lines}

## How it was found, and how it ended

Fill in.

## What went well, what did not, where we were lucky

Fill in.

## Actions

| what | who | until |
|---|---|---|
|  |  |  |
"""


def _literal(said: str) -> str:
    """Return a text on one line in which words of the data are no elements, links or pictures of Markdown."""
    return re.sub(r"[\\<\[]", r"\\\g<0>", " ".join(printable(said).split()))
