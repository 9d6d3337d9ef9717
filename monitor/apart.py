"""Draws in a process of its own: what NumPy takes goes with that process, and the daemon stays small."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from monitor.errors import EngineError

LONGEST_SECONDS = 60.0


def drawn_apart(shares: Sequence[float], tail: float, seed: int) -> float:
    """Return what ``checks.simulation.drawn_point`` returns, drawn by another process.

    Raises:
        EngineError: The process failed, or took longer than ``LONGEST_SECONDS``.

    Cost:
        0.2 s to start it, besides the draws themselves.
    """
    spec = find_spec("checks.simulation")
    # -P: the program's folder holds modules whose names are words that others use too.
    command = [sys.executable, "-P", str(spec.origin if spec else None)]
    asked = json.dumps({"shares": list(shares), "tail": tail, "seed": seed})
    # One thread: the draws are no matrix of a size that gains by more.
    surroundings = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    try:
        # Our own interpreter and file.
        done = subprocess.run(  # noqa: S603
            command, input=asked, capture_output=True, text=True, timeout=LONGEST_SECONDS, env=surroundings, check=False
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"draws of {len(shares)} bins took longer than {LONGEST_SECONDS:g} s; use fewer") from None
    except OSError as error:
        raise EngineError(f"draws could not be started: {error.strerror}") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word"])[-1]
        raise EngineError(f"draws failed: {last}")
    return float(json.loads(done.stdout))
