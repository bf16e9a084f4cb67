"""What is packed for a browser: all that the function imports, nothing that a browser lacks, always the same octets."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from sentinel.cli.playground import ABSENT, POLICY, modules, static_page, write_sources
from tests.playground.test_ask import GOVERNED, ORDER
from tests.system.fleet import ROOT

ASK = """
import json, sys
sys.path[:] = [sys.argv[1], *[one for one in sys.path if "site-packages" not in one and one not in ("", ".")]]
from sentinel.playground.browser import answer
print(answer(sys.stdin.read()))
"""


def test_the_archive_alone_answers(tmp_path: Path) -> None:
    """With nothing but it and the standard library, as it will be in the browser."""
    archive = tmp_path / "sentinel.zip"
    write_sources(archive)
    question = {"configurations": [{"name": "a.kdl", "text": GOVERNED}], "request": ORDER}
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", "import sys; sys.platform = 'emscripten'" + ASK, str(archive)],
        input=json.dumps(question), capture_output=True, text=True, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sides"][0]["decision"]["verdict"] == "forward"


def test_nothing_compiled_is_packed() -> None:
    packed = modules()
    assert {"sentinel.core.decide", "workers.intake", "workers.http1.request_twin", "kdl"} <= set(packed)
    assert all(path.suffix == ".py" for path in packed.values())
    assert not [name for name in packed if not set(name.split(".")).isdisjoint(ABSENT)]
    assert not [name for name in packed if name.startswith(("supervisor", "shm", "sentinel.cli"))]


def test_the_same_sources_are_the_same_archive(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.zip", "two.zip")]
    for path in paths:
        write_sources(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert zipfile.ZipFile(paths[0]).testzip() is None


def test_the_page_carries_its_policy_before_anything_is_loaded() -> None:
    page = static_page((ROOT / "sentinel" / "playground" / "page" / "index.html").read_text())
    assert 'data-engine="pyodide"' in page
    assert page.index(POLICY) < page.index("<link") < page.index("<script")
    assert "unsafe-inline" not in POLICY and "'unsafe-eval'" not in POLICY
