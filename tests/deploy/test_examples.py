"""The examples of how to deploy: each is read as its reader would, and what it says of recwatch is true."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import duckdb
import pytest
import yaml

from monitor.cli import recwatch
from monitor.load import load

ROOT = Path(__file__).parents[2]
HERE = ROOT / "monitor/deploy"
DOCKERFILE = (HERE / "Dockerfile").read_text()
UNIT = (HERE / "recwatch.service").read_text()
OBJECTS = {found["kind"]: found for found in yaml.safe_load_all((HERE / "kubernetes.yml").read_text())}


def assert_understood(arguments: list[str]) -> None:
    """Assert that the command line knows a command with these options."""
    context = click.Context(recwatch)
    command = recwatch.get_command(context, arguments[0])
    assert command is not None, arguments
    command.make_parser(click.Context(command)).parse_args(list(arguments[1:]))


# -- Docker --------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", DOCKERFILE)).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.strip().partition(" ") for line in lines) if word]


def values(word: str) -> list[str]:
    return [rest for found, rest in instructions() if found == word]


def test_the_dockerfile_is_well_made() -> None:
    known = re.compile("ARG|FROM|WORKDIR|COPY|RUN|ENV|VOLUME|USER|EXPOSE|STOPSIGNAL|HEALTHCHECK|ENTRYPOINT|CMD")
    assert all(known.fullmatch(word) for word, _rest in instructions())
    assert all(not image.endswith(":latest") and ":" in image for image in values("FROM"))
    assert values("USER") == ["10001:10001"]
    last = max(at for at, (word, _rest) in enumerate(instructions()) if word == "FROM")
    words = [word for word, _rest in instructions()[last:]]
    assert words.index("USER") > words.index("RUN"), "nothing runs as root afterwards"
    assert "curl" not in DOCKERFILE
    for install in re.findall(r"pip install [^\n]*", DOCKERFILE):
        assert "--require-hashes" in install or "--no-deps" in install


def test_what_is_copied_is_there_and_not_ignored() -> None:
    ignored = (HERE / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    kept = {line[1:] for line in ignored if line.startswith("!")}
    for sources in values("COPY"):
        if "--from" not in sources:
            for source in sources.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert source.split("/")[0] in kept, source


def test_the_container_runs_a_command_that_exists() -> None:
    assert yaml.safe_load(values("ENTRYPOINT")[0]) == ["recwatch"]
    assert_understood(yaml.safe_load(values("CMD")[0]))


def test_what_the_head_mounts_is_what_the_configuration_names() -> None:
    mounted = dict(re.findall(r"-v (\S+?):(/[^\s:]+)", DOCKERFILE))
    config = yaml.safe_load((HERE / "recwatch.yml").read_text())
    where = {Path(path) for path in mounted.values()}
    assert Path(config["datasets"]["events"]["files"]).parent in where
    assert Path(config["state"].removeprefix("sqlite:///")).parent in where
    assert Path(yaml.safe_load(values("CMD")[0])[-1]).parent in where, (
        "a file by itself would hide that it was replaced"
    )
    for command in re.findall(r"(?m)^#   docker exec recwatch recwatch (.*)$", DOCKERFILE):
        assert_understood(shlex.split(command))


def test_the_health_check_tells_a_server_that_answers(serve_health: int) -> None:
    _options, _, command = values("HEALTHCHECK")[0].partition("CMD ")
    interpreter, flag, code = yaml.safe_load(command)
    assert (interpreter, flag) == ("python", "-c")
    here = code.replace("9464", str(serve_health))
    assert subprocess.run([sys.executable, "-c", here], capture_output=True).returncode == 0
    elsewhere = code.replace("9464/healthz", f"{serve_health}/nothing")
    assert subprocess.run([sys.executable, "-c", elsewhere], capture_output=True).returncode == 1


@pytest.fixture
def serve_health() -> Iterator[int]:
    from monitor.config_server import ServerConfig
    from monitor.server import Server

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK" if environ["PATH_INFO"] == "/healthz" else "404 Not Found", [("Content-Length", "0")])
        return []

    server = Server(ServerConfig(port=0), app)
    server.start()
    yield server.port
    server.close()


# -- configurations ------------------------------------------------------------------------------


def test_the_configurations_are_valid_and_ask_for_a_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    inner = OBJECTS["ConfigMap"]["data"]["recwatch.yml"].replace("/etc/recwatch-secrets/token", str(token))
    (tmp_path / "recwatch.yml").write_text(inner)
    for path in (HERE / "recwatch.yml", tmp_path / "recwatch.yml"):
        config = load(path, {"RECWATCH_TOKEN": "0123456789abcdef"})
        assert config.server.auth is not None
        assert config.server.auth.token.get_secret_value() == "0123456789abcdef"
        assert config.state.get_secret_value() == "sqlite:////var/lib/recwatch/state.db"


# -- Kubernetes ----------------------------------------------------------------------------------


def test_the_pod_has_no_rights_that_it_does_not_need() -> None:
    pod = OBJECTS["Deployment"]["spec"]["template"]["spec"]
    container = next(found for found in pod["containers"] if found["name"] == "recwatch")
    assert pod["automountServiceAccountToken"] is False
    rights = container["securityContext"]
    assert (rights["runAsNonRoot"], rights["runAsUser"]) == (True, 10001)
    assert "runAsUser" not in pod["securityContext"], "the pipeline's image has a user of its own"
    assert (rights["readOnlyRootFilesystem"], rights["allowPrivilegeEscalation"]) == (True, False)
    assert rights["capabilities"] == {"drop": ["ALL"]}
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert_understood(container["args"])
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert {probe["path"] for probe in probes.values()} == {"/healthz", "/readyz"}
    assert {probe["port"] for probe in probes.values()} == {container["ports"][0]["name"]}


def test_what_is_mounted_and_selected_exists() -> None:
    deployment = OBJECTS["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    volumes = {found["name"]: found for found in pod["volumes"]}
    mounted = {mount["name"] for found in pod["containers"] for mount in found["volumeMounts"]}
    assert mounted == set(volumes)
    assert volumes["config"]["configMap"]["name"] == OBJECTS["ConfigMap"]["metadata"]["name"]
    assert volumes["secrets"]["secret"]["secretName"] == OBJECTS["Secret"]["metadata"]["name"]
    claim = volumes["state"]["persistentVolumeClaim"]["claimName"]
    assert claim == OBJECTS["PersistentVolumeClaim"]["metadata"]["name"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels == OBJECTS["Service"]["spec"]["selector"]


# -- systemd and Prometheus ----------------------------------------------------------------------


def test_the_unit_starts_a_command_that_exists() -> None:
    (start,) = re.findall(r"(?m)^ExecStart=(.*)$", UNIT)
    program, *arguments = shlex.split(start)
    assert program.endswith("/bin/recwatch")
    assert_understood(arguments)
    for line in ("MemoryMax=1G", "CPUQuota=100%", "NoNewPrivileges=yes", "ProtectSystem=strict", "DynamicUser=yes"):
        assert f"\n{line}\n" in UNIT


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not here")
    unit = tmp_path / "recwatch.service"
    python = sys.executable.replace("%", "%%")
    unit.write_text(re.sub(r"(?m)^ExecStart=\S+", lambda _old: f'ExecStart="{python}"', UNIT))
    done = subprocess.run([analyze, "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_prometheus_understands_its_configuration(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not here")
    shutil.copy(ROOT / "alerts/rules/recwatch.rules.yml", tmp_path)
    text = (HERE / "prometheus.yml").read_text()
    for name in set(re.findall(r"/etc/prometheus/([\w.-]+)", text)):
        (tmp_path / name).touch()
    (tmp_path / "prometheus.yml").write_text(text.replace("/etc/prometheus", str(tmp_path)))
    done = subprocess.run(
        [promtool, "check", "config", str(tmp_path / "prometheus.yml")], capture_output=True, text=True
    )
    assert "SUCCESS" in done.stdout, done.stdout + done.stderr


# -- as in the container, without one ------------------------------------------------------------

NOBODY = 65534
# Nothing can be written but one folder, as under docker run --read-only; then root's rights are given up.
ENCLOSED = """
set -e
mount --make-rprivate /
mount --bind "$0" "$0"
mount -o remount,bind,ro /
for place in /tmp /dev/shm /var/tmp; do
  case "$0" in "$place"/*) ;; *) mount -o remount,bind,ro "$place" 2>/dev/null || true;; esac
done
cd "$0"
exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs "$@"
"""


RAN = re.compile(r'recwatch_check_last_run_timestamp_seconds\{.*check="freshness"')


def can_enclose() -> bool:
    tools = all(shutil.which(name) for name in ("unshare", "setpriv", "mount"))
    if not tools or os.geteuid() != 0:
        return False
    tried = subprocess.run(["unshare", "-m", "sh", "-c", "mount --make-rprivate / && mount --bind /mnt /mnt"])
    # An interpreter that lies in root's own folder is nobody's to start.
    nobody = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", sys.executable, "-c", ""]
    return tried.returncode == 0 and subprocess.run(nobody).returncode == 0


def test_the_daemon_runs_without_root_on_a_root_that_cannot_be_written() -> None:
    if not can_enclose():
        pytest.skip("needs root, a mount namespace of its own, and an interpreter that others may start")
    with tempfile.TemporaryDirectory(prefix="recwatch-enclosed-") as name:
        folder = Path(name)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        duckdb.sql("select 1 as id, 'u' as u, now()::timestamp as at").write_parquet(f"{folder}/events.parquet")
        (folder / "recwatch.yml").write_text(
            f"server: {{port: {port}}}\nstate: sqlite:///state.db\n"
            "datasets: {events: {files: events.parquet, roles: {event_id: id, user: u, event_time: at}}}\n"
        )
        for path in (folder, *folder.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        folder.chmod(0o755)
        script = [sys.executable, "-c", "from recwatch_launch import main; main()"]
        command = ["unshare", "-m", "sh", "-c", ENCLOSED, name, *script, "run", "-c", f"{name}/recwatch.yml"]
        with (folder / "log").open("w") as log:
            running = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HOME": name})
        try:
            metrics = _metrics(port, running)
            status = Path(f"/proc/{running.pid}/status").read_text()
        finally:
            running.send_signal(signal.SIGTERM)
            code = running.wait(30)
        said = (folder / "log").read_text()
        assert RAN.search(metrics), said
        assert re.search(rf"(?m)^Uid:\s+{NOBODY}\s", status)
        assert code == 0, said
        assert "Read-only" not in said


def _metrics(port: int, running: subprocess.Popen[bytes]) -> str:
    """Return the metrics once freshness has run; the last ones seen if it never does."""
    deadline, text = time.monotonic() + 60, ""
    url = f"http://127.0.0.1:{port}/metrics"
    while not RAN.search(text) and time.monotonic() < deadline and running.poll() is None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(url, timeout=5) as said,
        ):
            text = "\n".join(line for line in said.read().decode().splitlines() if not line.startswith("#"))
        time.sleep(0.2)
    return text
