"""What an instance leaves to the next one: taken over exactly, or put aside with a word, never half."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.core.limits import ADMITTED, REFUSED, TERM
from sentinel.core.machines.breaker import BreakerState
from sentinel.core.machines.health import Admin
from shm import estate as estate_file
from shm.estate import BUCKET, HEAD, Estate, EstateFault
from shm.layout import LIMIT_TERM_MAX_NS
from shm.region import Region, Role

NOW = 1_000_000_000_000
SECOND = 1_000_000_000
TEN = TERM.pack(SECOND, 10 * SECOND, 0)
"""One a second, and ten at once."""
SOME = Estate((1, 2), BUCKET.pack(3, 4, 5), (("upstream/one", b"12345678"), ("ü", b"")), ((b"team", 6, 7, 8),))


@pytest.fixture
def heir(name: str) -> Iterator[Region]:
    """A region for the next instance, larger than the first one, with its secret."""
    region = Region.create(name + "-heir", series_max=16, slots_max=12, journal_records=8, limits_max=128,
                           secret=(7, 8))  # fmt: skip
    yield region
    region.unlink()
    region.close()


def worker(region: Region) -> int:
    return region.claim_slot(pid=0, birth_ns=0, role=Role.WORKER, generation=1, lane=0)


def test_a_bucket_is_as_full_as_it_was(name: str, heir: Region) -> None:
    first = Region.create(name, series_max=16, slots_max=12, journal_records=8, limits_max=64, secret=(7, 8))
    slot = worker(first)
    for number in range(20):
        for _ in range(number % 10 + 1):
            assert first.charge(slot, NOW, (b"client %d" % number,), TEN)[0] == ADMITTED
    left = first.estate(NOW + SECOND // 2)
    first.unlink()
    first.close()
    assert heir.inherit(left, NOW + SECOND // 2) == 0
    slot = worker(heir)
    for number in range(20):
        charged = number % 10 + 1
        answers = [heir.charge(slot, NOW, (b"client %d" % number,), TEN)[0] for _ in range(11 - charged)]
        assert answers == [ADMITTED] * (10 - charged) + [REFUSED], "as if there had been one instance only"


def test_who_is_full_again_is_not_mentioned(region: Region) -> None:
    slot = worker(region)
    region.charge(slot, NOW, (b"one",), TEN)
    region.charge(slot, NOW + 5 * SECOND, (b"other",), TEN)
    assert region.estate(NOW).bucket_count == 2
    assert region.estate(NOW + SECOND).bucket_count == 1
    assert region.estate(NOW + 6 * SECOND).bucket_count == 0


def test_times_that_no_limit_can_have_are_not_believed(region: Region) -> None:
    far = BUCKET.pack(1, 1, NOW + 2 * LIMIT_TERM_MAX_NS + 1)
    region.inherit(Estate((1, 2), far, ()), NOW)
    assert region.limits_statistics(NOW).live == 0


def test_buckets_without_room_are_counted(region: Region) -> None:
    same_home = b"".join(BUCKET.pack(64 * number, number, NOW + SECOND) for number in range(100))
    assert region.inherit(Estate((1, 2), same_home, ()), NOW) > 0
    assert 0 < region.limits_statistics(NOW).live <= 64


def test_places_of_which_there_is_something_to_tell_are_taken_over(region: Region, heir: Region) -> None:
    _, drained, opened = region.place_numbers(["u/quiet", "u/drained", "u/opened"])
    region.board.set_admin(drained, Admin.DRAIN)
    region.board.set_breaker(opened, True, NOW)
    left = region.estate(NOW)
    assert [name for name, _ in left.places] == ["u/drained", "u/opened"]
    heir.inherit(left, NOW)
    opened, new, drained = heir.place_numbers(["u/opened", "u/new", "u/drained"])
    assert heir.place(drained).admin is Admin.DRAIN
    assert heir.place(opened).breaker is BreakerState.OPEN
    assert (heir.place(new).admin, heir.place(new).breaker) == (Admin.READY, BreakerState.CLOSED)


def test_what_was_spent_of_a_budget_is_spent(name: str, heir: Region) -> None:
    first = Region.create(name, series_max=2, slots_max=4, journal_records=1, limits_max=64, secret=(7, 8))
    terms = struct.pack("=4Q", NOW + 60 * SECOND, 50, 100, 0)
    slot = worker(first)
    settled, opened = (first.reserve(slot, NOW, (key,), terms)[3] for key in (b"settled", b"open"))
    first.settle(slot, settled, 30, 50, 1)
    first.settle(slot, opened, 5, 5, 0)
    left = first.estate(NOW)
    first.unlink()
    first.close()
    assert heir.inherit(left, NOW) == 0
    assert heir.spent(b"settled") == (30, 0, 1)
    assert heir.spent(b"open") == (5, 0, 0), "what was reserved is free, what was used is not"
    assert heir.reserve(worker(heir), NOW, (b"settled",), terms)[0] == ADMITTED
    assert left.budgets and not Region.estate(heir, NOW + 61 * SECOND).budgets, "its window is over"


def test_at_most_half_of_the_room_is_taken_by_what_was(heir: Region) -> None:
    heir.place_numbers(["probe"])
    heir.board.set_admin(0, Admin.MAINTENANCE)
    ((_, words),) = heir.estate(NOW).places
    many = tuple((f"u/{number}", words) for number in range(heir.geometry.places_max))
    heir.inherit(Estate((7, 8), b"", many), NOW)
    heir.place_numbers([f"v/{number}" for number in range(heir.geometry.places_max // 2 - 1)])


def test_a_killed_instance_leaves_its_region_and_a_living_one_nothing(name: str) -> None:
    assert Region.estate_of(name, NOW) is None, "there is no region"
    alive = Region.create(name, series_max=2, slots_max=4, journal_records=1, limits_max=64)
    assert Region.estate_of(name, NOW) is None, "its owner lives: this process"
    alive.unlink()
    alive.close()
    pid = os.fork()
    if pid == 0:
        region = Region.create(name, series_max=2, slots_max=4, journal_records=1, limits_max=64, secret=(5, 6))
        region.charge(worker(region), NOW, (b"somebody",), TEN)
        os._exit(0)
    os.waitpid(pid, 0)
    left = Region.estate_of(name, NOW)
    assert left is not None
    assert (left.secret, left.bucket_count) == ((5, 6), 1)


@given(
    secret=st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)),
    buckets=st.lists(st.tuples(*[st.integers(0, 2**64 - 1)] * 3)),
    places=st.lists(st.tuples(st.text(max_size=80), st.binary(max_size=200))),
    budgets=st.lists(st.tuples(st.binary(max_size=160), *[st.integers(0, 2**64 - 1)] * 3)),
)
def test_what_was_written_is_read(
    secret: tuple[int, int], buckets: list[tuple[int, int, int]], places: list[tuple[str, bytes]],
    budgets: list[tuple[bytes, int, int, int]],
) -> None:  # fmt: skip
    names = [(name.encode(errors="replace").decode(), words) for name, words in places]
    left = Estate(secret, b"".join(BUCKET.pack(*bucket) for bucket in buckets), tuple(names), tuple(budgets))
    assert Estate.from_bytes(left.to_bytes()) == left


@given(st.data())
def test_a_flipped_bit_or_a_cut_is_noticed(data: st.DataObject) -> None:
    octets = bytearray(SOME.to_bytes())
    if data.draw(st.booleans()):
        del octets[data.draw(st.integers(0, len(octets) - 1)) :]
    else:
        octets[data.draw(st.integers(0, len(octets) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(EstateFault):
        Estate.from_bytes(bytes(octets))


@given(st.binary(max_size=300))
def test_rubbish_is_a_fault_and_nothing_else(octets: bytes) -> None:
    with pytest.raises(EstateFault):
        Estate.from_bytes(octets)


def test_papers_of_another_boot_are_put_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    octets = SOME.to_bytes()
    monkeypatch.setattr(estate_file, "boot", lambda: b"another".ljust(36))
    with pytest.raises(EstateFault, match="started anew"):
        Estate.from_bytes(octets)


def test_papers_of_another_version_are_put_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    octets = SOME.to_bytes()
    monkeypatch.setattr(estate_file, "VERSION", estate_file.VERSION + 1)
    with pytest.raises(EstateFault, match="another version"):
        Estate.from_bytes(octets)


def test_the_head_is_as_long_as_it_says() -> None:
    assert len(Estate((0, 0), b"", ()).to_bytes()) == HEAD.size + 4
