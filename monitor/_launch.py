"""The entry of the console command: makes sure that the packages it finds are recwatch's own.

It is installed under a unique module name. ``monitor``, ``checks``, ``dashboards`` and ``alerts``
are words that other projects use too; where one of theirs comes first on the path, recwatch stops
with a clear sentence instead of a puzzling error.
"""

from __future__ import annotations

import importlib
import sys

PACKAGES = ("checks", "alerts", "dashboards", "monitor")


def main() -> None:
    """Run the command line, or say which foreign package stands in the way."""
    for name in PACKAGES:
        try:
            package = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            sys.exit(f"recwatch: the package {name} is missing; install recwatch again, in an environment of its own")
        if getattr(package, "OWNER", None) != "recwatch":
            where = getattr(package, "__file__", None) or next(iter(getattr(package, "__path__", ["?"])))
            sys.exit(
                f"recwatch: the package {name} at {where} is not recwatch's and hides it;"
                " run recwatch from another folder, without PYTHONPATH, or in an environment of its own"
            )
    importlib.import_module("monitor.cli").main()


if __name__ == "__main__":
    main()
