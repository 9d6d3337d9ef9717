"""The parts of the configuration file about objectives, channels, and who is told what and when."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from checks.settings import seconds
from monitor.config_types import Address, Duration, Link, Moment, Name, SecretAddress, Section

SLO_NAME = "[a-z][a-z0-9_-]{0,94}"
OpenRatio = Annotated[float, Field(gt=0, lt=1)]


class TierConfig(Section):
    """A burn-rate tier of one's own."""

    name: Name
    severity: Literal["page", "ticket"]
    burn_rate: float = Field(gt=0, description="How many times too fast the budget may burn.")
    long: Duration = Field(ge=seconds(1), description="The window that says that it matters.")
    short: Duration = Field(ge=seconds(1), description="The window that says that it still goes on.")


class SloConfig(Section):
    """What differs from the default objectives of a check, or an objective of one's own."""

    enabled: bool = Field(True, description="Whether the objective exists.")
    check: str | None = Field(None, description="Which check; needed for an objective of one's own.")
    dataset: str | None = Field(None, description="Which dataset; by default every one that the check runs on.")
    subject: str | None = Field(
        None,
        description="Only verdicts about this entity or feature, such as item, schema or semantic; by default those"
        " about users of unknown_ids, those about the rows of contract and duplicates, else all.",
    )
    kind: Literal["slices", "events"] | None = Field(None, description="Whether time or events are counted.")
    objective: OpenRatio | None = Field(None, description="Share that must be good, between 0 and 1.")
    period: Duration = Field(timedelta(days=28), ge=seconds(60), description="Over which the budget is reckoned.")
    tiers: str | None = Field(None, description="workbook, sustained-5x, page-slow, tickets, or a name under tiers.")
    min_bad_checks: int = Field(2, ge=1, description="Fewest bad runs in a tier's long window for it to fire.")
    min_events: int = Field(0, ge=0, description="Fewest events in a tier's long window for it to fire.")
    on_unknown: Literal["ignore", "bad"] = Field("ignore", description="What a run that could not judge counts as.")
    team: str = Field("", max_length=64, description="Who owns it.")
    channels: tuple[str, ...] = Field((), description="Who is told; by default as notify says.")
    runbook_url: Link = Field("", description="A runbook of one's own.")


class SlackChannel(Section):
    """A Slack channel, by a bot's token or an incoming webhook."""

    type: Literal["slack"]
    token: SecretStr = Field(SecretStr(""), description="The bot's token; with it messages are edited in place.")
    channel: str = Field("", description="Id or name of the channel; needed with a token.")
    webhook_url: SecretAddress = Field(SecretStr(""), description="Address of an incoming webhook, instead of a token.")
    api_url: Address = Field("https://slack.com/api/", description="Where Slack's API is.")


class PagerDutyChannel(Section):
    """A PagerDuty service."""

    type: Literal["pagerduty"]
    routing_key: SecretStr = Field(description="Integration key of the service's Events API v2.")
    api_url: Address = Field("https://events.pagerduty.com", description="Where PagerDuty's Events API is.")


class WebhookChannel(Section):
    """Any address that takes JSON."""

    type: Literal["webhook"]
    url: SecretAddress
    secret: SecretStr = Field(SecretStr(""), description="Key that requests are signed with.")


class MailChannel(Section):
    """People, by e-mail."""

    type: Literal["email"]
    host: Name
    port: int = Field(587, ge=1, le=65535)
    sender: Name
    recipients: tuple[Name, ...] = Field(min_length=1)
    username: str = ""
    password: SecretStr = SecretStr("")
    security: Literal["starttls", "tls", "none"] = "starttls"


class AlertmanagerChannel(Section):
    """One or more Alertmanagers of a cluster, which then notify by their own routes."""

    type: Literal["alertmanager"]
    urls: tuple[Address, ...] = Field(min_length=1)


class ConsoleChannel(Section):
    """The daemon's own output."""

    type: Literal["console"]


_CHANNELS = (SlackChannel, PagerDutyChannel, WebhookChannel, MailChannel, AlertmanagerChannel, ConsoleChannel)
_FIELDS = [(name, field.annotation is SecretStr) for kind in _CHANNELS for name, field in kind.model_fields.items()]
# What may be shown of a channel, whatever its type turns out to be.
PLAIN_CHANNEL_FIELDS = {name for name, _ in _FIELDS} - {name for name, is_secret in _FIELDS if is_secret}
ChannelConfig = Annotated[
    SlackChannel | PagerDutyChannel | WebhookChannel | MailChannel | AlertmanagerChannel | ConsoleChannel,
    Field(discriminator="type"),
]


class HeartbeatConfig(Section):
    """A dead man's switch that is told regularly that alerts are evaluated."""

    url: SecretAddress = Field(description="Address that is requested.")
    every: Duration = Field(timedelta(minutes=1), ge=seconds(1), description="How often.")


class NotifyConfig(Section):
    """Who is told what."""

    pages: tuple[str, ...] | None = Field(None, description="Channels for pages; by default all.")
    tickets: tuple[str, ...] | None = Field(None, description="Channels for tickets; by default all but pagers.")
    by: Literal["recwatch", "alertmanager"] = Field(
        "recwatch", description="Who notifies: recwatch itself, or an Alertmanager behind Prometheus."
    )
    every: Duration = Field(timedelta(seconds=30), ge=seconds(1), description="How often objectives are evaluated.")
    keep_firing: Duration = Field(
        timedelta(minutes=5), ge=timedelta(0), description="How long an alert stays after its last sign."
    )
    external_url: Link = Field("", description="Where people reach the status page; links in messages start with it.")
    dashboard_url: Link = Field("", description="A dashboard; {pipeline} and {slo} are filled in.")
    heartbeat: HeartbeatConfig | None = None


class MaintenanceConfig(Section):
    """A time in which nobody is told: once, or again and again."""

    reason: Name
    start: Moment | None = Field(None, description="When it begins; with end.")
    end: Moment | None = None
    cron: str | None = Field(None, description="When it begins again and again, as five cron fields in UTC; with for.")
    length: Duration | None = Field(None, alias="for", ge=seconds(1), description="How long it lasts, with cron.")
    slos: tuple[str, ...] = Field((), description="Names of objectives, stars allowed; by default all.")


class AlertingConfig(Section):
    """Everything about objectives and notifications; its fields stand at the top of the file."""

    slos: dict[str, SloConfig | None] = Field(
        default_factory=dict,
        description="Objectives: by check to change its defaults, by name to change one or add one.",
        json_schema_extra={"propertyNames": {"pattern": f"^{SLO_NAME}$"}},
    )
    tiers: dict[str, tuple[TierConfig, ...]] = Field(
        default_factory=dict, description="Sets of burn-rate tiers of one's own, by name."
    )
    channels: dict[str, ChannelConfig] = Field(default_factory=dict, description="Where people are told, by name.")
    notify: NotifyConfig = Field(default_factory=NotifyConfig)
    maintenance: tuple[MaintenanceConfig, ...] = ()
