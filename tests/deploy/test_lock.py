"""What is locked: a version within bounds and hashes for everything, on every Python and machine that is supported."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCK, BUILD = (ROOT / f"monitor/deploy/{name}.lock" for name in ("requirements", "build"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PLACES = [(python, machine) for python in ("3.11", "3.12", "3.13") for machine in ("x86_64", "aarch64")]


def locked(path: Path) -> list[tuple[Requirement, list[str]]]:
    lines = re.sub(r"\\\n", " ", path.read_text()).splitlines()
    parts = [line.split("--hash=") for line in lines if line.strip()]
    return [(Requirement(name.strip()), [digest.strip() for digest in hashes]) for name, *hashes in parts]


def there(found: Requirement, python: str, machine: str) -> bool:
    place = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    place |= {"platform_machine": machine, "sys_platform": "linux", "extra": ""}
    return found.marker is None or found.marker.evaluate(place)


@pytest.mark.parametrize("path", [LOCK, BUILD], ids=lambda path: path.name)
def test_everything_has_one_version_and_hashes(path: Path) -> None:
    for found, hashes in locked(path):
        assert re.fullmatch(r"==[^*,]+", str(found.specifier)), found
        assert found.url is None
        assert hashes, found
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", digest) for digest in hashes)
    assert "://" not in path.read_text()
    assert "--index" not in path.read_text()


@pytest.mark.parametrize(("python", "machine"), PLACES)
def test_the_lock_keeps_within_the_bounds_of_the_project(python: str, machine: str) -> None:
    pins: dict[str, Version] = {}
    for found, _hashes in locked(LOCK):
        if there(found, python, machine):
            name = canonicalize_name(found.name)
            assert name not in pins, f"two versions of {name}"
            pins[name] = Version(str(found.specifier).removeprefix("=="))
    for wanted in map(Requirement, PROJECT["project"]["dependencies"]):
        name = canonicalize_name(wanted.name)
        assert name in pins, f"{name} is not locked; make lock"
        assert pins[name] in wanted.specifier, f"{wanted} is locked at {pins[name]}; make lock"
        if "binary" in wanted.extras:
            assert f"{name}-binary" in pins


def test_what_builds_is_locked_too() -> None:
    pins = {canonicalize_name(found.name): str(found.specifier).removeprefix("==") for found, _hashes in locked(BUILD)}
    for wanted in map(Requirement, PROJECT["build-system"]["requires"]):
        assert Version(pins[canonicalize_name(wanted.name)]) in wanted.specifier


@pytest.mark.slow
def test_pip_installs_what_is_locked_and_nothing_else() -> None:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--only-binary", ":all:",
               "--require-hashes", "--quiet", "--retries", "0", "--timeout", "10", "-r", str(LOCK)]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    except subprocess.TimeoutExpired:
        pytest.skip("no registry answers soon enough")
    unreachable = ("Could not find a version", "connection", "Connection", "ReadTimeout")
    if done.returncode and any(sign in done.stderr for sign in unreachable):
        pytest.skip("no registry can be reached, or it does not have these versions yet")
    assert done.returncode == 0, done.stderr[-2_000:]
