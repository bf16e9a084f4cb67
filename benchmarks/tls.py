"""What TLS costs the side that serves it, in CPU microseconds, beside nginx with the same certificates.

Run by hand: `python -m benchmarks.tls`. One worker of each, as they are run. Four figures:

    new        a connection with one request, in the clear: what is to be taken off the next two
    full       the same with a whole handshake
    resumed    the same with the session of the connection before
    kept       one more request on a connection that is kept, over TLS; and in the clear

At the end: what share of connections that came with a session was resumed by two workers, and by two whose tickets are
their own (`SENTINEL_PURE`), which is what a fleet has that shares no keys.

Effort, not speed: `utime + stime` of the workers (benchmarks.peers.gauge), over what they completed. By turns, and the
median of ROUNDS, since the machine has other things to do. Both answer by themselves, so that no upstream is measured,
and both write an access log to a file.
"""

from __future__ import annotations

import argparse
import shutil
import ssl
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.peers import gauge
from tests.system.fleet import Fleet, free_port, wait_until
from tests.workers.authority import Authority
from tests.workers.child import Client

CONNECTIONS: Final = 400
REQUESTS: Final = 4000
ROUNDS: Final = 5
REQUEST: Final = b"GET /fixed HTTP/1.1\r\nHost: localhost\r\n\r\n"
NGINX: Final = """
daemon off;
user root;
worker_processes 1;
pid {room}/nginx.pid;
error_log {room}/error.log warn;
events {{ worker_connections 4000; }}
http {{
    access_log {room}/nginx.log combined buffer=64k;
    keepalive_requests 1000000000;
    ssl_certificate {room}/server.pem;
    ssl_certificate_key {room}/server.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    server {{ listen 127.0.0.1:{plain}; return 200 fixed; }}
    server {{ listen 127.0.0.1:{port} ssl; return 200 fixed; }}
}}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """One of the two: where it serves, and whose time is measured."""

    name: str
    port: int
    plain: int
    pids: Callable[[], tuple[int, ...]]


class Asker:
    """A client, whose own time is nobody's."""

    def __init__(self, server: Server, trusted: str) -> None:
        self._server = server
        self._context = ssl.create_default_context(cadata=trusted)
        self._session: ssl.SSLSession | None = None
        self.resumed = 0

    def new(self, count: int = CONNECTIONS) -> None:
        for _ in range(count):
            client = Client(self._server.plain)
            client.send(REQUEST).answer()
            client.close()

    def full(self, count: int = CONNECTIONS) -> None:
        for _ in range(count):
            self._once(None)

    def again(self, count: int = CONNECTIONS) -> None:
        for _ in range(count):
            self._session = self._once(self._session)

    def kept(self, count: int = REQUESTS, *, is_plain: bool = False) -> None:
        client = Client(self._server.plain) if is_plain else self._connected(None)
        for _ in range(count):
            client.send(REQUEST).answer()
        client.close()

    def plainly(self, count: int = REQUESTS) -> None:
        self.kept(count, is_plain=True)

    def _connected(self, session: ssl.SSLSession | None) -> Client:
        plain = Client(self._server.port).socket
        secured = self._context.wrap_socket(plain, server_hostname="localhost", session=session)
        return Client(self._server.port, sock=secured)

    def _once(self, session: ssl.SSLSession | None) -> ssl.SSLSession | None:
        client = self._connected(session)
        client.send(REQUEST).answer()
        assert isinstance(client.socket, ssl.SSLSocket)
        self.resumed += bool(client.socket.session_reused)
        kept = client.socket.session
        client.close()
        return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    for kind in ("ec", "rsa"):
        authority = Authority()
        with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
            room = Path(directory)
            authority.issue("localhost", is_rsa=kind == "rsa").written(room, "server")
            servers = [stack.enter_context(sentinel(room, workers=1))]
            if shutil.which("nginx"):
                servers.append(stack.enter_context(nginx(room)))
            measured: dict[tuple[str, str], list[float]] = {}
            for _ in range(rounds):
                for server in servers:
                    for what, cost_us in costs(server, authority.pem):
                        measured.setdefault((server.name, what), []).append(cost_us)
            for (name, what), found in measured.items():
                print(f"{kind:4} {name:9} {what:14} {statistics.median(found):8.1f} us  ({min(found):.1f} at least)")
    print(f"resumed at two workers: {share(is_shared=True):.0%}, with keys of their own {share(is_shared=False):.0%}")


def costs(server: Server, trusted: str) -> Iterator[tuple[str, float]]:
    asker = Asker(server, trusted)
    asker.again(2)
    for what, ask, count in (
        ("new", asker.new, CONNECTIONS), ("full", asker.full, CONNECTIONS), ("resumed", asker.again, CONNECTIONS),
        ("kept", asker.kept, REQUESTS), ("kept, plain", asker.plainly, REQUESTS),
    ):  # fmt: skip
        before = gauge.usage(server.pids())
        ask()
        yield what, gauge.usage(server.pids()).since(before).total_us / count
    assert asker.resumed >= CONNECTIONS, "what was to be resumed was"


def share(*, is_shared: bool) -> float:
    """Of connections that come with a session, how many are resumed by two workers."""
    authority = Authority()
    with tempfile.TemporaryDirectory() as directory:
        room = Path(directory)
        authority.issue("localhost").written(room, "server")
        with sentinel(room, workers=2, is_pure=not is_shared) as server:
            asker = Asker(server, authority.pem)
            asker.again(CONNECTIONS + 1)
            return asker.resumed / CONNECTIONS


@contextmanager
def sentinel(room: Path, *, workers: int, is_pure: bool = False) -> Iterator[Server]:
    plain = free_port()
    home = room / f"sentinel-{workers}"
    home.mkdir()
    for name in ("server.pem", "server.key"):
        shutil.copy(room / name, home / name)
    listener = f"""
        tls {{ certificate "server.pem" {{ key "server.key"; }}; }}
    }}
    listener "plain" {{
        address "127.0.0.1:{plain}"
    """
    routes = 'route "fixed" { matches { path "/fixed"; }; respond 200 body="fixed"; }'
    fleet = Fleet(home, free_port(), workers=workers, listener=listener, routes=routes)
    if is_pure:
        fleet.environment["SENTINEL_PURE"] = "1"
    fleet.start()
    try:
        pids = tuple(worker["pid"] for worker in fleet.workers())
        yield Server("sentinel", fleet.port, plain, lambda: pids)
    finally:
        fleet.stop()


@contextmanager
def nginx(room: Path) -> Iterator[Server]:
    port, plain = free_port(), free_port()
    config = room / "nginx.conf"
    config.write_text(NGINX.format(room=room, port=port, plain=plain))
    process = subprocess.Popen(["nginx", "-c", str(config), "-p", str(room)])
    try:
        wait_until(lambda: gauge.children(process.pid), "nginx has a worker")
        yield Server("nginx", port, plain, lambda: gauge.children(process.pid))
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main()
