"""Writes the dashboards that are shipped: ``python -m dashboards.render``. A test renders them again and compares."""

from __future__ import annotations

from pathlib import Path

from dashboards import debug, executive, objective, on_call
from dashboards.layout import rendered
from dashboards.shipped import FOLDER

BOARDS = (executive.BOARD, on_call.BOARD, debug.BOARD, objective.BOARD)


def main(folder: Path = FOLDER) -> None:
    """Write each dashboard to a file named after its uid."""
    folder.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        (folder / f"{board.uid}.json").write_text(rendered(board), encoding="utf-8")


if __name__ == "__main__":
    main()
