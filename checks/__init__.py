"""What is measured and how it is judged; pure: no network, no clock, no files."""

from checks.check import Check
from checks.click_through import ClickThrough
from checks.contract import Contract
from checks.density import Density
from checks.duplicates import Duplicates
from checks.feature_drift import FeatureDrift
from checks.feedback_loop import FeedbackLoop
from checks.freshness import Freshness
from checks.ingestion import Ingestion
from checks.popularity import Popularity
from checks.signal import Signal
from checks.unknown_ids import UnknownIds

# The launcher compares this mark to make sure that the package found is ours.
OWNER = "recwatch"

__all__ = ["CATALOGUE", "OWNER", "Check"]

# Every built-in check, in the order in which people look for the cause of an incident.
CATALOGUE: tuple[type[Check], ...] = (  # type: ignore[type-arg]
    Freshness,
    Ingestion,
    Contract,
    UnknownIds,
    Duplicates,
    Density,
    FeatureDrift,
    Popularity,
    FeedbackLoop,
    ClickThrough,
    Signal,
)
