"""The laws every notifier must pass; importable by those who write their own.

A law is a function over a ``Bench``: a notifier, and the other side under one's control. It raises
``AssertionError`` with the law's name if the notifier breaks it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta

from alerts.message import Alert, Link, State
from alerts.notifier import DeliveryError, Notifier


@dataclass(frozen=True)
class Bench:
    """A notifier and its other side.

    Args:
        notifier: What is tested.
        received: Returns every text that the other side was given, oldest first.
        refuse: Makes the other side refuse the next request for good.
        fail: Makes the other side fail the next request in a way that passes.
        secrets: What must not appear in any error.
    """

    notifier: Notifier
    received: Callable[[], list[str]]
    refuse: Callable[[], None]
    fail: Callable[[], None]
    secrets: tuple[str, ...] = ()


Law = Callable[[Bench, Alert], None]


def _demand(holds: bool, law: str) -> None:
    if not holds:
        raise AssertionError(law)


def _failure(bench: Bench, alert: Alert) -> DeliveryError:
    try:
        bench.notifier.deliver(alert, {})
    except DeliveryError as error:
        return error
    raise AssertionError("what is not delivered raises DeliveryError")


def it_says_what_is_wrong(bench: Bench, alert: Alert) -> None:
    """The other side learns which pipeline, what is wrong, and who owns it."""
    bench.notifier.deliver(alert, {})
    told = " ".join(bench.received())
    _demand(alert.pipeline in told, "the pipeline is named")
    _demand(alert.problems[0].dataset in told, "the dataset is named")


def refused_for_good_is_permanent(bench: Bench, alert: Alert) -> None:
    """What would be refused again is not tried again."""
    bench.refuse()
    _demand(_failure(bench, alert).permanent, "a refusal for good is permanent")


def passing_failures_pass(bench: Bench, alert: Alert) -> None:
    """What may work later is tried later, and does."""
    bench.fail()
    _demand(not _failure(bench, alert).permanent, "a failure that passes is not permanent")
    bench.notifier.deliver(alert, {})
    _demand(bool(bench.received()), "it is delivered when tried again")


def resolved_is_told(bench: Bench, alert: Alert) -> None:
    """The end of an incident reaches whoever was told of its beginning."""
    memory: dict[str, str] = {}
    bench.notifier.deliver(alert, memory)
    before = len(bench.received())
    bench.notifier.deliver(resolved(alert), memory)
    _demand(len(bench.received()) > before, "the end is told")


def anything_fits(bench: Bench, alert: Alert) -> None:
    """However long and hostile the texts are, the other side's limits are kept."""
    for hostile in HOSTILE:
        bench.notifier.deliver(spoilt(alert, hostile), {})


def no_error_has_a_secret(bench: Bench, alert: Alert) -> None:
    """Neither errors nor the notifier's own text show a token, a key or an address."""
    texts = [repr(bench.notifier)]
    for break_it in (bench.refuse, bench.fail):
        break_it()
        error = _failure(bench, alert)
        texts += [str(error), repr(error), str(error.__cause__)]
    for secret in bench.secrets:
        _demand(not any(secret in text for text in texts), "no secret is shown")


def a_test_looks_like_one(bench: Bench, alert: Alert) -> None:
    """Nobody takes a test for an emergency."""
    bench.notifier.deliver(replace(alert, is_test=True), {})
    _demand("test" in " ".join(bench.received()).lower(), "a test is marked")


LAWS: tuple[Law, ...] = (
    it_says_what_is_wrong,
    refused_for_good_is_permanent,
    passing_failures_pass,
    resolved_is_told,
    anything_fits,
    no_error_has_a_secret,
    a_test_looks_like_one,
)

HOSTILE = (
    "quotes \" and ' and \\ and ${HOME} and {{ braces }}",
    "two\nlines\r\nBcc: everybody@example.org\r\n.\r\nQUIT",
    "<!channel> <@U1> & <script>alert(1)</script> <https://evil.example|click>",
    "\x00\x07\x1b[31m \u202e \ud800 \U0001f525",
    "x" * 100_000,
    "<&>" * 5_000,
)


def resolved(alert: Alert) -> Alert:
    """Return the next transition of an incident, which ends it."""
    at = alert.at + timedelta(minutes=14)
    problems = tuple(replace(problem, state=State.RESOLVED, until=at) for problem in alert.problems)
    return replace(
        alert, transition=alert.transition + 1, state=State.RESOLVED, at=at, ended=at, problems=problems,
        change="everything is resolved",
    )  # fmt: skip


def spoilt(alert: Alert, text: str, problems: int = 50) -> Alert:
    """Return an alert whose every text is a given one, with many problems, consequences and links."""
    first = replace(
        alert.problems[0], name=text, sentence=text, dataset=text, value=text, limit=text, baseline=text,
        contributors=(text, text, text),
    )  # fmt: skip
    links: Iterable[Link] = (Link(text, f"https://example.org/?q={number}") for number in range(30))
    return replace(
        alert, problems=(first,) * problems, pipeline=text, team=text, change=text, consequences=(text,) * 50,
        links=tuple(links), triage=(text,) * 50,
    )  # fmt: skip
