"""The README holds what the code says."""

from __future__ import annotations

from pathlib import Path

from checks import CATALOGUE
from monitor.readme import rendered

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_generated_parts_are_up_to_date() -> None:
    assert rendered(README) == README, "run: python -m monitor.readme"
    assert all(f"`{check.id}`" in README for check in CATALOGUE)
