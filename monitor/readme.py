"""Keeps the generated parts of the README true: ``python -m monitor.readme`` rewrites them."""

from __future__ import annotations

import re
from pathlib import Path

from checks import CATALOGUE
from monitor.durations import duration_text

_PART = re.compile(r"(<!-- checks: .*? -->\n).*?(<!-- end of checks -->)", re.DOTALL)


def checks_table() -> str:
    """Return the table of checks, from their classes."""
    lines = ["| check | what it does | formula | every | bad above |", "|---|---|---|---|---|"]
    for check in CATALOGUE:
        settings = check.settings_type()
        sentence = (check.__doc__ or "").strip().splitlines()[0]
        formula = check.formula.replace("|", "\\|")
        every = duration_text(settings.every)
        lines.append(f"| `{check.id}` | {sentence} | {formula} | {every} | `{check.limit_setting}` |")
    return "\n".join(lines) + "\n"


def rendered(text: str) -> str:
    """Return the README with its generated parts as they should be."""
    return _PART.sub(lambda found: found[1] + checks_table() + found[2], text)


def main() -> None:
    """Rewrite the README beside the packages."""
    path = Path(__file__).parents[1] / "README.md"
    path.write_text(rendered(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
