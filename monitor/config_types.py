"""The types that the configuration file's schema is made of."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, WithJsonSchema

from monitor.durations import HINT, PATTERN, parse_duration
from monitor.times import parse_time

_ADDRESS = re.compile(r"https?://[^/\s]", re.IGNORECASE)


def parse_moment(value: object) -> datetime:
    """Return a moment of the configuration; without a zone it is UTC.

    Raises:
        ValueError: It is none; a number is refused, because its unit would be a guess.
    """
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    try:
        return parse_time(value if isinstance(value, str) else "")
    except (ValueError, OverflowError):
        raise ValueError("must be a date or time; write 2026-01-31 or 2026-01-31T12:00:00Z") from None


def parse_number(value: object) -> object:
    """Return what may be a number; true and false are refused, which would be limits of 1 and 0.

    Raises:
        ValueError: It is a truth value.
    """
    if isinstance(value, bool):
        raise ValueError("must be a number; write one, or enabled: false to switch the check off")
    return value


def _link(value: str) -> str:
    if value and not _ADDRESS.match(value):
        raise ValueError("must be an address that a browser opens; write one that begins with https://")
    return value


def _address(value: SecretStr | str) -> SecretStr | str:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not _ADDRESS.match(text):
        raise ValueError("must be an address of the web; write one that begins with https:// or http://")
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "description": HINT, "pattern": PATTERN, "examples": ["30s", "5m", "1h30m"]}),
]
Moment = Annotated[
    datetime,
    BeforeValidator(parse_moment),
    WithJsonSchema({"type": "string", "examples": ["2026-01-31", "2026-01-31T12:00:00Z"]}),
]
Name = Annotated[str, Field(min_length=1)]
# What becomes a link; empty where there is none.
Link = Annotated[str, AfterValidator(_link)]
# What is asked over HTTP, and may hold a secret.
Address = Annotated[str, AfterValidator(_address)]
SecretAddress = Annotated[SecretStr, AfterValidator(_address)]


class Section(BaseModel):
    """A part of the configuration; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)
