"""Limits as callers see them, on both implementations, against a dictionary that does the same without bounds."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shm.cells import Cells
from shm.layout import HEADER, LIMIT_CLOSED, LIMIT_GRACE_NS, LIMIT_OBSERVE, SLOT, WORD, Geometry
from shm.limits import ADMITTED, FULL, REFUSED
from shm.region import Counter, LimitsStatistics, Region, Role
from shm.siphash import siphash_128
from tests.shm.implementations import IMPLEMENTATIONS, NATIVE_IS_BUILT, NEEDS_NATIVE, open_on

SECOND = 1_000_000_000
NOW = 1000 * SECOND
GEOMETRY = Geometry(slots_max=2, series_max=2, journal_records=1, limits_max=64, places_max=4)
VECTORS = (
    "a3817f04ba25a8e66df67214c7550293", "da87c1d86b99af44347659119b22fc45", "8177228da4a45dc7fca38bdef60affe4",
    "9c70b60c5267a94e5f33b6b02985ed51", "f88164c12d9c8faf7d0f6e7c7bcd5579", "1368875980776f8854527a07690e9627",
    "14eeca338b208613485ea0308fd7a15e", "a1f1ebbed8dbc153c0b84aa61ff08239", "3b62a9ba6258f5610f83e264f31497b4",
)  # fmt: skip
"""The paper's reference code: key 00..0f, text the first n octets of 00 01 02 ..., its first results of 128 bits."""
ALL_VECTORS = "ecfaa9fe47ff788fa834a9863ea2715a2880cd37d2b8c3c194402838428119b9"
"""SHA-256 of all 64 of them, one after another."""


def terms(*limits: tuple[int, int, int]) -> bytes:
    return array("Q", [word for limit in limits for word in limit]).tobytes()


TEN_A_SECOND = (SECOND // 10, SECOND // 2, LIMIT_CLOSED)
"""Five at once, and ten a second."""


@pytest.fixture(params=IMPLEMENTATIONS)
def cells(request: pytest.FixtureRequest) -> Iterator[Cells]:
    cells = open_on(request.param, memoryview(bytearray(GEOMETRY.size_bytes)), GEOMETRY)
    yield cells
    cells.release()


def counted(cells: Cells, counter: Counter, slot: int = 0) -> int:
    return cells.load(GEOMETRY.slot(slot) + SLOT.offset("counters") + counter * WORD)


def outcome(cells: Cells, key: bytes, now_ns: int = NOW, term: tuple[int, int, int] = TEN_A_SECOND) -> int:
    return cells.charge(0, now_ns, (key,), terms(term))[0]


class TestHash:
    def test_the_published_vectors(self) -> None:
        secret = int.from_bytes(bytes(range(8)), "little"), int.from_bytes(bytes(range(8, 16)), "little")
        hashes = [b"".join(word.to_bytes(8, "little") for word in siphash_128(*secret, bytes(range(n))))
                  for n in range(64)]  # fmt: skip
        assert [octets.hex() for octets in hashes[: len(VECTORS)]] == list(VECTORS)
        assert sha256(b"".join(hashes)).hexdigest() == ALL_VECTORS

    @pytest.mark.parametrize("length", [*range(18), 255, 256, 1024])
    def test_an_entry_holds_the_hash_of_its_key_with_the_secret(self, cells: Cells, length: int) -> None:
        for at, word in ((HEADER.offset("secret_low"), 0x0706050403020100), (HEADER.offset("secret_high"), 1 << 63)):
            cells.store(at, word)
        key = bytes(range(256)) * 4
        outcome(cells, key[:length])
        low, high = siphash_128(0x0706050403020100, 1 << 63, key[:length])
        at = GEOMETRY.limit(low % GEOMETRY.limits_max)
        assert (cells.load(at), cells.load(at + WORD)) == (low, high)


class TestCharge:
    def test_a_burst_and_then_the_rate(self, cells: Cells) -> None:
        assert [outcome(cells, b"a") for _ in range(7)] == [ADMITTED] * 5 + [REFUSED] * 2
        assert outcome(cells, b"a", NOW + SECOND // 10 - 1) == REFUSED
        assert outcome(cells, b"a", NOW + SECOND // 10) == ADMITTED
        assert outcome(cells, b"a", NOW + SECOND // 10) == REFUSED
        assert outcome(cells, b"b") == ADMITTED
        assert counted(cells, Counter.LIMITS_CHARGED) == 7 and counted(cells, Counter.LIMITS_REFUSED) == 4

    def test_the_answer_tells_what_is_left(self, cells: Cells) -> None:
        assert cells.charge(0, NOW, (b"a",), terms(TEN_A_SECOND)) == (ADMITTED, -1, NOW + SECOND // 10)
        assert cells.peek(NOW, b"a") == NOW + SECOND // 10
        assert cells.peek(NOW + SECOND, b"a") == 0 == cells.peek(NOW, b"b")
        assert cells.charge(0, NOW, (b"a",), terms((SECOND, SECOND, 0))) == (REFUSED, 0, NOW + SECOND // 10)

    def test_the_answer_tells_for_how_long_buckets_are_in_use(self, cells: Cells) -> None:
        both = terms(TEN_A_SECOND, (SECOND, SECOND, 0))
        assert cells.charge_used(0, NOW, (b"a", b"b"), both) == (ADMITTED, -1, SECOND // 10, SECOND)
        assert cells.charge_used(0, NOW + 7, (b"a", b"b"), both) == (REFUSED, 1, SECOND // 10 - 7, SECOND - 7)
        assert cells.charge_used(0, NOW + SECOND // 2, (b"b", b"a"), both) == (REFUSED, 0, SECOND // 2, 0)

    def test_several_limits_are_charged_all_or_none(self, cells: Cells) -> None:
        both = terms(TEN_A_SECOND, (SECOND, SECOND, 0))
        assert cells.charge(0, NOW, (b"a", b"b"), both) == (ADMITTED, -1, NOW + SECOND // 10, NOW + SECOND)
        for _ in range(9):
            assert cells.charge(0, NOW, (b"a", b"b"), both) == (REFUSED, 1, NOW + SECOND // 10, NOW + SECOND)
        assert [outcome(cells, b"a") for _ in range(5)] == [ADMITTED] * 4 + [REFUSED]

    def test_what_was_charged_is_given_back_when_a_later_one_refuses(self, cells: Cells) -> None:
        """The same key twice passes the look and not the charge."""
        one = (SECOND, SECOND, 0)
        keys, agreed = (b"other", b"a", b"a"), terms(TEN_A_SECOND, one, one)
        assert cells.charge(0, NOW, keys, agreed) == (REFUSED, 2, 0, 0, NOW + SECOND)
        assert cells.peek(NOW, b"a") == 0 == cells.peek(NOW, b"other")
        assert [outcome(cells, b"other") for _ in range(6)] == [ADMITTED] * 5 + [REFUSED]
        assert [outcome(cells, b"a", term=one) for _ in range(2)] == [ADMITTED, REFUSED]

    def test_a_bucket_that_was_given_back_keeps_its_entry_until_its_peak_has_passed(self, cells: Cells) -> None:
        long = (100 * SECOND, 100 * SECOND, 0)
        keys, agreed = (b"a", b"a"), terms(long, long)
        assert cells.charge(0, NOW, keys, agreed)[0] == REFUSED
        for number in range(200):
            outcome(cells, b"%d" % number, NOW + SECOND, (1, 1, LIMIT_CLOSED))
        assert counted(cells, Counter.LIMITS_RECLAIMED) == 0
        assert outcome(cells, b"a", NOW + SECOND, long) == ADMITTED

    def test_an_observer_never_refuses_and_is_charged_within_its_limit_only(self, cells: Cells) -> None:
        watched = terms((SECOND, 2 * SECOND, LIMIT_OBSERVE))
        answers = [cells.charge(0, NOW, (b"a",), watched) for _ in range(4)]
        assert answers == [(ADMITTED, -1, NOW + tat * SECOND) for tat in (1, 2, 2, 2)]
        both = terms((SECOND, 2 * SECOND, LIMIT_OBSERVE), TEN_A_SECOND)
        answers = [cells.charge(0, NOW, (b"a", b"b"), both)[:2] for _ in range(6)]
        assert answers == [(ADMITTED, -1)] * 5 + [(REFUSED, 1)]

    def test_what_is_more_than_a_bucket_holds_is_refused_and_takes_no_entry(self, cells: Cells) -> None:
        assert cells.charge(0, NOW, (b"a",), terms((SECOND, SECOND - 1, 0))) == (REFUSED, 0, 0)
        assert cells.charge(0, NOW, (b"a",), terms((0, SECOND, 0))) == (ADMITTED, -1, 0)
        assert cells.limits_statistics(NOW) == (0, 0, 0, 0)

    def test_no_limits_at_all_admit(self, cells: Cells) -> None:
        assert cells.charge(0, NOW, (), b"") == (ADMITTED, -1)

    @pytest.mark.parametrize("arguments", [
        (NOW, (b"a",), b""), (NOW, (b"a",), terms(TEN_A_SECOND) + b"x"), (NOW, (b"a",) * 17, terms(TEN_A_SECOND) * 17),
        (NOW, (bytes(1025),), terms(TEN_A_SECOND)), (NOW, (b"a",), terms((1 << 60, 1, 0))),
        (NOW, (b"a",), terms((1, 1 << 60, 0))), (1 << 61, (b"a",), terms(TEN_A_SECOND)),
    ])  # fmt: skip
    def test_what_is_out_of_bounds_is_a_value_error(
        self, cells: Cells, arguments: tuple[int, tuple[bytes, ...], bytes]
    ) -> None:
        with pytest.raises(ValueError):
            cells.charge(0, *arguments)
        assert cells.limits_statistics(NOW) == (0, 0, 0, 0)

    def test_the_largest_terms_do_not_overflow(self, cells: Cells) -> None:
        most, last = (1 << 60) - 1, (1 << 61) - 1
        assert outcome(cells, b"a", last, (most, most, 0)) == ADMITTED
        assert outcome(cells, b"a", last, (most, most, 0)) == REFUSED
        assert cells.peek(last, b"a") == last + most


class TestRoom:
    def fill(self, cells: Cells, now_ns: int = NOW) -> int:
        return sum(outcome(cells, b"filler %d" % number, now_ns) == ADMITTED for number in range(2000))

    def test_a_full_window_refuses_or_admits_as_the_limit_says(self, cells: Cells) -> None:
        assert self.fill(cells) == GEOMETRY.limits_max
        shut, opened = terms((SECOND, SECOND, LIMIT_CLOSED)), terms((SECOND, SECOND, 0))
        assert cells.charge(0, NOW, (b"late",), shut) == (FULL, 0, 0)
        assert cells.charge(0, NOW, (b"late",), opened) == (ADMITTED, -1, 0)
        assert cells.charge(0, NOW, (b"late",), terms((SECOND, SECOND, LIMIT_CLOSED | LIMIT_OBSERVE)))[0] == ADMITTED
        assert counted(cells, Counter.LIMITS_FULL) == 2000 - GEOMETRY.limits_max + 3

    def test_what_finds_no_room_gives_back_what_it_was_charged(self, cells: Cells) -> None:
        outcome(cells, b"a")
        self.fill(cells)
        before = cells.peek(NOW, b"a")
        answer = cells.charge(0, NOW, (b"a", b"late"), terms(TEN_A_SECOND, TEN_A_SECOND))
        assert answer == (FULL, 1, before, 0) and cells.peek(NOW, b"a") == before

    def test_expired_buckets_are_given_to_others_after_the_grace(self, cells: Cells) -> None:
        self.fill(cells)
        expired = NOW + SECOND // 10 + LIMIT_GRACE_NS
        assert outcome(cells, b"late", expired) == FULL
        assert outcome(cells, b"late", expired + 1) == ADMITTED
        assert counted(cells, Counter.LIMITS_RECLAIMED) == 1

    def test_a_flood_of_new_keys_does_not_free_the_one_that_is_limited(self) -> None:
        geometry = Geometry(slots_max=2, series_max=2, journal_records=1, limits_max=1024, places_max=4)
        implementation = "native" if NATIVE_IS_BUILT else "twin"
        cells = open_on(implementation, memoryview(bytearray(geometry.size_bytes)), geometry)
        slow = terms((100 * SECOND, 100 * SECOND, LIMIT_CLOSED))
        assert cells.charge(0, NOW, (b"limited",), slow)[0] == ADMITTED
        for number in range(100_000 if NATIVE_IS_BUILT else 10_000):
            cells.charge(0, NOW + number * 100_000, (b"flood %d" % number,), terms(TEN_A_SECOND))
            if number % 1000 == 0:
                assert cells.charge(0, NOW + number * 100_000, (b"limited",), slow)[0] == REFUSED
        assert cells.limits_statistics(NOW)[0] == geometry.limits_max
        cells.release()


class TestReset:
    def test_a_reset_bucket_is_full(self, cells: Cells) -> None:
        for _ in range(6):
            outcome(cells, b"a")
        assert cells.reset(NOW, b"a") and not cells.reset(NOW, b"a") and not cells.reset(NOW, b"b")
        assert cells.peek(NOW, b"a") == 0
        assert [outcome(cells, b"a") for _ in range(6)] == [ADMITTED] * 5 + [REFUSED]
        # The entry it had is nobody's until that time: a value must not come again in it.
        assert cells.limits_statistics(NOW) == (2, 1, 1, 0)
        assert cells.reset(NOW, b"a")

    def test_entries_of_resets_come_back(self, cells: Cells) -> None:
        for turn in range(500):
            now_ns = NOW + turn * SECOND
            assert outcome(cells, b"a", now_ns) == ADMITTED and cells.reset(now_ns, b"a")
        assert cells.limits_statistics(NOW)[0] <= 2


class Model(RuleBasedStateMachine):
    """Buckets in a dictionary, without bounds; the table must agree, but for what it says has no room."""

    implementation = "twin"

    def __init__(self) -> None:
        super().__init__()
        self.cells = open_on(self.implementation, memoryview(bytearray(GEOMETRY.size_bytes)), GEOMETRY)
        self.tats: dict[bytes, int] = {}
        self.now = NOW

    KEY = st.integers(0, 120).map(lambda number: b"key %d" % number)
    TERM = st.tuples(
        st.sampled_from([1, LIMIT_GRACE_NS // 2, SECOND]), st.sampled_from([1, LIMIT_GRACE_NS, 3 * SECOND]),
        st.integers(0, 3),
    )  # fmt: skip

    @rule(limits=st.lists(st.tuples(KEY, TERM), min_size=1, max_size=4, unique_by=lambda limit: limit[0]))
    def charge(self, limits: list[tuple[bytes, tuple[int, int, int]]]) -> None:
        keys = tuple(key for key, _ in limits)
        outcome, index, *tats = self.cells.charge(0, self.now, keys, terms(*(term for _, term in limits)))
        after = {key: max(self.tats.get(key, 0), self.now) + term[0] for key, term in limits}
        over = [after[key] - self.now > term[1] for key, term in limits]
        refusing = [at for at, (_, term) in enumerate(limits) if over[at] and not term[2] & LIMIT_OBSERVE]
        if refusing:
            assert (outcome, index) == (REFUSED, refusing[0])
        elif outcome == FULL:
            assert limits[index][1][2] & (LIMIT_CLOSED | LIMIT_OBSERVE) == LIMIT_CLOSED
            assert self.tats.get(keys[index], 0) <= self.now, "a key that is limited has its entry"
        else:
            assert (outcome, index) == (ADMITTED, -1)
        for at, key in enumerate(keys):
            present = self.tats.get(key, 0)
            if outcome == ADMITTED and not over[at] and (tats[at] or present > self.now):
                self.tats[key] = present = after[key]
            assert tats[at] == (present if present > self.now else 0)

    @rule(limits=st.integers(1, 90))
    def crowd(self, limits: int) -> None:
        for number in range(limits):
            self.charge([(b"key %d" % number, (LIMIT_GRACE_NS, SECOND, LIMIT_CLOSED))])

    @rule(pace=st.sampled_from([1, LIMIT_GRACE_NS // 3, LIMIT_GRACE_NS, 5 * SECOND]))
    def let_time_pass(self, pace: int) -> None:
        self.now += pace

    @precondition(lambda self: self.tats)
    @rule(data=st.data())
    def reset(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.tats)))
        assert self.cells.reset(self.now, key) == (self.tats[key] > self.now)
        self.tats[key] = 0

    @invariant()
    def what_limits_is_there(self) -> None:
        for key, tat in self.tats.items():
            assert self.cells.peek(self.now, key) == (tat if tat > self.now else 0)
        live = sum(tat > self.now for tat in self.tats.values())
        assert self.cells.limits_statistics(self.now)[1] == live


class NativeModel(Model):
    implementation = "native"


TestModelOfTheTwin = Model.TestCase
TestModelOfTheTwin.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestModelOfTheNative = NEEDS_NATIVE(NativeModel.TestCase)
TestModelOfTheNative.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class TestRegion:
    def test_limits_of_a_region(self, region: Region) -> None:
        slot = region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
        assert region.charge(slot, NOW, (b"a",), terms(TEN_A_SECOND))[0] == ADMITTED
        assert region.limits_statistics(NOW) == LimitsStatistics(limits_max=64, used=1, live=1, void=0, busy=0)
        assert region.totals().counters[Counter.LIMITS_CHARGED] == 1
        other = Region.attach(region.name)
        assert other.peek(NOW, b"a") == NOW + SECOND // 10 and other.reset(NOW, b"a")
        other.close()
        assert region.peek(NOW, b"a") == 0

    def test_every_instance_has_a_secret_of_its_own(self, region: Region) -> None:
        second = Region.create(region.name + "-second", series_max=2, slots_max=2, journal_records=1, limits_max=64)
        words = [(one._cells.load(HEADER.offset("secret_low")), one._cells.load(HEADER.offset("secret_high")))
                 for one in (region, second)]  # fmt: skip
        second.unlink()
        second.close()
        assert words[0] != words[1] and all(word for pair in words for word in pair)

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 16))
    def test_sizes_are_powers_of_two(self, bits: int) -> None:
        assert bool(Geometry(2, 2, 1, 1 << bits, 1).faults()) == (bits < 6)
