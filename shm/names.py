"""Names with numbers: given once, in order, by control, and never taken back.

Intuition: a guest book. A name that was written keeps its line, also when what it named
has left the configuration, so that its counts stay what they are and go on if it
returns. Plans carry the numbers; workers never look a name up.

Rule 1: control is the one writer. The name is written first, the count that
    tells of it last; who dies between the two has written nothing.
Rule 2: the book is bounded; what happens when it is full is its owner's affair.
Rule 3: a name too long for its cell keeps its beginning, and a digest of all of
    it, so that two of them do not become one.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Final

from shm.cells import Cells
from shm.layout import NAME, NAME_BYTES_MAX, PLACE, WORD

DIGEST_CHARS: Final = 16


class Names:
    """One table of names, with what was read of it so far. `place`: where a name's cell begins."""

    __slots__ = ("_cells", "_count_at", "_index", "_memory", "_most", "_place")

    def __init__(
        self, cells: Cells, memory: memoryview, *, count_at: int, most: int, place: Callable[[int], int]
    ) -> None:
        self._cells = cells
        self._memory = memory
        self._count_at = count_at
        self._most = most
        self._place = place
        self._index: dict[str, int] = {}

    def all(self) -> list[str]:
        self._refresh()
        return list(self._index)

    def count(self) -> int:
        """How many names there are; bounded, whatever the word says."""
        return min(self._cells.load(self._count_at), self._most)

    def known(self, name: str) -> int | None:
        """The number of the name; None when it has none."""
        self._refresh()
        return self._index.get(_cell_text(name).decode())

    def next(self) -> int | None:
        """The number that the next new name would have; None when the table is full."""
        self._refresh()
        return len(self._index) if len(self._index) < self._most else None

    def append(self, name: str) -> int:
        """Write a name that is not there yet, where there is room; run by control."""
        octets, index, at = _cell_text(name), len(self._index), self._place(len(self._index))
        self._memory[at + WORD : at + WORD + len(octets)] = octets
        self._cells.store(at, len(octets))
        self._cells.store(self._count_at, index + 1)
        self._index[octets.decode()] = index
        return index

    def _refresh(self) -> None:
        for index in range(len(self._index), self.count()):
            at = self._place(index)
            length = min(self._cells.load(at), NAME_BYTES_MAX)
            text = bytes(self._memory[at + WORD : at + WORD + length]).decode(errors="replace")
            # A damaged name may repeat another one; it must not shift the numbers of those after it.
            self._index[text if text not in self._index else f"(damaged {index})"] = index


def _cell_text(name: str) -> bytes:
    octets = name.encode(errors="replace")
    if len(octets) <= NAME_BYTES_MAX:
        return octets
    digest = sha256(octets).hexdigest()[:DIGEST_CHARS]
    kept = octets[: NAME_BYTES_MAX - DIGEST_CHARS - 1].decode(errors="ignore")
    return f"{kept}~{digest}".encode()


assert NAME.size >= 2 * WORD + DIGEST_CHARS, "a digest leaves room for a beginning"
assert PLACE.offset("admin") - PLACE.offset("length") == NAME.size, "both kinds of names have the same cell"
