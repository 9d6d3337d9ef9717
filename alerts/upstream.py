"""Which checks explain which: bad data at one stage makes checks of later stages alarm, too."""

from __future__ import annotations

from collections.abc import Mapping

# Check to the checks whose alarms explain its own. Without circles, or two alarms would hush each other.
UPSTREAM: Mapping[str, tuple[str, ...]] = {
    "freshness": ("ingestion",),
    "contract": ("ingestion", "freshness"),
    "unknown_ids": ("ingestion", "freshness", "contract"),
    "duplicates": ("ingestion", "freshness", "contract"),
    "density": ("ingestion", "freshness", "contract", "duplicates", "unknown_ids"),
    "feature_drift": ("ingestion", "freshness", "contract", "duplicates"),
    "popularity": ("ingestion", "freshness", "contract", "duplicates", "unknown_ids"),
    # Without new rows a value that is derived from them tells nothing new.
    "signal": ("ingestion", "freshness"),
}
