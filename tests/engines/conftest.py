"""A real Spark cluster on this machine: one master, two workers, and the Thrift server."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.demo import free_port

WORKERS = 2
START_SECONDS = 180


def spark_home() -> Path:
    """Return the folder of the installed Spark, or skip with what is missing."""
    for name, brings in (("pyhive", "recwatch[spark]"), ("thrift_sasl", "recwatch[spark]"), ("pyspark", "pyspark")):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed (pip install {brings!r})")
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        pytest.skip("Java is not installed (Debian's package openjdk-17-jre-headless)")
    found = importlib.util.find_spec("pyspark")
    return Path(str(found.origin if found else None)).parent


@pytest.fixture(scope="session")
def spark() -> Iterator[str]:
    """The URL of a Spark cluster of our own, whose tables live as long as it does."""
    home = spark_home()
    folder = Path(tempfile.mkdtemp(prefix="recwatch-spark-"))
    master, server = f"spark://127.0.0.1:{free_port()}", free_port()
    daemon = [str(home / "bin/spark-class"), "org.apache.spark.deploy"]
    address = ["-h", "127.0.0.1", "--webui-port", "0"]
    commands = [[daemon[0], f"{daemon[1]}.master.Master", *address, "-p", master.rpartition(":")[2]]]
    commands += [
        [daemon[0], f"{daemon[1]}.worker.Worker", *address, "-c", "1", "-m", "1g", "-d", f"{folder}/{number}", master]
        for number in range(WORKERS)
    ]
    settings = {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": WORKERS,
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.warehouse.dir": folder / "warehouse",
    }
    submit = [str(home / "bin/spark-submit"), "--master", master]
    submit += ["--class", "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"]
    submit += [part for name, value in settings.items() for part in ("--conf", f"{name}={value}")]
    listening = {"hive.server2.thrift.port": server, "hive.server2.thrift.bind.host": "127.0.0.1"}
    submit += [
        "spark-internal",
        *(part for pair in listening.items() for part in ("--hiveconf", "=".join(map(str, pair)))),
    ]
    environment = {**os.environ, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "600m"}
    running = []
    try:
        with (folder / "log").open("wb") as log:
            for command in [*commands, submit]:
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
