"""The log never stands in the way: full pipes, full disks and strange octets."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from pathlib import Path

import msgspec
import pytest

from tests.workers.child import wait_until
from workers.accesslog import LINE_BYTES_MAX, AccessLog, Entry


def entry(path: str = "/", agent: str = "") -> Entry:
    return Entry(
        "2026-01-01T00:00:00.000Z", "id", "127.0.0.1", "GET", "h", path, 0, "HTTP/1.1", 200, "proxied", "r", "u", "e",
        1, 1.25, 1.5, 10, 20, agent, "web", 1, 0,
    )  # fmt: skip


def put(log: AccessLog, *entries: Entry) -> None:
    """What the ledger does, one flush at a time."""
    log.put(b"".join(msgspec.json.encode(one) + b"\n" for one in entries), len(entries))


def test_lines_are_written_in_order_and_whole(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"), 1 << 24, lambda count: None)
    for number in range(5000):
        put(log, entry(f"/{number}"))
    log.close(5)
    lines = [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert [line["path"] for line in lines] == [f"/{number}" for number in range(5000)]


@pytest.mark.parametrize("text", ['"', "\\", "\r\n{}", "\x1b[31m", "\x00", "\x7f", "\xe9\xff", "\u2028", "a" * 1024])
def test_no_octet_can_forge_a_line(tmp_path: Path, text: str) -> None:
    log = AccessLog(str(tmp_path / "log"), 1 << 20, lambda count: None)
    put(log, entry("/" + text, text[:256]))
    log.close(5)
    lines = (tmp_path / "log").read_bytes().split(b"\n")
    assert len(lines) == 2 and lines[1] == b""
    assert json.loads(lines[0])["path"] == "/" + text
    assert b"\x1b" not in lines[0] and b"\x00" not in lines[0]


def test_a_named_pipe_is_there_before_its_reader(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    log = AccessLog(str(tmp_path / "log"), 1 << 20, lambda count: None)
    put(log, entry("/1"))
    with open(tmp_path / "log", "rb", buffering=0) as reader:
        assert json.loads(reader.read(65536))["path"] == "/1"
    put(log, entry("/2"))  # between two readers
    with open(tmp_path / "log", "rb", buffering=0) as reader:
        assert json.loads(reader.read(65536))["path"] == "/2"
        log.close(5)


def test_a_full_pipe_drops_lines_counts_them_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    monkeypatch.setattr("workers.accesslog.os.dup", lambda fd: writer)
    dropped: list[int] = []
    log = AccessLog("-", 100_000, dropped.append)
    count = 0
    while not dropped:
        put(log, entry("/" + "x" * 500))
        count += 1
        assert count < 10_000
    read: list[bytes] = []

    def drain() -> None:
        while data := os.read(reader, 65536):
            read.append(data)

    thread = threading.Thread(target=drain)
    thread.start()
    log.close(10)
    os.close(writer)
    thread.join(10)
    os.close(reader)
    lines = b"".join(read).splitlines()
    assert all(json.loads(line) for line in lines)
    assert len(lines) + sum(dropped) == count


def test_a_full_disk_drops_lines_and_counts_them() -> None:
    dropped: list[int] = []
    log = AccessLog("/dev/full", 1 << 20, dropped.append)
    for _ in range(10):
        put(log, entry())
    log.tick(0)

    def counted() -> bool:
        log.tick(0)
        return sum(dropped) == 10

    wait_until(counted, "ten are counted")
    log.close(5)


def test_several_writers_on_one_pipe_do_not_mix_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr("workers.accesslog.os.dup", lambda fd: writer)
    logs = [AccessLog("-", 1 << 22, lambda count: None) for _ in range(4)]
    read: list[bytes] = []

    def drain() -> None:
        while data := os.read(reader, 65536):
            read.append(data)

    thread = threading.Thread(target=drain)
    thread.start()
    for number in range(2000):
        for log in logs:
            put(log, entry("/" + "y" * (number % 1000)))
    for log in logs:
        log.close(10)
    os.close(writer)
    thread.join(10)
    os.close(reader)
    lines = b"".join(read).splitlines()
    assert len(lines) == 8000 and all(json.loads(line) for line in lines)


def test_a_line_fits_an_atomic_write_of_a_pipe(tmp_path: Path) -> None:
    wide = "\xff"
    longest = Entry(
        "2026-01-01T00:00:00.000Z", "i" * 128, "f" * 45, "M" * 32, wide * 128, wide * 1024, 1 << 40, "HTTP/1.1", 200,
        "x" * 40, "r" * 64, "u" * 64, "e" * 260, 1 << 16, 1e9, 1e9, 1 << 50, 1 << 50, wide * 256, "l" * 64,
        1 << 31, 255,
    )  # fmt: skip
    log = AccessLog(str(tmp_path / "log"), 1 << 20, lambda count: None)
    put(log, longest)
    log.close(5)
    assert len((tmp_path / "log").read_bytes()) <= LINE_BYTES_MAX


def test_off_writes_nothing(tmp_path: Path) -> None:
    log = AccessLog("off", 1 << 20, lambda count: None)
    assert not log.is_on
    log.close(1)
