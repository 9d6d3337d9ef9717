"""What is installed: just our packages, with their data, and a launcher that spots a stranger."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_the_wheel_holds_our_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    packages = {"monitor", "checks", "dashboards", "alerts", "recwatch_launch.py"}
    assert {top for top in tops if not top.endswith(".dist-info")} == packages


def test_the_wheel_holds_the_data_that_code_needs(wheel: zipfile.ZipFile) -> None:
    assert "monitor/templates/status.html" in wheel.namelist()


def test_the_wheel_runs_on_its_own(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-m", "recwatch_launch", "explain", "freshness"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Tells how long ago the newest event happened" in done.stdout


def test_a_foreign_package_of_our_name_is_spotted(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    stranger = tmp_path / "theirs" / "monitor"
    stranger.mkdir(parents=True)
    (stranger / "__init__.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'theirs'}{os.pathsep}{tmp_path / 'site'}"}
    command = [sys.executable, "-m", "recwatch_launch", "--version"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"the package monitor at {stranger}" in done.stderr
    assert "is not recwatch's and hides it" in done.stderr
