"""JSON of requests and answers, decoded several times as fast as the standard library does.

Intuition: two readers at one desk. The fast one takes nearly every letter. Whenever he frowns, for whatever reason, the
letter goes to the careful one, whose word holds.

The careful one is sentinel.inference.look, the specification. The fast one is msgspec, which does not say whether a
name is repeated in an object, and that has to be known of a request (look, rule 3). So it is counted:

    members in what was decoded   ≤   members in the octets   ≤   colons

The first is fewer if a name was repeated. Text may have colons too. Where the outer two are equal, all three are. Where
they are not, those colons are counted that have a quote before them when all blanks are left out, as each has that
follows a name, and few in text (`\\":`). Where even these are more, the careful one reads.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sentinel.inference import look

BLANKS: Final = b" \t\n\r"
"""All that JSON has between its words."""

_decode: Final = msgspec.json.Decoder().decode


def decode_request(body: bytes) -> Any:
    """What sentinel.inference.look.decode_request returns, or raises."""
    try:
        found = _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return look.decode_request(body)
    if type(found) is dict:
        count = members_count(found)
        if count == body.count(b":") or count == body.translate(None, BLANKS).count(b'":'):
            return found
    return look.decode_request(body)


def decode_answer(body: bytes) -> Any:
    """What sentinel.inference.look.decode_answer returns, or raises."""
    try:
        return _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return look.decode_answer(body)


def members_count(value: Any) -> int:
    """How many members all objects in it have together."""
    if type(value) is dict:
        count, inside = len(value), value.values()
    else:
        count, inside = 0, value
    for one in inside:
        if type(one) is dict or type(one) is list:
            count += members_count(one)
    return count
