"""A copy of a blank has what the blank has, natively as by name; an exchange's blank shares nothing that changes."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest

from workers.blanks import SHARED, copied_by_name, copy_of
from workers.exchange import BLANK, Exchange

NEEDS_NATIVE = pytest.mark.skipif(
    find_spec("workers._native.blanks") is None, reason="build it: python setup.py build_ext --inplace"
)
Copy = Callable[[Any], Any]


@pytest.fixture(params=["twin", pytest.param("native", marks=NEEDS_NATIVE)])
def copied(request: pytest.FixtureRequest) -> Copy:
    native: Copy = import_module("workers._native.blanks").copy_of if request.param == "native" else copied_by_name
    return native


class Form:
    __slots__ = ("one", "three", "two")


def test_a_copy_has_the_same_and_is_another(copied: Copy) -> None:
    form = Form()
    form.one, form.three = "1", ["shared"]
    copy = copied(form)
    assert type(copy) is Form and copy is not form
    assert copy.one == "1" and copy.three is form.three
    assert not hasattr(copy, "two"), "what the blank has not, the copy has not"
    copy.one = "2"
    del copy.three
    assert (form.one, form.three) == ("1", ["shared"])


def test_copies_own_what_they_refer_to(copied: Copy) -> None:
    form, thing = Form(), object()
    form.one = thing
    before = sys.getrefcount(thing)
    copies = [copied(form) for _ in range(100)]
    assert sys.getrefcount(thing) == before + 100
    copies.clear()
    assert sys.getrefcount(thing) == before


def test_the_collector_sees_a_copy(copied: Copy) -> None:
    class Watched:
        __slots__ = ("__weakref__",)

    copy = copied(Form())
    copy.one, copy.two = copy, Watched()
    gone = weakref.ref(copy.two)
    del copy
    gc.collect()
    assert gone() is None


class Loose:
    pass


class Seen:
    __slots__ = ("__weakref__", "one")


class Below(Form):
    __slots__ = ("four",)


@NEEDS_NATIVE
@pytest.mark.parametrize("thing", [Loose(), Seen(), Below(), 1, "a", (1, 2), [], {}, object(), len, Form, sys, gc])
def test_what_has_more_than_slots_is_refused(thing: Any) -> None:
    with pytest.raises(TypeError):
        import_module("workers._native.blanks").copy_of(thing)


@pytest.mark.interpreted
def test_an_exchange_shares_nothing_with_its_blank_that_could_change() -> None:
    for name in Exchange.__slots__:
        value = getattr(BLANK, name, None)
        assert isinstance(value, SHARED) or value == (), f"{name}: put what changes into `opened`"


@NEEDS_NATIVE
def test_the_worker_copies_natively() -> None:
    assert copy_of.__module__ == "workers._native.blanks"
