"""Made data for the benchmarks, and the configuration that watches it."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from checks.window import Window
from monitor.config import Config

DAY = Window(datetime(2025, 3, 4, tzinfo=UTC), datetime(2025, 3, 5, tzinfo=UTC))
# What the reference of the drift checks is learnt from.
REFERENCE = Window(DAY.start, DAY.start + timedelta(hours=3))
COLUMNS = (
    "event_id", "user_id", "item_id", "event_type", "event_time", "ingested_at", "source",
    "value", "device", "app_version", "position",
)  # fmt: skip


def made(rows: int, folder: Path) -> Path:
    """Return a folder with one day of about ``rows`` events, a tenth as many users, a hundredth as many items.

    The day is written once (some 3 s for a million rows) and found again by the number of rows.
    """
    # Here, since it loads pandas, which is not to weigh on the processes that are measured.
    from monitor.stream import Stream, StreamSettings, write_history

    made_in = folder / f"{rows}-rows"
    if not made_in.exists():
        half_made = folder / f"{rows}-rows.part"
        shutil.rmtree(half_made, ignore_errors=True)
        settings = StreamSettings(
            events_per_second=rows / DAY.duration.total_seconds(), rhythm=0.0,
            users=rows // 10, items=rows // 100, sent_bucket_seconds=60,
        )  # fmt: skip
        write_history(Stream(settings), half_made, (DAY.start, DAY.end))
        half_made.rename(made_in)
    return made_in


def config(folder: Path) -> Config:
    """Return the configuration of the made data: every role, four features, all links, the state beside it."""
    roles = {name: f"{name}_id" for name in ("event", "user", "item")}
    roles["event_id"] = roles.pop("event")
    same = ("event_type", "event_time", "ingested_at", "value", "source")
    clocks = {name: name for name in ("event_time", "ingested_at")}
    first = min((folder / "events").iterdir())
    log = folder / "events" / "_delta_log"
    return Config.model_validate(
        {
            "pipeline": "benchmark",
            "state": f"sqlite:///{folder}/state.db",
            "datasets": {
                "events": {
                    "files": str(log) if log.exists() else f"{folder}/events/*{first.suffix}",
                    "roles": {**roles, **{name: name for name in same}},
                    "features": ["value", "device", "app_version", "position"],
                    **{link: link for link in ("users", "items", "sent", "rejected")},
                },
                "users": {
                    "files": f"{folder}/users.parquet",
                    "roles": {"user": "user_id", "valid_from": "created_at"},
                },
                "items": {
                    "files": f"{folder}/items.parquet",
                    "roles": {"item": "item_id", "valid_from": "created_at", "valid_to": "retired_at"},
                },
                "sent": {
                    "files": f"{folder}/sent/*.parquet",
                    "roles": {"event_time": "bucket_start", "source": "source", "value": "sent"},
                },
                "rejected": {
                    "files": f"{folder}/rejected/*.parquet",
                    "roles": {"event_id": "event_id", **clocks, "source": "source"},
                },
            },
        }
    )
