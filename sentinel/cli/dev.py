"""`sentinel dev`: a fleet to play with. A mock upstream, an example configuration, reload on save.

    sentinel dev ─┬─ python -m sentinel.cli.mock    the upstream, on a socket that we bound
                  └─ python -m sentinel run         the fleet, as it runs everywhere else

Intuition: a model kitchen in a shop. The stove is the real one; what is brought along is
the food, the recipe, and somebody who says what to try.

Rules:
1. The fleet is not told that it is played with: it is `sentinel run` as a child, and is
   talked to by `sentinelctl` as a child. What works here works in production.
2. The example is written once, to `RUN_DIR/dev.kdl`, and is the user's from then on. Only
   addresses that somebody else listens on are replaced in it, which is said.
3. Who starts something ends it: Ctrl-C drains the fleet and then ends the mock; a second
   one does not wait. The children are in sessions of their own, so that the terminal's
   Ctrl-C reaches them once, through us; and if we are killed, the kernel tells them.

Rejected: watching files with inotify. Editors replace files, trees are included, and a look at
a few dozen time stamps four times a second is nothing.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from sentinel.cli.client import Client, Unreachable
from sentinel.config import Loaded, load, render_problems
from sentinel.core.plan import Plan
from supervisor.rundir import RunDir, RunDirFault
from supervisor.sockets import BindFault, listen_alone

EXAMPLE: Final = """\
schema-version "1.0"
system { workers 2; run-dir "run"; drain-deadline "10s"; }
admin { address "127.0.0.1:9901"; }
listeners {
    listener "web" { address "127.0.0.1:8080"; }
}
routes {
    route "hello" {
        matches { path "/hello"; }
        respond 200 body="Hello from Sentinel.\\n"
    }
    route "api" {
        matches { path-prefix "/api"; method "GET" "POST"; }
        upstream "mock"
        timeout "30s"
    }
}
upstreams {
    upstream "mock" { endpoint "127.0.0.1:9001"; }
}
"""
MODEL_REQUEST: Final = '{"model":"mock-rate=20","stream":true,"messages":[{"role":"user","content":"Hello"}]}'
MOCK: Final = "mock"
"""The upstream whose endpoint the mock takes."""
LOOK_S: Final = 0.25
STARTING_S: Final = 60.0
INVALID: Final = 1
PR_SET_PDEATHSIG: Final = 1
ENDING: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
HEARD: Final = ENDING | {signal.SIGCHLD}
"""Blocked and waited for, not handled: nothing happens between two looks."""


@click.command()
@click.option("-c", "--config", metavar="FILE", help="Serve this configuration instead of the example.")
@click.option("--run-dir", default="run", metavar="DIR", help="Where the example is written, and runs (run).")
def dev(config: str | None, run_dir: str) -> None:
    """Try the gateway: a fleet, a mock upstream, an example configuration, reload on save.

    Ends with Ctrl-C. With --config the run-dir is the file's own.
    """
    raise SystemExit(develop(config, run_dir))


def develop(config: str | None, run_dir: str) -> int:
    """Serve until told to end; returns the fleet's exit status."""
    signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    try:
        path = config or _example(run_dir)
        loaded = load(path)
        if loaded.plan is None:
            click.echo(render_problems(loaded.problems), err=True)
            return INVALID
        listening = listen_alone(_mock_address(loaded.plan))
    except (RunDirFault, BindFault, OSError) as fault:
        click.echo(f"sentinel: {fault}", err=True)
        return INVALID
    mock = _start("sentinel.cli.mock", "--fd", str(listening.fileno()), fds=(listening.fileno(),))
    fleet = _start("sentinel", "run", "-c", path)
    try:
        return Show(path, loaded, fleet, _name(listening)).run()
    finally:
        for child in (fleet, mock):
            child.terminate()
            child.wait()


@dataclass(slots=True)
class Show:
    """A fleet that is played with, from its start to its end."""

    path: str
    loaded: Loaded
    fleet: subprocess.Popen[bytes]
    mock_address: str
    reload: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Wait for the fleet, say what to try, reload what is saved; returns the fleet's exit status."""
        assert self.loaded.plan is not None
        run_dir = self.loaded.plan.system.run_dir
        client = Client(os.path.join(run_dir, "control.sock"))
        deadline = time.monotonic() + STARTING_S
        while not _is_serving(client):
            if time.monotonic() > deadline:
                click.echo(f"sentinel: the fleet does not serve after {STARTING_S:g} s, and is ended", err=True)
                return self._end()
            if self._is_over():
                return self._end()
        click.echo(guide(self.loaded.plan, self.path, self.mock_address))
        seen = _stamps(self.loaded)
        while not self._is_over():
            now = _stamps(self.loaded)
            if now != seen and (self.reload is None or self.reload.poll() is not None):
                seen = now
                self._reload(client.path)
        return self._end()

    def _is_over(self) -> bool:
        """Wait a moment; say whether the fleet has ended or we were told to."""
        heard = signal.sigtimedwait(HEARD, LOOK_S)
        return self.fleet.poll() is not None or (heard is not None and heard.si_signo in ENDING)

    def _reload(self, control: str) -> None:
        click.echo(f"sentinel: {self.path} was saved: reload")
        self.loaded = load(self.path)  # for what is watched from now on; what is wrong is said by the fleet
        self.reload = _start("sentinel.cli.sentinelctl", "reload", "--if-changed", "--socket", control)

    def _end(self) -> int:
        """Let the fleet finish what runs; told again, it ends at once."""
        while self.fleet.poll() is None:
            self.fleet.send_signal(signal.SIGTERM)
            while self.fleet.poll() is None:
                heard = signal.sigwait(HEARD)
                if heard in ENDING:
                    break
        return self.fleet.returncode


def guide(plan: Plan, path: str, mock_address: str) -> str:
    """What there is, and what to try; every line of it can be copied to a shell."""
    control = _command("sentinelctl")
    is_found = os.path.abspath(plan.system.run_dir) == os.path.abspath("run")  # sentinelctl looks there by itself
    which = "" if is_found else f" --socket {os.path.join(plan.system.run_dir, 'control.sock')}"
    base = f"http://{plan.listeners[0].address}" if plan.listeners else ""
    tries = [
        (f"curl {base}/hello", "answered by the gateway"),
        (f"curl -d hi '{base}/api/echo?a=b'", "forwarded: the mock says what it was asked"),
        (f"curl -N {base}/api/v1/chat/completions -d '{MODEL_REQUEST}'", "a language model's stream, from the mock"),
        (f"curl -i --path-as-is {base}/api/..%2fsecret", "refused, with a reason"),
        (f"{control} dry-run -c {path} --request 'GET /api/users'", "what would happen, and why"),
        (f"{control} status{which}", "generation and workers"),
        (f"curl http://{plan.admin.address}/metrics", "for Prometheus"),
    ]
    lines = [
        "",
        f"  gateway         {base}",
        f"  admin           http://{plan.admin.address}",
        f"  playground      http://{plan.admin.address}/playground/",
        f"  mock upstream   http://{mock_address}",
        f"  configuration   {path}   edit and save it: it is reloaded, and no request is lost",
        "",
        "  Try, in another terminal:",
        "",
    ]
    for command, meaning in tries:
        lines += [f"    # {meaning}", f"    {command}"]
    return "\n".join((*lines, "", "  Ctrl-C ends everything.", ""))


def _example(run_dir: str) -> str:
    """Write the example unless it is there, with addresses that can be listened on; returns its path."""
    RunDir(run_dir).leave()  # says who runs here already, before anything of theirs is touched
    path = Path(run_dir) / "dev.kdl"
    text = path.read_text() if path.exists() else EXAMPLE.replace('run-dir "run"', f'run-dir "{run_dir}"')
    path.write_text(text)
    plan = load(str(path)).plan
    for address in _addresses(plan) if plan is not None else ():
        if not _is_free(address):
            other = _name(listen_alone(f"{address.rpartition(':')[0]}:0"))
            click.echo(f"sentinel: {address} is in use; {path} says {other} now")
            text = text.replace(f'"{address}"', f'"{other}"')
    path.write_text(text)
    return str(path)


def _addresses(plan: Plan) -> list[str]:
    return [*(one.address for one in plan.listeners), plan.admin.address, _mock_address(plan)]


def _mock_address(plan: Plan) -> str:
    """Where the example expects the mock; anywhere, if the configuration has no upstream of that name."""
    found = [one.endpoints[0] for one in plan.upstreams if one.name == MOCK]
    return f"{found[0].host}:{found[0].port}" if found else "127.0.0.1:0"


def _is_free(address: str) -> bool:
    try:
        listen_alone(address).close()
    except BindFault:
        return False
    return True


def _name(listening: socket.socket) -> str:
    host, port, *_ = listening.getsockname()
    return f"{host}:{port}"


def _start(module: str, *words: str, fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        stdin=subprocess.DEVNULL, pass_fds=fds, start_new_session=True, preexec_fn=_be_a_child,
    )  # fmt: skip


def _be_a_child() -> None:
    """Runs in the child before its program: it hears signals again, and ends when its parent has died."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _is_serving(client: Client) -> bool:
    try:
        document = client.get("status").document
    except Unreachable:
        return False
    return isinstance(document, dict) and document.get("mode") == "serving" and bool(document.get("generation"))


def _stamps(loaded: Loaded) -> dict[str, int]:
    """When each file was changed last, and each folder that files are included from."""
    folders = {os.path.dirname(os.path.abspath(one)) for one in loaded.sources[1:]}
    found = {}
    for path in (*loaded.sources, *folders):
        try:
            found[path] = os.stat(path).st_mtime_ns
        except OSError:
            found[path] = 0
    return found


def _command(name: str) -> str:
    """How this program is called from here: by its name if the shell finds that one, else by its path."""
    beside = os.path.join(os.path.dirname(sys.executable), name)
    found = shutil.which(name)
    if not os.path.exists(beside):
        return name if found else f"{sys.executable} -m sentinel.cli.{name}"
    return name if found and os.path.samefile(found, beside) else os.path.relpath(beside)
