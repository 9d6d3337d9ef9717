"""Incidents: what joins, what is explained, what is told, and what is not told twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from graphlib import TopologicalSorter

import pytest
from hypothesis import given
from hypothesis import strategies as some

from alerts.evaluate import BURN, CHECK_OVERDUE, FRESHNESS_EMERGENCY, NO_DATA, Sign
from alerts.incidents import UPSTREAM, Board, Context, Describe, Firing, step
from alerts.message import Alert, Problem, Severity, State
from alerts.slo import DEFAULTS
from checks.check import Outcome, Verdict
from checks.window import Window
from monitor.causes import RULES
from monitor.triage import WALK

START = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
PAGE, TICKET = Severity.PAGE, Severity.TICKET


def firing(
    check: str, severity: Severity = TICKET, alert: str = BURN, hushed: str = "", linger: timedelta = 10 * MINUTE
) -> Firing:
    sign = Sign(alert, f"events-{check}", severity, "tier", "events", check, 0.5, 0.1)
    return Firing(sign, START, ("team",), hushed, linger)


def describe(found: Firing, state: State, since: datetime, until: datetime | None) -> Problem:
    sign = found.sign
    return Problem(sign.name, sign.alert, sign.severity, state, "is bad", since, sign.check, sign.dataset, until=until)


@dataclass
class Run:
    """A board that goes on minute by minute."""

    board: Board = field(default_factory=Board)
    now: datetime = START
    told: list[Alert] = field(default_factory=list)
    describe: Describe = describe
    team: Callable[[str], str] = lambda _name: ""

    def after(self, minutes: float, *found: Firing) -> list[Alert]:
        self.now += minutes * MINUTE
        context = Context("shop", self.now, UPSTREAM, self.describe, team=self.team)
        self.board, messages = step(self.board, found, context)
        self.told += [alert for _incident, alert in messages]
        return [alert for _incident, alert in messages]


def test_one_incident_from_the_first_alarm_to_the_last() -> None:
    run = Run()
    (first,) = run.after(0, firing("freshness", PAGE))
    assert (first.state, first.transition, first.change) == (State.FIRING, 1, "events-freshness fires")
    assert run.after(1, firing("freshness", PAGE)) == []
    (second,) = run.after(1, firing("freshness", PAGE), firing("contract", PAGE))
    assert (second.key, second.transition) == (first.key, 2)
    assert second.change == "events-contract fires, too"
    (third,) = run.after(5, firing("contract", PAGE))
    assert (third.state, third.change) == (State.FIRING, "events-freshness is resolved")
    assert [problem.state for problem in third.problems] == [State.FIRING, State.RESOLVED]
    assert run.after(2, firing("contract", PAGE)) == [], "what has ended does not end again"
    (last,) = run.after(3)
    assert (last.state, last.transition, last.ended) == (State.RESOLVED, 4, run.now)
    ends = {problem.check: problem.until for problem in last.problems}
    assert ends == {"freshness": run.now - 5 * MINUTE, "contract": run.now}
    assert last.duration == 12 * MINUTE
    assert run.board.incidents == ()
    (again,) = run.after(1, firing("freshness", PAGE))
    assert again.key != first.key, "a new incident is a new message"


def test_what_an_alarm_upstream_explains_is_listed_and_wakes_nobody() -> None:
    run = Run()
    run.after(0, firing("freshness", PAGE))
    (message,) = run.after(1, firing("freshness", PAGE), firing("density"), firing("feature_drift"))
    assert message.consequences == (
        "events-density, which freshness explains", "events-feature_drift, which freshness explains",
    )  # fmt: skip
    assert message.change == "kept quiet: events-density and events-feature_drift, which freshness explains"
    assert message.is_aside
    assert {problem.check for problem in message.problems} == {"freshness"}
    assert run.after(1, firing("freshness", PAGE), firing("density")) == []
    (more,) = run.after(1, firing("freshness", PAGE), firing("contract", PAGE), firing("popularity"))
    assert (more.change.count(";"), more.is_aside) == (1, False), "that another one fires is news"
    assert all(alert.severity is PAGE for alert in run.told)


def test_a_ticket_upstream_explains_a_ticket() -> None:
    (told,) = Run().after(0, firing("contract"), firing("density"))
    assert [problem.check for problem in told.problems] == ["contract"]
    assert told.consequences == ("events-density, which contract explains",)


def test_what_is_explained_is_listed_with_what_explains_it_alone() -> None:
    run = Run()
    ticket, page = run.after(0, firing("freshness", PAGE), firing("signal", alert=CHECK_OVERDUE))
    assert (ticket.severity, page.severity) == (TICKET, PAGE)
    (more,) = run.after(1, firing("freshness", PAGE), firing("signal", alert=CHECK_OVERDUE), firing("density"))
    assert (more.key, more.consequences) == (page.key, ("events-density, which freshness explains",))


def test_what_people_were_told_of_is_not_called_quiet_later() -> None:
    run = Run()
    run.after(0, firing("density"))
    (page,) = run.after(1, firing("density"), firing("freshness", PAGE))
    assert (page.severity, page.consequences) == (PAGE, ())


def test_an_overdue_check_makes_needless_that_it_judges_nothing_and_no_other_check() -> None:
    overdue = firing("density", alert=CHECK_OVERDUE)
    (one,) = Run().after(0, overdue, firing("density", alert=NO_DATA))
    assert [problem.alert for problem in one.problems] == [CHECK_OVERDUE]
    (both,) = Run().after(0, overdue, firing("contract", alert=NO_DATA))
    assert {problem.check for problem in both.problems} == {"density", "contract"}


def test_what_was_explained_stays_so_until_its_own_window_is_clean() -> None:
    run, slow = Run(), firing("density", linger=120 * MINUTE)
    run.after(0, firing("freshness", PAGE), slow)
    (resolved,) = run.after(30, slow)
    assert resolved.state is State.RESOLVED
    assert run.after(60, slow) == [], "its window still holds the outage"
    (told,) = run.after(31, slow)
    assert (told.severity, told.problems[0].check) == (TICKET, "density"), "it goes on for a reason of its own"


def test_what_is_explained_stays_so_for_ten_minutes_at_least() -> None:
    run, overdue = Run(), Firing(firing("density").sign, START, ("team",))
    run.after(0, firing("freshness", PAGE), overdue)
    (resolved,) = run.after(9, overdue)
    assert resolved.state is State.RESOLVED
    assert run.after(0.9, overdue) == []
    (told,) = run.after(0.1, overdue)
    assert [problem.check for problem in told.problems] == ["density"]


def test_a_clock_that_ran_ahead_keeps_nothing_quiet_for_hours() -> None:
    run, known = Run(), firing("density")
    run.after(300, firing("freshness", PAGE), known)
    assert [alert.state for alert in run.after(-299, known)] == [State.RESOLVED]
    assert run.after(9, known) == []
    (told,) = run.after(1, known)
    assert [problem.check for problem in told.problems] == ["density"]


def test_a_cause_that_fires_for_weeks_explains_nothing_new() -> None:
    run, old = Run(), firing("duplicates")
    run.after(0, old)
    late = Firing(firing("popularity").sign, START + timedelta(days=2), ("team",))
    (told,) = run.after(2 * 24 * 60, old, late)
    assert told.problems[0].check == "popularity"


def test_a_ticket_does_not_hush_a_page() -> None:
    run = Run()
    messages = run.after(0, firing("contract", TICKET), firing("unknown_ids", PAGE))
    assert sorted(alert.severity for alert in messages) == [PAGE, TICKET]


def test_a_page_is_not_hushed_by_what_touches_far_fewer_events() -> None:
    few, many = replace(firing("contract", PAGE), share=0.02), replace(firing("unknown_ids", PAGE), share=0.9)
    run = Run()
    (told,) = run.after(0, few, many)
    assert (len(told.problems), told.consequences) == (2, ())
    assert len(Run().after(0, few, replace(many, share=0.03))[0].problems) == 1


def test_a_page_is_not_hushed_by_what_nobody_is_told_of() -> None:
    """The feed is fresh again, and what it explained stays quiet for a while; what begins then is of its own."""
    run, copies = Run(), firing("ingestion", PAGE, linger=60 * MINUTE)
    run.after(0, firing("freshness", PAGE), copies)
    run.after(5, copies)
    late = replace(firing("signal", PAGE), since=START + 20 * MINUTE)
    (told,) = run.after(20, copies, late)
    assert [problem.check for problem in told.problems] == ["signal"]
    assert run.after(1, copies, late, firing("density")) == [], "a ticket can wait"


def test_an_alarm_that_began_long_before_another_is_not_its_consequence() -> None:
    """It was silenced until then, and nobody was told of it."""
    run, old = Run(), firing("duplicates", PAGE)
    run.after(0, replace(old, hushed="silenced: known"))
    new = replace(firing("contract", PAGE), since=START + 120 * MINUTE)
    (told,) = run.after(120, old, new)
    assert [problem.check for problem in told.problems] == ["duplicates", "contract"]
    # Ten minutes are what windows and cadence explain.
    (soon,) = Run().after(0, old, replace(new, since=START + 10 * MINUTE))
    assert [problem.check for problem in soon.problems] == ["contract"]


def test_a_page_that_is_kept_quiet_is_not_lost_among_the_tickets_that_are() -> None:
    run, ticket = Run(), firing("unknown_ids")
    run.after(0, firing("contract", PAGE), ticket)
    (update,) = run.after(5, firing("contract", PAGE), ticket, firing("unknown_ids", PAGE))
    assert update.change == "kept quiet: page of events-unknown_ids, which contract explains"


def test_a_page_makes_the_ticket_about_the_same_objective_needless() -> None:
    run = Run()
    (message,) = run.after(0, firing("freshness", PAGE), firing("freshness", TICKET))
    assert (message.severity, message.consequences) == (PAGE, ())
    assert run.after(0, firing("freshness", PAGE, FRESHNESS_EMERGENCY), firing("freshness", PAGE)), "it says more"


def test_an_objective_without_data_explains_nothing() -> None:
    run = Run()
    messages = run.after(0, firing("freshness", PAGE, NO_DATA), firing("density"))
    assert len(messages) == 2


def test_nobody_is_told_of_what_is_silenced_until_the_silence_ends() -> None:
    run = Run()
    assert run.after(0, firing("freshness", PAGE, hushed="silenced: known")) == []
    (told,) = run.after(90, firing("freshness", PAGE))
    assert (told.started, told.at) == (START, START + 90 * MINUTE), "it has been bad all the while"


def test_what_was_silenced_from_the_start_hushes_no_other_alarm() -> None:
    run, known = Run(), firing("contract", PAGE, hushed="silenced: the partner breaks a rule")
    run.after(0, known)
    (told,) = run.after(60, known, firing("unknown_ids", PAGE))
    assert [problem.check for problem in told.problems] == ["unknown_ids"]


def test_what_was_told_and_is_silenced_since_still_explains() -> None:
    run = Run()
    run.after(0, firing("contract", PAGE))
    (update,) = run.after(5, firing("contract", PAGE, hushed="silenced: on it"), firing("unknown_ids", PAGE))
    assert [problem.check for problem in update.problems] == ["contract"]
    assert update.consequences == ("page of events-unknown_ids, which contract explains",)


def test_a_louder_alarm_says_when_nothing_is_known_any_more() -> None:
    run = Run()
    run.after(0, firing("ingestion", PAGE))
    (update,) = run.after(20, firing("ingestion", PAGE), firing("ingestion", TICKET, NO_DATA))
    assert update.state is State.FIRING
    assert update.consequences == ("RecwatchSloNoData of events-ingestion, as its check cannot judge any more",)


def test_bad_data_is_no_reason_for_a_check_not_to_run() -> None:
    run = Run()
    run.after(0, firing("ingestion", PAGE))
    overdue, blind = firing("unknown_ids", TICKET, CHECK_OVERDUE), firing("unknown_ids", TICKET, NO_DATA)
    (told,) = run.after(20, firing("ingestion", PAGE), overdue, blind)
    assert (told.severity, [problem.alert for problem in told.problems]) == (TICKET, [CHECK_OVERDUE])


def test_bad_data_is_no_reason_for_a_check_that_fails_to_judge_nothing() -> None:
    silent, failing = firing("contract", TICKET, NO_DATA), firing("unknown_ids", TICKET, NO_DATA)
    run = Run()
    run.after(0, firing("ingestion", PAGE))
    messages = run.after(20, firing("ingestion", PAGE), silent, replace(failing, cannot_run=True))
    assert {alert.severity: [problem.check for problem in alert.problems] for alert in messages} == {
        PAGE: ["ingestion"], TICKET: ["unknown_ids"],
    }  # fmt: skip
    assert messages[0].consequences == ("RecwatchSloNoData of events-contract, which ingestion explains",)


def test_what_is_explained_by_what_is_explained_is_listed_with_what_people_are_told_of() -> None:
    run = Run()
    (told,) = run.after(0, firing("contract", PAGE), firing("ingestion", PAGE), firing("ingestion", TICKET, NO_DATA))
    assert [problem.check for problem in told.problems] == ["contract"]
    assert told.consequences == (
        "RecwatchSloNoData of events-ingestion, as its check cannot judge any more",
        "page of events-ingestion, which contract explains",
    )


def test_what_is_told_itself_is_not_kept_quiet_for_another() -> None:
    """The ticket about an objective that pages is needless because of the page, whatever else burns upstream."""
    run, slow = Run(), firing("unknown_ids", TICKET, linger=360 * MINUTE)
    messages = run.after(0, firing("unknown_ids", PAGE), firing("contract", TICKET))
    messages += run.after(1, firing("unknown_ids", PAGE), firing("contract", TICKET), slow)
    assert [alert.consequences for alert in messages] == [(), ()]
    # The page ends, its ticket burns on for a while, and what explains it upstream, too.
    late = run.after(30, firing("contract", TICKET), slow)
    assert [alert.state for alert in late] == [State.RESOLVED]


def test_an_end_is_told_with_the_figures_of_shortly_before() -> None:
    run = Run()
    run.after(0, firing("ingestion", PAGE))
    worse = firing("ingestion", PAGE)
    worse = replace(worse, sign=replace(worse.sign, value=0.9), since=START + MINUTE)
    assert run.after(5, worse) == []
    ((member,),) = [incident.members.values() for incident in run.board.incidents]
    assert (member.found.sign.value, member.found.since) == (0.9, START)


@pytest.mark.parametrize(
    ("first", "later", "said"),
    [(START - MINUTE, None, START - MINUTE), (START - MINUTE, START, START - MINUTE), (None, START, START)],
)
def test_when_a_problem_began_is_not_forgotten(
    first: datetime | None, later: datetime | None, said: datetime | None
) -> None:
    run = Run(describe=lambda *of: replace(describe(*of), began=first))
    (told,) = run.after(0, firing("freshness", PAGE))
    assert told.problems[0].began == first
    run.describe = lambda *of: replace(describe(*of), began=later)
    (more,) = run.after(1, firing("freshness", PAGE), firing("contract", PAGE))
    assert [problem.began for problem in more.problems] == [said, later]


def test_the_owner_of_an_incident_is_the_team_of_its_first_problem_that_has_one() -> None:
    contract, freshness = firing("contract"), firing("freshness")
    (nobody,) = Run().after(0, contract, freshness)
    assert nobody.team == ""
    teams = {"events-freshness": "feeds"}
    (one,) = Run(team=lambda name: teams.get(name, "")).after(0, contract, freshness)
    assert [problem.check for problem in one.problems] == ["contract", "freshness"]
    assert one.team == "feeds"


def test_an_old_incident_is_not_joined() -> None:
    run = Run()
    (first,) = run.after(0, firing("density"))
    (second,) = run.after(90, firing("density"), firing("contract"))
    assert second.key != first.key, "nobody looks at the thread of an old one"


def test_the_table_of_upstreams_has_no_circle_and_knows_every_check() -> None:
    list(TopologicalSorter({check: set(causes) for check, causes in UPSTREAM.items()}).static_order())
    assert {*UPSTREAM, *(cause for causes in UPSTREAM.values() for cause in causes)} == set(DEFAULTS)


def test_what_hushes_an_alarm_is_what_is_named_as_its_cause() -> None:
    """An order of causes, and one of where to look, in which nothing stands before what explains it."""
    window = Window(START - MINUTE, START)
    details = {
        "contract": ({"feature": "schema", "details": {"columns_removed": ["a"]}}, {}, {"feature": "schema"}),
        "unknown_ids": ({"entity": "user"},),
    }
    named = {
        check: [
            next(at for at, rule in enumerate(RULES) if rule(Verdict(check, "events", window, Outcome.BAD, "x", **of)))
            for of in details.get(check, ({},))
        ]
        for check in DEFAULTS if check != "signal"
    }  # fmt: skip
    for check, causes in UPSTREAM.items():
        for cause in causes:
            assert check == "signal" or max(named[cause]) < min(named[check]), f"{cause} explains {check}"
            assert WALK.index(cause) < WALK.index(check)


@given(some.lists(some.lists(some.tuples(some.sampled_from(list(DEFAULTS)), some.booleans()), max_size=6), max_size=25))
def test_every_alarm_is_told_or_explained_and_every_beginning_has_its_end(
    steps: Sequence[Sequence[tuple[str, bool]]],
) -> None:
    run = Run()
    for found in steps:
        alarms = [firing(check, PAGE if is_page else TICKET) for check, is_page in found]
        run.after(7, *alarms)
        told = {key for incident in run.board.incidents for key, member in incident.members.items() if not member.until}
        for alarm in alarms:
            assert alarm.key in told or alarm.key in run.board.explained
    run.after(7)
    assert run.board.incidents == ()
    by_key: dict[str, list[Alert]] = {}
    for alert in run.told:
        by_key.setdefault(alert.key, []).append(alert)
    for alerts in by_key.values():
        assert [alert.transition for alert in alerts] == list(range(1, len(alerts) + 1))
        assert [alert.state for alert in alerts[:-1]] == [State.FIRING] * (len(alerts) - 1)
        assert alerts[-1].state is State.RESOLVED
