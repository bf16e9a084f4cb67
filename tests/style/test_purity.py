"""Purity: a fresh interpreter imports the whole core, and nothing of the outside comes with it.

`tests/style/test_imports.py` reads what our files say; this one looks at what is
really loaded, so that nothing sneaks in through a module that we do use.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.style.sources import ROOT, modules

OUTSIDE = frozenset({
    "asyncio", "concurrent", "ctypes", "datetime", "getpass", "http", "logging", "mmap", "multiprocessing", "pathlib",
    "platform", "queue", "random", "secrets", "select", "selectors", "shutil", "signal", "socket", "socketserver",
    "sqlite3", "ssl", "subprocess", "tempfile", "threading", "urllib", "uuid",
    "click", "cryptography", "httptools", "kdl", "msgspec", "posix_ipc", "prometheus_client", "rich", "starlette",
    "trio", "uvicorn", "uvloop", "shm", "supervisor", "workers",
})  # fmt: skip
"""Clocks, chance, sockets, files, processes, and every installed package. `io`, `os` and `time` are in any interpreter
from its start, so for them the list of test_imports is the guard."""


@pytest.mark.parametrize("package", ["sentinel.core", "sentinel.explain", "sentinel.inference"])
def test_nothing_of_the_outside_is_loaded(package: str) -> None:
    names = [name for name, _ in modules(package)]
    program = (
        "import sys, json\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "before = set(sys.modules)\n"
        f"for name in {names!r}: __import__(name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))\n"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & OUTSIDE, f"{package} loads {sorted(loaded & OUTSIDE)}: let the world answer instead"


def test_the_core_writes_to_no_module() -> None:
    """Tables of a module are constants: a `global` statement would be state that two requests share."""
    wrong = [
        f"{path}:{number}: {line.strip()}"
        for _, path in modules("sentinel.core")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.strip().startswith("global ")
    ]
    assert not wrong, "\n".join(wrong)
