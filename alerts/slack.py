"""Tells a Slack channel: one message for each incident, edited as it develops, with a thread of what changed."""

from __future__ import annotations

from typing import Any, ClassVar

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.webhook import WebhookClient

from alerts.http import retry_after_seconds
from alerts.message import Alert, State
from alerts.notifier import DeliveryError, Memory
from alerts.slack_blocks import blocks, fallback, reply

FIRST_SERVER_ERROR, TOO_MANY, OK = 500, 429, 200
EVENT = "recwatch_incident"
# How many messages back an own one is looked for, after a kill in the middle of posting it.
LOOK_BACK = 50
# Errors that pass by themselves.
PASSING = (
    "ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout",
    "team_added_to_org", "message_limit_exceeded",
)  # fmt: skip
# Errors that say that a message can't be edited any more.
GONE = ("message_not_found", "cant_update_message", "edit_window_closed")
HINTS = {
    "not_in_channel": "invite the bot to the channel",
    "channel_not_found": "check the channel's id, and that the bot is in it",
    "is_archived": "name a channel that is not archived",
    "invalid_auth": "check the token",
    "not_authed": "check the token",
    "token_revoked": "make a new token",
    "account_inactive": "make a new token",
    "missing_scope": "give the bot the scope chat:write",
}


class Slack:
    """Posts by a bot's token, or by an incoming webhook, which cannot edit: there each change is a message.

    Args:
        name: Name of the channel in the configuration.
        token: The bot's token.
        channel: Where it writes: id or name.
        webhook_url: Address of an incoming webhook, instead of token and channel.
        base_url: Where Slack's API is.
        timeout_seconds: How long to wait for an answer.
    """

    kind: ClassVar[str] = "slack"
    rate_per_second: ClassVar[float] = 0.9
    burst: ClassVar[int] = 1

    def __init__(
        self, name: str, *, token: str = "", channel: str = "", webhook_url: str = "",
        base_url: str = "https://slack.com/api/", timeout_seconds: float = 10.0,
    ) -> None:  # fmt: skip
        self.name, self._channel, timeout = name, channel, int(timeout_seconds)
        # Trying again is the queue's task, which remembers it across a restart.
        self._client = WebClient(token, base_url, timeout=timeout, retry_handlers=[]) if token else None
        self._webhook = WebhookClient(webhook_url, timeout=timeout, retry_handlers=[]) if webhook_url else None

    def deliver(self, alert: Alert, memory: Memory) -> None:
        """Post, edit and reply, each step once.

        Raises:
            DeliveryError: Slack refused it, or cannot be reached.
        """
        if self._webhook is not None:
            self._post_to_webhook(self._webhook, alert)
            return
        if "ts" not in memory:
            self._post(alert, memory)
        elif memory.get("updated") != str(alert.transition):
            self._update(alert, memory)
        if alert.transition > 1 and memory.get("replied") != str(alert.transition):
            # A page that grows is shown in the channel, too: an edit alone makes no sound.
            grows = alert.state is State.FIRING and "now also" in alert.change.lower()
            self._call(
                "chat_postMessage", channel=memory["channel"], thread_ts=memory["ts"], text=reply(alert),
                reply_broadcast=grows,
            )  # fmt: skip
            memory["replied"] = str(alert.transition)

    # -- steps -----------------------------------------------------------------------------------

    def _post(self, alert: Alert, memory: Memory) -> None:
        mark = alert.key
        found = self._posted_before(mark) if memory.get("posting") else None
        if found is None:
            memory["posting"] = "begun"
            metadata = {"event_type": EVENT, "event_payload": {"key": mark}}
            found = self._call(
                "chat_postMessage", channel=self._channel, text=fallback(alert), blocks=blocks(alert),
                metadata=metadata, unfurl_links=False,
            )  # fmt: skip
        # An edit needs the channel's id, whatever name it was posted by.
        memory["channel"] = found["channel"]
        memory["ts"] = found["ts"]
        memory["updated"] = str(alert.transition)

    def _posted_before(self, mark: str) -> dict[str, Any] | None:
        """Return the message that a killed process posted without being able to note it, if it can be found."""
        try:
            answer = self._call(
                "conversations_history", channel=self._channel, limit=LOOK_BACK, include_all_metadata=True
            )
        except DeliveryError as error:
            if error.permanent:
                # Without the right to read, twice is better than never.
                return None
            raise
        for message in answer.get("messages") or ():
            metadata = message.get("metadata") or {}
            if metadata.get("event_type") == EVENT and (metadata.get("event_payload") or {}).get("key") == mark:
                return {"channel": answer.get("channel") or self._channel, "ts": message["ts"]}
        return None

    def _update(self, alert: Alert, memory: Memory) -> None:
        try:
            # Text without blocks would remove the blocks.
            self._call(
                "chat_update", channel=memory["channel"], ts=memory["ts"], text=fallback(alert), blocks=blocks(alert)
            )
        except _GoneError:
            del memory["ts"]
            self._post(alert, memory)
        memory["updated"] = str(alert.transition)

    def _post_to_webhook(self, webhook: WebhookClient, alert: Alert) -> None:
        try:
            answer = webhook.send(text=fallback(alert), blocks=blocks(alert))
        except (OSError, SlackClientError) as error:
            raise self._unreached(error) from None
        if answer.status_code != OK:
            raise self._refused(answer.status_code, str(answer.body)[:100], answer.headers)

    # -- failures --------------------------------------------------------------------------------

    def _call(self, method: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer = getattr(self._client, method)(**arguments)
        except SlackApiError as error:
            status, headers = getattr(error.response, "status_code", OK), getattr(error.response, "headers", {})
            body = error.response.data if isinstance(getattr(error.response, "data", None), dict) else {}
            said = str(body.get("error") or f"status {status}")
            if said in GONE:
                raise _GoneError(self._text(said), permanent=True) from None
            raise self._refused(status, said, headers) from None
        except (OSError, SlackClientError, ValueError) as error:
            # HTTP errors without JSON, dropped connections, time-outs.
            raise self._unreached(error) from None
        found: dict[str, Any] = answer.data
        return found

    def _refused(self, status: int, said: str, headers: Any) -> DeliveryError:
        passes = status == TOO_MANY or status >= FIRST_SERVER_ERROR or said in PASSING
        lowered = {str(name).lower(): value for name, value in dict(headers or {}).items()}
        wait = lowered.get("retry-after")
        wait = wait[0] if isinstance(wait, list) else wait
        return DeliveryError(
            self._text(said), permanent=not passes, retry_after_seconds=retry_after_seconds(wait and str(wait))
        )

    def _text(self, said: str) -> str:
        return f"slack {self.name}: refused with {said}" + (f"; {HINTS[said]}" if said in HINTS else "")

    def _unreached(self, error: Exception) -> DeliveryError:
        return DeliveryError(f"slack {self.name}: not reached ({type(error).__name__})", permanent=False)


class _GoneError(DeliveryError):
    """The message to edit is not there any more."""
