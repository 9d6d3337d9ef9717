"""Configurations that are bombs, noise, or far too large: refused with a place, soon, and within little memory."""

from __future__ import annotations

import contextlib
import re
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from monitor.config import Config
from monitor.errors import ConfigError
from monitor.load import load

WHOLE = (Path(__file__).parents[1] / "errors/good/whole.yml").read_text()
MOST_SECONDS, MOST_BYTES = 20.0, 60_000_000
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{at}: &a{at} [{', '.join([f'*a{at - 1}'] * 9)}]\n" for at in range(1, 12)
)
BOMBS: dict[str, bytes] = {
    "billion laughs": LAUGHS.encode(),
    "laughs in keys": b"a: &a {? [x] : y}\nb: {? *a : *a}\n",
    "alias of itself": b"a: &a {b: *a}\n",
    "deep flow": b"[" * 20_000,
    "deep braces": b"{a: " * 20_000,
    "deep blocks": b"".join(b" " * at + b"a:\n" for at in range(1_000)),
    "deep dashes": b"- " * 20_000 + b"x",
    "a long key": b"x" * 300_000 + b": 1\n",
    "a long text": b"pipeline: " + b"x" * 300_000 + b"\n",
    "a long number": b"server: {port: " + b"9" * 300_000 + b"}\n",
    "a number of sixties": b"server: {port: " + b"1:" * 100_000 + b"1}\n",
    "a float without end": b"checks: {unknown_ids: {max_ratio: 1e" + b"9" * 300_000 + b"}}\n",
    "a duration without end": b"checks: {freshness: {max_age: " + b"9" * 100_000 + b"d}}\n",
    "many keys": b"".join(b"k%d: 1\n" % at for at in range(21_000)),
    "one key many times": b"pipeline: x\n" * 21_000,
    "many datasets": b"datasets:\n" + b"".join(b"  d%d: {files: x.csv}\n" % at for at in range(300)),
    "many references": b"pipeline: '" + b"${A:-" * 20_000 + b"'\n",
    "a reference to a device": b"pipeline: '${file:/dev/zero}'\n",
    "a reference to a folder": b"pipeline: '${file:/}'\n",
    "python objects": b"a: !!python/object/apply:os.system ['touch pwned']\n",
    "merge": b"a: &a {x: 1}\nb: {<<: [*a, *a]}\n",
    "tabs": b"datasets:\n\tevents:\n\t\tfiles: x\n",
    "two documents": b"pipeline: a\n---\npipeline: b\n",
    "utf-16": "pipeline: x\n".encode("utf-16"),
    "binary": bytes(range(256)) * 1_000,
    "nul": b"pipeline: a\x00b\n",
    "too large": b"#" * 2_000_000,
    "only a mark": b"\xef\xbb\xbf",
    "a list": b"- a\n- b\n",
    "a word": b"x",
    "carriage returns": b"pipeline: x\rdatasets: 1\r",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_with_its_place(name: str, tmp_path: Path) -> None:
    path = tmp_path / "recwatch.yml"
    path.write_bytes(BOMBS[name])
    started = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert time.process_time() - started < MOST_SECONDS
    assert not (tmp_path / "pwned").exists()
    for problem in caught.value.problems:
        assert re.match(rf"{re.escape(str(path))}(:\d+:\d+)?: [^ ]", problem), problem[:300]
        assert problem.isprintable()
    assert max(map(len, caught.value.problems)) < 1_000 + len(str(path))


def test_laughs_take_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "recwatch.yml"
    path.write_text(LAUGHS)
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="write aliases"):
            load(path, {})
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


def test_a_byte_order_mark_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "recwatch.yml"
    path.write_bytes(b"\xef\xbb\xbf" + WHOLE.replace("\n", "\r\n").encode())
    assert load(path, {}).pipeline == "shop"


keys = some.sampled_from(sorted(Config.model_fields)) | some.text(max_size=10)
anything = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=20),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(keys, inner, max_size=4),
    max_leaves=20,
)


def judged(folder: Path, text: str) -> None:
    path = folder / "recwatch.yml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    problems: list[str] = []
    try:
        load(path, {})
    except ConfigError as error:
        problems = error.problems or ["a refusal without a reason"]
    assert [problem for problem in problems if not problem.startswith(str(path)) or not problem.isprintable()] == []


PATIENT = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@PATIENT
@given(document=some.dictionaries(keys, anything, max_size=5))
def test_any_document_is_valid_or_explained(tmp_path: Path, document: object) -> None:
    import yaml

    with contextlib.suppress(yaml.YAMLError):
        judged(tmp_path, yaml.safe_dump(document, allow_unicode=True))


@PATIENT
@given(data=some.data())
def test_any_cut_copy_or_swap_of_lines_is_valid_or_explained(tmp_path: Path, data: some.DataObject) -> None:
    lines = WHOLE.splitlines()
    for _ in range(data.draw(some.integers(1, 3))):
        at = data.draw(some.integers(0, len(lines) - 1))
        other = data.draw(some.integers(0, len(lines) - 1))
        change = data.draw(some.sampled_from(("cut", "copy", "indent", "swap", "split")))
        if change == "cut":
            lines[at] = ""
        elif change == "copy":
            lines.insert(other, lines[at])
        elif change == "indent":
            lines[at] = " " * data.draw(some.integers(1, 5)) + lines[at]
        elif change == "swap":
            lines[at], lines[other] = lines[other], lines[at]
        else:
            lines[at] = lines[at][: data.draw(some.integers(0, len(lines[at])))]
    judged(tmp_path, "\n".join(lines))
