"""The worker's native code under sanitizers: its own tests run on a copy that was built with them.

The copy is built by the compiler itself with the flags of setup.py, so that the extensions beside the
sources are left alone. Together with the page that may not be read (test_heads) this is
the evidence that no octet beyond an input is read or written.
"""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMPILER = os.environ.get("CC", "cc")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def runtime_of(library: str) -> str:
    """Where the compiler keeps the sanitizer's library; skips the test when it has none."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"there is no compiler ({COMPILER})")
    found = subprocess.run([COMPILER, f"-print-file-name={library}"], capture_output=True, text=True, check=True)
    if not Path(found.stdout.strip()).is_absolute():
        pytest.skip(f"the compiler has no {library}")
    return str(Path(found.stdout.strip()).resolve())


def the_extensions(**environment: str) -> list[Any]:
    """What setup.py says about the worker's extensions in such an environment."""
    described: list[Any] = []
    with mock.patch.dict(os.environ, environment), mock.patch(
        "setuptools.setup", lambda **arguments: described.extend(arguments["ext_modules"])
    ):  # fmt: skip
        runpy.run_path(str(ROOT / "setup.py"))
    return [extension for extension in described if extension.name.startswith("workers._native.")]


def build(tree: Path, **environment: str) -> list[Path]:
    """Copy what the tests need, and build the extensions in the copy."""
    for package in ("sentinel/core", "shm", "workers", "tests/workers", "tests/property"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for package in ("sentinel", "tests"):
        shutil.copy(ROOT / package / "__init__.py", tree / package / "__init__.py")
    targets = []
    for extension in the_extensions(**environment):
        target = tree / f"{extension.name.replace('.', '/')}{sysconfig.get_config_var('EXT_SUFFIX')}"
        sources = [str(tree / source) for source in extension.sources]
        include = f"-I{sysconfig.get_path('include')}"
        command = [COMPILER, "-shared", "-fPIC", include, *extension.extra_compile_args, *sources, "-o", str(target)]
        command += extension.extra_link_args
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        targets.append(target)
    return targets


def test_the_extensions_build_without_a_warning(tmp_path: Path) -> None:
    runtime_of("libgcc.a")
    assert all(target.is_file() for target in build(tmp_path, SENTINEL_WERROR="1"))


def test_the_extensions_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    runtime = runtime_of("libasan.so")
    built = build(tmp_path, SENTINEL_SANITIZE="address,undefined", SENTINEL_WERROR="1")
    assert all(b"__asan" in target.read_bytes() for target in built)
    environment = os.environ | {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1",  # the interpreter itself never frees all
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONMALLOC": "malloc",  # else the interpreter's own pools hide where an object ends
        "PYTHONPATH": str(tmp_path),
    }
    files = ["tests/workers/http1/test_heads.py", "tests/property/test_http1.py"]
    files += [f"tests/workers/test_{name}.py" for name in ("books", "telling", "blanks", "contexts")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "skipped" not in done.stdout, "the copy did not use its extension"
