"""Runs the daemon again and again, and kills it each time: started by the test of the kills, as a process of its own.

The daemon's modules are loaded once, here; each life is a fork. So that a fork has all of it, nothing here starts a
thread. Arguments: configuration, number of lives, seed, shortest and longest life in seconds.
"""

from __future__ import annotations

import faulthandler
import importlib
import os
import random
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

# What the daemon loads when it first needs it: its engines, and what judges.
LATER = (
    "duckdb", "duckdb_sqlalchemy", "sqlalchemy.dialects.sqlite.pysqlite", "alerts.webhook", "alerts.pagerduty",
    "alerts.slack", "monitor.app", "yaml", "zoneinfo", "uuid",
)  # fmt: skip


def live(path: Path) -> None:
    """Be the daemon, until it ends."""
    from monitor.commands import run

    code = 1
    faulthandler.enable()
    try:
        assert run.command.callback is not None
        run.command.callback((path,), None, None)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    path, lives, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    shortest, longest = float(sys.argv[4]), float(sys.argv[5])
    from monitor.commands import run

    run.keep_out(run.UNUSED)
    for name in LATER:
        importlib.import_module(name)
    assert threading.active_count() == 1
    rng, last = random.Random(seed), 0
    for _life in range(lives):
        last = os.fork()
        if last == 0:
            live(path)
        time.sleep(rng.uniform(shortest, longest))
        ended, status = os.waitpid(last, os.WNOHANG)
        if ended:
            sys.exit(f"a life ended by itself: status {status}")
        os.kill(last, signal.SIGKILL)
        os.waitpid(last, 0)
        sys.stdout.write("killed\n")
        sys.stdout.flush()
    # The last life is left alone until the one who started this has seen enough.
    last = os.fork()
    if last == 0:
        live(path)
    sys.stdout.write("alive\n")
    sys.stdout.flush()
    sys.stdin.read()
    os.kill(last, signal.SIGTERM)
    # One that does not end says where each of its threads stands.
    signal.signal(signal.SIGALRM, lambda *_: os.kill(last, signal.SIGABRT))
    signal.alarm(30)
    _ended, status = os.waitpid(last, 0)
    signal.alarm(0)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
