"""Objects that begin as copies of a blank form, because filling in sixty fields each time is what costs.

Intuition: a pad of forms. What is the same on every form was printed once; by hand comes only
what is this one's own.

Rule: a blank holds values that never change (numbers, texts, None, tuples), for all copies share them. A
list that is written to belongs to the hand. `SHARED` names the kinds, and a test holds blanks to them.

Native where it can be had (workers/_native/blanks.c); the form in Python is the specification, and
SENTINEL_PURE=1 forces it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, TypeVar

from sentinel.core.reasons import Reason
from sentinel.core.world import Wish

T = TypeVar("T")
SHARED: Final = (int, str, bytes, type(None), Reason, Wish)


def copied_by_name(blank: T, /) -> T:
    """A new object of the same class with the same slots; those that the blank has not are not there either."""
    kind = type(blank)
    copy = kind.__new__(kind)
    for name in kind.__slots__:  # type: ignore[attr-defined]
        if hasattr(blank, name):
            setattr(copy, name, getattr(blank, name))
    return copy


if TYPE_CHECKING:

    def copy_of(blank: T, /) -> T:
        """The same; TypeError for an object that has more than slots."""

else:

    def _choose():
        if not os.environ.get("SENTINEL_PURE"):
            try:
                from workers._native import blanks as native
            except ImportError:
                pass
            else:
                return native.copy_of
        return copied_by_name

    copy_of = _choose()
