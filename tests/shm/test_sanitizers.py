"""The native cells under sanitizers, and their kernel under a race detector.

A copy of the tree is built with the project's own setup.py and flags, so that
the extension beside the sources is left alone; then the tests of cells and
regions run on the copy, with every octet beyond an object poisoned.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPILER = os.environ.get("CC", "cc")
NAMES = ("race", "limits_race", "leases_race", "budgets_race", "places_race")
RACES = [Path(__file__).with_name(f"{name}.c") for name in NAMES]
NATIVE = ROOT / "shm" / "_native"
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-g")
BUILD = """
import setuptools
setup = setuptools.setup
def only_ours(**arguments):
    arguments["ext_modules"] = [ext for ext in arguments["ext_modules"] if ext.name == "shm._native.cells"]
    return setup(**arguments)
setuptools.setup = only_ours
exec(compile(open("setup.py", encoding="utf-8").read(), "setup.py", "exec"), {"__name__": "__main__"})
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def runtime_of(library: str) -> str:
    """Where the compiler keeps the sanitizer's library; skips the test when it has none."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"there is no compiler ({COMPILER})")
    found = subprocess.run([COMPILER, f"-print-file-name={library}"], capture_output=True, text=True, check=True)
    if not Path(found.stdout.strip()).is_absolute():
        pytest.skip(f"the compiler has no {library}")
    return str(Path(found.stdout.strip()).resolve())


def build(tree: Path, **environment: str) -> Path:
    """Copy what the tests of shared memory need, build the extension in the copy, and return its file."""
    for package in ("sentinel/core", "shm", "tests/shm"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for file in ("setup.py", "sentinel/__init__.py", "tests/__init__.py"):
        shutil.copy(ROOT / file, tree / file)
    command = [sys.executable, "-c", BUILD, "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=tree, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = (tree / "shm" / "_native").glob("cells.*.so")
    return built


def test_the_extension_builds_without_a_warning(tmp_path: Path) -> None:
    assert build(tmp_path, SENTINEL_WERROR="1").name.endswith(".abi3.so")


def test_cells_and_regions_under_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    runtime = runtime_of("libasan.so")
    assert b"__asan" in build(tmp_path, SENTINEL_SANITIZE="address,undefined", SENTINEL_WERROR="1").read_bytes()
    environment = os.environ | {
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1",  # the interpreter itself never frees all
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONMALLOC": "malloc",  # else the interpreter's own pools hide where an object ends
        "PYTHONPATH": str(tmp_path),
    }
    names = ("cells", "region", "processes", "limits", "limits_processes", "leases", "places")
    files = [f"tests/shm/test_{name}.py" for name in names]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "skipped" not in done.stdout, "the copy did not use its extension"


@pytest.mark.parametrize(("sanitizer", "library"), [("thread", "libtsan.so"), ("address,undefined", "libasan.so")])
@pytest.mark.parametrize("race", RACES, ids=lambda race: race.stem)
def test_the_kernel_under_threads(tmp_path: Path, race: Path, sanitizer: str, library: str) -> None:
    runtime_of(library)
    program = tmp_path / "race"
    subprocess.run([COMPILER, *WARNINGS, "-O1", f"-fsanitize={sanitizer}", f"-I{NATIVE}", str(race), "-o", str(program),
                    "-pthread"], check=True)  # fmt: skip
    done = subprocess.run([program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.stem)
def test_the_kernel_under_threads_at_full_speed(tmp_path: Path, race: Path) -> None:
    program = tmp_path / "race"
    if shutil.which(COMPILER) is None:
        pytest.skip(f"there is no compiler ({COMPILER})")
    subprocess.run([COMPILER, *WARNINGS, "-O3", f"-I{NATIVE}", str(race), "-o", str(program), "-pthread"], check=True)
    for _ in range(20):
        done = subprocess.run([program], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
