"""The first two commands: what `make` and `.ci/run` do on a machine where something is missing, and what they build."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.system.fleet import ROOT

PREFLIGHT = ROOT / ".ci" / "preflight"
COMPILER = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]


def preflight(python: str, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Look whether all is there, with nothing on the PATH but what is in `path`."""
    clean = {name: value for name, value in os.environ.items() if name != "CC"}
    search = clean["PATH"] if path is None else str(path)
    shell = shutil.which("sh")
    assert shell is not None
    return subprocess.run(
        [shell, str(PREFLIGHT), python],
        env=clean | {"PATH": search} | environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def a_python(path: Path, answers: str) -> str:
    """An interpreter that answers as the case in shell says, and else like ours."""
    path.write_text(f'#!/bin/sh\ncase "$*" in\n{answers}\nesac\nexec {sys.executable} "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason="there is no compiler to be found")
def test_nothing_is_said_when_nothing_is_missing() -> None:
    done = preflight(sys.executable)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_missing_compiler_is_named_with_its_remedy(tmp_path: Path) -> None:
    done = preflight(sys.executable, tmp_path)
    assert done.returncode != 0
    assert "no C compiler" in done.stderr and COMPILER in done.stderr and "apt-get install gcc" in done.stderr


def test_the_compiler_that_the_user_names_is_looked_for(tmp_path: Path) -> None:
    done = preflight(sys.executable, tmp_path, CC="my-cc -m64")
    assert "`my-cc` is not found" in done.stderr


def test_missing_headers_are_named(tmp_path: Path) -> None:
    python = a_python(tmp_path / "python3", '*get_path*) echo /nowhere; exit 0;;')
    done = preflight(python)
    assert done.returncode != 0
    assert "/nowhere/Python.h" in done.stderr and "python3-dev" in done.stderr


def test_a_missing_venv_module_is_named(tmp_path: Path) -> None:
    python = a_python(tmp_path / "python3", '*ensurepip*) exit 1;;')
    done = preflight(python)
    assert done.returncode != 0
    assert "apt-get install python3-venv" in done.stderr


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    python = a_python(tmp_path / "python3", '*version_info*) exit 1;;\n-V) echo Python 3.9.2; exit 0;;')
    done = preflight(python)
    assert done.returncode != 0
    assert "Python 3.9.2 is too old" in done.stderr


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    python = a_python(tmp_path / "python3", '*ensurepip*) exit 1;;\n*get_path*) echo /nowhere; exit 0;;')
    (tmp_path / "empty").mkdir()
    done = preflight(python, tmp_path / "empty")
    assert done.stderr.count("sentinel: ") == 3


def test_make_stops_before_it_installs_anything(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "run", f"VENV={tmp_path}/venv", "PYTHON=there-is-no-such-python"],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode != 0
    assert "Python 3.11 or later is needed" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_every_dependency_is_pinned_to_what_is_installed() -> None:
    """Whatever was installed for us, directly or not, has its line; so a fresh machine gets what was tested."""
    pinned = {
        _canonical(line.partition("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    }
    wanted, seen = [_canonical(name) for name in _declared()], set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        wanted += [_canonical(one) for one in _needed(requires(name) or [])]
    assert seen <= pinned, f"constraints.txt lacks {sorted(seen - pinned)}"


def _declared() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [_name(one) for one in (*project["dependencies"], *project["optional-dependencies"]["test"])]


def _needed(requirements: list[str]) -> list[str]:
    parsed = [Requirement(one) for one in requirements]
    return [one.name for one in parsed if one.marker is None or one.marker.evaluate({"extra": ""})]


def _name(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None
    return found[0]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.slow
def test_a_wheel_has_all_packages_both_extensions_and_both_programs(tmp_path: Path) -> None:
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.split(".")[0]) < 77:
        pytest.skip("the setuptools that is installed here is too old to build without isolation")
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
    for package in ("sentinel", "shm", "workers", "supervisor"):
        shutil.copytree(ROOT / package, tree / package, ignore=ignored)
    for file in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tree / file)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, tree],
        check=True, capture_output=True, timeout=110,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    modules = {str(path.relative_to(tree)) for path in tree.rglob("*.py")} - {"setup.py"}
    assert {name for name in modules if not name.startswith("build/")} <= set(names)
    assert any(re.fullmatch(r"shm/_native/cells\.abi3\.so", name) for name in names)
    assert any(re.fullmatch(r"workers/_native/http1\..*\.so", name) for name in names)
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    text = zipfile.ZipFile(wheel).read(entry_points).decode()
    assert "sentinel = " in text and "sentinelctl = " in text
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/")) or name.endswith((".c", ".h"))]
