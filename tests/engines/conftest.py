"""A real Spark cluster on this machine: one master, two workers, and the Thrift server."""

from __future__ import annotations

import fcntl
import importlib.util
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest


def _cluster() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "cluster.py"
    spec = importlib.util.spec_from_file_location("cluster", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Spark cluster, whose tables live as long as it does.

    Processes of pytest-xdist share one, and with it its tables: whoever comes first starts it, and ends it when
    nobody else holds the lock any more.
    """
    made = _cluster()
    if (why := made.missing()) is not None:
        pytest.skip(why)
    own = tmp_path_factory.getbasetemp()
    folder = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    said = folder / "spark.url"
    with (folder / "spark.lock").open("w") as lock, ExitStack() as started:
        fcntl.flock(lock, fcntl.LOCK_EX)
        is_first = not said.exists()
        if is_first:
            said.write_text(started.enter_context(made.cluster(workers=2)))
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield said.read_text()
        if is_first:
            fcntl.flock(lock, fcntl.LOCK_EX)
            said.unlink()
