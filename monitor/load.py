"""Reads a configuration file: YAML, secrets from the environment or files, paths beside the file."""

from __future__ import annotations

from pathlib import Path

import yaml

from monitor.config import Config


def load(path: Path) -> Config:
    """Return the configuration of a file."""
    return Config.model_validate(yaml.safe_load(path.read_text()))
