"""What limits tell natively is what the core says they tell, octet by octet, and for numbers that no limit has."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sentinel.core import limits
from sentinel.core.limits import Limiter, Row
from sentinel.core.plan import SECOND, RateLimit
from sentinel.core.reasons import Reason
from sentinel.core.span import NOWHERE
from workers.telling import tell, written

pytestmark = pytest.mark.skipif(
    find_spec("workers._native.telling") is None, reason="build it: python setup.py build_ext --inplace"
)
WORD = st.integers(0, (1 << 64) - 1)
TIME = st.sampled_from([0, 1, SECOND - 1, SECOND, SECOND + 1, 1 << 60]) | st.integers(0, 100 * SECOND) | WORD
NAMES = st.text(st.sampled_from("aZ0._-"), min_size=1, max_size=128)
INTERVALS = st.integers(1, SECOND) | st.integers(1, (1 << 64) - 1)
ROWS = st.tuples(
    NAMES.map('"{}";r='.format), TIME, INTERVALS, st.just(Reason.WITHIN_LIMIT), st.just(NOWHERE), NAMES, WORD
)


def native() -> Any:
    return import_module("workers._native.telling")


def row(count: int, burst: int) -> Row:
    return Limiter(RateLimit("one", SECOND, count, burst), "").row


def like(*first: Any) -> Any:
    """A row that begins with other things."""
    return (*first, *row(1, 1)[len(first) :])


@given(st.lists(st.tuples(ROWS, st.binary(max_size=40), TIME), max_size=20), st.integers(0, 2), st.integers(-1, 20))
@example([((row(10, 5)), b"a", 0), (row(10, 5), b"b", SECOND // 2), (row(1, 1_000_000), b"", 7)], 0, -1)
def test_it_tells_what_the_core_tells(told: list[tuple[Any, bytes, int]], outcome: int, index: int) -> None:
    rows, keys = tuple(one for one, _, _ in told), tuple(key for _, key, _ in told)
    charged = (outcome, index, *(used for _, _, used in told))
    assert native().tell(rows, keys, charged) == limits.tell(rows, keys, charged)


@pytest.mark.parametrize(
    ("rows", "keys", "charged", "fault"),
    [
        ((row(1, 1),), (b"",), (0, -1), ValueError),
        ((row(1, 1),), (b"",), (0, -1, 1, 1), ValueError),
        ((row(1, 1),), (), (0, -1, 1), ValueError),
        ((row(1, 1),), (b"",), (0, -1, -1), OverflowError),
        ((row(1, 1),), (b"",), (0, -1, 1 << 64), OverflowError),
        ((like("é", 1, 1),), (b"",), (0, -1, 0), ValueError),
        ((like("a", 1, 0),), (b"",), (0, -1, 0), ValueError),
        ((("a", 1, 1),), (b"",), (0, -1, 0), TypeError),
        ((like(b"a", 1, 1),), (b"",), (0, -1, 0), TypeError),
        ([row(1, 1)], (b"",), (0, -1, 0), TypeError),
        ((row(1, 1),), [b""], (0, -1, 0), TypeError),
        ((row(1, 1),) * 65, (b"",) * 65, (0, -1, *[0] * 65), ValueError),
    ],
)
def test_what_is_no_row_and_no_charge_is_refused(
    rows: Any, keys: Any, charged: Any, fault: type[Exception]
) -> None:
    with pytest.raises(fault):
        native().tell(rows, keys, charged)


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
