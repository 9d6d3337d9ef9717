"""Tells a Slack channel: one message for each incident, edited as it develops, with a thread of what changed."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Mapping
from http.client import HTTPException, HTTPResponse
from typing import Any, ClassVar
from urllib.request import HTTPErrorProcessor, HTTPHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.webhook import WebhookClient, WebhookResponse

from alerts.http import PASSING as PASSING_STATUS
from alerts.http import TIMEOUT_SECONDS, TimedResponse, retry_after_seconds
from alerts.message import Alert, Severity, State
from alerts.notifier import DeliveryError, Memory, unreached
from alerts.slack_blocks import blocks, fallback, reply, triage

OK, TOO_MANY, FIRST_SERVER_ERROR = 200, 429, 500
EVENT = "recwatch_incident"
# A thousand messages with their layout are shorter.
LONGEST_ANSWER = 20_000_000
# How many messages of a channel, or of a thread, an own one is looked for in, after a kill while it was posted.
LOOKS_THROUGH = 999
# Otherwise Slack makes mentions of people and channels out of what is meant as plain words.
PLAIN: Mapping[str, Any] = {"parse": "none", "link_names": False}
NO_PREVIEWS: Mapping[str, Any] = {"unfurl_links": False, "unfurl_media": False}
# Nothing was posted, and something will be after a while.
LIMITED = ("ratelimited", "rate_limited", "message_limit_exceeded")
# These pass by themselves, too, but something may have been posted all the same.
PASSING = ("internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org")
# The message can't be edited any more.
GONE = ("message_not_found", "cant_update_message", "edit_window_closed")
# The layout displeases, of which the text has nothing.
UNREADABLE = ("invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long")
HINTS = {
    "not_in_channel": "invite the bot to the channel",
    "channel_not_found": "check the channel's id, and that the bot is in it",
    "is_archived": "name a channel that is not archived",
    "channel_is_archived": "name a channel that is not archived",
    "invalid_auth": "check the token",
    "not_authed": "check the token",
    "token_revoked": "make a new token",
    "token_expired": "make a new token",
    "account_inactive": "make a new token",
    "missing_scope": "give the bot the scope chat:write",
    "restricted_action": "let the bot post in the channel",
    "no_service": "make a new webhook",
    "no_active_hooks": "make a new webhook",
    "invalid_token": "check the webhook's address",
}
# HTTP errors without JSON, dropped connections, time-outs, nonsense.
FAILURES = (OSError, HTTPException, SlackClientError, ValueError, LookupError)


class Slack:
    """Posts by a bot's token, or by an incoming webhook, which cannot edit: there what matters is a message of its own.

    With a token, a message whose answer was lost is looked for before it is posted again. That needs
    the scope ``channels:history`` (``groups:history`` in private channels) and the channel's id;
    without them it may come twice.

    Args:
        name: Name of the channel in the configuration.
        token: The bot's token.
        channel: Where it writes: id or name.
        webhook_url: Address of an incoming webhook, instead of token and channel.
        base_url: Where Slack's API is.
        timeout_seconds: How long to wait for an answer.

    Raises:
        ValueError: There is neither a token with a channel nor a webhook, or both.
    """

    kind: ClassVar[str] = "slack"
    rate_per_second: ClassVar[float] = 1.0
    burst: ClassVar[int] = 1

    def __init__(
        self, name: str, *, token: str = "", channel: str = "", webhook_url: str = "",
        base_url: str = "https://slack.com/api/", timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:  # fmt: skip
        if bool(token and channel) == bool(webhook_url):
            raise ValueError(f"slack {name}: must have either token and channel, or webhook_url; set one of them")
        self.name, self._channel = name, channel
        settings: dict[str, Any] = {
            # Trying again is the queue's task, which remembers it across a restart.
            "retry_handlers": [],
            "timeout": timeout_seconds,
            # What goes wrong is raised; the library would print it as well.
            "logger": logging.Logger("slack", logging.CRITICAL),
        }
        self._client = _Bot(token, base_url, **settings) if token else None
        self._webhook = _Hook(webhook_url, **settings) if webhook_url else None

    def deliver(self, alert: Alert, memory: Memory) -> None:
        """Post, edit and reply, each step once.

        Raises:
            DeliveryError: Slack refused it, or cannot be reached.
        """
        number = str(alert.transition)
        if self._webhook is not None:
            self._tell(self._webhook, alert, memory)
            return
        if "ts" not in memory:
            self._post(alert, memory)
        if memory.get("updated") != number:
            self._update(alert, memory)
        if memory.get("replied") != number:
            self._reply(alert, memory)

    # -- steps -----------------------------------------------------------------------------------

    def _post(self, alert: Alert, memory: Memory) -> None:
        """Post the message of an incident, or find it again; it may then show an earlier transition."""
        begun, found = memory.get("posting", ""), None
        if begun:
            found = self._find("conversations_history", _mark(alert, begun), channel=self._channel)
        if found is None:
            begun = str(alert.transition)
            found = self._once("posting", alert, memory, channel=self._channel, **_layout(alert))
        # An edit needs the channel's id, whatever name it was posted by.
        memory["channel"] = found["channel"]
        memory["problems"] = str(len(alert.problems))
        memory["updated"] = begun
        memory["ts"] = found["ts"]

    def _update(self, alert: Alert, memory: Memory) -> None:
        try:
            self._call("chat_update", channel=memory["channel"], ts=memory["ts"], **_layout(alert), **PLAIN)
        except _RefusedError as error:
            if error.said not in GONE:
                raise
            # The new one must not be taken for the old one, which may still be there.
            memory.pop("posting", None)
            del memory["ts"]
            self._post(alert, memory)
        memory["updated"] = str(alert.transition)

    def _reply(self, alert: Alert, memory: Memory) -> None:
        """Say in the thread what has changed, and what is known of the cause where that is new."""
        number, found = str(alert.transition), None
        cause = _new_cause(alert, memory)
        said = "\n".join(part for part in (reply(alert) if alert.transition > 1 else "", cause) if part)
        if memory.get("replying") == number:
            where = {"channel": memory["channel"], "ts": memory["ts"]}
            found = self._find("conversations_replies", _mark(alert, number, "thread"), **where)
        if found is None and said:
            # An edit makes no sound, and a page that has grown deserves one; a message posted just now has made it.
            grows = alert.severity is Severity.PAGE and _grows(alert, memory) and memory.get("posting") != number
            self._once(
                "replying", alert, memory, channel=memory["channel"], thread_ts=memory["ts"], text=said,
                reply_broadcast=grows,
            )  # fmt: skip
        memory["problems"] = str(len(alert.problems))
        memory["cause"] = _digest(alert.triage)
        memory["replied"] = number

    def _once(self, step: str, alert: Alert, memory: Memory, **message: Any) -> dict[str, Any]:
        """Post something that can be found again if its answer is lost; the memory tells that it was begun."""
        memory[step] = str(alert.transition)
        part = "thread" if "thread_ts" in message else ""
        metadata = {"event_type": EVENT, "event_payload": _mark(alert, memory[step], part)}
        try:
            return self._call("chat_postMessage", metadata=metadata, **message, **PLAIN, **NO_PREVIEWS)
        except _RefusedError as error:
            if error.is_certain:
                # Nothing was posted, so there is nothing to look for.
                del memory[step]
            raise

    def _find(self, method: str, mark: Mapping[str, str], **where: str) -> dict[str, Any] | None:
        """Return the message that a killed process posted without being able to note it, if it can be found."""
        try:
            answer = self._call(method, limit=LOOKS_THROUGH, include_all_metadata=True, **where)
        except DeliveryError as error:
            if error.permanent:
                # Without the right to read, twice is better than never.
                return None
            raise
        for message in answer.get("messages") or ():
            metadata = message.get("metadata") or {}
            if metadata.get("event_type") == EVENT and metadata.get("event_payload") == mark:
                return {"channel": where["channel"], "ts": message["ts"]}
        return None

    def _tell(self, webhook: WebhookClient, alert: Alert, memory: Memory) -> None:
        """Post what somebody has to know without seeing the rest: the beginning, what joins, a new cause, the end."""
        number = str(alert.transition)
        if memory.get("updated") == number:
            return
        cause = _new_cause(alert, memory)
        if cause or "updated" not in memory or _grows(alert, memory) or alert.state is State.RESOLVED:
            self._send(webhook, **_layout(alert, cause), **NO_PREVIEWS)
        memory["problems"] = str(len(alert.problems))
        memory["cause"] = _digest(alert.triage)
        memory["updated"] = number

    # -- requests --------------------------------------------------------------------------------

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer = getattr(self._client, method)(**arguments)
        except SlackApiError as error:
            response = error.response
            refused = self._refused(response.status_code, str(response.get("error")), response.headers)
            if refused.said in UNREADABLE and arguments.get("blocks"):
                # A plain message is better than none; without the key an edit would keep the old blocks.
                return self._call(method, **{**arguments, "blocks": []})
            raise refused from None
        except FAILURES as error:
            raise self._unreached(error) from None
        found: dict[str, Any] = answer.data
        return found

    def _send(self, webhook: WebhookClient, **message: Any) -> None:
        try:
            answer = webhook.send(**message)
        except FAILURES as error:
            raise self._unreached(error) from None
        said = str(answer.body).strip()
        if answer.status_code == OK and said == "ok":
            return
        refused = self._refused(answer.status_code, said, answer.headers)
        if refused.said not in UNREADABLE or not message["blocks"]:
            raise refused
        self._send(webhook, **{**message, "blocks": []})

    # -- failures --------------------------------------------------------------------------------

    def _refused(self, status: int, said: str, headers: Mapping[str, Any]) -> _RefusedError:
        # Whatever is no code of Slack's is somebody else's page, and may repeat what we sent.
        code = said if re.fullmatch("[a-z0-9_]{1,60}", said) else f"status {status}"
        is_limited = status == TOO_MANY or code in LIMITED
        passes = is_limited or status >= FIRST_SERVER_ERROR or status in PASSING_STATUS or code in PASSING
        hint = "" if passes else f"; {HINTS.get(code, 'see what Slack says about it')}"
        lowered = {str(name).lower(): value for name, value in dict(headers).items()}
        return _RefusedError(
            f"slack {self.name}: refused with {code}{hint}",
            permanent=not passes,
            retry_after_seconds=retry_after_seconds(lowered.get("retry-after")),
            said=code,
            is_certain=is_limited or not passes,
        )

    def _unreached(self, error: Exception) -> DeliveryError:
        # Its text may hold the address.
        return DeliveryError(f"slack {self.name}: not reached ({unreached(error)})", permanent=False)


class _AnyAnswer(HTTPErrorProcessor):
    """Gives any answer as it is: the library would follow a redirect with the token, and close no error's."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        """Return the answer; part of urllib."""
        return response

    https_response = http_response


class _Timed(HTTPHandler, HTTPSHandler):
    """Bounds a whole answer: urllib, which the library uses, bounds each read of it."""

    def do_open(self, http_class: Any, req: Request, **settings: Any) -> HTTPResponse:
        timed: Any = type("Timed", (http_class,), {"response_class": TimedResponse})
        return super().do_open(timed, req, **settings)


class _Bot(WebClient):
    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:
        status, body, headers = _answer(self, req)
        return {"status": status, "body": body, "headers": headers}


class _Hook(WebhookClient):
    def _perform_http_request_internal(self, url: str, req: Request) -> WebhookResponse:
        status, body, headers = _answer(self, req)
        return WebhookResponse(url=url, status_code=status, body=body, headers=headers)


def _answer(client: WebClient | WebhookClient, request: Request) -> tuple[int, str, Any]:
    if request.type not in ("http", "https"):
        raise ValueError("Slack is reached by HTTP alone")
    handlers = [_AnyAnswer(), _Timed(context=client.ssl)]
    if client.proxy:
        handlers.append(ProxyHandler({"http": client.proxy, "https": client.proxy}))
    with build_opener(*handlers).open(request, timeout=client.timeout) as answer:
        return answer.status, answer.read(LONGEST_ANSWER).decode("utf-8", "replace"), answer.headers


class _RefusedError(DeliveryError):
    """Slack answered, and not as hoped.

    Args:
        text: What it said, without any secret.
        said: Its code for the error, or the status.
        is_certain: Whether nothing was done.
        more: As for any failure of a delivery.
    """

    def __init__(self, text: str, *, said: str, is_certain: bool, **more: Any) -> None:
        super().__init__(text, **more)
        self.said, self.is_certain = said, is_certain


def _layout(alert: Alert, cause: str = "") -> dict[str, Any]:
    """Return both forms of a message: an edit that has only the text removes the blocks."""
    return {"text": fallback(alert), "blocks": blocks(alert, cause)}


def _mark(alert: Alert, transition: str, part: str = "") -> dict[str, str]:
    """Return what is sent with a message, unseen, so that it can be found again; a thread begins with its message."""
    return {"key": alert.key, "transition": transition, **({"part": part} if part else {})}


def _new_cause(alert: Alert, memory: Memory) -> str:
    """Return what is known of the cause, unless it has been told; empty if nothing is known."""
    return "" if memory.get("cause") == _digest(alert.triage) else triage(alert)


def _digest(lines: tuple[str, ...]) -> str:
    """Return what tells whether the cause is still the one that was told; figures alone make no news."""
    return hashlib.sha256("".join(lines[:2]).translate(_NO_FIGURES).encode("utf-8", "replace")).hexdigest()[:16]


_NO_FIGURES = str.maketrans("", "", "0123456789.,")


def _grows(alert: Alert, memory: Memory) -> bool:
    """Return whether a problem has joined since the last message."""
    return len(alert.problems) > int(memory.get("problems", len(alert.problems)))
