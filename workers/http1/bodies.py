"""Bodies: where one ends, and what of its framing goes on to the other side.

Intuition: a goods train that passes a weighbridge. The waggons are not unloaded; the
bridge reads the label of each, follows how much of it has rolled by, and knows
when the last one has passed. Labels with remarks on them are replaced by clean ones.

Rules:
1. Octets are passed on as they come: no chunk is collected. With `reframe` what goes out is
   again chunked, otherwise it is the payload alone. Octets that are already in canonical form
   leave as they are, and if that is all of them, as the same object.
2. A chunk line is hexadecimal digits, then extensions after the grammar (RFC 9112 section 7.1.1) without
   any blank; then CRLF. Signs, `0x`, `_`, blanks, bare LF and bare CR are refused. A line is bounded,
   and so is the sum of all extensions: chunks of one octet with long remarks cost more than they carry.
3. Extensions are dropped: nobody uses them but attackers (RFC 9112 lets a recipient ignore them).
4. Trailers are bounded and as strict as heads. A client's are dropped, since origins that merge
   them into the head would take on trust what no policy has seen. An upstream's go on,
   except names that mean something to those on the way (workers.http1.names).
5. The last chunk goes out only when the whole trailer is there and valid.
6. After a fault a decoder is of no use; after the end it consumes nothing.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from sentinel.core.reasons import Reason
from workers.http1.faults import ClientFault, Fault, UpstreamFault
from workers.http1.grammar import NAME, TEXT, TOKEN, VALUE
from workers.http1.names import Role, role_of

LINE_MAX: Final = 256
"""A chunk line, CRLF included: 16 digits, and more than any signature that was ever sent as an extension."""
EXTENSIONS_MAX: Final = 16 * 1024
"""All extensions of one body."""
TRAILER_MAX: Final = 8 * 1024
TRAILERS_MAX: Final = 32
SIZE_DIGITS_MAX: Final = 15
"""So a size is below 2**60, and a sum of them overflows nowhere."""

QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\%b)*"' % TEXT
SIZE_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,%d})((?:;%b+(?:=(?:%b+|%b))?)*)" % (SIZE_DIGITS_MAX, TOKEN, TOKEN, QUOTED)
).fullmatch

CANONICAL: Final = re.compile(rb"([1-9A-Fa-f][0-9A-Fa-f]{0,%d})\r\n" % (SIZE_DIGITS_MAX - 1)).match
"""A size line as we would write it ourselves."""

SIZE, DATA, DATA_END, TRAILER, DONE = range(5)
assert SIZE == 0, "`one` asks for it as for what is false"


class ChunkedBody:
    """A chunked body on its way through: feed it octets, pass on what it returns."""

    __slots__ = ("_extensions_bytes", "_fault", "_is_reframing", "_keeps_trailers", "_left", "_line", "_state",
                 "_trailer", "_trailer_bytes", "payload_bytes", "trailers")  # fmt: skip

    def __init__(
        self, *, reframe: bool, fault: type[ClientFault] | type[UpstreamFault],
        trailers: Literal["forward", "drop"] | None = None,
    ) -> None:  # fmt: skip
        self.payload_bytes = 0
        self.trailers: list[tuple[str, str]] = []
        self._is_reframing = reframe
        self._fault = fault
        self._keeps_trailers = trailers == "forward" if trailers else fault is UpstreamFault
        self._state = SIZE
        self._left = 0
        self._line = b""  # the beginning of a line whose end has not come
        self._extensions_bytes = 0
        self._trailer: list[bytes] = []
        self._trailer_bytes = 0

    @property
    def done(self) -> bool:
        return self._state == DONE

    def feed(self, data: bytes) -> tuple[bytes, int]:
        """What to pass on, and how many octets belonged to the body; raises the fault it was made with."""
        out = _Out(data, self._is_reframing)
        at, end = 0, len(data)
        if self._state == SIZE and not self._line:
            at = self._whole_chunks(out)
        while at < end and self._state != DONE:
            if self._state == DATA:
                at = self._data(out, at, end)
            elif self._state == DATA_END:
                at = self._data_end(out, at, end)
            else:
                at = self._a_line(out, at, end)
        return out.take(), at

    def one(self, data: bytes) -> bytes | None:
        """The payload, if `data` is one chunk in canonical form and nothing else, as events of a stream mostly come.

        The chunk is then taken, and its octets may go on as they came. None: nothing was taken, `feed` them.
        """
        if self._state or self._line:
            return None
        size_line = CANONICAL(data)
        if size_line is None:
            return None
        start, end = size_line.end(), len(data) - 2
        if int(size_line[1], 16) != end - start or not data.endswith(b"\r\n"):
            return None
        self.payload_bytes += end - start
        return data[start:end]

    def _whole_chunks(self, out: _Out) -> int:
        """Pass the chunks at the beginning that are canonical and all there, as nearly all are. Judges nothing."""
        data, at = out.data, 0
        while size_line := CANONICAL(data, at):
            start = size_line.end()
            size = int(size_line[1], 16)
            if data[start + size : start + size + 2] != b"\r\n":
                break
            self.payload_bytes += size
            out.pass_chunk(at, start, start + size)
            at = start + size + 2
        return at

    def _data(self, out: _Out, at: int, end: int) -> int:
        size = min(self._left, end - at)
        self._left -= size
        self.payload_bytes += size
        out.pass_payload(at, at + size)
        if not self._left:
            self._state = DATA_END
        return at + size

    def _data_end(self, out: _Out, at: int, end: int) -> int:
        """The CRLF behind the data; it may come in two pieces."""
        wanted = b"\r\n"[len(self._line) :]
        given = out.data[at : min(at + len(wanted), end)]
        if not wanted.startswith(given):
            raise self._malformed("a chunk does not end in CRLF")
        out.pass_framing(at, at + len(given))
        self._line += given
        if len(self._line) == 2:
            self._line = b""
            self._state = SIZE
        return at + len(given)

    def _a_line(self, out: _Out, at: int, end: int) -> int:
        """A size or trailer line, of which the beginning may have come before."""
        room = (LINE_MAX if self._state == SIZE else TRAILER_MAX) - len(self._line)
        found = out.data.find(b"\n", at, min(end, at + room))
        if found < 0:
            if end - at >= room:
                raise self._malformed("a line is too long")
            self._line += out.data[at:end]
            return end
        held, self._line = self._line, b""
        line = held + out.data[at:found]
        if not line.endswith(b"\r"):
            raise self._malformed("a line does not end in CRLF")
        if self._state == TRAILER:
            self._trailer_line(out, line[:-1], at, found + 1)
        else:
            self._size_line(out, line[:-1], bool(held), at, found + 1)
        return found + 1

    def _size_line(self, out: _Out, line: bytes, is_held: bool, at: int, after: int) -> None:
        parts = SIZE_LINE(line)
        if parts is None:
            raise self._malformed("a chunk size is malformed")
        digits, extensions = parts.groups()
        self._extensions_bytes += len(extensions)
        if self._extensions_bytes > EXTENSIONS_MAX:
            raise self._malformed("too many chunk extensions")
        size = self._left = int(digits, 16)
        if not size:
            self._state = TRAILER
        elif is_held or extensions or digits[:1] == b"0":
            self._state = DATA
            out.replace(b"%b\r\n" % digits.lstrip(b"0"))
        else:
            self._state = DATA
            out.pass_framing(at, after)

    def _trailer_line(self, out: _Out, line: bytes, at: int, after: int) -> None:
        self._trailer_bytes += len(line) + 2
        if not line:
            self._state = DONE
            if not self.trailers and out.data[max(at - 3, 0) : after] == b"0\r\n\r\n":
                out.pass_framing(at - 3, after)
            else:
                out.replace(b"0\r\n%b\r\n" % b"".join(self._trailer))
            return
        name = NAME(line)
        if name is None or not VALUE(line, name.end()):
            raise self._malformed("a trailer is malformed")
        if self._trailer_bytes > TRAILER_MAX or len(self.trailers) == TRAILERS_MAX:
            raise self._malformed("too many trailers")
        lower, value = name[1].decode("ascii").lower(), line[name.end() :].strip(b" \t")
        self.trailers.append((lower, value.decode("latin-1")))
        if self._keeps_trailers and role_of(lower) is Role.PLAIN:
            self._trailer.append(b"%b: %b\r\n" % (name[1], value))

    def _malformed(self, detail: str) -> Fault:
        return malformed(self._fault, detail)


class _Out:
    """What one call of `feed` passes on: runs of the data as it came, and now and then a line of ours.

    A run is only cut out when it ends, so that data in canonical form is never copied.
    """

    __slots__ = ("_is_reframing", "_parts", "_run_end", "_run_start", "data")

    def __init__(self, data: bytes, is_reframing: bool) -> None:
        self.data = data
        self._is_reframing = is_reframing
        self._parts: list[bytes] = []
        self._run_start = self._run_end = 0

    def pass_payload(self, start: int, end: int) -> None:
        if start != self._run_end:
            self._cut()
            self._run_start = start
        self._run_end = end

    def pass_framing(self, start: int, end: int) -> None:
        if self._is_reframing:
            self.pass_payload(start, end)

    def pass_chunk(self, at: int, start: int, end: int) -> None:
        """The size line begins at `at`, the data at `start`."""
        if self._is_reframing:
            self.pass_payload(at, end + 2)
        else:
            self.pass_payload(start, end)

    def replace(self, line: bytes) -> None:
        """Our line stands for whatever was not passed since the last run."""
        if self._is_reframing:
            self._cut()
            self._parts.append(line)

    def take(self) -> bytes:
        if not self._parts and not self._run_start and self._run_end == len(self.data):
            return self.data
        self._cut()
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def _cut(self) -> None:
        if self._run_end > self._run_start:
            self._parts.append(self.data[self._run_start : self._run_end])
        self._run_start = self._run_end


def malformed(fault: type[ClientFault] | type[UpstreamFault], detail: str) -> Fault:
    return fault(Reason.BAD_CHUNK if fault is ClientFault else Reason.UPSTREAM_MALFORMED, detail)
