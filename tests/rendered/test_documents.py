"""What the documents name is there: commands with their options, settings, metrics, alerts, and sections of files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from alerts.burn import DAILY, SUSTAINED, WORKBOOK
from alerts.rules import pack
from checks.metrics import BY_NAME, PREFIX
from monitor.cli import COMMANDS, recwatch
from monitor.config import Config, EngineConfig
from monitor.engines import duckdb
from monitor.load import load

ROOT = Path(__file__).parents[2]
PLACES = ("*.md", "alerts/**/*.md", "alerts/*.yml", "dashboards/**/*.md", "monitor/**/*.md", "monitor/deploy/*")
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for place in PLACES
    for path in ROOT.glob(place)
    if path.suffix != ".lock"
}
SECTIONS = "slos|channels|streams|engines|server|notify|datasets|checks|limits|evidence|baselines|changes|maintenance"
SECRET = "0123456789"
EVENTS = "datasets: {events: {files: events.csv, roles: {event_time: at}}}"


def found(pattern: str) -> Iterator[tuple[str, str]]:
    """Yield each text that a pattern finds, with the document that it stands in."""
    for name, text in DOCUMENTS.items():
        yield from ((name, said) for said in re.findall(pattern, text))


def named(command: str) -> list[str]:
    """Return the words of a command as it is written in a text: up to what stands behind it."""
    written = re.split(r"   *#| > |  +", command)[0]
    written = written if written.endswith("...") else written.rstrip(".;:,)")
    # It may stand within quotes itself.
    return shlex.split(written.rstrip("'") if written.count("'") % 2 else written)


def test_commands_are_understood() -> None:
    commands = list(found(rf"\brecwatch ((?:{'|'.join(COMMANDS)})\b[^\n`{{]*)"))
    assert len(commands) > 80
    for where, said in commands:
        words, command = named(said), recwatch
        while isinstance(command, click.Group) and words:
            inner = command.get_command(click.Context(command), words.pop(0))
            assert inner is not None, f"{where}: recwatch {said}"
            command = inner
        # A text may name an option alone.
        words += ["VALUE"] * any(words[-1:] == [name] for name in ("-c", "--engine"))
        try:
            command.make_parser(click.Context(command)).parse_args(words)
        except click.UsageError as error:
            pytest.fail(f"{where}: recwatch {said}: {error}")


def test_metrics_and_alerts_exist() -> None:
    rules = {rule.get("record") or rule["alert"] for group in pack()["groups"] for rule in group["rules"]}
    known = {*BY_NAME, *rules, "recwatch_launch", f"{PREFIX}slo_"}
    names = found(rf"\b({PREFIX}[a-z_:0-9]+|Recwatch[A-Z]\w+)")
    assert {(where, name) for where, name in names if name not in known} == set()


def settings(schema: Mapping[str, Any], node: Mapping[str, Any], above: str = "", depth: int = 0) -> Iterator[str]:
    """Yield the name of each setting, with those of the sections that it stands in."""
    if "$ref" in node:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    for one in (node, *node.get("anyOf", ()), *node.get("allOf", ())):
        if one is not node and depth < 5:
            yield from settings(schema, one, above, depth + 1)
        for name, inner in one.get("properties", {}).items():
            yield above + name
            if depth < 5:
                yield from settings(schema, inner, f"{above}{name}.", depth + 1)


def test_settings_exist() -> None:
    schema = Config.model_json_schema()
    # What an engine is called is up to whoever writes the file.
    known = {*settings(schema, schema), "engines.files"}
    names = found(rf"`((?:{SECTIONS})(?:\.[a-z_]+)+)[`:]")
    assert {(where, name) for where, name in names if name not in known} == set()


def test_links_lead_somewhere() -> None:
    links = [(where, link) for where, link in found(r"\]\(([^)\s]+)\)") if not link.startswith("https://")]
    assert len(links) > 10
    for where, link in links:
        name, _, section = link.partition("#")
        target = (ROOT / where).parent / name if name else ROOT / where
        assert target.exists(), f"{where}: {link}"
        heads = re.findall(r"(?m)^#+ (.*)$", target.read_text(encoding="utf-8")) if section else []
        assert not section or section in {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_configurations_are_accepted(tmp_path: Path) -> None:
    blocks = list(found(rf"(?ms)^```yaml\n((?:(?!^```).)*?^(?:{SECTIONS}):.*?)```"))
    assert len(blocks) >= 5
    for _where, text in blocks:
        whole = text if re.search("^datasets:", text, re.MULTILINE) else text + EVENTS
        path = tmp_path / "recwatch.yml"
        path.write_text(re.sub(r"\$\{file:[^}]*\}", SECRET, whole))
        load(path, dict.fromkeys(re.findall(r"\$\{(\w+)\}", whole), SECRET))


def test_the_memory_of_duckdb_is_what_is_said() -> None:
    said = str(EngineConfig.model_fields["memory_limit"].description)
    for least, each in (
        (duckdb.LEAST_MEMORY_MB, duckdb.MEMORY_MB_PER_THREAD),
        (duckdb.JSON_LEAST_MEMORY_MB, duckdb.JSON_MEMORY_MB_PER_THREAD),
    ):
        for text in (said, " ".join(DOCUMENTS["monitor/guides/engines.md"].split())):
            assert f"{each} MB a thread and at least {least}" in text


def test_the_runbook_has_every_tier() -> None:
    runbook = DOCUMENTS["alerts/runbooks/recwatchslobudgetburn.md"]
    assert [tier.name for tier in (*WORKBOOK, SUSTAINED, DAILY) if f"`{tier.name}`" not in runbook] == []
