"""Builds the notifiers of a configuration, and says who is told what.

A notifier's module is loaded only if a channel needs it: the daemon must not pay for the others.
"""

from __future__ import annotations

import sys

from alerts.message import Severity
from alerts.notifier import Notifier
from monitor.config import Config
from monitor.config_alerting import (
    AlertmanagerChannel,
    ChannelConfig,
    MailChannel,
    PagerDutyChannel,
    SlackChannel,
    WebhookChannel,
)


def notifiers(config: Config) -> dict[str, Notifier]:
    """Return the notifier of each channel, by name."""
    return {name: _built(name, channel) for name, channel in config.channels.items()}


def _built(name: str, channel: ChannelConfig) -> Notifier:
    if isinstance(channel, SlackChannel):
        from alerts.slack import Slack

        token, webhook = channel.token.get_secret_value(), channel.webhook_url.get_secret_value()
        return Slack(name, token=token, channel=channel.channel, webhook_url=webhook, base_url=channel.api_url)
    if isinstance(channel, PagerDutyChannel):
        from alerts.pagerduty import PagerDuty

        return PagerDuty(name, routing_key=channel.routing_key.get_secret_value(), base_url=channel.api_url)
    if isinstance(channel, MailChannel):
        from alerts.mail import Mail

        return Mail(
            name, host=channel.host, port=channel.port, sender=channel.sender, recipients=channel.recipients,
            username=channel.username, password=channel.password.get_secret_value(), security=channel.security,
        )  # fmt: skip
    if isinstance(channel, AlertmanagerChannel):
        from alerts.alertmanager import AlertmanagerPush

        return AlertmanagerPush(name, urls=channel.urls)
    if isinstance(channel, WebhookChannel):
        from alerts.webhook import Webhook

        return Webhook(name, url=channel.url.get_secret_value(), secret=channel.secret.get_secret_value())
    from alerts.console import Console

    return Console(name, sys.stdout)


def told(config: Config, severity: Severity, own: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the names of the channels that are told of an alert.

    Args:
        config: A valid configuration.
        severity: Page or ticket.
        own: Channels that the objective itself names.
    """
    if own:
        return own
    named = config.notify.pages if severity is Severity.PAGE else config.notify.tickets
    if named is not None:
        return named
    # Nobody is called out of bed by a ticket, unless somebody wrote so.
    quiet = severity is Severity.TICKET
    return tuple(name for name, channel in config.channels.items() if not (quiet and channel.type == "pagerduty"))
