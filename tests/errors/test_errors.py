"""What is said of a wrong configuration, text by text; ``--update-golden`` writes the texts anew."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.config import json_schema
from monitor.errors import ConfigError
from monitor.load import load

HERE = Path(__file__).parent
BAD = sorted((HERE / "bad").glob("*.yml"))
GOOD = sorted((HERE / "good").glob("*.yml"))


def said(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    return [problem.replace(f"{path.parent}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_wrong_configuration_is_explained(path: Path, request: pytest.FixtureRequest) -> None:
    expected = path.with_suffix(".txt")
    found = "\n".join(said(path)) + "\n"
    if request.config.getoption("--update-golden"):
        expected.write_text(found)
    assert found == expected.read_text()


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_problem_has_a_place_and_a_way_out_and_no_secret(path: Path) -> None:
    for problem in said(path):
        assert problem.startswith(f"{path.name}:")
        assert "s3cret" not in problem
        assert not problem.endswith(".")
        if "is not YAML" not in problem:
            assert ";" in problem or "?" in problem or ", got " in problem, problem


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_right_configuration_is_accepted(path: Path) -> None:
    config = load(path, {})
    assert config.watched() == ["events"]
    assert str(path.parent) in str(config.datasets["events"].files or config.datasets["sends"].files)


def test_secrets_come_from_the_environment_and_files_and_stay_out_of_errors(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("canary-in-file\n")
    path = tmp_path / "recwatch.yml"
    path.write_text(
        "datasets: {events: {table: t, roles: {event_time: ts}}}\n"
        'engines: {a: {url: "postgresql://u:${PASS}@h/d"}, b: {url: "postgresql://u:${file:password}@h/d"}}\n'
        "limits:\n  max_series: ${PASS}\n"
    )
    text = "\n".join(said(path, {"PASS": "canary"}))
    assert "limits.max_series" in text
    assert "canary" not in text
    text = path.read_text().replace("limits:\n  max_series: ${PASS}\n", "")
    path.write_text(text.replace("table: t,", "table: t, engine: a,"))
    config = load(path, {"PASS": "canary"})
    assert config.engines["a"].url.get_secret_value() == "postgresql://u:canary@h/d"
    assert config.engines["b"].url.get_secret_value() == "postgresql://u:canary-in-file@h/d"
    assert "canary" not in repr(config)


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    path = tmp_path / "recwatch.yml"
    path.write_text("\n".join(lines))
    assert "more than 20,000 values" in said(path)[0]


def test_the_schema_accepts_the_good_and_refuses_unknown_keys() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json_schema()
    for path in GOOD:
        plain = json.loads(json.dumps(yaml.safe_load(path.read_text()), default=datetime.isoformat))
        jsonschema.validate(plain, schema)
    wrong = {"datasets": {"events": {"files": "x", "rolls": {}}}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
places = st.sampled_from(
    [
        ("pipeline",), ("state",), ("server",), ("engines",), ("engines", "warehouse"), ("datasets",),
        ("datasets", "events"),
        ("datasets", "events", "roles"), ("datasets", "events", "roles", "user"), ("datasets", "events", "checks"),
        ("checks",), ("checks", "density"), ("checks", "density", "every"), ("limits", "keep"),
    ]
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=places, value=values)
def test_whatever_stands_there_only_config_errors_come_out(tmp_path: Path, where: tuple[str, ...], value: Any) -> None:
    whole = yaml.safe_load((HERE / "good" / "whole.yml").read_text())
    inner = whole
    for part in where[:-1]:
        inner = inner[part]
    inner[where[-1]] = value
    path = tmp_path / "recwatch.yml"
    path.write_text(yaml.safe_dump(whole))
    with contextlib.suppress(ConfigError):
        load(path, {})


def test_the_command_exits_2_and_prints_every_problem() -> None:
    path = HERE / "bad" / "several-at-once.yml"
    done = subprocess.run(
        [sys.executable, "-m", "monitor", "validate", "-c", str(path)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 5
    assert all(line.startswith(f"{path}:") for line in done.stderr.splitlines())


def test_validate_says_what_a_good_configuration_amounts_to(recwatch: Callable[..., Any]) -> None:
    done = recwatch("validate", "-c", str(HERE / "good" / "smallest.yml"))
    assert done.code == 0
    assert "the configuration is fine" in done.out
    assert "disabled: it needs the role user or item" in done.out
