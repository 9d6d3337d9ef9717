"""Every notifier against its vendor on the loopback: the laws, and what is particular to each."""

from __future__ import annotations

import contextlib
import email
import hashlib
import hmac
import io
import itertools
import json
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from alerts import conformance
from alerts.alertmanager import AlertmanagerPush
from alerts.conformance import LAWS, Bench, Law, resolved
from alerts.console import Console
from alerts.mail import MOST_TRIES, Mail
from alerts.message import Alert, Change, Link, Severity, State, dump_alert, load_alert
from alerts.notifier import DeliveryError, Notifier
from alerts.pagerduty import PagerDuty, dedup_key, event
from alerts.slack import Slack
from alerts.slack_blocks import blocks
from alerts.webhook import Webhook
from alerts.wording import headline, text

MakeAlert = Callable[..., Alert]
Make = Callable[[str], Bench]


@pytest.fixture
def make(serve: Any, vendors: Any, mail_server: Any) -> Make:
    """Makes the bench of a notifier by its name."""

    def http(notifier: Callable[[str], Notifier], vendor: Any, refusal: Any) -> Bench:
        server = serve(vendor)
        return Bench(
            notifier(server.url),
            lambda: [f"{request.path} {request.body.decode('utf-8', 'replace')}" for request in server.requests],
            lambda: server.script.append(refusal),
            lambda: server.script.append(vendors.reply(503, b"busy")),
            vendors.canaries,
        )

    def mail() -> Bench:
        sent = Mail(
            "oncall", host="127.0.0.1", port=mail_server.port, sender="recwatch@example.org",
            recipients=["oncall@example.org"], security="none", password="canary-password",
        )  # fmt: skip
        return Bench(
            sent, lambda: [body(raw) for raw in mail_server.mails],
            lambda: mail_server.answers.update({"MAIL": "550 no"}),
            lambda: mail_server.answers.update({"MAIL": "451 later"}), vendors.canaries,
        )  # fmt: skip

    def console() -> Bench:
        stream = Breakable()
        # A stream has no way to refuse for good.
        return Bench(Console("here", stream), lambda: stream.texts, stream.break_once, stream.break_once)

    def bench(name: str) -> Bench:
        if name == "console":
            return console()
        wrong = vendors.reply(400, b"wrong")
        if name == "slack":
            denied = vendors.reply(200, {"ok": False, "error": "not_in_channel"})
            return http(
                lambda url: Slack("oncall", token=vendors.token, channel="C01", base_url=f"{url}/api/"),
                vendors.slack(), denied,
            )  # fmt: skip
        if name == "slack webhook":
            return http(
                lambda url: Slack("oncall", webhook_url=f"{url}/services/canary-path"), vendors.slack(),
                vendors.reply(404, b"no_service"),
            )  # fmt: skip
        if name == "pagerduty":
            return http(
                lambda url: PagerDuty("oncall", routing_key=vendors.routing_key, base_url=url), vendors.pagerduty(),
                vendors.reply(400, {"errors": [f"{vendors.routing_key} is no key"]}),
            )  # fmt: skip
        if name == "webhook":
            return http(
                lambda url: Webhook("hook", url=f"{url}/canary-path", secret=vendors.secret), vendors.plain(), wrong
            )
        if name == "alertmanager":
            return http(lambda url: AlertmanagerPush("am", urls=[url]), vendors.plain(), wrong)
        return mail()

    return bench


def body(raw: bytes) -> str:
    found = email.message_from_bytes(raw)
    parts = [part.get_payload(decode=True) for part in found.walk() if part.get_content_type() == "text/plain"]
    return f"{found['Subject']} {parts[0].decode()}"  # type: ignore[union-attr]


class Breakable(io.StringIO):
    """A stream that fails when it is told to, as a pipe does whose reader is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.is_broken = False

    def break_once(self) -> None:
        self.is_broken = True

    def write(self, text: str) -> int:
        if self.is_broken:
            self.is_broken = False
            raise BrokenPipeError
        self.texts.append(text)
        return len(text)


NOTIFIERS = ("console", "slack", "slack webhook", "pagerduty", "webhook", "alertmanager", "email")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", NOTIFIERS)
def test_every_notifier_keeps_every_law(name: str, law: Law, make: Make, alert: MakeAlert) -> None:
    if (name, law) == ("console", conformance.refused_for_good_is_permanent):
        with pytest.raises(AssertionError, match="a refusal for good is permanent"):
            law(make(name), alert())
        return
    if (name, law) == ("alertmanager", conformance.a_test_looks_like_one):
        # There a test has a severity that no route takes for an emergency.
        bench = make(name)
        bench.notifier.deliver(alert(is_test=True), {})
        assert '"severity": "none"' in bench.received()[0]
        return
    law(make(name), alert())


def test_a_law_that_is_broken_is_named(alert: MakeAlert) -> None:
    class Deaf:
        kind, rate_per_second, burst = "deaf", 1.0, 1

        def deliver(self, _alert: Alert, _memory: Any) -> None:
            """Tell nobody."""

    bench = Bench(Deaf(), list, lambda: None, lambda: None)
    for law in LAWS:
        if law is not conformance.anything_fits:
            with pytest.raises(AssertionError):
                law(bench, alert())


@given(
    some.text(), some.lists(some.text(max_size=20), max_size=3), some.sampled_from(State),
    some.floats(0, 1) | some.none(), some.booleans(),
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_alert_survives_the_outbox(
    alert: MakeAlert, said: str, contributors: list[str], state: State, ratio: float | None, is_test: bool
) -> None:
    made = alert(
        state=state, change=said, is_test=is_test,
        problem={"sentence": said, "contributors": tuple(contributors), "bad_ratio": ratio},
        triage=tuple(contributors),
    )  # fmt: skip
    assert load_alert(dump_alert(made)) == made
    # Of two daemons on one state a newer one may write more.
    newer = json.loads(dump_alert(made))
    newer["mood"] = newer["problems"][0]["mood"] = "calm"
    assert load_alert(json.dumps(newer)) == made


# -- slack ---------------------------------------------------------------------------------------


def slack(server: Any, vendors: Any, channel: str = "C01") -> Slack:
    return Slack("oncall", token=vendors.token, channel=channel, base_url=f"{server.url}/api/")


def test_slack_edits_one_message_and_replies_in_its_thread(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    vendor = vendors.slack()
    # A name is enough to post; edits go by the id that comes back.
    notifier, memory, first = slack(serve(vendor), vendors, "#alerts"), {}, alert()
    notifier.deliver(first, memory)
    grown = replace(first, transition=2, change="events-contract fires, too", problems=first.problems * 2)
    notifier.deliver(grown, memory)
    notifier.deliver(resolved(grown), memory)
    (message,) = vendor.messages.values()
    assert "Resolved: shop: freshness of events" in message["blocks"][0]["text"]["text"]
    assert [reply["reply_broadcast"] for reply in vendor.replies] == [True, False]
    assert vendor.replies[0]["text"] == "events-contract fires, too"
    assert "Resolved after 23 min, 12 % of the budget spent" in vendor.replies[1]["text"]


CAUSE = ("Most likely stalled feed: newest event is 9 min old", "12:00:00 UTC  freshness 9 min: newest <b> & 9 min old")


def test_slack_tells_the_cause_in_the_thread_once(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    vendor, memory = vendors.slack(), {}
    notifier, first = slack(serve(vendor), vendors), alert(triage=CAUSE)
    notifier.deliver(first, memory)
    (message,) = vendor.messages.values()
    assert CAUSE[0] in message["blocks"][1]["text"]["text"], "a line of it stands in the message"
    assert CAUSE[1] not in str(message["blocks"])
    assert vendor.replies[0]["text"].splitlines() == [
        f"*{CAUSE[0]}*", "\N{BULLET} 12:00:00 UTC freshness 9 min: newest &lt;b&gt; &amp; 9 min old",
    ]  # fmt: skip
    older = tuple(line.replace("9 min", "12 min") for line in CAUSE)
    second = replace(first, transition=2, change="events-contract fires, too", triage=older)
    notifier.deliver(second, memory)
    assert vendor.replies[1]["text"] == "events-contract fires, too", "other figures are no news"
    third = replace(second, transition=3, change="events-density fires", triage=("Most likely schema change: x",))
    notifier.deliver(third, memory)
    assert vendor.replies[2]["text"] == "events-density fires\n*Most likely schema change: x*"
    assert len(vendor.replies) == 3


def test_a_slack_webhook_tells_the_cause_once_in_the_message_itself(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    server, memory = serve(vendors.slack()), {}
    notifier = Slack("oncall", webhook_url=f"{server.url}/services/canary-path")

    def told() -> list[str]:
        return [
            block["text"]["text"]
            for block in server.requests[-1].json["blocks"]
            if block["type"] == "section" and "text" in block
        ]

    first = alert(triage=CAUSE)
    notifier.deliver(first, memory)
    assert told()[1].splitlines() == [
        f"*{CAUSE[0]}*", "\N{BULLET} 12:00:00 UTC freshness 9 min: newest &lt;b&gt; &amp; 9 min old",
    ]  # fmt: skip
    assert CAUSE[0] not in told()[0]
    older = tuple(line.replace("9 min", "12 min") for line in CAUSE)
    notifier.deliver(replace(first, transition=2, change="less is wrong", triage=older), memory)
    assert len(server.requests) == 1, "other figures are no news"
    other = replace(first, transition=3, change="less is wrong", triage=("Most likely schema change: x",))
    notifier.deliver(other, memory)
    assert told()[1] == "*Most likely schema change: x*"
    notifier.deliver(resolved(other), memory)
    assert [text for text in told() if "schema change" in text] == [told()[0]], "the end says it in a line"


@pytest.mark.parametrize("cause", [(), CAUSE])
def test_slack_repeats_no_step_after_a_kill(cause: tuple[str, ...], serve: Any, vendors: Any, alert: MakeAlert) -> None:
    """The process may end after any request has taken effect; the next one goes on from there."""
    first = alert(triage=cause)
    second = replace(first, transition=2, change="events-contract fires, too")
    for lost_at in range(6):
        vendor, memory, failures = vendors.slack(), {}, []
        server = serve(vendor)
        notifier = slack(server, vendors)
        for transition in (first, second, resolved(second)):
            for _attempt in range(3):
                if len(server.requests) == lost_at:
                    server.script.append(vendors.lost)
                try:
                    notifier.deliver(transition, memory)
                    break
                except DeliveryError as error:
                    failures.append(error)
        assert [error.permanent for error in failures] in ([], [False])
        assert len(vendor.messages) == 1, lost_at
        assert len(vendor.replies) == (3 if cause else 2), lost_at


def test_slack_posts_again_if_it_may_not_look(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    vendor, memory = vendors.slack(), {}
    vendor.can_read_history = False
    server = serve(vendor)
    server.script.append(vendors.lost)
    with pytest.raises(DeliveryError):
        slack(server, vendors).deliver(alert(), memory)
    slack(server, vendors).deliver(alert(), memory)
    assert len(vendor.messages) == 2, "at least once"


def test_slack_posts_anew_what_somebody_deleted(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    vendor, memory = vendors.slack(), {}
    notifier = slack(serve(vendor), vendors)
    notifier.deliver(alert(), memory)
    vendor.messages.clear()
    notifier.deliver(resolved(alert()), memory)
    (message,) = vendor.messages.values()
    assert "Resolved" in message["text"] or "RESOLVED" in message["text"]


@pytest.mark.parametrize("error", ["invalid_auth", "channel_not_found", "is_archived", "msg_too_long", "no_such_thing"])
def test_slack_refusals_are_permanent_and_say_what_to_do(
    error: str, serve: Any, vendors: Any, alert: MakeAlert
) -> None:
    server = serve(vendors.slack())
    server.script.append(vendors.reply(200, {"ok": False, "error": error}))
    with pytest.raises(DeliveryError, match=f"^slack oncall: refused with {error}") as caught:
        slack(server, vendors).deliver(alert(), {})
    assert caught.value.permanent


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_slack_follows_no_redirect(status: int, serve: Any, vendors: Any, alert: MakeAlert) -> None:
    server, other = serve(vendors.slack()), serve(vendors.slack())
    hook = Slack("oncall", webhook_url=f"{server.url}/services/canary-path")
    for notifier in (slack(server, vendors), hook):
        server.script.append(vendors.reply(status, b"", {"Location": f"{other.url}/api/chat.postMessage"}))
        with pytest.raises(DeliveryError, match=f"^slack oncall: refused with status {status}") as caught:
            notifier.deliver(alert(), {})
        assert caught.value.permanent
    assert other.requests == [], "it would get the token, and its answer would pass for Slack's"


def test_slack_says_how_long_to_wait(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    server = serve(vendors.slack())
    server.script.append(vendors.reply(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "7"}))
    with pytest.raises(DeliveryError) as caught:
        slack(server, vendors).deliver(alert(), {})
    assert (caught.value.permanent, caught.value.retry_after_seconds) == (False, 7.0)


def test_slack_is_not_fooled_into_calling_everybody(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    vendor = vendors.slack()
    slack(serve(vendor), vendors).deliver(conformance.spoilt(alert(), "<!channel> <@U1>"), {})
    (message,) = vendor.messages.values()
    said = [message["text"], *(text["text"] for text in texts(message["blocks"]) if text["type"] == "mrkdwn")]
    assert said
    assert not any("<!channel>" in text or "<@U1>" in text for text in said)


def texts(blocks: Any) -> list[dict[str, str]]:
    """Return every text object in some blocks."""
    if isinstance(blocks, list):
        return [text for block in blocks for text in texts(block)]
    if isinstance(blocks, dict):
        own = [blocks] if blocks.get("type") in ("mrkdwn", "plain_text") else []
        return own + [text for value in blocks.values() for text in texts(value)]
    return []


# -- pagerduty -----------------------------------------------------------------------------------


def test_pagerduty_has_one_alert_for_an_incident(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    vendor = vendors.pagerduty()
    notifier, first = PagerDuty("p", routing_key=vendors.routing_key, base_url=serve(vendor).url), alert()
    notifier.deliver(first, {})
    notifier.deliver(replace(first, transition=2, change="worse"), {})
    (payload,) = vendor.open.values()
    assert payload["severity"] == "critical"
    assert payload["class"] == "freshness"
    assert payload["summary"].startswith("PAGE shop: freshness of events: 41 % of the time was bad")
    notifier.deliver(resolved(first), {})
    assert (vendor.open, vendor.resolved) == ({}, [first.key])


def test_pagerduty_keys_fit_and_stay_the_same() -> None:
    assert dedup_key("a" * 255) == "a" * 255
    assert dedup_key("a" * 256) == dedup_key("a" * 256) != dedup_key("b" * 256)
    assert len(dedup_key("a" * 1_000)) <= 255


def test_pagerduty_records_deploys(serve: Any, vendors: Any) -> None:
    vendor = vendors.pagerduty()
    notifier = PagerDuty("p", routing_key=vendors.routing_key, base_url=serve(vendor).url)
    notifier.announce(Change("ranker v42 deployed", datetime(2026, 3, 3, tzinfo=UTC), "shop", "ci"))
    assert [change["summary"] for change in vendor.changes] == ["ranker v42 deployed"]


def test_pagerduty_shows_links_that_are_not_https_among_the_details(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    vendor = vendors.pagerduty()
    server = serve(vendor)
    notifier = PagerDuty("p", routing_key=vendors.routing_key, base_url=server.url)
    links = (Link("Status page", "http://watch.internal:9464"), Link("Runbook", "https://watch.example/runbook"))
    notifier.deliver(alert(links=links), {})
    notifier.announce(Change("ranker v42", datetime(2026, 3, 3, tzinfo=UTC), "shop", "ci", links))
    (payload,) = vendor.open.values()
    for about in (payload, vendor.changes[0]):
        assert about["custom_details"]["Status page"] == "http://watch.internal:9464"
        assert "Runbook" not in about["custom_details"]
    for request in server.requests:
        assert request.json["links"] == [{"href": "https://watch.example/runbook", "text": "Runbook"}]


def test_pagerduty_says_what_to_do_about_a_wrong_key(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    notifier = PagerDuty("p", routing_key="another-canary-key", base_url=serve(vendors.pagerduty()).url)
    with pytest.raises(DeliveryError, match="check the routing key") as caught:
        notifier.deliver(alert(), {})
    assert caught.value.permanent
    assert "another-canary-key" not in str(caught.value)


# -- the others ----------------------------------------------------------------------------------


def test_a_webhook_is_signed_and_can_be_told_apart(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    server = serve(vendors.plain())
    Webhook("hook", url=server.url, secret=vendors.secret).deliver(alert(), {})
    (request,) = server.requests
    signature = hmac.new(vendors.secret.encode(), request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Recwatch-Signature"] == f"sha256={signature}"
    assert request.headers["Idempotency-Key"] == f"{alert().key}/1"
    assert (request.json["version"], request.json["severity"], request.json["state"]) == (1, "page", "firing")


def test_the_password_of_an_address_is_sent(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    server = serve(vendors.plain())
    Webhook("hook", url=server.url.replace("//", "//ann:a%2Fb@")).deliver(alert(), {})
    assert server.requests[0].headers["authorization"] == "Basic YW5uOmEvYg=="


@pytest.mark.parametrize("pipeline", ["\u5e97", "shop\r\nX-Evil: 1", "a b", "x" * 300])
def test_a_webhook_is_told_of_a_pipeline_of_any_name(pipeline: str, serve: Any, vendors: Any, alert: MakeAlert) -> None:
    server = serve(vendors.plain())
    for number in (1, 2):
        Webhook("hook", url=server.url).deliver(replace(alert(), key=f"recwatch/{pipeline}/1", transition=number), {})
    first, second = (request.headers["Idempotency-Key"] for request in server.requests)
    assert first != second
    assert all("X-Evil" not in request.headers for request in server.requests)


def test_what_a_server_says_again_of_its_address_is_not_shown(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    """A page about a missing address often names it, and whoever knows a webhook's may post to it."""
    said = ("{}", "Cannot POST {}", "no such hook: {}; try /hooks", '{{"path": "{}"}}')
    for form, path in itertools.product(said, ("/hooks/canary-path?k=canary-secret&k2=%63anary", "/canary-path")):
        server = serve(vendors.plain())
        text = form.format(path) + form.format(unquote(path)) + form.format(path.partition("?")[0])
        server.script.append(vendors.reply(404, text.encode()))
        with pytest.raises(DeliveryError, match="answered 404") as caught:
            Webhook("hook", url=server.url + path).deliver(alert(), {})
        assert "canary" not in str(caught.value)
        assert caught.value.permanent


def test_an_answer_without_an_end_is_left(alert: MakeAlert) -> None:
    class Endless(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(500)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"x" * 65_536)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        hook = Webhook("hook", url=f"http://127.0.0.1:{server.server_port}")
        tracemalloc.start()
        try:
            with pytest.raises(DeliveryError, match="answered 500"):
                hook.deliver(alert(), {})
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()
            server.shutdown()


@pytest.mark.parametrize("when", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "1e999", "nan", "-1", "soon"])
def test_a_wait_of_no_sense_is_none_for_ever(when: str, serve: Any, vendors: Any, alert: MakeAlert) -> None:
    server = serve(vendors.plain())
    server.script.append(vendors.reply(429, b"", {"Retry-After": when}))
    with pytest.raises(DeliveryError, match="answered 429"):
        Webhook("hook", url=server.url).deliver(alert(), {})


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_mail_goes_over_tls_before_its_password_does(
    alert: MakeAlert, certify: Any, serve_mail: Any, security: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert = certify("mail.example.org")
    server = serve_mail(security, cert)
    mail = Mail(
        "m", host="127.0.0.1", port=server.port, sender="r@example.org", recipients=["a@example.org"],
        security=security, username="recwatch", password="secret",
    )  # fmt: skip
    with pytest.raises(DeliveryError, match=r"not reached \(its certificate is not trusted\)"):
        mail.deliver(alert(), {})
    assert not server.logins, "nobody vouches for the certificate"
    monkeypatch.setenv("SSL_CERT_FILE", cert["cert"])
    mail.deliver(alert(), {})
    assert server.logins == ["\0recwatch\0secret"]
    assert server.recipients == [["a@example.org"]]


def test_mails_about_an_incident_are_one_thread(mail_server: Any, alert: MakeAlert) -> None:
    notifier = Mail(
        "m", host="127.0.0.1", port=mail_server.port, sender="recwatch@example.org", recipients=["a@example.org"],
        security="none",
    )  # fmt: skip
    notifier.deliver(alert(), {})
    notifier.deliver(resolved(alert()), {})
    notifier.deliver(resolved(alert()), {})
    first, second, again = (email.message_from_bytes(raw) for raw in mail_server.mails)
    assert first["Subject"] == "[PAGE] shop: freshness of events"
    assert second["Subject"] == "[RESOLVED] shop: freshness of events"
    assert second["In-Reply-To"] == first["Message-ID"]
    assert second["Message-ID"] == again["Message-ID"], "a mail that is sent twice can be told"


def test_what_is_kept_quiet_is_no_mail_of_its_own(mail_server: Any, alert: MakeAlert) -> None:
    memory: dict[str, str] = {}
    aside = replace(alert(), transition=2, change="kept quiet: density", consequences=("density",), is_aside=True)
    for told in (aside, replace(aside, transition=3), replace(resolved(aside), transition=4, is_aside=False)):
        team_mail(mail_server).deliver(told, memory)
    first, last = (email.message_from_bytes(raw) for raw in mail_server.mails)
    assert first["Subject"].startswith("[PAGE]"), "who has heard of nothing yet hears of it"
    assert last["Subject"].startswith("[RESOLVED]")
    assert "Kept quiet: density" in str(last.get_payload(0))


def team_mail(server: Any) -> Mail:
    people = [f"{name}@example.org" for name in "abc"]
    return Mail(
        "m", host="127.0.0.1", port=server.port, sender="r@example.org", recipients=people, security="none"
    )  # fmt: skip


def test_whoever_has_a_mail_does_not_get_it_again_for_those_who_are_put_off(mail_server: Any, alert: MakeAlert) -> None:
    memory: dict[str, str] = {}
    mail_server.answers |= {"RCPT TO:<b@": "451 later", "RCPT TO:<c@": "550 unknown", "QUIT": "421 too late"}
    with pytest.raises(DeliveryError, match=r"put off b@example.org \(451\)$") as caught:
        team_mail(mail_server).deliver(alert(), memory)
    assert not caught.value.permanent
    # As after a restart: another notifier, and what the state remembers.
    with pytest.raises(DeliveryError, match=r"refused c@example.org \(550\); check") as caught:
        team_mail(mail_server).deliver(alert(), dict(memory))
    assert caught.value.permanent, "which is what a page shows as refused"
    assert mail_server.recipients == [["a@example.org"], ["b@example.org"]]
    team_mail(mail_server).deliver(resolved(alert()), memory)
    assert mail_server.recipients[2:] == [["a@example.org", "b@example.org", "c@example.org"]], "all hear what is next"


def test_a_mail_that_nobody_accepts_is_tried_for_all_but_those_refused_for_good(
    mail_server: Any, alert: MakeAlert
) -> None:
    memory: dict[str, str] = {}
    # After a 421 nobody else is asked for.
    mail_server.answers |= {"RCPT TO:<a@": "550 unknown", "RCPT TO:<b@": "421 busy"}
    with pytest.raises(DeliveryError, match=r"put off b@example.org \(421\), c@example.org \(421\)$"):
        team_mail(mail_server).deliver(alert(), memory)
    with pytest.raises(DeliveryError, match=r"refused a@example.org \(550\)"):
        team_mail(mail_server).deliver(alert(), memory)
    assert mail_server.recipients == [["b@example.org", "c@example.org"]]


def test_a_full_mailbox_does_not_keep_what_comes_next_from_the_others(mail_server: Any, alert: MakeAlert) -> None:
    memory: dict[str, str] = {}
    for _try in range(MOST_TRIES - 1):
        mail_server.answers["RCPT TO:<b@"] = "452 full"
        with pytest.raises(DeliveryError) as caught:
            team_mail(mail_server).deliver(alert(), memory)
        assert not caught.value.permanent
    mail_server.answers["RCPT TO:<b@"] = "452 full"
    with pytest.raises(DeliveryError, match=r"refused b@example.org \(452\)") as caught:
        team_mail(mail_server).deliver(alert(), memory)
    assert caught.value.permanent
    assert mail_server.recipients == [["a@example.org", "c@example.org"]]


def test_mail_headers_cannot_be_smuggled_in(mail_server: Any, alert: MakeAlert) -> None:
    Mail(
        "m", host="127.0.0.1", port=mail_server.port, sender="r@example.org", recipients=["a@example.org"],
        security="none",
    ).deliver(alert(pipeline="x\r\nBcc: everybody@example.org"), {})  # fmt: skip
    found = email.message_from_bytes(mail_server.mails[0])
    assert found["Bcc"] is None


def test_one_alertmanager_of_a_cluster_is_enough(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    vendor = vendors.plain()
    server = serve(vendor)
    AlertmanagerPush("am", urls=["http://127.0.0.1:9", server.url]).deliver(alert(), {})
    ((pushed,),) = vendor.bodies
    assert pushed["labels"] == {
        "alertname": "RecwatchSloBudgetBurn", "pipeline": "shop", "slo": "events-freshness", "check": "freshness",
        "dataset": "events", "tier": "page_fast", "team": "feeds", "severity": "critical",
    }  # fmt: skip
    assert pushed["endsAt"] > pushed["startsAt"]


def test_the_console_says_it_all(alert: MakeAlert) -> None:
    stream = io.StringIO()
    Console("here", stream).deliver(alert(), {})
    assert stream.getvalue() == (
        "2026-03-03T12:09:00Z PAGE shop: freshness of events: 41 % of the time was bad over the last 1 h;"
        " the newest event is 12.3 min old; since 12:00 UTC, 03 Mar\n"
        "  events-freshness\n"
        "    value 12.3 min, limit 5 min, burn rate 41x, budget left 63 %, tier page_fast\n"
        "    most of it: source ios: 20 min (limit 5 min)\n"
        "Kept quiet: events-density, which freshness explains\n"
        "Owner: feeds\n"
        "Runbook: https://recwatch.example/runbooks/recwatchslobudgetburn\n"
    )
    Console("here", stream).deliver(replace(alert(), transition=2, change="kept quiet: b", is_aside=True), {})
    assert stream.getvalue().splitlines()[-1] == "Now: kept quiet: b", "the page stands above already"
    Console("here", stream).deliver(resolved(alert()), {})
    assert "RESOLVED shop: freshness of events, after 23 min; it spent 12 % of the budget" in stream.getvalue()


def test_on_a_terminal_green_is_for_what_is_over(alert: MakeAlert) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def shown(found: Alert) -> str:
        stream = Terminal()
        Console("here", stream).deliver(found, {})
        return stream.getvalue()

    red, yellow, green = "\x1b[1;31m", "\x1b[1;33m", "\x1b[1;32m"
    assert f"Z {red}PAGE shop" in shown(alert())
    assert f"Z {yellow}TICKET shop" in shown(alert(severity=Severity.TICKET))
    assert f"Z {green}RESOLVED shop" in shown(resolved(alert()))
    unwatched = shown(resolved(alert(problem={"is_watched": False})))
    assert not any(colour in unwatched for colour in (red, yellow, green)), unwatched


def test_a_message_says_nothing_twice(alert: MakeAlert) -> None:
    found = alert()
    (first,) = found.problems
    second = replace(first, name="events-contract", sentence="other")
    for said in (text(found), text(replace(found, problems=(first, second)))):
        assert said.count(first.sentence) == 1
    assert text(found).count("since 12:00 UTC") == 1
    aside = replace(found, transition=2, change=f"kept quiet: {found.consequences[0]}", is_aside=True)
    assert json.dumps(blocks(aside)).count(found.consequences[0]) == 1


def test_a_page_on_a_phone_names_the_likely_cause(alert: MakeAlert) -> None:
    found = alert(triage=("Most likely schema change: columns removed: user_id", "Segment: x"))
    assert event(found)["payload"]["summary"] == f"{headline(found)}; most likely schema change"
    assert event(alert())["payload"]["summary"] == headline(alert())


def test_figures_are_those_of_their_time(alert: MakeAlert) -> None:
    spent = {"budget_left_ratio": -2.77}
    assert "burn rate 41x, budget left none, overspent by 277 %" in text(alert(problem=spent))
    over = text(resolved(alert(problem={**spent, "until": alert().at})))
    assert "burn rate" not in over, "nothing burns any more"


def test_what_began_before_its_alarm_says_both(alert: MakeAlert) -> None:
    found = alert(problem={"began": alert().started - timedelta(minutes=31)})
    assert load_alert(dump_alert(found)) == found
    assert "; bad since 11:29, alarm at 12:00 UTC, 03 Mar\n" in text(found)
    told = json.dumps(blocks(found))
    assert "bad since 11:29, alarm at 12:00 UTC, 03 Mar" in told
    assert "*Alarm*" in told


def test_a_webhook_that_answers_nonsense_is_bounded(serve: Any, vendors: Any, alert: MakeAlert) -> None:
    server = serve(vendors.plain())
    server.script.append(vendors.reply(500, b"x" * 1_000_000, {"Retry-After": "soon"}))
    with pytest.raises(DeliveryError) as caught:
        Webhook("hook", url=server.url).deliver(alert(), {})
    assert len(str(caught.value)) < 400
    assert json.dumps(str(caught.value))
