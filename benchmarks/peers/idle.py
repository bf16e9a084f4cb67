"""What a connection costs that is kept alive and silent.

Each of the connections has had one request answered before it falls silent: what a peer allocates for
requests and gives back afterwards (or does not) is part of the question. Memory is that of
the peer's processes; what the kernel holds for a socket is the same for all, and not counted.
"""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from benchmarks.peers import gauge
from benchmarks.peers.race import Peer
from benchmarks.peers.site import ask

WARM_UP: Final = 200  # connections opened, used and closed before the base is taken
REST_S: Final = 0.5


def run(peers: Sequence[Peer], steps: Sequence[int], tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Open more and more connections to one peer after the other; `steps` are how many, ascending."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    results = []
    for peer in peers:
        for _ in range(WARM_UP):
            _open(peer.port).close()
        time.sleep(REST_S)
        results.append(_measure(peer, steps))
        last = results[-1]["steps"][-1:] or [{"kib_each": float("nan"), "connections": 0}]
        tell(f"{peer.name:<16}{last[0]['kib_each']:7.2f} KiB each of {last[0]['connections']:,}")
    return results


def _measure(peer: Peer, steps: Sequence[int]) -> dict[str, Any]:
    pids = peer.pids()
    base_kib = gauge.rss_kib(pids)
    held: list[socket.socket] = []
    result: dict[str, Any] = {
        "name": peer.name, "version": peer.version, "base_rss_kib": base_kib, "steps": [], "disqualified": [],
    }  # fmt: skip
    try:
        for count in sorted(steps):
            while len(held) < count:
                held.append(_open(peer.port))
            time.sleep(REST_S)
            rss_kib = gauge.rss_kib(pids)
            step = {"connections": count, "rss_kib": rss_kib, "kib_each": (rss_kib - base_kib) / count}
            result["steps"].append(step)
        for connection in held:
            ask(connection)  # they were idle, not dead
    except (OSError, ValueError) as fault:
        result["disqualified"].append(f"with {len(held):,} connections: {fault}")
    finally:
        for connection in held:
            connection.close()
    return result


def _open(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    ask(connection)
    return connection
