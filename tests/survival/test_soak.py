"""Twelve simulated hours of the whole daemon, with the code and the bounds of `benchmarks/soak.py`."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def soak() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "soak.py"
    spec = importlib.util.spec_from_file_location("soak", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_nothing_grows_once_the_state_holds_all_that_it_keeps(soak: Any, tmp_path: Path) -> None:
    running = soak.Soak(tmp_path, keep=3 * soak.HOUR, fault_every=2 * soak.HOUR)
    taken = []
    for _hour in range(12):
        for _minute in range(60):
            running.minute()
        taken.append(running.held())
    lost, told = running.lost_windows(), running.hook.told
    running.close()
    assert taken[-1].ticks == 12 * 74
    assert told >= 1, "people were told meanwhile"
    assert lost == 0
    # Three hours of windows, five of objectives, and one until they are forgotten.
    assert soak.growth(taken[6], taken[-1]) == []
    assert soak.growth(taken[0], taken[5]) != [], "before that the state grows, and it is noticed"
