"""What limits tell natively is what the core says they tell, octet by octet, and for numbers that no limit has."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sentinel.core import limits
from sentinel.core.limits import EXACT, Limiter, Row
from sentinel.core.plan import SECOND, RateLimit
from workers.telling import tell, written

pytestmark = pytest.mark.skipif(
    find_spec("workers._native.telling") is None, reason="build it: python setup.py build_ext --inplace"
)
WORD = st.integers(0, (1 << 64) - 1)
TIME = st.sampled_from([0, 1, SECOND - 1, SECOND, SECOND + 1, 1 << 60]) | st.integers(0, 100 * SECOND) | WORD
NAMES = st.text(st.sampled_from("aZ0._-"), min_size=1, max_size=128)
STEPS = st.integers(EXACT + 1, EXACT + 40).map(lambda count: tuple(object() for _ in range(count)))
ROWS = st.tuples(NAMES.map('"{}";r='.format), TIME, st.integers(1, SECOND) | st.integers(1, (1 << 64) - 1), STEPS)


def native() -> Any:
    return import_module("workers._native.telling")


def row(count: int, burst: int) -> Row:
    return Limiter(RateLimit("one", SECOND, count, burst), "").row


@given(st.lists(st.tuples(ROWS, TIME), max_size=20), st.integers(0, 2), st.integers(-1, 20))
@example([((row(10, 5)), 0), (row(10, 5), SECOND // 2), (row(1, 1_000_000), 7)], 0, -1)
def test_it_tells_what_the_core_tells(told: list[tuple[Any, int]], outcome: int, index: int) -> None:
    rows, charged = tuple(one for one, _ in told), (outcome, index, *(used for _, used in told))
    said, steps = native().tell(rows, charged)
    assert (said, [id(step) for step in steps]) == (
        (expected := limits.tell(rows, charged))[0], [id(step) for step in expected[1]],
    )  # fmt: skip


@pytest.mark.parametrize("remaining", [*range(EXACT + 2), 31, 32, 33, 1 << 20, (1 << 20) - 1, 1 << 40])
def test_it_finds_the_step_for_every_power_of_two(remaining: int) -> None:
    steps = row(1, 1)[3]
    one: Row = ('"one";r=', remaining, 1, steps)
    assert native().tell((one,), (0, -1, 0)) == limits.tell((one,), (0, -1, 0))


@pytest.mark.parametrize(
    ("rows", "charged", "fault"),
    [
        ((row(1, 1),), (0, -1), ValueError),
        ((row(1, 1),), (0, -1, 1, 1), ValueError),
        ((row(1, 1),), (0, -1, -1), OverflowError),
        ((row(1, 1),), (0, -1, 1 << 64), OverflowError),
        ((("é", 1, 1, row(1, 1)[3]),), (0, -1, 0), ValueError),
        ((("a", 1, 0, row(1, 1)[3]),), (0, -1, 0), ValueError),
        ((("a", 1, 1, ()),), (0, -1, 0), ValueError),
        ((("a", 1, 1),), (0, -1, 0), TypeError),
        (((b"a", 1, 1, row(1, 1)[3]),), (0, -1, 0), TypeError),
        ((("a", 1, 1, [])), (0, -1, 0), ValueError),
        ([row(1, 1)], (0, -1, 0), TypeError),
        ((row(1, 1),) * 65, (0, -1, *[0] * 65), ValueError),
    ],
)
def test_what_is_no_row_and_no_charge_is_refused(rows: Any, charged: Any, fault: type[Exception]) -> None:
    with pytest.raises(fault):
        native().tell(rows, charged)


LATIN = st.text(st.characters(max_codepoint=255), max_size=300)


@given(st.binary(max_size=50), st.lists(st.tuples(LATIN, LATIN), max_size=6).map(tuple))
def test_fields_are_written_as_lines(lines: bytes, fields: tuple[tuple[str, str], ...]) -> None:
    expected = lines + b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in fields)
    assert native().written(lines, fields) == expected


@pytest.mark.parametrize("fields", [(("a", "€"),), (("a",),), (("a", b"b"),), ["a"], ("ab",), (("a", "b", "c"),)])
def test_what_is_no_field_is_refused(fields: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        native().written(b"", fields)


def test_the_worker_uses_the_native_ones() -> None:
    assert (tell.__module__, written.__module__) == ("workers._native.telling", "workers._native.telling")
