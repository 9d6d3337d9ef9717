"""The same made rows in every engine, and a real PostgreSQL for the time of the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pytest

from monitor.demo import free_port


def _binary(name: str) -> str | None:
    found = sorted(glob(f"/usr/lib/postgresql/*/bin/{name}"))
    return found[-1] if found else shutil.which(name)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of an empty database on a PostgreSQL server of our own."""
    initdb, server = _binary("initdb"), _binary("postgres")
    if initdb is None or server is None:
        pytest.skip("PostgreSQL is not installed (Debian's package postgresql)")
    # The server refuses to run as root; Debian's package brings a user for it.
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="recwatch-postgresql-"))
    if user is not None:
        os.chown(folder, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    data, port = folder / "data", free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "user": user, "cwd": folder}
    subprocess.run([initdb, "-D", str(data), "-U", "watch", "-A", "trust", "-E", "UTF8"], check=True, **quiet)  # type: ignore[call-overload]
    command = [server, "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
    running = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    url = f"postgresql+psycopg://watch@127.0.0.1:{port}/postgres"
    try:
        _wait(url)
        yield url
    finally:
        running.terminate()
        running.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(url: str) -> None:
    import time

    import sqlalchemy as sa

    engine, ends = sa.create_engine(url), time.monotonic() + 30
    while True:
        try:
            engine.connect().close()
            engine.dispose()
            return
        except sa.exc.OperationalError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.1)
