"""The books: what is written of an exchange, and the choice between two ways of writing it.

Intuition: a clerk with a rubber stamp and a form. Nearly every entry is of the same
kind, and for those there is a stamp (the native kernel, `workers/_native/books.c`):
one call writes the line of the access log and the record of the journal. The rest
is written by hand, by the same rules.

The twin (workers.books_twin) is the specification, and what is used where nothing
can be compiled. SENTINEL_PURE=1 forces it.

Rules:
1. One call of `enter` for whatever ends an exchange: it keeps the line, and returns the record.
2. Lines gather until they are taken; whoever looks after the log takes them.
3. A record that had to be cut is told of (`on_cut`): `why` will know less of that request.
4. Keys, and the fields that are redacted, are in no record: their mark is, keyed with the instance's secret.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final, Protocol

from sentinel.core.reasons import Reason
from sentinel.core.record import (
    CUT,
    FIXED,
    RECORD_BYTES_MAX,
    VERSION,
    Mark,
    RecordEncoder,
    details_text,
    place_text,
    redacted_texts,
)
from sentinel.core.span import NOWHERE, Span
from sentinel.core.trace import Step
from shm.siphash import siphash_128

Secret = tuple[int, int]
NO_SECRET: Final[Secret] = (0, 0)


class Books(Protocol):
    """One worker's books."""

    @property
    def lines_bytes(self) -> int: ...
    @property
    def lines_count(self) -> int: ...

    def enter(
        self, began_ns: int, duration_ns: int, request_id: str, client_ip: str, method: str, host: str, path: str,
        query_bytes: int, protocol: str, status: int, reason_number: int, reason_word: str, route: str, upstream: str,
        endpoint: str, attempts: int, answered_ns: int, bytes_in: int, bytes_out: int, user_agent: str,
        listener: str, steps: list[Step], more: bytes = b"", /,
    ) -> bytes:  # fmt: skip
        """Keep the line of one exchange, and return its record; b"" where none is wanted.

        `more`: fields that the line has besides, as JSON with a comma before each; left out of a line that they would
        make longer than LINE_BYTES_MAX.

        `began_ns` is wall-clock time; `answered_ns` what the last attempt took up to its answer's head, 0: no answer.
        """

    def take_lines(self) -> bytes:
        """The lines that have gathered, each with its end; they are no longer kept here."""


def open_books(
    *, generation: int, worker: int, is_logged: bool, steps: Iterable[Step], on_cut: Callable[[], None],
    spans: Iterable[Span] = (), secret: Secret = NO_SECRET, redacted: Collection[str] = (), is_recorded: bool = True,
) -> Books:  # fmt: skip
    """Open one worker's books.

    steps: those that will come again and again. spans: places of steps that are made on the spot.
    """
    known, mark = list(steps), marker(secret)
    encode = record_writer(RecordEncoder(known, redacted=redacted, mark=mark), generation, on_cut)
    if not os.environ.get("SENTINEL_PURE"):
        try:
            from workers._native.books import Books as Native
        except ImportError:
            pass
        else:
            places = list(_written((NOWHERE, *spans, *(span for _, span, _ in known))))
            stamps = [(step, details_text(step[2], mark).encode("utf-8", "replace")) for step in known]
            return Native(
                generation, worker, is_logged, is_recorded, [(reason, reason.number) for reason in Reason], places,
                stamps, secret, sum(1 << at for at in redacted_texts(redacted)), encode,
                (FIXED.size, RECORD_BYTES_MAX, VERSION),
            )  # fmt: skip
    from workers.books_twin import Books as Twin

    return Twin(generation, worker, is_logged, is_recorded, encode)


def marker(secret: Secret) -> Mark:
    """What marks keys: the first 32 bits by which shared memory knows them too."""
    return lambda octets: siphash_128(*secret, octets)[0] & 0xFFFFFFFF


def _written(spans: Iterable[Span]) -> Iterator[tuple[Span, bytes, bytes, int]]:
    """Each place as text, as text behind one of the same file, and the number of its file (-1: it is no place)."""
    files: dict[str, int] = {}
    for span in spans:
        whole, rest = (place_text(span, file).encode("utf-8", "replace") for file in (None, span.file))
        yield span, whole, rest, files.setdefault(span.file, len(files)) if span.line else -1


def record_writer(encoder: RecordEncoder, generation: int, on_cut: Callable[[], None]) -> Callable[..., bytes]:
    """Write any record, from the arguments of `enter`."""

    def encode(
        began_ns: int, duration_ns: int, request_id: str, client_ip: str, method: str, host: str, path: str,
        query_bytes: int, protocol: str, status: int, reason_number: int, reason_word: str, route: str, upstream: str,
        endpoint: str, attempts: int, answered_ns: int, bytes_in: int, bytes_out: int, user_agent: str,
        listener: str, steps: Any,
    ) -> bytes:  # fmt: skip
        record = encoder.encode(
            request_id=request_id, time_ns=began_ns, duration_ns=duration_ns, generation=generation,
            listener=listener, client_ip=client_ip, method=method, host=host, path=path, query_length=query_bytes,
            route=route, upstream=upstream, endpoint=endpoint, attempts=attempts, status=status,
            reason_number=reason_number, bytes_in=bytes_in, bytes_out=bytes_out, steps=steps,
        )  # fmt: skip
        if record[1] & CUT:
            on_cut()
        return record

    return encode
