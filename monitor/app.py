"""What is answered at which path: the status page, its JSON, metrics, health, runbooks, and Alertmanager's webhook."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from alerts import runbook
from monitor import evidence, happenings, log, reporter
from monitor.access import Denied, denied
from monitor.check_history import check_history
from monitor.clock import Clock
from monitor.errors import RecwatchError
from monitor.exposition import Exposition
from monitor.exposition_text import Scrapes
from monitor.overview import Overview, overview, span_named
from monitor.receiver import receive
from monitor.runner import said
from monitor.status import Watched, without_secrets
from monitor.store import Store

if TYPE_CHECKING:
    from monitor.evidence_page import EvidencePage
    from monitor.page import Page

Headers = list[tuple[str, str]]
StartResponse = Callable[[str, Headers], Any]

_SAFE: Headers = [
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
]
_NO_CONTENT_ALLOWED = "default-src 'none'; frame-ancestors 'none'"
_TEXT = "text/plain; charset=utf-8"
# What Alertmanager posts to, followed by the name of a channel; and where runbooks are, by the names of alerts.
RECEIVER, RUNBOOKS = "/alertmanager/", "/runbooks/"
EVIDENCE, REPORT, HAPPENINGS, CHECK = "/evidence/", "/report", "/api/events", "/check"
HTML = "text/html; charset=utf-8"
MOST_EVENT_BYTES = 10_000
# Evidently's page is one script with all it needs; in a sandbox it can neither read our pages nor ask anybody.
REPORT_POLICY = (
    "Content-Security-Policy",
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline';"
    " img-src data: blob:; font-src data:; frame-ancestors 'none'",
)


@dataclass(frozen=True)
class Answer:
    """A response before it is sent."""

    status: str
    body: bytes
    headers: Headers

    @classmethod
    def text(cls, status: str, said: str, *more: tuple[str, str]) -> Answer:
        """Return a line of plain text."""
        return cls(status, f"{said}\n".encode(), [("Content-Type", _TEXT), *more])

    @classmethod
    def refused(cls, why: Denied) -> Answer:
        """Return what somebody gets who may not see something."""
        challenges = [("WWW-Authenticate", why.challenge)] if why.challenge else []
        return cls.text(why.status, why.said, *challenges)

    def send(self, environ: Mapping[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        names = {name for name, _value in self.headers}
        headers = [*self.headers, *_SAFE, ("Content-Length", str(len(self.body)))]
        if "Content-Security-Policy" not in names:
            headers.append(("Content-Security-Policy", _NO_CONTENT_ALLOWED))
        start_response(self.status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [self.body]


class App:
    """The WSGI application.

    Args:
        store: The state.
        clock: Tells the time.
        watched: Tells what is watched at this moment.
        problem: Returns why the schedule does not move, or None while it does.
        pending: Returns what has to happen before all is ready, or None.
        home: Where the status page links to, if there is a page above it.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        watched: Callable[[], Watched],
        problem: Callable[[], str | None],
        pending: Callable[[], str | None],
        home: str = "",
    ) -> None:
        self._store, self._clock, self.watched = store, clock, watched
        self._problem, self._pending = problem, pending
        self._home = home
        self.exposition = Exposition(store, watched, clock)
        self._scrapes = Scrapes(self.exposition.lines)
        self._failing: set[str] = set()
        self._lock = threading.Lock()
        self._routes: Mapping[str, Callable[[Mapping[str, Any]], Answer]] = {
            "/": self._show,
            "/metrics": self._expose,
            "/healthz": lambda _environ: health(self._problem()),
            "/readyz": lambda _environ: health(self._pending()),
            "/api/status": self._tell,
            CHECK: self._show_check,
        }

    # The pages' templates take 2 MB and 0.2 s, so they wait for somebody to look.
    @cached_property
    def _page(self) -> Page:
        from monitor.page import Page

        return Page(self._home)

    @cached_property
    def _evidence_page(self) -> EvidencePage:
        from monitor.evidence_page import EvidencePage

        return EvidencePage()

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request; part of WSGI."""
        return self._answer(environ).send(environ, start_response)

    def _answer(self, environ: dict[str, Any]) -> Answer:
        path = environ.get("PATH_INFO") or "/"
        is_evidence = path.startswith(EVIDENCE) or path == HAPPENINGS
        config = self.watched().config
        token, known = config.evidence.token.get_secret_value(), (config.notify.external_url,)
        refused = denied(config.server, token, path, environ, known, is_evidence)
        if refused is not None:
            return Answer.refused(refused)
        route = self._routes.get(path) or self._found_below(path)
        if environ["REQUEST_METHOD"] == "POST" and (path.startswith(RECEIVER) or path == HAPPENINGS):
            route = self._note_event if path == HAPPENINGS else self._receive
        elif route is None:
            return Answer.text(
                "404 Not Found", f"nothing is here; there are {', '.join(self._routes)}, and POST {HAPPENINGS}"
            )
        elif environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return Answer.text("405 Method Not Allowed", "only GET and HEAD are answered", ("Allow", "GET, HEAD"))
        takes_body = route in (self._receive, self._note_event)
        if takes_body and not str(environ.get("CONTENT_TYPE", "")).startswith("application/json"):
            # What a page of somebody else's can make a browser send has another type.
            return Answer.text("415 Unsupported Media Type", "send it as Content-Type: application/json")
        try:
            answer = route(environ if takes_body else {**environ, "REQUEST_METHOD": "GET"})
        except RecwatchError as error:
            # An empty page of metrics would look like a healthy one.
            self._note(path, error)
            return Answer.text("503 Service Unavailable", without_secrets(str(error)))
        except Exception as error:
            self._note(path, error)
            return Answer.text("500 Internal Server Error", "this could not be answered; the log says why")
        self._note(path, None)
        return answer

    def _found_below(self, path: str) -> Callable[[Mapping[str, Any]], Answer] | None:
        """Return what answers at a path with a name in it."""
        if path.startswith(EVIDENCE):
            return self._prove
        found = runbook.text(path.removeprefix(RUNBOOKS)) if path.startswith(RUNBOOKS) else None
        return None if found is None else lambda _environ: Answer.text("200 OK", found.rstrip())

    def _prove(self, environ: Mapping[str, Any]) -> Answer:
        """Show a piece of evidence, as a page or as JSON."""
        name = str(environ["PATH_INFO"]).removeprefix(EVIDENCE)
        if name.endswith(REPORT):
            html = reporter.find(self._store, name.removesuffix(REPORT))
            if html is None:
                return Answer.text("404 Not Found", "there is no report about this")
            return Answer("200 OK", html, [("Content-Type", HTML), REPORT_POLICY])
        found = evidence.find(self._store, name.removesuffix(".json"))
        if found is None:
            return Answer.text("404 Not Found", "no such evidence; it may have been kept for long enough")
        if name.endswith(".json"):
            body = json.dumps(dataclasses.asdict(found), default=plain).encode()
            return Answer("200 OK", body, [("Content-Type", "application/json")])
        has_report = reporter.find(self._store, found.id) is not None
        page = self._evidence_page.render(found, has_report).encode("utf-8", "replace")
        policy = ("Content-Security-Policy", self._evidence_page.policy)
        return Answer("200 OK", page, [("Content-Type", HTML), policy])

    def _note_event(self, environ: Mapping[str, Any]) -> Answer:
        """Note a deploy or another change, told by whoever may see evidence."""
        length = min(int(environ.get("CONTENT_LENGTH") or 0), MOST_EVENT_BYTES)
        try:
            happenings.add(self._store, happenings.parsed(environ["wsgi.input"].read(length), self._clock.now()))
        except ValueError as error:
            return Answer.text("400 Bad Request", str(error)[:200])
        return Answer.text("200 OK", "noted")

    def _receive(self, environ: Mapping[str, Any]) -> Answer:
        """Take what Alertmanager says about a group; answered at once, delivered from the outbox."""
        channel = str(environ["PATH_INFO"]).removeprefix(RECEIVER)
        if channel not in self.watched().config.channels:
            return Answer.text("404 Not Found", f"no channel is called {channel}; name one of the configuration")
        length = int(environ.get("CONTENT_LENGTH") or 0)
        try:
            receive(self._store, channel, environ["wsgi.input"].read(length), self._clock.now())
        except ValueError as error:
            return Answer.text("400 Bad Request", f"this is no webhook of Alertmanager: {str(error)[:200]}")
        return Answer.text("200 OK", "taken")

    def _note(self, path: str, error: Exception | None) -> None:
        """Log when answers begin to fail and when that ends, not each time in between."""
        # Of the names below one place there is no end.
        path = path if path in self._routes else f"/{path.split('/')[1]}/"
        with self._lock:
            was_failing = path in self._failing
            (self._failing.discard if error is None else self._failing.add)(path)
        if error is not None and not was_failing:
            log.error("request_failed", path=path, error=without_secrets(said(error)))
        elif error is None and was_failing:
            log.event("request_answered_again", path=path)

    def _overview(self, environ: Mapping[str, Any]) -> Overview:
        span = span_named(asked(environ, "span"))
        return overview(self._store, self.watched(), self._clock.now(), self._problem(), span)

    def _show(self, environ: Mapping[str, Any]) -> Answer:
        return self._html(self._page.render(self._overview(environ)))

    def _html(self, page: str) -> Answer:
        policy = ("Content-Security-Policy", self._page.policy)
        return Answer("200 OK", page.encode("utf-8", "replace"), [("Content-Type", HTML), policy])

    def _show_check(self, environ: Mapping[str, Any]) -> Answer:
        about, span = (asked(environ, "dataset"), asked(environ, "check")), span_named(asked(environ, "span"))
        found = check_history(self._store, self.watched(), self._clock.now(), about, span)
        if found is None:
            return Answer.text("404 Not Found", "name a watched dataset and one of its checks: ?dataset=...&check=...")
        return self._html(self._page.render_check(found))

    def _tell(self, environ: Mapping[str, Any]) -> Answer:
        found = self._overview(environ)
        told = dataclasses.asdict(found.status) | {
            "objectives": [dataclasses.asdict(one) for one in found.objectives],
            "incidents": [dataclasses.asdict(one) for one in found.incidents],
            "budgets": [dataclasses.asdict(one) for one in found.budgets],
        }
        body = json.dumps(told, default=plain, allow_nan=False).encode()
        return Answer("200 OK", body, [("Content-Type", "application/json")])

    def _expose(self, environ: Mapping[str, Any]) -> Answer:
        return Answer(*self._scrapes.answer(environ))


def asked(environ: Mapping[str, Any], name: str) -> str:
    """Return a parameter of the address; empty if it is not there."""
    return next(iter(parse_qs(str(environ.get("QUERY_STRING", ""))).get(name, [])), "")


def health(problem: str | None) -> Answer:
    """Return what a probe is told."""
    return Answer.text("200 OK", "ok") if problem is None else Answer.text("503 Service Unavailable", problem)


def plain(value: object) -> str:
    """Return a value as JSON can hold it."""
    return value.isoformat() if isinstance(value, datetime) else str(value)
