#!/usr/bin/env python3
"""Makes the pictures of the README from a run of the demo: ``.venv/bin/python .github/make_pictures.py``.

The demo's faults come at fixed times after its start, so each picture is taken at its moment. The
preview of the dashboard is drawn from the queries that a real Prometheus answers in the tests.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

HERE, PORT = Path(__file__).parent, 19464
URL = f"http://127.0.0.1:{PORT}"
WIDTH, SCALE = 1180, 1.5
LONGEST_WAIT_SECONDS = 120


def asked(path: str) -> dict:
    """Return what the demo's daemon answers, once it is there."""
    for _ in range(LONGEST_WAIT_SECONDS):
        try:
            with urllib.request.urlopen(URL + path, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            time.sleep(1)
    raise SystemExit(f"{URL}{path} does not answer")


def picture(browser: Browser, path: str, name: str, height: int) -> None:
    """Take the upper part of a page."""
    context = browser.new_context(viewport={"width": WIDTH, "height": height}, device_scale_factor=SCALE)
    page = context.new_page()
    page.goto(URL + path)
    page.screenshot(path=HERE / name)
    context.close()


def incident() -> dict | None:
    """Return the incident about user ids once it is told."""
    found = asked("/api/status")["incidents"]
    return next((one for one in found if "unknown ids" in one["title"] and one["triage"]), None)


def evidence() -> str | None:
    """Return the address of the evidence about user ids."""
    for check in asked("/api/status")["datasets"]["events"]:
        for subject in check["subjects"]:
            if check["check"] == "unknown_ids" and subject["name"] == "user" and subject["evidence"]:
                return f"/evidence/{subject['evidence']}"
    return None


def main() -> None:
    """Run the demo, and take each picture at its moment."""
    recwatch = Path(sys.executable).with_name("recwatch")
    demo = subprocess.Popen([recwatch, "demo", "--for", "90s", "--port", str(PORT)], stdout=subprocess.DEVNULL)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            proof = None
            while proof is None or incident() is None:
                proof = evidence() or proof
                time.sleep(0.5)
            picture(browser, "/", "status-page.png", 1500)
            picture(browser, proof, "evidence-page.png", 900)
            browser.close()
    finally:
        demo.terminate()
        demo.wait()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "tests/dashboards/test_queries.py"], cwd=HERE.parent, check=True,
            env={**os.environ, "RECWATCH_PREVIEWS": folder},
        )  # fmt: skip
        shutil.copy(Path(folder) / "recwatch-on-call.png", HERE / "on-call-preview.png")


if __name__ == "__main__":
    main()
