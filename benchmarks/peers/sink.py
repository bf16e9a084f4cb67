"""Whoever connects, what they say goes to a file: the far end of a log. `python -m benchmarks.peers.sink PORT FILE`."""

from __future__ import annotations

import os
import socket
import sys


def main(port: int, path: str) -> None:
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    with socket.create_server(("127.0.0.1", port)) as listening:
        while True:
            connection, _ = listening.accept()
            with connection:
                while data := connection.recv(1 << 18):
                    os.write(out, data)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
