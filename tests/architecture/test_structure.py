"""The shape of the tree: sizes, words, layers, purity."""

from __future__ import annotations

import ast
import doctest
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("checks", "alerts", "dashboards", "monitor")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
BANNED = {"manager", "helper", "helpers", "util", "utils", "common", "misc", "data", "info", "process", "handle"}
MOST_LINES, MOST_MEDIAN_LINES, MOST_FUNCTION_LINES, MOST_PARAMETERS, MOST_FILES = 400, 150, 40, 5, 206


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    body = function.body[1:] if has_docstring else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 2 if body else 1


def test_files_are_small() -> None:
    sizes = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in FILES}
    assert {name: size for name, size in sizes.items() if size > MOST_LINES} == {}
    assert statistics.median(sizes.values()) <= MOST_MEDIAN_LINES
    assert len(sizes) <= MOST_FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_functions_are_short_and_take_few_parameters(path: Path) -> None:
    is_command = path.parent.name == "commands"
    for function in functions(ast.parse(path.read_text())):
        assert code_lines(function) <= MOST_FUNCTION_LINES, f"{function.name} at line {function.lineno}"
        named = [arg.arg for arg in (*function.args.posonlyargs, *function.args.args) if arg.arg not in ("self", "cls")]
        # A command's parameters are its options.
        assert is_command or len(named) <= MOST_PARAMETERS + 1, f"{function.name} at line {function.lineno}: {named}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_public_names_say_something(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = [path.stem]
    names += [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    for name in names:
        words = set(re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower().split("_"))
        assert not words & BANNED, f"{name} has a word that names nothing: {words & BANNED}"


EXAMPLES = [path for path in FILES if ">>> " in path.read_text()]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_examples_in_docstrings_hold(path: Path) -> None:
    found = doctest.testmod(import_module(".".join(path.relative_to(ROOT).with_suffix("").parts)))
    assert found.attempted > 0
    assert found.failed == 0


def test_checks_are_pure() -> None:
    """The package loads with everything but its own few libraries blocked."""
    code = """
import sys
allowed = {"checks", "sqlalchemy", "numpy", "scipy", "typing_extensions", "greenlet"}
class Block:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names and not top.startswith("_"):
            raise ImportError(f"checks must not import {name}")
sys.meta_path.insert(0, Block())
import checks
assert len(checks.CATALOGUE) >= 8
for heavy in ("scipy", "numpy", "pandas", "duckdb"):
    assert heavy not in sys.modules, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_path_or_host_of_one_machine_is_left_behind() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    machine_paths = re.compile(r"(?<![\w.])/(?:root|home/\w+|workspace)/")
    found = []
    for name in filter(None, listed):
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".yml", ".html", ".txt", ""} and path.is_file():
            found += [name for line in path.read_text(errors="replace").splitlines() if machine_paths.search(line)]
    assert found == []
