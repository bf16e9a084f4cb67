"""The kinds of values: what an argument or property may be, how it is read, and what to say when it is not.

Each kind is a name, what is expected in the operator's words, and a reader. A reader
gets the plain value (text, integer, number, boolean) and returns what the plan needs, or
raises `Unfit` with what is wrong. The checker adds place, name and remedy.

Rule 1: a reader never sees where a value came from. A text from `(env)` or `(file)` is read
    like one that stands in the file; numbers and booleans may come as text then.
Rule 2: units are always written: "30s", "64KiB". A bare number would be read in
    seconds by one operator and in milliseconds by the next.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any, Final

from sentinel.core.conditions import host_pattern, path_literal
from sentinel.core.guard.finders import PHRASE_CHARS_MAX, WORD, WORDS_MAX
from sentinel.core.guard.guards import REPLACEMENT as PLAIN
from sentinel.core.host import parse_authority
from sentinel.core.identity import CLAIM_CHARS_MAX
from sentinel.core.passwords import read_hash
from sentinel.core.prices import CURRENCY, PATTERN_CHARS_MAX, PRICE_MAX, is_date, money, read_money
from sentinel.core.reasons import BY_WORD
from sentinel.core.regex import BadPattern, compile_pattern
from sentinel.core.regex.search import Search


class Unfit(Exception):
    """The value is not of the kind; the text says what is wrong, the remedy what would be right."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind. `expects`: completes "expected …". `words`: all allowed values, where they can be listed."""

    name: str
    expects: str
    read: Callable[[Any], Any]
    words: tuple[str, ...] = ()
    unit: str = ""


UNITS_NS: Final = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86_400 * 10**9,
}
KEY_WORDS: Final = ("client-ip", "identity", "host", "listener", "method", "route", "all")
FRAMING: Final = frozenset({
    "connection", "content-length", "content-type", "expect", "host", "keep-alive", "te", "trailer",
    "transfer-encoding", "upgrade", "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto",
    "x-forwarded-port", "x-forwarded-server", "x-real-ip", "x-request-id", "x-sentinel-reason", "x-sentinel-shadow",
    "proxy",
})  # fmt: skip
"""Fields that have a meaning of their own on the way, or are the gateway's to say."""
CLAIM_NAME_CHARS_MAX: Final = 128
SUBJECT_CHARS_MAX: Final = 256
MONEY_MAX: Final = 10**15
"""Micro-units: a milliard, which is far from the edge of a shared word."""
RATE_PERIOD_MAX_NS: Final = 30 * UNITS_NS["d"]
DURATION_MAX_NS: Final = 365 * UNITS_NS["d"]
UNITS_BYTES: Final = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""RFC 9110 section 5.6.2."""
FIELD_VALUE: Final = re.compile(r"[\x20-\x7e\t]*")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
LABEL: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_NAME: Final = re.compile(rf"(?=.{{1,253}}$)({LABEL}\.)*{LABEL}\.?")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit("text is expected", "put it in quotes")
    return value


def text(value: Any) -> str:
    return _text(value)


def name(value: Any) -> str:
    if not NAME.fullmatch(_text(value)):
        raise Unfit("a name has letters, digits, `-`, `_` and `.` only, and at most 128 of them")
    return str(value)


def boolean(value: Any) -> bool:
    if value in ("true", "false") and isinstance(value, str):
        return value == "true"
    if not isinstance(value, bool):
        raise Unfit("`true` or `false` is expected", "without quotes")
    return value


def _integer(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Unfit("a whole number is expected", "without quotes and unit")
        if not least <= value <= most:
            raise Unfit(f"it must be between {least} and {most}")
        return int(value)

    return read


def _measured(value: Any, units: dict[str, int], what: str, example: str) -> int:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        raise Unfit(f"{what} needs its unit", f'for example "{value:g}{example}"; units are {", ".join(units)}')
    found = re.fullmatch(r"([0-9]{1,15})(?:\.([0-9]{1,9}))? *([A-Za-z]+)", _text(value))
    if found is None:
        raise Unfit(f"{what} is expected: a number and a unit", f"units are {', '.join(units)}")
    whole, part, unit = found.groups()
    if unit not in units:
        close = next((one for one in units if one.lower() == unit.lower()), "")
        raise Unfit(
            f"`{unit}` is no unit of {what}", f"did you mean `{close}`?" if close else f"units are {', '.join(units)}"
        )
    scaled = int(whole) * units[unit] * 10 ** len(part or "") + int(part or 0) * units[unit]
    amount, rest = divmod(scaled, 10 ** len(part or ""))
    if rest:
        raise Unfit(f"{what} of a fraction of its smallest unit", "use a smaller unit")
    return int(amount)


def _duration(least_ns: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        amount = _measured(value, UNITS_NS, "a duration", "s")
        if amount < least_ns or amount > DURATION_MAX_NS:
            raise Unfit(f"it must be between {_shown_duration(least_ns)} and 365d")
        return amount

    return read


def _shown_duration(amount_ns: int) -> str:
    for unit, size in reversed(UNITS_NS.items()):
        if amount_ns and amount_ns % size == 0:
            return f"{amount_ns // size}{unit}"
    return "0s"


def _size(least: int, most: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        amount = _measured(value, UNITS_BYTES, "a size", "KiB")
        if not least <= amount <= most:
            raise Unfit(f"it must be between {_shown_size(least)} and {_shown_size(most)}")
        return amount

    return read


def _shown_size(amount: int) -> str:
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if amount and amount % UNITS_BYTES[unit] == 0:
            return f"{amount // UNITS_BYTES[unit]}{unit}"
    return f"{amount}B"


def rate(value: Any) -> tuple[int, int]:
    """How many, and in how many ns."""
    found = re.fullmatch(r"([0-9]{1,9}) */ *([0-9]{0,4}) *([A-Za-z]+)", value) if isinstance(value, str) else None
    if found is None or found.group(3) not in UNITS_NS:
        raise Unfit("a rate is a number of requests in a time", 'for example "100/s", "60/m" or "5/10s"')
    count, period_ns = int(found.group(1)), int(found.group(2) or 1) * UNITS_NS[found.group(3)]
    if not 0 < count <= period_ns <= RATE_PERIOD_MAX_NS:
        raise Unfit("it must be between one in 30 days and one in a nanosecond")
    return count, period_ns


def key_part(value: Any) -> str:
    """A part of a key (sentinel.core.limits)."""
    kind, colon, name = _text(value).partition(":")
    if kind in KEY_WORDS and not colon:
        return kind
    if kind == "header" and FIELD_NAME.read(name):
        return f"header:{name.lower()}"
    if kind in ("cookie", "query") and name and name.isprintable():
        return f"{kind}:{name}"
    if kind == "claim" and is_claim(name):
        return f"claim:{name}"
    if kind == "path-segment" and re.fullmatch(r"[1-9][0-9]?", name):
        return f"path-segment:{name}"
    known = [f"`{word}`" for word in KEY_WORDS]
    named = "`claim:NAME`, `header:NAME`, `cookie:NAME`, `query:NAME`, `path-segment:N`"
    raise Unfit("not a part of a key", f"one of {', '.join(known)}, {named}")


def is_claim(name: str) -> bool:
    return 0 < len(name) <= CLAIM_NAME_CHARS_MAX and name.isprintable() and not any(mark in name for mark in ' ="')


def claim_name(value: Any) -> str:
    if not is_claim(_text(value)):
        raise Unfit(f"not the name of a claim: 1 to {CLAIM_NAME_CHARS_MAX} characters without spaces, quotes and `=`")
    return str(value)


def claim_value(value: Any) -> str:
    if len(_text(value)) > CLAIM_CHARS_MAX or not value.isprintable():
        raise Unfit(f"the value of a claim has at most {CLAIM_CHARS_MAX} printable characters")
    return str(value)


def subject(value: Any) -> str:
    if not 0 < len(_text(value)) <= SUBJECT_CHARS_MAX or not value.isprintable():
        raise Unfit(f"who it is has 1 to {SUBJECT_CHARS_MAX} printable characters")
    return str(value)


def credential_place(value: Any) -> str:
    """Where a credential is looked for in a request."""
    kind, _, name = _text(value).partition(":")
    if value == "bearer":
        return "bearer"
    if kind == "header" and FIELD_NAME.read(name):
        if name.lower() in FRAMING:
            raise Unfit(f"`{name}` is no place for a key: it has a meaning of its own")
        return f"header:{name.lower()}"
    if kind == "query" and re.fullmatch(r"[A-Za-z0-9._~-]{1,128}", name):
        return f"query:{name}"
    raise Unfit("not where a key may be", "`bearer` (of Authorization), `header:NAME` or `query:NAME`")


def identity_part(value: Any) -> str:
    """What of an identity an upstream is told."""
    kind, _, name = _text(value).partition(":")
    if value in ("subject", "method") or (kind == "claim" and is_claim(name)):
        return str(value)
    raise Unfit("not a part of an identity", "`subject`, `method` or `claim:NAME`")


def key_digest(value: Any) -> str:
    """SHA-256 of a key, in hex."""
    found = re.fullmatch(r"sha256:([0-9a-fA-F]{64})", _text(value))
    if found is None:
        raise Unfit("not the hash of a key, `sha256:` and 64 hex digits", "`sentinelctl hash-key` makes it")
    return found[1].lower()


def password_hash(value: Any) -> str:
    if read_hash(_text(value)) is None:
        message = "not the hash of a password by scrypt, of a cost that is good here"
        raise Unfit(message, "`sentinelctl hash-password` makes it")
    return str(value)


def user_name(value: Any) -> str:
    if ":" in subject(value):
        raise Unfit("a name has no colon: it ends the name where both are sent")
    return str(value)


def tenant_part(value: Any) -> str:
    """A part of a key that differs from request to request."""
    part = key_part(value)
    if part in ("all", "route"):
        raise Unfit("this does not tell tenants apart", "say where their name stands, for example `header:x-tenant`")
    return part


def model_key_part(value: Any) -> str:
    """The same where the model of a request is known."""
    return "model" if value == "model" else key_part(value)


def percent(value: Any) -> int:
    """Thousandths."""
    found = re.fullmatch(r"([0-9]{1,3})(?:\.([0-9]))? *%", value) if isinstance(value, str) else None
    if found is None:
        raise Unfit("a share in percent is expected", 'for example "50%" or "2.5%"')
    share = int(found.group(1)) * 10 + int(found.group(2) or 0)
    if share > 1000:
        raise Unfit("it must be between 0% and 100%")
    return share


RETRY_WORDS: Final = ("connect-failure", "reset", "timeout", "malformed", "gateway-error", "5xx")


def retry_on(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if value in RETRY_WORDS or (isinstance(value, str) and re.fullmatch(r"[45][0-9]{2}", value)):
        return str(value)
    words = ", ".join(f"`{word}`" for word in RETRY_WORDS)
    raise Unfit("not a reason to try again", f"one of {words}, or a status from 400 to 599")


FALLBACK_WORDS: Final = (*RETRY_WORDS, "breaker-open", "no-endpoint", "full", "budget")
ENDS: Final = ("connect-failure", "reset", "timeout", "malformed")


def fallback_on(value: Any) -> str:
    if value in FALLBACK_WORDS:
        return str(value)
    try:
        return retry_on(value)
    except Unfit:
        words = ", ".join(f"`{word}`" for word in FALLBACK_WORDS)
        raise Unfit("not a reason to ask another model", f"one of {words}, or a status from 400 to 599") from None


def try_end(value: Any) -> str:
    """How a try ends."""
    read = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if read in ENDS or (isinstance(read, str) and re.fullmatch(r"[1-5][0-9]{2}", read)):
        return str(read)
    raise Unfit("not how a try ends", f"one of {', '.join(f'`{word}`' for word in ENDS)}, or a status")


def load(value: Any) -> int:
    """Thousandths, of an average: more than all of it."""
    found = re.fullmatch(r"([0-9]{3,4}) *%", value) if isinstance(value, str) else None
    if found is None or not 101 <= int(found.group(1)) <= 1000:
        raise Unfit("a share of the average between 101% and 1000% is expected", 'for example "125%"')
    return int(found.group(1)) * 10


def factor(value: Any) -> int:
    """Thousandths."""
    found = re.fullmatch(r"([0-9]{1,4})(?:\.([0-9]{1,3}))?", str(value))
    if isinstance(value, bool) or found is None:
        raise Unfit("a number is expected", "for example 1.9")
    return int(found.group(1)) * 1000 + int((found.group(2) or "").ljust(3, "0"))


def statuses(value: Any) -> tuple[int, int]:
    """A range of statuses, both ends inclusive."""
    found = re.fullmatch(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", str(value))
    if isinstance(value, bool) or found is None or int(found.group(2) or found.group(1)) < int(found.group(1)):
        raise Unfit("a status or a range of them is expected", 'for example 200 or "200-299"')
    return int(found.group(1)), int(found.group(2) or found.group(1))


def status_filter(value: Any) -> str:
    """A status or a class of them."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or re.fullmatch(r"[1-5](?:[0-9]{2}|xx)", text) is None:
        raise Unfit("a status or a class of them is expected", 'for example 404 or "5xx"')
    return text


def reason(value: Any) -> str:
    if value not in BY_WORD:
        close = get_close_matches(str(value), BY_WORD, n=1)
        raise Unfit("not a reason", f"did you mean `{close[0]}`?" if close else "see the reference of reasons")
    return str(value)


def target(value: Any) -> str:
    """What stands in a request line: a path, perhaps with a query."""
    if not re.fullmatch(r"/[\x21-\x22\x24-\x7e]*", _text(value)):
        raise Unfit('a path begins with "/", and is ASCII without spaces', "percent-encode what is not")
    return str(value)


def request(value: Any) -> str:
    """A method and a URL or path, or one of these alone."""
    if not re.fullmatch(rf"({TOKEN.pattern} )?(https?://[^\s\x00-\x20\x7f]+|/[^\s\x00-\x20\x7f]*|\*)", _text(value)):
        raise Unfit("a request is a method and a URL, or a path", 'for example "GET https://example.com/a?b=c"')
    return str(value)


def authority(value: Any) -> str:
    """What stands in a Host field."""
    found = parse_authority(_text(value))
    if found is None:
        raise Unfit("not a host", 'for example "api.openai.com" or "10.0.0.7:8080", without scheme and path')
    return str(found)


def provider_path(value: Any) -> str:
    """What stands before a dialect's own end of a path."""
    if not re.fullmatch(r"/(?:[A-Za-z0-9\-._~!$&'()*+,=:@/%]|\{model\})*", _text(value)) or "//" in value:
        raise Unfit('a prefix of paths begins with "/", and is ASCII', 'for example "/openai/deployments/{model}"')
    return str(value)


def cookie_name(value: Any) -> str:
    if not TOKEN.fullmatch(_text(value)) or len(value) > 128:
        raise Unfit("not the name of a cookie", 'for example "srv"')
    return str(value)


def _one_of(*words: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in words or not isinstance(value, str):
            raise Unfit(f"one of {', '.join(f'`{word}`' for word in words)} is expected")
        return value

    return read


def _port(written: str, least: int = 1) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", written) or not least <= int(written) <= 65_535:
        raise Unfit(f"`{written}` is no port", f"a number between {least} and 65535")
    return int(written)


def _split(value: Any, example: str) -> tuple[str, str]:
    host, colon, port = _text(value).rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        raise Unfit("an address is a host and a port", f'for example "{example}"')
    if host.startswith("["):
        if not host.endswith("]"):
            raise Unfit("the `]` of an IPv6 address is missing", 'for example "[::1]:8080"')
        return host[1:-1], port
    return host, port


def listen_address(value: Any) -> tuple[str, int]:
    """An IP address of this machine and a port; `localhost` and `*` are short for 127.0.0.1 and 0.0.0.0."""
    host, port = _split(value, "127.0.0.1:8080")
    host = {"localhost": "127.0.0.1", "*": "0.0.0.0"}.get(host, host)
    try:
        return str(ipaddress.ip_address(host)), _port(port)
    except ValueError:
        raise Unfit(f"`{host}` is no IP address", "a listener has an IP address, `localhost`, or `*` for all") from None


def endpoint_address(value: Any) -> tuple[str, int]:
    """An IP address or a DNS name with a port, or `unix:/path`."""
    if isinstance(value, str) and value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if not path.startswith("/") or len(path.encode()) > 107 or "\0" in path:
            raise Unfit("a Unix socket has an absolute path of at most 107 octets", 'for example "unix:/run/app.sock"')
        return value, 0
    host, port, _ = upstream_endpoint(value)
    return host, port


def upstream_endpoint(value: Any) -> tuple[str, int, bool]:
    """The same, and whether `https://` stands before it, which also says the port if nothing else does."""
    if isinstance(value, str) and value.startswith("unix:"):
        return *endpoint_address(value), False
    written = _text(value)
    is_tls = written.lower().startswith("https://")
    if is_tls:
        written = _https(written)
    elif "://" in written:
        raise Unfit(
            "an endpoint is an address, or begins with `https://`", f'write "{written.partition("://")[2].rstrip("/")}"'
        )
    return *_endpoint(written), is_tls


def _https(written: str) -> str:
    """What stands after `https://`, with a port."""
    address, _, path = written[len("https://") :].partition("/")
    if path or any(mark in address for mark in "?#@"):
        raise Unfit(
            "an endpoint has no path, query or user",
            f'write "https://{address.partition("?")[0].rpartition("@")[2]}", and what paths begin with as '
            "`path-prefix` of a `provider`",
        )  # fmt: skip
    is_bare = address.endswith("]") if address.startswith("[") else ":" not in address
    return f"{address}:443" if is_bare else address


def _endpoint(written: str) -> tuple[str, int]:
    host, port = _split(written, "10.0.0.7:8080")
    try:
        return str(ipaddress.ip_address(host)), _port(port)
    except ValueError:
        if not HOST_NAME.fullmatch(host) or re.fullmatch(r"[0-9.]+", host):
            raise Unfit(f"`{host}` is neither an IP address nor a DNS name") from None
        return host.lower().rstrip("."), _port(port)


def address(value: Any) -> str:
    try:
        return str(ipaddress.ip_address(_text(value)))
    except ValueError:
        raise Unfit("not an IP address", 'for example "192.0.2.7" or "2001:db8::7"') from None


def server_name(value: Any) -> str:
    """Whose certificate it is: a DNS name, or an IP address."""
    try:
        return str(ipaddress.ip_address(_text(value)))
    except ValueError:
        if not HOST_NAME.fullmatch(value) or re.fullmatch(r"[0-9.]+", value):
            raise Unfit(f"`{value}` is neither a DNS name nor an IP address", 'for example "api.example.com"') from None
        return str(value).lower().rstrip(".")


def pin(value: Any) -> str:
    """A public key by its SHA-256, as `curl --pinnedpubkey` takes it; returns the base64."""
    found = re.fullmatch(r"sha256//?([A-Za-z0-9+/]{43}=)", _text(value))
    if found is None:
        raise Unfit("not the SHA-256 of a public key", "docs/how-to/upstream-tls.md shows how it is found")
    return found[1]


def moment(value: Any) -> int:
    """A time, in seconds since the epoch."""
    try:
        read = datetime.fromisoformat(_text(value))
    except ValueError:
        read = None
    if read is None or read.tzinfo is None or read.year < 1970:
        raise Unfit("a time with its zone is expected", 'for example "2026-03-29T12:00:00Z"')
    return int(read.timestamp())


def time_zone(value: Any) -> str:
    name = _text(value)
    if name == "UTC":
        return name
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # here: a browser is loaded without it

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Unfit(f"there is no time zone `{name}` on this machine", 'for example "UTC" or "Europe/Vienna"') from None
    return name


def amount(value: Any) -> int:
    """Micro-units of money."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    found = read_money(value) if isinstance(value, str) else None
    if found is None:
        raise Unfit("an amount of money is expected, with six decimals at most", 'in quotes, for example "25.00"')
    return found


def price(value: Any) -> int:
    """Micro-units for a million tokens."""
    found = amount(value)
    if found > PRICE_MAX:
        raise Unfit(f"a price for a million tokens is at most {money(PRICE_MAX)}")
    return found


def money_above_nought(value: Any) -> int:
    found = amount(value)
    if not 0 < found <= MONEY_MAX:
        raise Unfit(f"it must be above 0, and at most {money(MONEY_MAX)}")
    return found


def currency(value: Any) -> str:
    if not CURRENCY.fullmatch(_text(value)):
        raise Unfit("a currency is expected, in three capital letters", 'for example "USD"')
    return str(value)


def day(value: Any) -> str:
    if not is_date(_text(value)):
        raise Unfit("a day is expected", 'for example "2026-01-31"')
    return str(value)


def model(value: Any) -> str:
    """A model's name, or a pattern for names."""
    if not 0 < len(_text(value)) <= PATTERN_CHARS_MAX or not value.isprintable():
        raise Unfit(f"the name of a model has 1 to {PATTERN_CHARS_MAX} characters", 'for example "gpt-*"')
    if "**" in value:
        raise Unfit("two wildcards side by side say no more than one", "write one")
    return str(value)


def model_name(value: Any) -> str:
    """The name of one model."""
    if "*" in _text(value):
        raise Unfit("`*` stands for any characters, and one model is meant here", 'for example "gpt-4o"')
    return model(value)


def network(value: Any) -> str:
    try:
        return str(ipaddress.ip_network(_text(value)))
    except ValueError as fault:
        loose = _loose_network(value)
        raise Unfit(
            f"not a network: {fault}", f'did you mean "{loose}"?' if loose else 'for example "10.0.0.0/8"'
        ) from None


def _loose_network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        return ""


def host(value: Any) -> str:
    try:
        return host_pattern(_text(value))
    except ValueError:
        raise Unfit(
            "not a host", 'for example "example.com" or "*.example.com", without scheme, port and path'
        ) from None


def path(value: Any) -> str:
    try:
        return path_literal(_text(value))
    except ValueError:
        raise Unfit(
            "not a path in canonical form", 'a path begins with "/", and has no query, no `..` and no `//`'
        ) from None


def pattern(value: Any) -> str:
    if not _text(value).isascii():
        raise Unfit("a pattern for paths and fields is ASCII", "percent-encode what is not")
    try:
        compile_pattern(value)
    except BadPattern as fault:
        raise Unfit(f"the pattern is not understood: {fault}") from None
    return str(value)


def search(value: Any) -> str:
    try:
        Search(_text(value))
    except BadPattern as fault:
        raise Unfit(f"the pattern is not understood: {fault}") from None
    return str(value)


def phrase(value: Any) -> str:
    count = len(WORD.findall(_text(value)))
    if not 1 <= count <= WORDS_MAX or len(value) > PHRASE_CHARS_MAX:
        raise Unfit(f"between one word and {WORDS_MAX} are expected, and at most {PHRASE_CHARS_MAX} characters")
    return str(value)


def san(value: Any) -> str:
    """A pattern for names in certificates."""
    if not 0 < len(_text(value)) <= PATTERN_CHARS_MAX or not value.isprintable() or " " in value:
        raise Unfit(f"a name in a certificate has 1 to {PATTERN_CHARS_MAX} characters", 'for example "*.internal.test"')
    if "**" in value:
        raise Unfit("two wildcards side by side say no more than one", "write one")
    return str(value) if "://" in value or "@" in value else str(value).lower()


def replacement(value: Any) -> str:
    if not PLAIN.fullmatch(_text(value)):
        raise Unfit("up to 64 characters of ASCII are expected", 'without `"` and `\\`: it may stand within JSON')
    return str(value)


def method(value: Any) -> str:
    if not TOKEN.fullmatch(_text(value)) or len(value) > 32:
        raise Unfit("not a method", 'for example "GET"')
    if value != value.upper():
        raise Unfit("methods are upper case", f'did you mean "{value.upper()}"?')
    return str(value)


def field_name(value: Any) -> str:
    if not TOKEN.fullmatch(_text(value)) or len(value) > 256:
        raise Unfit("not the name of a header", 'for example "x-tenant"')
    return str(value).lower()


def field_value(value: Any) -> str:
    if not FIELD_VALUE.fullmatch(_text(value)):
        raise Unfit("the value of a header is printable ASCII, without line ends")
    return str(value).strip()


def metric(value: Any) -> str:
    if not re.fullmatch(r"[A-Za-z_:][A-Za-z0-9_:]{0,199}", _text(value)):
        raise Unfit("not the name of a metric", 'for example "vllm:num_requests_waiting"')
    return str(value)


def secret(value: Any) -> str:
    if not re.fullmatch(r"[\x21-\x7e]{16,1024}", _text(value)):
        raise Unfit("a token has at least 16 printable ASCII characters, without spaces")
    return str(value)


def ledger(value: Any) -> str:
    if not re.fullmatch(r"postgres(?:ql)?://[\x21-\x7e]{1,2000}", _text(value)):
        raise Unfit("not the URL of a PostgreSQL database", 'for example "postgresql://sentinel@db.internal/ledger"')
    return str(value)


def file_path(value: Any) -> str:
    if not _text(value) or "\0" in value:
        raise Unfit("a path of a file is expected")
    return str(value)


TEXT: Final = Kind("text", "text", text)
NAME_KIND: Final = Kind("name", "a name", name)
BOOLEAN: Final = Kind("boolean", "true or false", boolean, ("true", "false"))
PERCENT: Final = Kind("percent", 'a share like "50%"', percent, unit="%")
LISTEN: Final = Kind("listen-address", 'an address like "127.0.0.1:8080" or "[::1]:8080"', listen_address)
ENDPOINT: Final = Kind(
    "endpoint-address", 'an address like "10.0.0.7:8080", "app.internal:80" or "unix:/run/app.sock"', endpoint_address
)
UPSTREAM_ENDPOINT: Final = Kind(
    "upstream-endpoint", 'an address like "10.0.0.7:8080", "app.internal:80", "unix:/run/app.sock" or '
    '"https://api.example.com"', upstream_endpoint,
)  # fmt: skip
SERVER_NAME: Final = Kind("server-name", 'a DNS name or an IP address like "api.example.com"', server_name)
PIN: Final = Kind("pin", 'the SHA-256 of a public key like "sha256//…=" in base64', pin)
ADDRESS: Final = Kind("address", 'an IP address like "192.0.2.7"', address)
MOMENT: Final = Kind("time", 'a time like "2026-03-29T12:00:00Z"', moment)
TIME_ZONE: Final = Kind("time-zone", 'a time zone like "UTC" or "Europe/Vienna"', time_zone)
MONEY: Final = Kind("money", 'an amount of money like "25.00"', money_above_nought)
SPENT_MONEY: Final = Kind("money", 'an amount of money like "25.00"', amount)
PRICE: Final = Kind("price", 'a price for a million tokens like "2.50"', price)
CURRENCY_KIND: Final = Kind("currency", 'a currency like "USD"', currency)
DAY: Final = Kind("day", 'a day like "2026-01-31"', day)
MODEL: Final = Kind("model", 'the name of a model, or a pattern like "gpt-*"', model)
NETWORK: Final = Kind("network", 'a network like "10.0.0.0/8"', network)
HOST: Final = Kind("host", 'a host like "example.com" or "*.example.com"', host)
PATH: Final = Kind("path", 'a path like "/v1"', path)
SEARCH: Final = Kind(
    "pattern", "a regular expression with bounds (linear time; no look-around, no back-references)", search
)
PHRASE: Final = Kind("phrase", "a word, or a few", phrase)
SAN: Final = Kind("san", 'a name in a certificate like "spiffe://example.org/*" or "*.internal.test"', san)
REPLACEMENT: Final = Kind("replacement", "up to 64 plain characters", replacement)
PATTERN: Final = Kind("pattern", "a regular expression (linear time; no look-around, no back-references)", pattern)
METHOD: Final = Kind("method", 'a method like "GET"', method)
FIELD_NAME: Final = Kind("header-name", 'a header name like "x-tenant"', field_name)
FIELD_VALUE_KIND: Final = Kind("header-value", "the value of a header", field_value)
RATE: Final = Kind("rate", 'a rate like "100/s"', rate)
KEY_PART: Final = Kind("key-part", 'a part of a key like "client-ip" or "header:x-tenant"', key_part)
TENANT_PART: Final = Kind("tenant-part", 'where a tenant is named, like "header:x-tenant"', tenant_part)
MODEL_KEY_PART: Final = Kind("key-part", 'a part of a key like "header:x-tenant" or "model"', model_key_part)
CLAIM_NAME: Final = Kind("claim-name", 'the name of a claim like "tenant"', claim_name)
CLAIM_VALUE: Final = Kind("claim-value", "the value of a claim", claim_value)
SUBJECT: Final = Kind("subject", "who it is", subject)
CREDENTIAL_PLACE: Final = Kind(
    "credential-place", 'where a key is, like "header:x-api-key", "bearer" or "query:api_key"', credential_place
)
IDENTITY_PART: Final = Kind("identity-part", 'what of an identity, like "subject" or "claim:tenant"', identity_part)
KEY_DIGEST: Final = Kind("key-hash", 'the hash of a key like "sha256:…", by `sentinelctl hash-key`', key_digest)
PASSWORD_HASH: Final = Kind(
    "password-hash", 'the hash of a password like "$scrypt$ln=15,r=8,p=1$…", by `sentinelctl hash-password`',
    password_hash,
)
USER_NAME: Final = Kind("user-name", "the name of a user", user_name)
METRIC: Final = Kind("metric", 'the name of a metric like "vllm:num_requests_waiting"', metric)
SECRET: Final = Kind("secret", "a secret of at least 16 characters, best given by (env) or (file)", secret)
LEDGER: Final = Kind("database-url", 'a URL like "postgresql://sentinel@db.internal/ledger"', ledger)
RETRY_ON: Final = Kind("retry-condition", 'a reason to try again like "reset" or 503', retry_on)
FALLBACK_ON: Final = Kind("fallback-condition", 'a reason to ask another model like "budget" or 429', fallback_on)
TRY_END: Final = Kind("try-end", 'how a try ends, like "reset" or 429', try_end)
LOAD: Final = Kind("load", 'a share of the average like "125%"', load, unit="%")
FACTOR: Final = Kind("factor", "a number like 1.9", factor)
STATUS_FILTER: Final = Kind("status-filter", 'a status like 404, or a class like "5xx"', status_filter)
REASON: Final = Kind("reason", 'the word of a reason like "rate-limited"', reason)
STATUSES: Final = Kind("statuses", 'a status like 200, or a range like "200-299"', statuses)
REQUEST: Final = Kind("request", 'a request like "GET https://example.com/a"', request)
TARGET: Final = Kind("target", 'a path like "/healthz"', target)
COOKIE_NAME: Final = Kind("cookie-name", 'the name of a cookie like "srv"', cookie_name)
MODEL_NAME: Final = Kind("model-name", 'the name of a model like "gpt-4o"', model_name)
AUTHORITY: Final = Kind("authority", 'a host like "api.example.com", perhaps with a port', authority)
PROVIDER_PATH: Final = Kind("path-prefix", 'what paths begin with, like "/v1"; `{model}` is the model', provider_path)
FILE: Final = Kind("file", "the path of a file", file_path)


def integer(least: int, most: int) -> Kind:
    return Kind("integer", f"a whole number between {least} and {most}", _integer(least, most))


def duration(least: str = "1ms") -> Kind:
    least_ns = 0 if least == "0s" else _measured(least, UNITS_NS, "a duration", "s")
    return Kind(
        "duration", f'a duration like "30s", at least {least}', _duration(least_ns), unit="ns, us, ms, s, m, h, d"
    )


def size(least: str, most: str) -> Kind:
    read = _size(_measured(least, UNITS_BYTES, "a size", "B"), _measured(most, UNITS_BYTES, "a size", "B"))
    return Kind(
        "size", f'a size like "64KiB", between {least} and {most}', read, unit="B, KB, MB, GB, KiB, MiB, GiB, TiB"
    )


def one_of(*words: str) -> Kind:
    return Kind("word", "one of " + ", ".join(words), _one_of(*words), words)
