"""What the tests of the page stand on: a browser, a control process that serves the page, and the static build."""

from __future__ import annotations

import functools
import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.playground.chromium import CHROMIUM, Browser, open_browser
from tests.supervisor.control.stage import Stage
from tests.system.fleet import ROOT


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt-get install chromium, and the page is tested too")
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("stage"))
    try:
        yield stage.serving()
    finally:
        stage.close()


@pytest.fixture(scope="module")
def served(stage: Stage) -> str:
    """The address of the page, as control serves it."""
    return f"http://{stage.address}/playground/"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the static build, on a web server that knows nothing of us."""
    found = re.search(r"^PYODIDE\s*:= (\S+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found is not None
    package = ROOT / "build" / f"pyodide-{found[1]}"
    if not (package / "pyodide.mjs").exists():
        pytest.skip("there is no Python for the browser: `make playground` fetches it, and this is tested too")
    target = tmp_path_factory.mktemp("static") / "playground"
    build(package, target)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(target)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def build(package: Path, target: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "sentinel.cli.playground", "--pyodide", str(package), str(target)],
        cwd=ROOT, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
