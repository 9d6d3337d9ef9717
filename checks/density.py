"""Matrix density: which part of the users-times-items matrix the window fills, with its context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from sqlalchemy import and_, case, distinct, func, select

from checks.baseline import BandSettings, Baseline
from checks.check import Check, Outcome, Sample, Verdict
from checks.dataset import Role
from checks.dialect import row_key
from checks.interactions import interactions, part
from checks.measure import Listing, Measure, Tally
from checks.rows import Rows
from checks.settings import CheckSettings, Duration, Ratio, Setting, hours


@dataclass(frozen=True, kw_only=True)
class DensitySettings(CheckSettings):
    """Settings of the density check."""

    every: Annotated[Duration, Setting("How often the check runs.", 1)] = hours(1)
    window: Annotated[Duration, Setting("How much time one run covers.", 1)] = hours(1)
    look_back: Annotated[Duration, Setting("A user or item not seen for this long is counted as new (cold).", 0)] = (
        hours(24)
    )
    min_history: Annotated[int, Setting("Fewest past windows to judge by.", 3)] = 8
    deviations: Annotated[float, Setting("Robust deviations that density may be off.", 1)] = 6.0
    relative_floor: Annotated[Ratio, Setting("Share of the usual density that it may always be off.", 0, 1)] = 0.3
    per_source: Annotated[bool, Setting("Whether each source is judged by itself too; costs a scan.")] = False


class Density(Check[DensitySettings]):
    """Measures how full the user-item matrix of the window is.

    Detects:
        A matrix that thins out or thickens against its own history: users or items that vanish,
        traffic that concentrates, ids that shatter into new ones.

    Does not detect:
        Its own cause; the context beside it (users, items, events per user, cold shares) tells.

    When it fires:
        The active density leaves the band of comparable windows. Without history it is ``unknown``.
    """

    id = "density"
    settings_type = DensitySettings
    formula = "cells / (users x items); cells = distinct (user, item) pairs with both ids present"
    limit_setting = "deviations"
    uses = (Role.USER, Role.ITEM)
    needs = (Role.USER, Role.ITEM)
    history = ("density",)

    def measures(self, rows: Rows, baseline: Baseline) -> Sequence[Measure | Listing]:
        """Return the listing of the matrix, and of the matrices of the sources where these are wanted."""
        matrix = interactions(rows, self.settings.look_back)
        if not self.settings.per_source or Role.SOURCE not in rows.dataset.roles:
            return (matrix,)
        user, item = row_key(rows.column(Role.USER)), rows.column(Role.ITEM)
        both = and_(rows.present(Role.USER), rows.present(Role.ITEM))
        pair = case((both, row_key(rows.column(Role.USER), item)))
        each = rows.select(
            rows.source.label("source"), pair.label("pair"),
            case((rows.present(Role.USER), user)).label("user"), case((rows.present(Role.ITEM), item)).label("item"),
        ).subquery().c  # fmt: skip
        numbers = [func.count(distinct(key)) for key in (each.pair, each.user, each.item)]
        counted = select(each.source, *numbers, func.count(each.item)).group_by(each.source)
        return (matrix, Listing("cells_by_source", rows, counted, len(rows.dataset.sources) + 2))

    def judge(self, tally: Tally, baseline: Baseline) -> tuple[Verdict, ...]:
        """Return the verdict on the active density."""
        details = matrix(tally)
        density, events = details["density"], int((part(tally, "items") or {}).get("events") or 0)
        few = self.too_few(tally, "density", events, value=density, details=details)
        if few is not None or density is None:
            return (few or self.verdict(tally, Outcome.UNKNOWN, "density", reason="no pair", details=details),)
        return (self._judged(tally, baseline, details, None), *self._of_sources(tally, baseline))

    def _of_sources(self, tally: Tally, baseline: Baseline) -> Iterator[Verdict]:
        for source, details in _by_source(tally).items():
            few = self.too_few(
                tally, "density", details["events"], value=details["density"], source=source, details=details
            )
            if few is not None or details["density"] is None:
                reason = "no pair"
                yield few or self.verdict(
                    tally, Outcome.UNKNOWN, "density", source=source, reason=reason, details=details
                )
                continue
            yield self._judged(tally, baseline, details, source)

    def _judged(self, tally: Tally, baseline: Baseline, details: dict[str, Any], source: str | None) -> Verdict:
        """Return the verdict on a density, held against the band of its own past."""
        settings, density = self.settings, details["density"]
        width = BandSettings(settings.min_history, settings.deviations, settings.relative_floor, 0.0)
        band = baseline.band(_figure(source), tally.window, width)
        found = f"{details['cells']:,} cells of {details['users']:,} users and {details['items']:,} items"
        fields: dict[str, Any] = {"value": density, "source": source, "details": details}
        if band is None:
            needed = f"{settings.min_history} past windows of this length are needed"
            reason = f"{found}; no baseline yet, {needed}"
            return self.verdict(tally, Outcome.UNKNOWN, "density", reason=reason, **fields)
        details.update(expected=band.centre, low=band.low, high=band.high, limit_origin=band.origin)
        outcome = Outcome.GOOD if density in band else Outcome.BAD
        limit = band.low if density < band.centre else band.high
        reason = f"{found}; {density:.4g} against a usual {band.centre:.4g}"
        return self.verdict(tally, outcome, "density", limit=limit, reason=reason, **fields)

    def figures(self, tally: Tally) -> Mapping[str, float | None]:
        """Return the active density, of each source too, for the bands of later windows."""
        events, least = int((part(tally, "items") or {}).get("events") or 0), self.settings.min_rows
        found = {_figure(None): matrix(tally)["density"] if events >= least else None}
        for source, details in _by_source(tally).items():
            found[_figure(source)] = details["density"] if details["events"] >= least else None
        return found

    def gauges(self, tally: Tally, verdicts: Sequence[Verdict]) -> tuple[Sample, ...]:
        """Return the matrix and its size, over active and over catalogue users and items."""
        details, samples = verdicts[0].details, []
        for matrix, prefix in (("active", ""), ("catalogue", "catalogue_")):
            figures = {
                "recwatch_matrix_density_ratio": details.get(f"{prefix}density"),
                "recwatch_matrix_users": details.get(f"{prefix}users"),
                "recwatch_matrix_items": details.get(f"{prefix}items"),
            }
            # The pairs are the same in both; without users or items there is no matrix that they would be of.
            if any(value is not None for value in figures.values()):
                figures["recwatch_matrix_cells"] = details.get("cells")
            labels = {"dataset": tally.dataset, "matrix": matrix}
            samples += [Sample(name, labels, float(value)) for name, value in figures.items() if value is not None]
        return tuple(samples)


def matrix(tally: Tally) -> dict[str, Any]:
    """Return density over both denominators, and the context that explains it."""
    cells, users, items = (part(tally, name) or {} for name in ("cells", "users", "items"))
    numbers = {name: None if value is None else int(value) for name, value in cells.items()}
    found: dict[str, Any] = {
        "density": _density(numbers.get("cells"), numbers.get("users"), numbers.get("items")),
        "catalogue_density": _density(
            numbers.get("cells"), numbers.get("catalogue_users"), numbers.get("catalogue_items")
        ),
        **numbers,
        "events_per_user_p50": users.get("p50"),
        "events_per_user_p90": users.get("p90"),
        "cold_user_share": None,
        "cold_item_share": None,
    }
    if users.get("has_before") and numbers.get("users") and items.get("items"):
        found["cold_user_share"] = 1 - (users["known_before"] or 0) / (numbers["users"] or 1)
        found["cold_item_share"] = 1 - (items["known_before"] or 0) / (items["items"] or 1)
    return found


def _figure(source: str | None) -> str:
    return "density" if source is None else f"density of {source}"


def _by_source(tally: Tally) -> dict[str, dict[str, Any]]:
    """Return cells, users, items, events and density of each source."""
    found = {}
    for source, *numbers in sorted(tally.listings.get("cells_by_source", ())):
        cells, users, items, events = (int(number or 0) for number in numbers)
        found[str(source)] = {
            "density": _density(cells, users, items), "cells": cells, "users": users, "items": items, "events": events,
        }  # fmt: skip
    return found


def _density(cells: int | None, users: int | None, items: int | None) -> float | None:
    if not cells or not users or not items:
        return None
    return cells / (users * items)
