"""The fields of a head, read one line after the other; shared by requests and answers of the twin.

The native kernel does all of this in one pass. Here it is written so that each
rule stands alone: this file is what the kernel is compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sentinel.core.reasons import Reason
from workers.http1.faults import Fault
from workers.http1.grammar import (
    CHUNKED,
    DIGITS,
    FIELDS_MAX,
    HEAD_MAX,
    LENGTH_MAX,
    LINES,
    NAME,
    OPTIONS_MAX,
    PROTOCOLS,
    VALUE,
)
from workers.http1.names import Role, is_removable, role_of

Blame = Callable[[Reason, str], Fault]
"""Makes the fault of whoever sent the octets; for an upstream the reason is always the same."""

BLANKS = " \t"


class Field(NamedTuple):
    """One line of a head."""

    role: Role
    name: str  # lower case
    value: str  # trimmed
    spelling: bytes  # the name as it was sent
    rest: bytes  # from the colon to before the CR


class Framing(NamedTuple):
    """How a body is delimited, as far as fields say so; length -1 for none."""

    length: int
    chunked: bool


def check_limits(max_bytes: int, max_headers: int) -> None:
    """The caller's limits, which come from the plan, must fit into the codec's own."""
    if not 0 < max_bytes <= HEAD_MAX or not 0 <= max_headers <= FIELDS_MAX:
        raise ValueError("a limit is out of range")


def read_fields(window: bytes, at: int, max_headers: int, blame: Blame) -> tuple[list[Field], int] | None:
    """The fields from `at` on, and where the body begins; None while the empty line has not come."""
    fields: list[Field] = []
    while True:
        end = window.find(b"\n", at)
        if end < 0:
            return None
        line = window[at:end]
        at = end + 1
        if line == b"\r":
            return fields, at
        if len(fields) == max_headers:
            raise blame(Reason.HEADER_TOO_LARGE, "too many fields")
        fields.append(_field(line, blame))


def _field(line: bytes, blame: Blame) -> Field:
    if line[:1] in (b" ", b"\t"):
        raise blame(Reason.BAD_HEADER, "a line begins with a blank")
    name = NAME(line)
    if name is None:
        raise blame(Reason.BAD_HEADER, "a name is malformed, or no colon follows it")
    rest = line[name.end() - 1 : -1]
    if line[-1:] != b"\r" or not VALUE(rest[1:]):
        raise blame(Reason.BAD_HEADER, "a value contains a control, or its line does not end in CRLF")
    lower = name[1].decode("ascii").lower()
    return Field(role_of(lower), lower, rest[1:].decode("latin-1").strip(BLANKS), name[1], rest)


def options_of(fields: list[Field], blame: Blame) -> frozenset[str]:
    """All options of Connection, in lower case."""
    values = [field.value.lower().split(",") for field in fields if field.role is Role.CONNECTION]
    options = [option.strip(BLANKS) for value in values for option in value]
    if len(options) - options.count("") > OPTIONS_MAX:
        raise blame(Reason.BAD_HEADER, "too many options of Connection")
    return frozenset(options) - {""}


def framing_of(fields: list[Field], minor: int, blame: Blame) -> Framing:
    """Whatever leaves room for two readings is refused."""
    lengths = [field for field in fields if field.role is Role.LENGTH]
    codings = [field for field in fields if field.role is Role.CODING]
    if len(lengths) + len(codings) > 1:
        raise blame(Reason.BAD_FRAMING, "there is more than one Content-Length or Transfer-Encoding")
    if codings:
        if minor == 0:
            raise blame(Reason.BAD_FRAMING, "Transfer-Encoding in HTTP/1.0")
        if not CHUNKED(codings[0].rest):
            raise blame(Reason.BAD_FRAMING, "a transfer coding other than chunked")
        return Framing(-1, True)
    if not lengths:
        return Framing(-1, False)
    digits = DIGITS(lengths[0].rest)
    if digits is None or int(digits[1]) > LENGTH_MAX:
        raise blame(Reason.BAD_FRAMING, "Content-Length is not a number in range")
    return Framing(int(digits[1]), False)


def keeps_alive(options: frozenset[str], minor: int) -> bool:
    return "close" not in options and (minor == 1 or "keep-alive" in options)


def upgrade_of(fields: list[Field], options: frozenset[str]) -> str:
    """The protocols that Upgrade offers, if Connection names it; "" for none, for nonsense, and for h2c."""
    offers = [field.value for field in fields if field.role is Role.UPGRADE]
    if len(offers) != 1 or "upgrade" not in options or not PROTOCOLS(offers[0]):
        return ""
    names = {name.strip(" ").partition("/")[0].lower() for name in offers[0].split(",")}
    return "" if "h2c" in names else offers[0]


def lines_of(fields: list[Field], options: frozenset[str], drop: frozenset[str], also: frozenset[Role]) -> list[bytes]:
    """The lines that go on: end-to-end fields that are neither dropped nor nominated, and those of the roles `also`."""
    nominated = options - {"close"}
    return [
        b"%b: %b\r\n" % (field.spelling, field.value.encode("latin-1"))
        for field in fields
        if (field.role <= Role.GUARDED or field.role in also)
        and field.name not in drop
        and not (field.name in nominated and is_removable(field.name, field.role))
    ]


def check_extra(extra: bytes) -> None:
    """Lines that the gateway adds are whole lines, whatever text went into them."""
    if not LINES(extra):
        raise ValueError("extra is not whole header lines")
