"""What a configuration file becomes: paths, references, times, and files that are none."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from checks.contract import ContractSettings
from checks.density import DensitySettings
from checks.unknown_ids import UnknownIdsSettings
from monitor.config import Config
from monitor.durations import duration_text, parse_duration
from monitor.errors import ConfigError
from monitor.load import load
from monitor.references import References

EVENTS = "datasets:\n  events:\n    files: events/*.parquet\n    roles: {event_time: ts, user: u}\n"


def loaded(folder: Path, text: str, **environ: str) -> Config:
    path = folder / "recwatch.yml"
    path.write_text(text, encoding="utf-8")
    return load(path, environ)


def problem(folder: Path, text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, **environ)
    (found,) = caught.value.problems
    return found.removeprefix(f"{folder / 'recwatch.yml'}:")


# -- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("events/*.parquet", "{folder}/events/*.parquet"),
        ("../x.csv", "{folder}/../x.csv"),
        ("/var/events.csv", "/var/events.csv"),
        ("~/events.csv", "/homes/me/events.csv"),
        ("s3://bucket/*.parquet", "s3://bucket/*.parquet"),
    ],
)
def test_files_start_at_the_folder_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, meant: str
) -> None:
    monkeypatch.setenv("HOME", "/homes/me")
    config = loaded(tmp_path, EVENTS.replace("events/*.parquet", written))
    assert config.datasets["events"].files == meant.format(folder=tmp_path)


def test_a_folder_with_stars_in_its_name_is_just_a_folder(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    folder = tmp_path / "shop [old]*"
    (folder / "events").mkdir(parents=True)
    (folder / "events" / "a.csv").write_text("ts,u\n1,2\n")
    files = loaded(folder, EVENTS.replace(".parquet", ".csv")).datasets["events"].files
    assert duckdb.execute("SELECT count(*) FROM read_csv(?)", [files]).fetchone() == (1,)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("sqlite:///state.db", "{folder}/state.db"),
        ("sqlite+pysqlite:///sub/state.db", "{folder}/sub/state.db"),
        ("sqlite:////var/state.db", "/var/state.db"),
        ("sqlite:///~/state.db", "/homes/me/state.db"),
        ("sqlite:///file:x.db?uri=true", "file:x.db"),
        ("postgresql://h/state.db", "state.db"),
    ],
)
@pytest.mark.parametrize("name", ["plain", "100%41 and ? and #"])
def test_a_database_in_a_file_starts_there_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, written: str, meant: str
) -> None:
    monkeypatch.setenv("HOME", "/homes/me")
    folder = tmp_path / name
    folder.mkdir()
    config = loaded(folder, f"{EVENTS}state: '{written}'\nengines: {{own: {{url: '{written}'}}}}\n")
    for url in (config.state, config.engines["own"].url):
        assert make_url(url.get_secret_value()).database == meant.format(folder=folder)


def test_the_state_lies_beside_the_configuration_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recwatch.yml").write_text(EVENTS)
    assert load(Path("recwatch.yml"), {}).state.get_secret_value() == f"sqlite:///{tmp_path}/recwatch-state.db"


# -- references ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "environ", "meant"),
    [
        ("${STAGE}", {"STAGE": "live"}, "live"),
        ("shop-${STAGE:-test}", {}, "shop-test"),
        ("shop-${STAGE:-test}", {"STAGE": ""}, "shop-test"),
        ("shop-${STAGE:-}", {}, "shop-"),
        ("shop-${STAGE}", {"STAGE": ""}, "shop-"),
        ("${A}${B}", {"A": "${B}", "B": "x"}, "${B}x"),
        ("$${STAGE} $STAGE", {"STAGE": "live"}, "${STAGE} $STAGE"),
        ("${file:stage}", {}, "from a file "),
    ],
)
def test_references_are_filled_in_once(tmp_path: Path, written: str, environ: dict[str, str], meant: str) -> None:
    (tmp_path / "stage").write_text("from a file \n")
    assert loaded(tmp_path, f'{EVENTS}pipeline: "{written}"\n', **environ).pipeline == meant


def test_numbers_and_truth_values_may_come_from_the_environment(tmp_path: Path) -> None:
    text = EVENTS + 'server: {port: "${PORT}"}\nbaselines: {auto: "${AUTO}", span: "${SPAN}"}\n'
    config = loaded(tmp_path, text, PORT="9000", AUTO="false", SPAN="3d")
    assert (config.server.port, config.baselines.auto, config.baselines.span) == (9000, False, timedelta(days=3))


@pytest.mark.parametrize("secret", ["plain", "p@ss/w:o?r#d [x]", "100%", "p%40ss", "@"])
@pytest.mark.parametrize("login", ["me:${PASS}", "${USER}:${PASS}", "me:${file:run/pass}", "${USER}:${file:run/pass}"])
def test_a_password_reaches_the_database_as_it_is(tmp_path: Path, secret: str, login: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "pass").write_text(f"{secret}\n")
    config = loaded(tmp_path, f'{EVENTS}engines: {{a: {{url: "postgresql://{login}@h/d"}}}}\n', PASS=secret, USER="me")
    url = make_url(config.engines["a"].url.get_secret_value())
    # What can stand in a URL is taken for part of one, so that passwords encoded by hand work, too.
    assert (url.username, url.password) == ("me", "p@ss" if secret == "p%40ss" else secret)
    assert (url.host, url.database) == ("h", "d")


def test_a_whole_url_is_not_encoded(tmp_path: Path) -> None:
    text = EVENTS + 'engines: {a: {url: "${URL}"}, b: {url: "postgresql://me:x@${HOST}/d"}}\n'
    config = loaded(tmp_path, text, URL="postgresql://me:x%40@h/d", HOST="h:5432")
    assert make_url(config.engines["a"].url.get_secret_value()).password == "x@"
    assert make_url(config.engines["b"].url.get_secret_value()).port == 5432


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("postgresql://${HOST}/d", "postgresql://h:1/d"),
        ("postgresql://${HOST}/d?to=a@b", "postgresql://h:1/d?to=a@b"),
        ("postgresql://${HOST}?to=a@b", "postgresql://h:1?to=a@b"),
        ("postgresql://me@${HOST}?to=a@b", "postgresql://me@h:1?to=a@b"),
        ("http://h/${HOST}@x", "http://h/h:1@x"),
        ("http://h?${HOST}@x", "http://h?h:1@x"),
        ("of ${HOST}@x", "of h:1@x"),
        ("postgresql://${HOST}:${PASS:-a/b}@h", "postgresql://h%3A1:a%2Fb@h"),
        ("postgresql://${USER:-?}:${HOST}@h", "postgresql://%3F:h%3A1@h"),
    ],
)
def test_what_stands_between_the_scheme_and_the_at_sign_of_a_url_is_encoded(
    tmp_path: Path, written: str, meant: str
) -> None:
    assert References({"HOST": "h:1"}, tmp_path).fill(written).text == meant


def test_secrets_stay_out_of_every_text_form(tmp_path: Path) -> None:
    text = EVENTS + 'state: "postgresql://u:${PASS}@h/d"\nengines: {a: {url: "postgresql://u:${PASS}@h/d"}}\n'
    config = loaded(tmp_path, text, PASS="canary")
    assert "canary" in config.state.get_secret_value()
    assert "canary" not in f"{config!r} {config} {config.model_dump()} {config.model_dump_json()}"


def test_a_name_that_is_nearly_set_is_suggested(tmp_path: Path) -> None:
    text = EVENTS + "pipeline: ${PIPELIN_NAME}\n"
    says = "5:1: pipeline: the environment variable PIPELIN_NAME is not set; export it, or did you mean PIPELINE_NAME?"
    assert problem(tmp_path, text, PIPELINE_NAME="x") == says


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", "is no UTF-8 text"),
        (b"x" * 70_000, "has more than 65,536 bytes"),
        (None, "cannot be read: is a directory"),
    ],
)
def test_a_file_that_holds_no_secret_is_told(tmp_path: Path, content: bytes | None, says: str) -> None:
    if content is None:
        (tmp_path / "secret").mkdir()
    else:
        (tmp_path / "secret").write_bytes(content)
    text = EVENTS + 'pipeline: "${file:secret}"\n'
    assert problem(tmp_path, text) == f"5:1: pipeline: the file secret {says}; check its path and rights"


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    ["2020-02-01", "2020-02-01T00:00:00Z", "2020-02-01 00:00:00", '"2020-02-01"', "2020-02-01T01:00:00+01:00"],
)
def test_a_moment_without_a_zone_is_in_utc(tmp_path: Path, written: str) -> None:
    config = loaded(tmp_path, f"{EVENTS}checks: {{contract: {{epoch_floor: {written}}}}}\n")
    found = config.settings("events", "contract", ContractSettings)
    assert found == ContractSettings(epoch_floor=datetime(2020, 2, 1, tzinfo=UTC))


def test_settings_of_a_dataset_come_before_common_ones_before_defaults(tmp_path: Path) -> None:
    text = EVENTS.replace("u}", "u, item: i}") + "    checks: {density: {every: 3h}}\n"
    config = loaded(tmp_path, text + "checks: {density: {every: 2h, min_rows: 7}}\n")
    found = config.settings("events", "density", DensitySettings)
    assert found == DensitySettings(every=timedelta(hours=3), min_rows=7)


def test_nothing_may_be_set_where_nothing_is_a_value(tmp_path: Path) -> None:
    text = EVENTS + "    checks: {unknown_ids: {user_pattern: null}}\n"
    config = loaded(tmp_path, text + "checks: {unknown_ids: {user_pattern: 'u.*'}}\n")
    assert config.settings("events", "unknown_ids", UnknownIdsSettings).user_pattern is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["30s", "5m", "1h30m", "1h 30m", "7d", "2w", "250ms", "0s", "36500d"])
def test_durations_survive_being_written_and_read(text: str) -> None:
    assert parse_duration(duration_text(parse_duration(text))) == parse_duration(text)


@pytest.mark.parametrize("text", ["", "5", 5, 1.5, "5 min", "-5m", "m", "1h30", None, [], "36501d", "9" * 400 + "s"])
def test_what_is_no_duration_is_refused(text: Any) -> None:
    with pytest.raises(ValueError, match=r"^must be "):
        parse_duration(text)


# -- files that are none -------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_told_as_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("latin.yml").write_bytes("pipeline: a\nx: caf\xe9\n".encode("latin-1"))
    Path("zero.yml").write_text("pipeline: a\nx: \x00\n")
    Path("long.yml").write_text("# " + "x" * 1_000_000)
    expected = {
        "absent.yml": "absent.yml: no such file; write one with: recwatch init PATH_OR_URL -o absent.yml",
        "folder": "folder: is a folder; name the file in it",
        "latin.yml": "latin.yml:2:1: is not UTF-8, got the byte 0xe9; save it as UTF-8",
        "zero.yml": "zero.yml:2:1: has the character 0x0, which YAML does not allow; remove it",
        "long.yml": "long.yml: has more than 1,000,000 bytes; a configuration is shorter, name that file",
    }
    for name, says in expected.items():
        with pytest.raises(ConfigError) as caught:
            load(Path(name), {})
        assert caught.value.problems == [says]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_rights_is_told(tmp_path: Path) -> None:
    path = tmp_path / "recwatch.yml"
    path.write_text(EVENTS)
    path.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: permission denied; check its path and rights"):
        load(path, {})


def test_aliases_that_multiply_are_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    assert "has more than 20,000 values" in problem(tmp_path, "\n".join(lines))


def test_aliases_may_repeat_a_section(tmp_path: Path) -> None:
    text = EVENTS + "checks:\n  density: &hourly {every: 2h, window: 2h}\n  popularity: *hourly\n"
    config = loaded(tmp_path, text.replace("u}", "u, item: i}"))
    assert config.checks.popularity.every == config.checks.density.every == timedelta(hours=2)  # type: ignore[attr-defined]
