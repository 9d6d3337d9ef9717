"""Vendors on the loopback that enforce their documented limits, and fail as they are told to."""

from __future__ import annotations

import base64
import contextlib
import json
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from alerts.message import Alert, Link, Problem, Severity, State

NOON = datetime(2026, 3, 3, 12, 0, tzinfo=UTC)
TOKEN, ROUTING_KEY, SECRET = "xoxb-canary-slack-token", "canary0pagerduty0routing0key0000", "canary-webhook-secret"
CANARIES = (TOKEN, ROUTING_KEY, SECRET, "canary-path", "canary-password")


@dataclass(frozen=True)
class Request:
    """What a server was asked."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What a server answers; ``drop`` closes the connection instead, after the request took effect or before."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False


class Server:
    """An HTTP server that hands requests to a vendor, and fails as scripted.

    ``script`` holds what the next requests meet: a ``Reply`` in the place of the vendor's, or ``LOST``: the vendor
    does as asked, and the answer is lost.
    """

    LOST = Reply(drop=True)

    def __init__(self, vendor: Callable[[Request], Reply]) -> None:
        self.vendor, self.requests, self.script = vendor, [], []  # type: ignore[var-annotated]
        self.script: list[Reply]
        self.requests: list[Request]
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                request = Request(self.path, dict(self.headers.items()), self.rfile.read(length))
                outer.requests.append(request)
                planned = outer.script.pop(0) if outer.script else None
                reply = outer.vendor(request) if planned is None or planned is outer.LOST else planned
                if (planned or reply).drop:
                    self.close_connection = True
                    self.connection.close()
                    return
                body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST  # noqa: N815 - the library's name

            def log_message(self, *_arguments: object) -> None:
                """Say nothing."""

            def handle(self) -> None:
                # The connection may have been closed on purpose.
                with contextlib.suppress(OSError, ValueError):
                    super().handle()

            def finish(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    super().finish()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class SlackVendor:
    """As much of Slack as we use, with its limits."""

    def __init__(self) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self.replies: list[dict[str, Any]] = []
        self.can_read_history = True
        self._next = 0

    def __call__(self, request: Request) -> Reply:
        method = request.path.rsplit("/", 1)[-1]
        if request.path == "/services/canary-path":
            return self._webhook(request.json)
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return Reply(body={"ok": False, "error": "invalid_auth"})
        asked = self._arguments(request)
        return getattr(self, f"_{method.replace('.', '_')}")(asked)

    def _arguments(self, request: Request) -> dict[str, Any]:
        if "json" in request.headers.get("Content-Type", ""):
            return request.json  # type: ignore[no-any-return]
        return {name: values[0] for name, values in parse_qs(request.body.decode()).items()}

    def _webhook(self, asked: dict[str, Any]) -> Reply:
        wrong = problem_of(asked)
        if wrong:
            return Reply(400, wrong.encode())
        self._keep(asked)
        return Reply(body=b"ok")

    def _keep(self, asked: dict[str, Any]) -> str:
        self._next += 1
        ts = f"1700000000.{self._next:06d}"
        self.messages[ts] = asked
        return ts

    def _chat_postMessage(self, asked: dict[str, Any]) -> Reply:  # noqa: N802 - Slack's name
        if asked.get("channel") not in ("C01", "#alerts"):
            return Reply(body={"ok": False, "error": "channel_not_found"})
        wrong = problem_of(asked)
        if wrong:
            return Reply(body={"ok": False, "error": wrong})
        if asked.get("thread_ts"):
            if asked["thread_ts"] not in self.messages:
                return Reply(body={"ok": False, "error": "thread_not_found"})
            self.replies.append(asked)
            return Reply(body={"ok": True, "channel": "C01", "ts": "1700000000.9"})
        return Reply(body={"ok": True, "channel": "C01", "ts": self._keep(asked)})

    def _chat_update(self, asked: dict[str, Any]) -> Reply:
        if asked.get("channel") != "C01":
            return Reply(body={"ok": False, "error": "channel_not_found"})
        if asked.get("ts") not in self.messages:
            return Reply(body={"ok": False, "error": "message_not_found"})
        wrong = problem_of(asked)
        if wrong:
            return Reply(body={"ok": False, "error": wrong})
        # Without blocks the blocks go.
        self.messages[asked["ts"]] = {**self.messages[asked["ts"]], "blocks": [], **asked}
        return Reply(body={"ok": True, "channel": "C01", "ts": asked["ts"]})

    def _conversations_history(self, asked: dict[str, Any]) -> Reply:
        if not self.can_read_history:
            return Reply(body={"ok": False, "error": "missing_scope"})
        if asked.get("channel") != "C01":
            # Reading takes an id; only posting takes a name.
            return Reply(body={"ok": False, "error": "channel_not_found"})
        found = [{"ts": ts, "metadata": message.get("metadata")} for ts, message in self.messages.items()]
        return Reply(body={"ok": True, "messages": found[::-1]})

    def _conversations_replies(self, asked: dict[str, Any]) -> Reply:
        if not self.can_read_history:
            return Reply(body={"ok": False, "error": "missing_scope"})
        if asked.get("ts") not in self.messages:
            return Reply(body={"ok": False, "error": "thread_not_found"})
        # The thread begins with its root, and shows metadata only where it is asked for.
        thread = [(asked["ts"], self.messages[asked["ts"]])]
        thread += [("1700000000.9", reply) for reply in self.replies if reply["thread_ts"] == asked["ts"]]
        whole = str(asked.get("include_all_metadata")) in ("1", "true", "True")
        found = [{"ts": ts, **({"metadata": said.get("metadata")} if whole else {})} for ts, said in thread]
        return Reply(body={"ok": True, "messages": found})


LIMITS = {"header": 150, "section": 3_000}


def problem_of(asked: dict[str, Any]) -> str:
    """Return the error with which Slack refuses a message, or an empty text."""
    blocks = asked.get("blocks") or []
    blocks = json.loads(blocks) if isinstance(blocks, str) else blocks
    said = asked.get("text") or ""
    if not said and not blocks:
        return "no_text"
    if len(said) > 4_000 or len(json.dumps(blocks, ensure_ascii=False)) > 13_000:
        return "msg_too_long"
    if len(blocks) > 50:
        return "invalid_blocks"
    for block in blocks:
        texts = [block.get("text") or {"text": "-"}]
        if "fields" in block:
            texts = block["fields"]
        wrong = [
            len(text["text"]) > (2_000 if "fields" in block else LIMITS.get(block["type"], 3_000)) or not text["text"]
            for text in texts
        ]
        many = {"section": len(block.get("fields", ())) > 10, "context": len(block.get("elements", ())) > 10}
        many["actions"] = len(block.get("elements", ())) > 25
        long = block["type"] == "actions" and any(
            len(one["text"]["text"]) > 75 or len(one["url"]) > 3_000 for one in block["elements"]
        )
        if any(wrong) or many.get(block["type"], False) or long:
            return "invalid_blocks"
    return ""


class PagerDutyVendor:
    """PagerDuty's Events API v2, as documented."""

    def __init__(self) -> None:
        self.open: dict[str, dict[str, Any]] = {}
        self.resolved: list[str] = []
        self.changes: list[dict[str, Any]] = []

    def __call__(self, request: Request) -> Reply:
        if len(request.body) > 512_000:
            return Reply(413)
        asked = request.json
        wrong = self._problem(request.path, asked)
        if wrong:
            return Reply(400, {"status": "invalid event", "message": "Event object is invalid", "errors": [wrong]})
        if request.path == "/v2/change/enqueue":
            self.changes.append(asked["payload"])
        elif asked["event_action"] == "trigger":
            self.open[asked["dedup_key"]] = asked["payload"]
        elif self.open.pop(asked["dedup_key"], None) is not None:
            self.resolved.append(asked["dedup_key"])
        return Reply(202, {"status": "success", "dedup_key": asked.get("dedup_key", "")})

    def _problem(self, path: str, asked: dict[str, Any]) -> str:
        if asked.get("routing_key") != ROUTING_KEY:
            return f"routing_key {asked.get('routing_key')} is invalid"
        payload = asked.get("payload") or {}
        if path == "/v2/change/enqueue":
            return "" if 0 < len(payload.get("summary", "")) <= 1024 else "summary"
        if asked.get("event_action") not in ("trigger", "acknowledge", "resolve"):
            return "event_action"
        if len(asked.get("dedup_key", "")) > 255:
            return "dedup_key"
        if asked["event_action"] == "trigger":
            if not 0 < len(payload.get("summary", "")) <= 1024 or not payload.get("source"):
                return "summary"
            if payload.get("severity") not in ("critical", "error", "warning", "info"):
                return "severity"
            if any(not link["href"].startswith("https://") for link in asked.get("links", ())):
                return "links"
        return ""


class PlainVendor:
    """An address that takes JSON, or an Alertmanager."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []

    def __call__(self, request: Request) -> Reply:
        self.bodies.append(request.json)
        return Reply(200)


# Of Postfix by default.
LARGEST_MAIL = 10_240_000


class MailServer:
    """An SMTP server that keeps what it is sent, and to whom.

    ``answers`` replaces the answer to the next command that begins with its key.

    Args:
        security: What it speaks: ``none``, ``starttls``, or ``tls``.
        cert: Its certificate and key, where it speaks TLS.
    """

    def __init__(self, security: str = "none", cert: dict[str, str] | None = None) -> None:
        self.logins: list[str] = []
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        if cert is not None:
            context.load_cert_chain(cert["cert"], cert["key"])
        self.mails: list[bytes] = []
        self.recipients: list[list[str]] = []
        self.answers: dict[str, str] = {}
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def setup(self) -> None:
                if security == "tls":
                    self.request = context.wrap_socket(self.request, server_side=True)
                super().setup()

            def finish(self) -> None:
                with suppress(OSError):
                    super().finish()
                self.request.close()

            def handle(self) -> None:
                self._say("220 ready")
                recipients: list[str] = []
                while raw := self.rfile.readline():
                    line = raw.decode().upper()
                    command = line.split()[0] if line.split() else ""
                    key = next((key for key in outer.answers if line.startswith(key.upper())), None)
                    if key is not None:
                        self._say(outer.answers.pop(key))
                    elif command == "DATA":
                        self._say("354 go on")
                        lines = []
                        for part in self.rfile:
                            if part == b".\r\n":
                                break
                            lines.append(part)
                        if sum(map(len, lines)) > LARGEST_MAIL:
                            self._say("552 too large")
                            continue
                        outer.mails.append(b"".join(lines))
                        outer.recipients.append(recipients)
                        self._say("250 kept")
                    elif command == "QUIT":
                        self._say("221 bye")
                        return
                    elif command == "EHLO" and security != "none":
                        is_safe = isinstance(self.request, ssl.SSLSocket)
                        self._say("250-mail.example.org\r\n250 " + ("AUTH PLAIN" if is_safe else "STARTTLS"))
                    elif command == "STARTTLS":
                        self._say("220 go on")
                        self.request = context.wrap_socket(self.request, server_side=True)
                        super().setup()
                    elif command == "AUTH":
                        outer.logins.append(base64.b64decode(raw.split()[2]).decode())
                        self._say("235 welcome")
                    else:
                        if command == "RCPT":
                            recipients.append(line.split("<")[1].split(">")[0].lower())
                        self._say("250 ok")

            def _say(self, line: str) -> None:
                self.wfile.write(line.encode() + b"\r\n")

        class Threaded(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *_of: Any) -> None:
                """Say nothing of a client that does not trust the certificate."""

        self._server = Threaded(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


Serve = Callable[[Callable[[Request], Reply]], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a vendor for the time of a test."""
    servers: list[Server] = []

    def start(vendor: Callable[[Request], Reply]) -> Server:
        servers.append(Server(vendor))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def serve_mail() -> Iterator[Callable[..., MailServer]]:
    """Serves mail over TLS for the time of a test."""
    servers: list[MailServer] = []

    def start(security: str, cert: dict[str, str]) -> MailServer:
        servers.append(MailServer(security, cert))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    server = MailServer()
    yield server
    server.close()


@pytest.fixture
def vendors() -> Any:
    """The vendors' classes and what else a test needs from here; a folder of tests is no package."""

    class Vendors:
        slack, pagerduty, plain, reply, lost = SlackVendor, PagerDutyVendor, PlainVendor, Reply, Server.LOST
        token, routing_key, secret, canaries = TOKEN, ROUTING_KEY, SECRET, CANARIES

    return Vendors


def problem(**changes: Any) -> Problem:
    return Problem(
        **{
            "name": "events-freshness", "alert": "RecwatchSloBudgetBurn", "severity": Severity.PAGE,
            "state": State.FIRING, "since": NOON, "check": "freshness", "dataset": "events", "tier": "page_fast",
            "sentence": "41 % of the time was bad over the last 1 h; the newest event is 12.3 min old",
            "value": "12.3 min", "limit": "5 min", "objective": 0.99, "bad_ratio": 0.41, "burn_rate": 41.0,
            "budget_left_ratio": 0.63, "budget_spent_ratio": 0.12,
            "contributors": ("source ios: 20 min (limit 5 min)",),
            **changes,
        }
    )  # fmt: skip


@pytest.fixture
def alert() -> Callable[..., Alert]:
    """Makes an alert: the first transition of a page about freshness unless told otherwise."""

    def make(**changes: Any) -> Alert:
        about = changes.pop("problem", {})
        base = {
            "key": "recwatch/shop/events-freshness/page/20260303T120000Z", "transition": 1, "state": State.FIRING,
            "severity": Severity.PAGE, "pipeline": "shop", "at": NOON + timedelta(minutes=9), "started": NOON,
            "problems": (problem(**about),), "change": "events-freshness fires", "team": "feeds",
            "consequences": ("events-density, which freshness explains",),
            "links": (Link("Runbook", "https://recwatch.example/runbooks/recwatchslobudgetburn"),),
        }  # fmt: skip
        found = {**base, **changes}
        if found["state"] is State.RESOLVED:
            found.setdefault("ended", found["at"])
        return Alert(**found)

    return make
