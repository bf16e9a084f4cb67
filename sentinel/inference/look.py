"""Looking into JSON: what is there has the right type, or there is a fault with its place.

Rules:
1. `null` is as good as absent: clients and servers write either.
2. A number may be written as 100 or 100.0, since providers take both; a truth value is no number.
3. A request in which a name is repeated is refused: whoever decides by the first one and whoever acts on
   the last one would speak of two requests. (Answers are the upstream's, and read as Python reads them.)
4. Numbers of tokens are bounded, so that nothing behind can overflow.

The decoder is the standard library's, since it is everywhere. A faster one can be handed in (workers.decoding): it
takes octets and raises ValueError for what is no JSON. One for requests has to see to rule 3 itself.

Where most of what comes is of one form, that is asked first and without a call; the long way round is the
specification, and makes all faults.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from sentinel.inference.fault import InferenceFault

TOKENS_MAX: Final = 1 << 40
"""A trillion tokens: more than anybody means, and far from the edge of a shared word."""
DIGITS_MAX: Final = 13
assert 10**DIGITS_MAX > TOKENS_MAX, "what is cut off before it is converted was too large anyway"

Decode = Callable[[bytes], Any]
Members = dict[str, Any]


def _unique(pairs: list[tuple[str, Any]]) -> Members:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is repeated in an object")
    return found


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)


def decode_request(body: bytes) -> Any:
    """Decode what a client sent; ValueError also for repeated names."""
    return _STRICT.decode(body.decode())


def decode_answer(body: bytes) -> Any:
    """Decode what an upstream sent."""
    return json.loads(body.decode())


def decoded(decode: Decode, body: bytes) -> Members:
    """Decode an object, or raise the fault that it is none."""
    try:
        found = decode(body)
    except ValueError as fault:  # UnicodeDecodeError is one too
        reason = "a name is repeated in an object" if "repeated" in str(fault) else "this is not JSON"
        raise InferenceFault("$", reason) from None
    except RecursionError:
        raise InferenceFault("$", "this is nested too deeply") from None
    return members(found, "$")


def members(value: Any, path: str) -> Members:
    if not isinstance(value, dict):
        raise InferenceFault(path, "an object is expected")
    return value


def inner(holder: Members, name: str, path: str) -> Members:
    """The object of that name; an empty one when there is none."""
    value = holder.get(name)
    return {} if value is None else members(value, f"{path}.{name}")


def entries(holder: Members, name: str, path: str) -> list[Any]:
    """The list of that name; an empty one when there is none."""
    value = holder.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InferenceFault(f"{path}.{name}", "a list is expected")
    return value


def text(holder: Members, name: str, path: str) -> str | None:
    value = holder.get(name)
    if value is None or isinstance(value, str):
        return value
    raise InferenceFault(f"{path}.{name}", "a string is expected")


def flag(holder: Members, name: str, path: str) -> bool | None:
    value = holder.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise InferenceFault(f"{path}.{name}", "true or false is expected")


def whole(holder: Members, name: str, path: str) -> int | None:
    """A whole number of either sign, as a number (or in digits, as protocol buffers write the large ones)."""
    value = holder.get(name)
    if value is None:
        return None
    if type(value) is int and -TOKENS_MAX <= value <= TOKENS_MAX:
        return value
    if isinstance(value, str) and len(value) <= DIGITS_MAX and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InferenceFault(f"{path}.{name}", "a whole number is expected")
    if not -TOKENS_MAX <= value <= TOKENS_MAX:
        raise InferenceFault(f"{path}.{name}", "the number is too large")
    return value


def amount(holder: Members, name: str, path: str) -> int | None:
    """A number of tokens: whole, and not negative."""
    known = holder.get(name)
    if known is None or (type(known) is int and 0 <= known <= TOKENS_MAX):
        return known
    value = whole(holder, name, path)
    if value is not None and value < 0:
        raise InferenceFault(f"{path}.{name}", "the number is negative")
    return value
