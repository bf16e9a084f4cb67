"""The grammar of HTTP/1.1 heads (RFC 9112), as strict as it is written, and the limits that are not the operator's.

A head is lines that end in CRLF. A line is judged when its LF has come, never
before, and always in the same way: so a head that arrives in pieces meets the
same end as one that arrives whole. The twin judges with these expressions; the
native kernel does the same by hand, and a differential test compares them.

Where the grammar has room, the narrow reading is taken:
- CR and LF only as the pair that ends a line; no NUL, DEL or other control anywhere. HTAB is
  the one control that a value may contain.
- A method is upper case letters, digits, `-` and `_`. All that are registered are. Some origins serve `get`
  as GET, so a rule about GET would look at one method and the origin at another.
- The target is visible ASCII: octets above 127 and controls are read differently everywhere.
- One empty line before a request is skipped (RFC 9112 section 2.2 asks for it: old clients send CRLF
  after a body). Before an answer none.
- Only one coding is known, `chunked`, and only alone. Lengths are at most 2**63-1, and neither
  they nor the coding have tabs around them (llhttp refuses some of these).
- A status is 100 to 599 (RFC 9110 section 15: others are invalid). The phrase, and the space before
  it, may be missing: many origins send no phrase.
"""

from __future__ import annotations

import re
from typing import Final

METHOD_MAX: Final = 32
"""The longest registered method (UPDATEREDIRECTREF) has 17 characters."""
LINE_MARGIN: Final = METHOD_MAX + len("  HTTP/1.1\r")
"""What a request line holds besides its target, LF apart."""
FIELDS_MAX: Final = 1000
"""No limit that is configured may be higher: the native kernel keeps its places on the stack."""
OPTIONS_MAX: Final = 32
"""Options of Connection: each is compared with every field."""
LENGTH_MAX: Final = (1 << 63) - 1
LENGTH_DIGITS_MAX: Final = 19
HEAD_MAX: Final = 1 << 24
"""No head is larger, whatever is configured: offsets inside a head are 32 bits wide."""

assert len(str(LENGTH_MAX)) == LENGTH_DIGITS_MAX

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TEXT: Final = rb"[\t\x20-\x7e\x80-\xff]"

METHOD: Final = re.compile(rb"[A-Z][A-Z0-9_\-]{0,%d}" % (METHOD_MAX - 1)).fullmatch
TARGET: Final = re.compile(rb"[\x21-\x7e]+").fullmatch
VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]").fullmatch
STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: (%b*))?" % TEXT).fullmatch
NAME: Final = re.compile(rb"(%b+):" % TOKEN).match
VALUE: Final = re.compile(rb"%b*" % TEXT).fullmatch
LINES: Final = re.compile(rb"(?:%b+:%b*\r\n)*" % (TOKEN, TEXT)).fullmatch
DIGITS: Final = re.compile(rb":\x20*([0-9]{1,%d})\x20*" % LENGTH_DIGITS_MAX).fullmatch
CHUNKED: Final = re.compile(rb":\x20*chunked\x20*", re.IGNORECASE).fullmatch
HOST: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()*+;=:%\[\]]+").fullmatch
PROTOCOLS: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z/]+(?:, ?[!#$%&'*+\-.^_`|~0-9A-Za-z/]+)*").fullmatch
VISIBLE: Final = re.compile(r"[\x21-\x7e]+").fullmatch
