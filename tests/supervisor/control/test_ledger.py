"""What operators said outlives a reboot, once it was answered; a book that is damaged, full or another's is told of."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.control import book
from supervisor.control.book import LedgerFault
from supervisor.control.ledger import Ledger

NAMES = ["api/a", "api/b", "api/c"]


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    ledger = Ledger()
    yield ledger
    ledger.close()


@pytest.fixture
def home(tmp_path: Path) -> str:
    return str(tmp_path / "state")


def read_anew(home: str) -> dict[str, str]:
    other = Ledger()
    try:
        return other.standing(home, "endpoint", NAMES)
    finally:
        other.close()


def test_the_last_word_of_a_name_stands(ledger: Ledger, home: str) -> None:
    for name, word in [("api/a", "drain"), ("api/b", "maintenance"), ("api/a", "ready"), ("other/x", "drain")]:
        assert ledger.note(home, "root", "endpoint", name, word) == ""
    assert ledger.note(home, "root", "breaker", "api/c", "open") == ""
    ledger.close()
    assert read_anew(home) == {"api/a": "ready", "api/b": "maintenance"}
    assert os.stat(home).st_mode & 0o777 == 0o700
    assert os.stat(f"{home}/ledger.db").st_mode & 0o777 == 0o600


def test_without_a_directory_there_is_no_ledger(ledger: Ledger) -> None:
    assert ledger.note("", "root", "endpoint", "api/a", "drain") == ""
    assert ledger.standing("", "endpoint", NAMES) == {}


def test_two_instances_do_not_share_one(ledger: Ledger, home: str) -> None:
    ledger.note(home, "root", "endpoint", "api/a", "drain")
    other = Ledger()
    assert "in use by another instance" in other.note(home, "root", "endpoint", "api/a", "ready")
    with pytest.raises(LedgerFault, match="in use"):
        other.standing(home, "endpoint", NAMES)
    ledger.close()
    assert other.standing(home, "endpoint", NAMES) == {"api/a": "drain"}
    other.close()


def killed_while_writing(home: str) -> int:
    """Has another process give `api/a` one word after the other, kills it, and tells the last it has answered."""
    there, back = os.pipe()
    pid = os.fork()
    if pid == 0:
        ledger = Ledger()
        for number in range(10_000):
            ledger.note(home, "root", "endpoint", "api/a", f"word-{number}")
            os.write(back, b"%d\n" % number)
        os._exit(1)
    os.close(back)
    with os.fdopen(there) as answers:
        last = [int(next(answers)) for _ in range(50)][-1]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return max([last, *(int(line) for line in answers if line.endswith("\n"))])


def test_a_writer_that_is_killed_has_written_what_it_answered(home: str) -> None:
    last = killed_while_writing(home)
    assert int(read_anew(home)["api/a"].removeprefix("word-")) in (last, last + 1)


def test_a_place_that_could_not_be_used_is_not_taken_for_one_that_was(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for home in (str(tmp_path / "file"), "postgresql://x:y@/z?host=/nowhere"):
        with pytest.raises(LedgerFault):
            ledger.standing(home, "endpoint", NAMES)
        assert not ledger.has(home), "else the next reload would take it unseen"


def test_a_damaged_book_is_put_aside_and_a_new_one_begun(
    ledger: Ledger, home: str, capfd: pytest.CaptureFixture[str]
) -> None:
    ledger.note(home, "root", "endpoint", "api/a", "drain")
    ledger.close()
    Path(home, "ledger.db").write_bytes(b"rubbish" * 1000)
    assert read_anew(home) == {}
    assert "is damaged" in capfd.readouterr().err
    (aside,) = Path(home).glob("ledger.db.damaged-*")
    assert aside.read_bytes().startswith(b"rubbish")
    assert ledger.note(home, "root", "endpoint", "api/a", "drain") == ""


def test_a_damaged_book_that_cannot_be_put_aside_is_told(
    ledger: Ledger, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    Path(home).mkdir()
    Path(home, "ledger.db").write_bytes(b"rubbish" * 1000)
    monkeypatch.setattr(os, "replace", refuse)
    assert "cannot be put aside: Permission denied" in ledger.note(home, "root", "endpoint", "api/a", "drain")
    with pytest.raises(LedgerFault, match="cannot be put aside"):
        ledger.standing(home, "endpoint", NAMES)


def test_a_book_of_another_program_is_left_alone(ledger: Ledger, home: str) -> None:
    Path(home).mkdir()
    with sqlite3.connect(f"{home}/ledger.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    before = Path(home, "ledger.db").read_bytes()
    assert "another program" in ledger.note(home, "root", "endpoint", "api/a", "drain")
    assert Path(home, "ledger.db").read_bytes() == before


def test_a_place_that_cannot_be_used_is_told(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "a reboot would undo it" in ledger.note(str(tmp_path / "file"), "root", "endpoint", "api/a", "drain")
    with pytest.raises(LedgerFault):
        ledger.standing(str(tmp_path / "file"), "endpoint", NAMES)
    (tmp_path / "state" / "ledger.db").mkdir(parents=True)
    with pytest.raises(LedgerFault):
        ledger.standing(str(tmp_path / "state"), "endpoint", NAMES)


def test_words_that_no_longer_stand_are_not_kept_for_ever(
    ledger: Ledger, home: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "ENTRIES_KEPT", 10)
    ledger.note(home, "root", "endpoint", "api/b", "maintenance")
    for number in range(50):
        ledger.note(home, "root", "endpoint", "api/a", f"word-{number}")
    ledger.close()
    with sqlite3.connect(f"{home}/ledger.db") as database:
        (count,) = database.execute("SELECT count(*) FROM words").fetchone()
    database.close()
    assert count == 11
    assert read_anew(home) == {"api/a": "word-49", "api/b": "maintenance"}
