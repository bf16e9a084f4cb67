"""Import directions: who may know whom. The layout of the top-level folders is the rule.

    sentinel.core                          itself, and a short list of the standard library
    sentinel.config, .inference, .agents   core
    sentinel.explain, .playground          core and config
    shm                                    core's machine tables
    workers                                core, inference, agents, explain, shm
    sentinel.playground.browser            also of the workers the rehearsal: the composition root in a browser
    supervisor                             shm, core's machine tables
    supervisor.control                     also core, config, explain, playground, the supervisor, and of the workers
                                           the rehearsal, which reads a request as they do (docs/adr/0017)
    sentinel.cli                           everything; only `python -m sentinel` imports it
"""

from __future__ import annotations

import sys

import pytest

from tests.style.sources import PACKAGES, imports, modules

CORE_MAY_USE = frozenset({
    "__future__", "base64", "binascii", "bisect",
    "collections", "dataclasses", "enum", "functools", "hashlib", "hmac", "ipaddress", "json",
    "itertools", "math", "re", "struct", "typing",
})  # fmt: skip
"""Standard modules that compute and do nothing else. Add one only if it runs in a browser, and asks nobody outside."""

INFERENCE_MAY_USE = CORE_MAY_USE | {"itertools", "json", "zlib"}
"""It reads JSON and looks into what is compressed; faster decoders and other encodings are handed in."""

MACHINES = "sentinel.core.machines"
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "sentinel.core": ("sentinel.core",),
    "sentinel.config": ("sentinel.config", "sentinel.core"),
    "sentinel.inference": ("sentinel.inference", "sentinel.core"),
    "sentinel.agents": ("sentinel.agents", "sentinel.core"),
    "sentinel.explain": ("sentinel.explain", "sentinel.core", "sentinel.config"),
    "sentinel.playground": ("sentinel.playground", "sentinel.explain", "sentinel.core", "sentinel.config"),
    "sentinel.playground.browser": (
        "sentinel.playground", "sentinel.explain", "sentinel.core", "sentinel.config", "workers.rehearsal",
    ),
    "sentinel.__main__": ("sentinel.cli",),
    "sentinel.cli": PACKAGES,
    "shm": ("shm", MACHINES),
    "workers": ("workers", "sentinel.core", "sentinel.inference", "sentinel.agents", "sentinel.explain", "shm"),
    "supervisor.control": (
        "supervisor", "shm", "sentinel.core", "sentinel.config", "sentinel.explain", "sentinel.playground",
        "workers.rehearsal",
    ),
    "supervisor": ("supervisor", "shm", MACHINES),
}  # fmt: skip
"""Longest prefix decides."""


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _rule_for(module: str) -> str | None:
    return max((prefix for prefix in MAY_IMPORT if _under(module, prefix)), key=len, default=None)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    wrong = []
    for module, path in modules(package):
        rule = _rule_for(module)
        allowed = MAY_IMPORT[rule] if rule else ()
        for line, name in imports(path):
            if _rule_for(name) is None and name.partition(".")[0] not in PACKAGES:
                continue
            if not any(_under(name, prefix) for prefix in allowed):
                wrong.append(f"{path}:{line}: {module} imports {name}; {rule} may import {', '.join(allowed)}")
    assert not wrong, "\n".join(["move the code, or hand the thing in as an argument:", *wrong])


def test_the_core_uses_a_short_list_of_the_standard_library() -> None:
    wrong = [
        f"{path}:{line}: {module} imports {name}"
        for module, path in modules("sentinel.core")
        for line, name in imports(path)
        if not _under(name, "sentinel.core") and name.partition(".")[0] not in CORE_MAY_USE
    ]
    assert not wrong, "\n".join(["the core only computes; let the world answer instead:", *wrong])


def test_inference_uses_a_short_list_of_the_standard_library() -> None:
    wrong = [
        f"{path}:{line}: {module} imports {name}"
        for module, path in modules("sentinel.inference")
        for line, name in imports(path)
        if not _under(name, "sentinel") and name.partition(".")[0] not in INFERENCE_MAY_USE
    ]
    assert not wrong, "\n".join(["inference only computes; hand it in instead:", *wrong])


def test_explanations_need_no_installed_package() -> None:
    wrong = [
        f"{path}:{line}: {module} imports {name}"
        for module, path in modules("sentinel.explain")
        for line, name in imports(path)
        if not _under(name, "sentinel") and name.partition(".")[0] not in sys.stdlib_module_names
    ]
    assert not wrong, "\n".join(["explanations run in a browser too:", *wrong])


def test_modules_import_without_cycles() -> None:
    """A cycle between modules is a folder whose idea was never split."""
    names = {name for package in PACKAGES for name, _ in modules(package)}
    edges: dict[str, set[str]] = {}
    for package in PACKAGES:
        for module, path in modules(package):
            targets = {_module_of(name, names) for _, name in imports(path)}
            edges[module] = {target for target in targets if target and target != module}
    assert not (cycle := _find_cycle(edges)), " → ".join(cycle)


def _module_of(name: str, names: set[str]) -> str:
    """`a.b.c` may be the module a.b.c, or c of the module a.b."""
    while name and name not in names:
        name = name.rpartition(".")[0]
    return name


def _find_cycle(edges: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for target in sorted(edges.get(module, ())):
            if found := walk(target, [*path, module]):
                return found
        done.add(module)
        return []

    for module in sorted(edges):
        if found := walk(module, []):
            return found
    return []
