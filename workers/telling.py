"""What rate limits tell, put into words: for the client, and for the trace. Native where it can be had.

Intuition: a cashier's receipt. The sum was reckoned elsewhere (shared memory); here it is
printed, with every request, and a printer is quicker than a pen.

`tell` is sentinel.core.limits.tell, which the core is handed (core.routes.compile_routes); `written` puts fields
behind lines that are there. The Python forms are the specification, a differential test gives both the
same numbers, and SENTINEL_PURE=1 forces them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sentinel.core import limits

if TYPE_CHECKING:
    from sentinel.core.limits import Field, Row
    from sentinel.core.trace import Step

    def tell(
        rows: tuple[Row, ...], keys: tuple[bytes, ...], charged: tuple[int, ...], /
    ) -> tuple[str, list[Step]]:
        """The value of `RateLimit`, and a step for each limit."""

    def written(lines: bytes, fields: tuple[Field, ...], /) -> bytes:
        """These lines, and after them one for each field; ValueError for what is not latin-1."""

else:

    def written_twin(lines, fields):
        return lines + "".join([f"{name}: {value}\r\n" for name, value in fields]).encode("latin-1")

    def _choose():
        if not os.environ.get("SENTINEL_PURE"):
            try:
                from workers._native import telling as native
            except ImportError:
                pass
            else:
                return native.tell, native.written
        return limits.tell, written_twin

    tell, written = _choose()
