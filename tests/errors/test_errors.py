"""What is said of a wrong configuration, text by text; ``--update-golden`` writes the texts anew."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from checks.dataset import Role, closest
from monitor import wording
from monitor.config import json_schema
from monitor.errors import ConfigError
from monitor.load import load
from monitor.wording import probable

HERE = Path(__file__).parent
BAD = sorted((HERE / "bad").glob("*.yml"))
GOOD = sorted((HERE / "good").glob("*.yml"))


def said(path: Path, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    return [problem.removeprefix(f"{path.parent}/") for problem in caught.value.problems]


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
        assert re.match(rf"{re.escape(path.name)}:\d+:\d+: [^ ]", problem)
        assert "s3cret" not in problem
        assert problem.isprintable()
        assert not problem.endswith(".")
        _rule, found, todo = problem.partition("; ")
        assert found, problem
        assert todo, problem


def test_one_place_is_told_once() -> None:
    for path in BAD:
        places = [problem.split(": ")[0] for problem in said(path)]
        assert len(places) == len(set(places)), path.name


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_right_configuration_is_accepted(path: Path) -> None:
    config = load(path, {})
    assert config.watched() == ["events"]


def plain(path: Path) -> Any:
    """Return a configuration as an editor sees it: dates are texts."""
    return json.loads(json.dumps(yaml.safe_load(path.read_text()), default=datetime.isoformat))


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_the_schema_accepts_the_good(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.Draft202012Validator(json_schema()).validate(plain(path))


# What an editor can tell while somebody types; the rest needs the whole file, or the environment.
TOLD_BY_SCHEMA = (
    "choice-misspelt", "dataset-name", "duration-without-unit", "engine-is-no-mapping", "engine-url-misspelt",
    "engine-without-url", "engines-in-a-list", "epoch-as-number", "misspelt-check", "misspelt-role",
    "misspelt-section", "misspelt-setting", "number-as-table", "number-with-a-word", "port", "range-with-one-end",
    "ratio-as-percent", "role-is-a-list", "section-empty", "setting-empty", "several-at-once", "time-unit",
    "yes-as-text",
)  # fmt: skip


@pytest.mark.parametrize("name", TOLD_BY_SCHEMA)
def test_the_schema_refuses_what_is_wrong_with_one_value(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    path = HERE / "bad" / f"{name}.yml"
    assert not jsonschema.Draft202012Validator(json_schema()).is_valid(plain(path))


def test_the_schema_refuses_unknown_keys_everywhere() -> None:
    schema = json_schema()
    objects = [schema, *schema["$defs"].values()]
    closed = [one["additionalProperties"] for one in objects if "properties" in one]
    assert closed == [False] * len(closed)
    assert len(closed) > 20
    defaults = [found for one in objects for found in one.get("properties", {}).values() if "default" in found]
    assert {"30s", "5m", "1h", 100, 0.01, True} <= {
        found["default"] for found in defaults if not isinstance(found["default"], (list, dict))
    }


def test_what_others_call_a_key_leads_to_one_that_nothing_else_would() -> None:
    schema = json_schema()
    sections = [list(one["properties"]) for one in (schema, *schema["$defs"].values()) if "properties" in one]
    sections.append([str(role) for role in Role])
    for name, keys in wording._ELSEWHERE.items():
        for key in keys.split():
            places = [section for section in sections if key in section and name not in section]
            assert {probable(name, section) for section in places} >= {key}, f"{name} for {key}"
            assert {closest(name, section) for section in places} != {key}, f"{key} is close to {name} anyway"


def leaves(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every single value."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if entries is None:
        yield place
        return
    for key, entry in entries:
        yield from leaves(entry, (*place, key))


def put(whole: Any, place: tuple[Any, ...], value: Any) -> None:
    for part in place[:-1]:
        whole = whole[part]
    whole[place[-1]] = value


WHOLE = yaml.safe_load((HERE / "good" / "whole.yml").read_text())


@pytest.mark.parametrize("place", list(leaves(WHOLE)), ids=lambda place: ".".join(map(str, place)))
def test_what_comes_from_the_environment_is_never_told(tmp_path: Path, place: tuple[Any, ...]) -> None:
    path = tmp_path / "recwatch.yml"
    for canary in ("canary", "canary(", "canary://canary:canary@canary:canary/canary", "-1", "2020-01-01"):
        whole = copy.deepcopy(WHOLE)
        put(whole, place, "${CANARY}")
        path.write_text(yaml.safe_dump(whole))
        with contextlib.suppress(ConfigError):
            load(path, {"CANARY": canary})
            continue
        text = "\n".join(said(path, {"CANARY": canary}))
        assert "canary" not in text.replace("CANARY", "")
        assert f"got {canary}" not in text


@pytest.mark.parametrize("place", [("state",), ("engines",), ("engines", "warehouse"), ("engines", "warehouse", "url")])
@pytest.mark.parametrize("wrap", [str, lambda text: [text], lambda text: {"url": text}, lambda text: {"ulr": [text]}])
@pytest.mark.parametrize("text", ["canary", "u:canary@h/d", "oracle://u:canary@h/d", "postgresql://u:canary@h:x/d"])
def test_a_password_in_the_file_is_never_told(tmp_path: Path, place: tuple[str, ...], wrap: Any, text: str) -> None:
    whole = copy.deepcopy(WHOLE)
    put(whole, place, wrap(text))
    path = tmp_path / "recwatch.yml"
    path.write_text(yaml.safe_dump(whole))
    problems = said(path, {})
    assert problems
    assert "canary" not in "\n".join(problems)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats() | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
branches = sorted({place[:depth] for place in leaves(WHOLE) for depth in range(1, len(place) + 1)}, key=str)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.sampled_from(branches), value=values)
def test_whatever_stands_there_only_config_errors_come_out(tmp_path: Path, where: tuple[Any, ...], value: Any) -> None:
    whole = copy.deepcopy(WHOLE)
    put(whole, where, value)
    path = tmp_path / "recwatch.yml"
    path.write_text(yaml.safe_dump(whole, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(ConfigError):
        load(path, {})


SNIPPETS = [
    "\n",
    "  ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    "&a ",
    "*a",
    "<<",
    "!x ",
    "? ",
    "|",
    "'",
    '"',
    "\t",
    "\x00",
    "${",
    "%",
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 30), st.sampled_from(SNIPPETS) | st.text(max_size=3)))
)
def test_however_the_text_is_mangled_only_config_errors_come_out(
    tmp_path: Path, cuts: list[tuple[int, int, str]]
) -> None:
    text = (HERE / "good" / "whole.yml").read_text()
    for start, length, new in cuts:
        text = text[:start] + new + text[start + length :]
    path = tmp_path / "recwatch.yml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(ConfigError):
        load(path, {})


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60))
def test_whatever_bytes_a_file_holds_only_config_errors_come_out(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recwatch.yml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert caught.value.problems


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
