"""What is answered where one process runs many pipelines: a front page, and below ``/p/NAME/`` what each answers."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote

from checks.metrics import METRICS, PIPELINE, Metric
from monitor import evidence, log
from monitor.access import denied
from monitor.app import (
    CHECK,
    EVIDENCE,
    HAPPENINGS,
    HTML,
    RECEIVER,
    RUNBOOKS,
    Answer,
    StartResponse,
    asked,
    health,
    plain,
)
from monitor.errors import RecwatchError
from monitor.exposition_text import Scrapes, number, spell
from monitor.fleet import Fleet, Member
from monitor.fleet_status import PIPELINES, FleetStatus, line, not_running, together
from monitor.page import Page
from monitor.receiver import MOST_BYTES

WSGI = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]
UP, READ = "recwatch_pipeline_up", "recwatch_config_last_reload_successful"


class FleetApp:
    """The WSGI application of many pipelines.

    Args:
        fleet: The pipelines.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self._page = fleet, Page()
        self._scrapes = Scrapes(FleetExposition(fleet).lines)
        self._routes: Mapping[str, Callable[[Mapping[str, Any]], Answer]] = {
            "/": self._show,
            "/metrics": self._expose,
            "/healthz": lambda _environ: health(fleet.problem()),
            "/readyz": lambda _environ: health(fleet.pending()),
            "/api/status": self._tell,
        }

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request; part of WSGI."""
        path = environ.get("PATH_INFO") or "/"
        known = [member.daemon.live.config.notify.external_url for member in list(self._fleet.members.values())]
        refused = denied(self._fleet.server, "", path, environ, known)
        # Evidence may have a token of its own, which its pipeline knows: it is asked, and nothing else is told.
        if refused is not None and EVIDENCE not in path and not path.endswith(HAPPENINGS):
            found: Answer | WSGI = Answer.refused(refused)
        elif path.startswith(PIPELINES):
            found = self._below(path, environ)
        elif path in (CHECK, HAPPENINGS) or path.startswith((EVIDENCE, RECEIVER, RUNBOOKS)):
            found = self._meant(path, environ)
        else:
            found = self._answer(path, environ)
        if not isinstance(found, Answer):
            return found(environ, start_response)
        return (found if refused is None else Answer.refused(refused)).send(environ, start_response)

    def _below(self, path: str, environ: dict[str, Any]) -> WSGI | Answer:
        """Return who answers what is asked of one pipeline, as if it were the only one."""
        for member in self._members():
            whole = f"{PIPELINES}{member.name}"
            if path.startswith(f"{whole}/"):
                environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + whole
                environ["PATH_INFO"] = path.removeprefix(whole)
                return member.app
            if path == whole:
                there = ("Location", f"{PIPELINES}{quote(member.name, safe='')}/")
                return Answer.text("308 Permanent Redirect", "see below it", there)
        return Answer.text("404 Not Found", "no such pipeline runs here; / lists them")

    def _members(self) -> list[Member]:
        # The longer name first: one may begin with another and a slash.
        return sorted(self._fleet.members.values(), key=lambda member: len(member.name), reverse=True)

    def _meant(self, path: str, environ: dict[str, Any]) -> WSGI | Answer:
        """Return whom an address without a pipeline is about, or what to answer where that is not clear."""
        members, named = self._members(), asked(environ, PIPELINE)
        if path.startswith(RUNBOOKS):
            return members[0].app if members else health("no pipeline runs")
        if named:
            found = [member for member in members if member.name == named]
        elif path.startswith(EVIDENCE):
            found = self._with_evidence(path.removeprefix(EVIDENCE))
        elif path.startswith(RECEIVER):
            found = self._with_channel(path.removeprefix(RECEIVER), environ)
        else:
            found = members
        if len(found) == 1:
            return found[0].app
        if not found:
            return Answer.text("404 Not Found", "no pipeline here has that")
        names = ", ".join(sorted(member.name for member in found)[:5])
        return Answer.text("400 Bad Request", f"say which pipeline ({names}, ...): {PIPELINES}NAME{path}")

    def _with_evidence(self, name: str) -> list[Member]:
        wanted, found = name.split("/")[0].removesuffix(".json"), []
        for member in self._members():
            try:
                if evidence.find(member.daemon.store, wanted) is not None:
                    found.append(member)
            except RecwatchError as error:
                log.error("evidence_not_looked_for", pipeline=member.name, error=error)
        return found[:1]

    def _with_channel(self, channel: str, environ: dict[str, Any]) -> list[Member]:
        """Return the pipelines with a channel; where several have it, the one that the alerts are about."""
        found = [member for member in self._members() if channel in member.daemon.live.config.channels]
        if len(found) < 2:
            return found
        length = min(int(environ.get("CONTENT_LENGTH") or 0), MOST_BYTES)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(body)
        try:
            about = json.loads(body)["commonLabels"][PIPELINE]
        except (ValueError, KeyError, TypeError, RecursionError):
            return found
        return [member for member in found if member.name == about]

    def _answer(self, path: str, environ: Mapping[str, Any]) -> Answer:
        route = self._routes.get(path)
        if route is None:
            return Answer.text(
                "404 Not Found", f"nothing is here; there are {', '.join(self._routes)}, {PIPELINES}NAME/"
            )
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return Answer.text("405 Method Not Allowed", "only GET and HEAD are answered", ("Allow", "GET, HEAD"))
        try:
            return route({**environ, "REQUEST_METHOD": "GET"})
        except Exception as error:
            log.error("request_failed", path=path, error=f"{type(error).__name__}: {error}")
            return Answer.text("500 Internal Server Error", "this could not be answered; the log says why")

    def _status(self) -> FleetStatus:
        lines = [not_running(broken.name, broken.problem) for broken in self._fleet.broken.values()]
        for member in self._fleet.members.values():
            daemon = member.daemon
            lines.append(line(daemon.store, member.app.watched(), daemon.clock, daemon.problem()))
        return together(lines, self._fleet.clock.now())

    def _show(self, _environ: Mapping[str, Any]) -> Answer:
        page = self._page.render_fleet(self._status()).encode("utf-8", "replace")
        return Answer("200 OK", page, [("Content-Type", HTML), ("Content-Security-Policy", self._page.policy)])

    def _tell(self, _environ: Mapping[str, Any]) -> Answer:
        body = json.dumps(dataclasses.asdict(self._status()), default=plain, allow_nan=False).encode()
        return Answer("200 OK", body, [("Content-Type", "application/json")])

    def _expose(self, environ: Mapping[str, Any]) -> Answer:
        return Answer(*self._scrapes.answer(environ))


class FleetExposition:
    """The series of all pipelines, each under its own label; one that cannot tell is down, and hides no other.

    Args:
        fleet: The pipelines.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def lines(self) -> list[tuple[Metric, list[str]]]:
        """Return every metric with its lines of all pipelines."""
        merged: dict[str, list[str]] = {metric.name: [] for metric in METRICS}
        down: list[str] = []
        for member in self._fleet.members.values():
            try:
                found = member.app.exposition.lines()
            except RecwatchError as error:
                log.error("pipeline_not_exposed", pipeline=member.name, error=error)
                down.append(member.name)
                continue
            for metric, lines in found:
                merged[metric.name].extend(lines)
        for broken in self._fleet.broken.values():
            # One that took the name of another is told by its file; the other one runs.
            taken = any(member.name == broken.name for member in self._fleet.members.values())
            if not taken:
                down.append(broken.name)
                merged[READ].append(_zero(READ, broken.name))
        for name in dict.fromkeys(down):
            merged[UP].append(_zero(UP, name))
        return [(metric, merged[metric.name]) for metric in METRICS]


def _zero(metric: str, pipeline: str) -> str:
    return f"{spell(metric, [(PIPELINE, pipeline)])} {number(0)}\n"
