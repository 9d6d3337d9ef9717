"""The guide about faults names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_each_line_of_the_guide_names_tests_that_exist() -> None:
    lines = (TESTS.parent / "monitor" / "guides" / "faults.md").read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ")][2:]
    assert len(rows) >= 20
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", row)
        assert named, f"no test: {row}"
        for path, name in named:
            tree = ast.parse((TESTS / path).read_text())
            assert name in {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}, f"{path}::{name}"
