"""Where and how it was measured: a number without these is a rumour."""

from __future__ import annotations

import os
import platform
import sysconfig
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.peers.site import Site, find_tool, first_line
from sentinel.core.compiled import COMPILED


def describe(site: Site, upstream: str) -> dict[str, Any]:
    return {
        "cpu": _of_file("/proc/cpuinfo", "model name"),
        "cpus": os.cpu_count(),
        "memory_kib": int((_of_file("/proc/meminfo", "MemTotal") or "0").split()[0]),
        "virtual": "hypervisor" in _of_file("/proc/cpuinfo", "flags").split(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "python_optimised": _is_python_optimised(),
        "sentinel_compiled": COMPILED,
        "wrk": first_line(find_tool("wrk", "Debian's `wrk`", None), "-v").partition(" Copyright")[0],
        "upstream": upstream,
        "peer_core": site.core,
        "load_cores": sorted(site.load_cores),
        "load_average": os.getloadavg()[0],
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _is_python_optimised() -> bool:
    """Was Python built with profile-guided optimisation? Debian does so by its own rules; no flag says it."""
    flags = sysconfig.get_config_var("CONFIG_ARGS") or ""
    return "--enable-optimizations" in flags or "deb_system" in sysconfig.get_scheme_names()


def _of_file(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
