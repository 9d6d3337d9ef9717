"""The README holds what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from checks import CATALOGUE
from monitor.config import Config
from monitor.readme import rendered

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_generated_parts_are_up_to_date() -> None:
    assert rendered(README) == README, "run: python -m monitor.readme"
    assert all(f"`{check.id}`" in README for check in CATALOGUE)


def test_the_configuration_shown_is_accepted() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    config = Config.model_validate(yaml.safe_load(next(block for block in blocks if "datasets:" in block)))
    assert config.watched() == ["events"]


def test_commands_shown_exist() -> None:
    from monitor.cli import COMMANDS

    shown = set(re.findall(r"^ +recwatch (\w+)", README, re.MULTILINE))
    assert shown
    assert shown <= set(COMMANDS)
