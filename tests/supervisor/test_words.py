"""The letter box of a child: kept, passed on, bounded, and never in the writer's way."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest

from supervisor.words import BOX_BYTES_MAX, KEPT_BYTES, READ_BYTES, READS_MAX, Words


@pytest.fixture
def words() -> Iterator[Words]:
    words = Words()
    yield words
    words.close()


@pytest.fixture
def out() -> Iterator[int]:
    """A place to pass on to, that can be read again."""
    fd = os.memfd_create("out")
    yield fd
    os.close(fd)


def content(fd: int) -> bytes:
    return os.pread(fd, 1 << 24, 0)


def test_what_is_said_is_passed_on_once_and_in_order(words: Words, out: int) -> None:
    os.write(words.fd, b"one\n")
    words.pass_on(out)
    words.pass_on(out)
    os.write(words.fd, b"two\n")
    words.pass_on(out)
    assert content(out) == b"one\ntwo\n"
    assert words.last() == "one\ntwo"


def test_nothing_said_is_nothing_kept(words: Words, out: int) -> None:
    words.pass_on(out)
    assert (words.last(), content(out)) == ("", b"")


def test_all_is_passed_on_and_the_tail_is_kept(words: Words, out: int) -> None:
    said = b"".join(b"line %06d\n" % number for number in range(3 * READ_BYTES // 12))
    os.write(words.fd, said)
    words.pass_on(out)
    assert content(out) == said
    assert words.last().encode() == said[-KEPT_BYTES:].strip()


def test_octets_that_are_no_text_and_characters_cut_in_two_are_no_fault(words: Words, out: int) -> None:
    os.write(words.fd, "ü".encode() * KEPT_BYTES + b"\xff\xfe")
    words.pass_on(out)
    assert words.last().endswith("ü\ufffd\ufffd")


def test_a_box_that_has_grown_is_emptied_and_goes_on(words: Words, out: int) -> None:
    block = b"x" * READ_BYTES
    for _ in range(BOX_BYTES_MAX // READ_BYTES + 1):
        os.write(words.fd, block)
    for _ in range(BOX_BYTES_MAX // READ_BYTES // READS_MAX + 1):  # so much in a turn
        words.pass_on(out)
    assert os.fstat(words.fd).st_size == 0
    os.write(words.fd, b"after")
    words.pass_on(out)
    assert content(out).endswith(b"xafter")
    assert words.last().endswith("xafter")
    assert os.fstat(words.fd).st_size == len(b"after"), "written at the start, not behind a hole"


def test_a_standard_error_that_is_gone_loses_the_copy_and_keeps_the_words(words: Words) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.write(words.fd, b"heard by nobody")
    try:
        words.pass_on(writer)  # EPIPE
    finally:
        os.close(writer)
    os.write(words.fd, b", kept")
    words.pass_on(writer)  # EBADF
    assert words.last() == "heard by nobody, kept"


def test_the_words_of_a_killed_child_are_there_after_its_end(words: Words, out: int) -> None:
    pid = os.fork()
    if pid == 0:
        os.write(words.fd, b"I was about to say someth")
        os.kill(os.getpid(), 9)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    words.pass_on(out)
    assert words.last() == "I was about to say someth"


def test_a_box_is_not_inherited_by_programs(words: Words) -> None:
    assert not os.get_inheritable(words.fd)


def test_a_pipe_that_nobody_reads_stops_nobody_and_what_was_lost_is_counted(words: Words) -> None:
    reading, writing = os.pipe()
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        os.write(words.fd, b"x" * 10_000)
        words.pass_on(writing)
        assert os.read(reading, 65536) == b"x" * 4096
        os.write(words.fd, b"again")
        words.pass_on(writing)
        assert os.read(reading, 65536) == b"(5904 octets were lost here)\n", "a pipe takes a page at a time"
        assert words.last().endswith("xagain"), "the last words are kept all the same"
    finally:
        os.close(reading)
        os.close(writing)
