"""A real Spark cluster on this machine: a master, workers with one core and 1 GB each, and the Thrift server.

It takes pyspark and Java 17. Used by ``spark.py``, and by the tests.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from monitor.demo import free_port

START_SECONDS = 180


def missing() -> str | None:
    """Return what is not installed of what a cluster takes, and how to install it."""
    for name, brings in (("pyhive", "recwatch[spark]"), ("thrift_sasl", "recwatch[spark]"), ("pyspark", "pyspark")):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed (pip install {brings!r})"
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        return "Java is not installed (Debian's package openjdk-17-jre-headless)"
    return None


@contextmanager
def cluster(workers: int, settings: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Yield the ``hive://`` URL of a new cluster, whose tables live as long as it does.

    Args:
        workers: How many there are; each is one executor.
        settings: Of Spark, beyond what makes a small cluster.
    """
    found = importlib.util.find_spec("pyspark")
    home = Path(str(found.origin if found else None)).parent
    folder = Path(tempfile.mkdtemp(prefix="recwatch-spark-"))
    server = free_port()
    environment = {**os.environ, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "600m"}
    running: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "log").open("wb") as log:
            for command in _commands(home, folder, server, workers, settings or {}):
                started = subprocess.Popen(
                    command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
                )
                running.append(started)
        _wait(server, running, folder / "log")
        yield f"hive://127.0.0.1:{server}/default"
    finally:
        for started in reversed(running):
            os.killpg(started.pid, signal.SIGTERM)
        for started in running:
            started.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def _commands(home: Path, folder: Path, server: int, workers: int, settings: Mapping[str, Any]) -> Iterator[list[str]]:
    master = f"spark://127.0.0.1:{free_port()}"
    daemon, address = [str(home / "bin/spark-class")], ["-h", "127.0.0.1", "--webui-port", "0"]
    yield [*daemon, "org.apache.spark.deploy.master.Master", *address, "-p", master.rpartition(":")[2]]
    for number in range(workers):
        own = ["-c", "1", "-m", "1g", "-d", f"{folder}/{number}", master]
        yield [*daemon, "org.apache.spark.deploy.worker.Worker", *address, *own]
    small = {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": 2,
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.warehouse.dir": folder / "warehouse",
    }
    listening = {"hive.server2.thrift.port": server, "hive.server2.thrift.bind.host": "127.0.0.1"}
    yield [
        str(home / "bin/spark-submit"), "--master", master,
        "--class", "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2",
        *(part for name, value in {**small, **settings}.items() for part in ("--conf", f"{name}={value}")),
        "spark-internal",
        *(part for name, value in listening.items() for part in ("--hiveconf", f"{name}={value}")),
    ]  # fmt: skip


def _wait(port: int, running: list[subprocess.Popen[bytes]], log: Path) -> None:
    ends = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > ends or any(started.poll() is not None for started in running):
                raise RuntimeError(f"Spark did not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.2)
