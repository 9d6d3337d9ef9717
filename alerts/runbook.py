"""Runbooks: one page for each alert, in ``alerts/runbooks/``, part of the package."""

from __future__ import annotations

from importlib.resources import files

_FOLDER = files("alerts").joinpath("runbooks")


def names() -> list[str]:
    """Return the names of the alerts that have a runbook, in lower case."""
    return sorted(path.name.removesuffix(".md") for path in _FOLDER.iterdir() if path.name.endswith(".md"))


def text(alert: str) -> str | None:
    """Return the runbook of an alert as Markdown; None if there is none."""
    name = alert.lower()
    return _FOLDER.joinpath(f"{name}.md").read_text(encoding="utf-8") if name in names() else None
