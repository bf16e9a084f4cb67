"""A real control process on real sockets, with a fake supervisor at the other end of its channel."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from sentinel.cli.client import Answer, Client
from shm.region import Region
from supervisor.control.environment import ControlEnvironment
from tests.supervisor.control.fake import FakeSupervisor
from tests.system.fleet import ROOT, wait_until

CONFIG = """\
schema-version "1.0"
system {{
    workers 2
    run-dir "{run_dir}"
    {system}
}}
admin {{ address "{address}"; {admin} }}
listeners {{
    listener "web" {{ address "127.0.0.1:8080"; }}
}}
routes {{
    {routes}
    route "rest" {{
        matches {{ path-prefix "/"; }}
        respond 404 body="nothing here"
    }}
}}
"""


class Stage:
    """Everything that control meets; `control` is its process once `start`ed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run_dir = directory / "run"
        self.run_dir.mkdir()
        self.admin = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.admin.getsockname()[1]}"
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(str(self.run_dir / "control.sock"))
        self.unix.listen()
        self.region = Region.create(f"/sentinel-test-{secrets.token_hex(8)}", series_max=16, slots_max=4)
        self.supervisor = FakeSupervisor()
        self.config = directory / "sentinel.kdl"
        self.client = Client(str(self.run_dir / "control.sock"))
        self.control: subprocess.Popen[str] | None = None
        self.write()

    def write(
        self, *, system: str = "", admin: str = "", routes: str = "", address: str = "", run_dir: str = ""
    ) -> None:
        text = CONFIG.format(
            run_dir=run_dir or self.run_dir, address=address or self.address, system=system, admin=admin, routes=routes
        )
        self.config.write_text(text)

    def start(self) -> Stage:
        environment = ControlEnvironment(
            channel_fd=self.supervisor.theirs.fileno(), admin_fd=self.admin.fileno(), socket_fd=self.unix.fileno(),
            admin_address=self.address, config=str(self.config), region=self.region.name, run_dir=str(self.run_dir),
        )  # fmt: skip
        self.control = subprocess.Popen(
            [sys.executable, "-m", "supervisor.control"], cwd=ROOT, env=os.environ | environment.to_environ(),
            pass_fds=environment.descriptors(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.supervisor.theirs.close()
        self.supervisor.start()
        return self

    def serving(self) -> Stage:
        """Start, and wait for the first rollout."""
        self.start()
        wait_until(lambda: self.get("status").document["control"]["reloads"].get("serving"), "the first rollout")
        return self

    def get(self, *segments: str, **query: Any) -> Answer:
        return self.client.get(*segments, **query)

    def post(self, *segments: str, **options: Any) -> Answer:
        return self.client.post(*segments, **options)

    def tcp(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Ask over TCP; header names are written with underscores."""
        host, port = self.address.split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        try:
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, None if body is None else json.dumps(body), fields)
            response = connection.getresponse()
            return response.status, {key.lower(): value for key, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def stop(self) -> tuple[int, str]:
        """End control by the death of its supervisor; returns its status and its last words."""
        assert self.control is not None
        self.supervisor.stop()
        _, words = self.control.communicate(timeout=20)
        return self.control.returncode, words

    def close(self) -> None:
        if self.control is not None and self.control.poll() is None:
            self.control.kill()
            self.control.communicate()
        if self.supervisor.ours.fileno() >= 0 and self.control is not None:
            self.supervisor.stop()
        for one in (self.admin, self.unix):
            one.close()
        self.region.close()
        self.region.unlink()
