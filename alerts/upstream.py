"""Which checks explain which: bad data at one stage makes checks of later stages alarm, too."""

from __future__ import annotations

from collections.abc import Mapping

# Check to the checks whose alarms explain its own, in the order of ``monitor.causes.RULES``, or what hushes an alarm
# would not be what is named as its cause. Without circles, or two alarms would hush each other.
UPSTREAM: Mapping[str, tuple[str, ...]] = {
    # What stands still does not land, and what breaks the contract has not landed well.
    "ingestion": ("freshness", "contract"),
    "unknown_ids": ("freshness", "contract"),
    "duplicates": ("freshness", "contract"),
    "density": ("freshness", "contract", "unknown_ids", "duplicates", "ingestion"),
    "feature_drift": ("freshness", "contract", "duplicates", "ingestion"),
    "popularity": ("freshness", "contract", "unknown_ids", "duplicates", "ingestion"),
    # Without new rows a value that is derived from them tells nothing new.
    "signal": ("freshness", "ingestion"),
}
# Where these alarm there may be no rows, and so nothing for any check to judge.
FEED = ("freshness", "ingestion")
