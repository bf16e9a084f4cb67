"""A curl command line as a request: what a colleague pasted into a ticket, asked again without sending it.

    curl -X POST https://api.example.com/v1 -H 'x-tenant: acme' --data-raw '{"a": 1}'   →   Question

Intuition: reading somebody else's recipe. What concerns the dish is taken over, what concerns the kitchen
(`-s`, `-o`, `--max-time`) is known and left aside, and a word that is not understood is asked about: an
option passed over would make another request of it.
"""

from __future__ import annotations

import base64
import os
import shlex
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote_plus

from sentinel.cli.files import Unreadable
from workers.rehearsal import Misasked, Question, read_question

SHORT: Final = {
    "X": "request", "H": "header", "d": "data", "u": "user", "b": "cookie", "A": "user-agent",
    "e": "referer", "I": "head", "G": "get", "k": "insecure", "L": "location", "s": "silent",
    "S": "show-error", "v": "verbose", "i": "include", "f": "fail", "N": "no-buffer", "o": "output", "w": "write-out",
    "m": "max-time", "4": "ipv4", "6": "ipv6", "g": "globoff", "r": "range",
}  # fmt: skip
VALUED: Final = frozenset({
    "request", "header", "data", "data-raw", "data-ascii", "data-binary", "data-urlencode", "json", "user", "cookie",
    "user-agent", "referer", "url", "range", "oauth2-bearer",
})  # fmt: skip
FLAGS: Final = frozenset({"head", "get", "compressed"})
ASIDE: Final = frozenset({
    "insecure", "location", "silent", "show-error", "verbose", "include", "fail", "no-buffer", "ipv4", "ipv6",
    "globoff", "http1.1", "http2", "no-progress-meter", "path-as-is", "fail-with-body",
})  # fmt: skip
"""What changes nothing in the first request that is sent."""
ASIDE_VALUED: Final = frozenset({
    "output", "write-out", "max-time", "connect-timeout", "cacert", "cert", "key", "resolve", "connect-to", "retry",
    "retry-delay", "retry-max-time", "max-redirs", "interface",
})  # fmt: skip
BODY_BYTES_MAX: Final = 64 << 20


def read_curl(line: str) -> Question:
    """The request of a curl command line; raises Misasked with the word that is not understood."""
    try:
        words = shlex.split(line.replace("\\\r\n", " ").replace("\\\n", " "))
    except ValueError as fault:
        raise Misasked(f"--curl: the quotes do not match: {fault}") from fault
    if words and os.path.basename(words[0]) == "curl":
        words = words[1:]
    recipe = _Recipe()
    for name, value in _options(words):
        recipe.take(name, value)
    return recipe.question()


class _Recipe:
    def __init__(self) -> None:
        self.method = ""
        self.url = ""
        self.headers: list[str] = []
        self.data: list[bytes] = []
        self.flags: set[str] = set()
        self.json = False

    def take(self, name: str, value: str) -> None:
        match name:
            case "request":
                self.method = value
            case "url":
                if self.url:
                    raise Misasked(f"--curl: there are two URLs, `{self.url}` and `{value}`; ask for one at a time")
                self.url = value
            case "header":
                self.headers.append(_header(value))
            case "user-agent" | "referer":
                self.headers.append(f"{name}: {value}")
            case "range":
                self.headers.append(f"range: bytes={value}")
            case "cookie":
                if "=" not in value:
                    raise Misasked(f"--curl: -b `{value}` is a file of cookies; write the cookies themselves")
                self.headers.append(f"cookie: {value}")
            case "user":
                self.headers.append(f"authorization: Basic {base64.b64encode(value.encode()).decode()}")
            case "oauth2-bearer":
                self.headers.append(f"authorization: Bearer {value}")
            case "data" | "data-ascii" | "data-binary" | "json" | "data-raw" | "data-urlencode":
                self.data.append(_data(name, value))
                self.json |= name == "json"
            case _:
                self.flags.add(name)

    def question(self) -> Question:
        if not self.url:
            raise Misasked("--curl: there is no URL")
        url = self.url if "://" in self.url else f"http://{self.url}"
        separator = b"" if self.json else b"&"
        body = separator.join(self.data) if self.data else None
        if body is not None and "get" in self.flags:
            base, mark, fragment = url.partition("#")
            url = f"{base}{'&' if '?' in base else '?'}{body.decode('latin-1')}{mark}{fragment}"
            body = None
        method = self.method or ("HEAD" if "head" in self.flags else "GET" if body is None else "POST")
        return read_question(f"{method} {url}", tuple(self._lines(body)), body=body)

    def _lines(self, body: bytes | None) -> Iterator[str]:
        """The headers that curl sends: ours, and its own where we say nothing else. `name:` takes one away."""
        said = {line.partition(":")[0].lower() for line in self.headers}
        own = {"user-agent": "curl", "accept": "*/*"}
        if body is not None:
            own["content-type"] = "application/x-www-form-urlencoded"
        if self.json:
            own |= {"content-type": "application/json", "accept": "application/json"}
        if "compressed" in self.flags:
            own["accept-encoding"] = "deflate, gzip"
        yield from (line for line in self.headers if line.partition(":")[2].strip())
        yield from (f"{name}: {value}" for name, value in own.items() if name not in said)


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Walk over options and URLs; flags have the value ""."""
    left = iter(words)
    for word in left:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            yield from _option(name, f"--{name}", value if equals else None, left)
        elif word.startswith("-") and len(word) > 1:
            yield from _letters(word[1:], left)
        else:
            yield "url", word


def _letters(letters: str, left: Iterator[str]) -> Iterator[tuple[str, str]]:
    """One-letter options may stand together, and a value right behind its letter."""
    for at, letter in enumerate(letters):
        name = SHORT.get(letter, "")
        if name in VALUED | ASIDE_VALUED:
            rest = letters[at + 1 :]
            yield from _option(name, f"-{letter}", rest or None, left)
            return
        yield from _option(name, f"-{letter}", None, left)


def _option(name: str, written: str, value: str | None, left: Iterator[str]) -> Iterator[tuple[str, str]]:
    if name in VALUED | ASIDE_VALUED:
        found = next(left, None) if value is None else value
        if found is None:
            raise Misasked(f"--curl: {written} needs a value")
        if name in VALUED:
            yield name, found
    elif name in FLAGS:
        yield name, ""
    elif name not in ASIDE:
        raise Misasked(f"--curl: {written} is not understood here; leave it out, or say with -H what it sends")


def _header(value: str) -> str:
    """`name: value`; `name;` is a header without a value, `name:` one that curl shall not send."""
    if ":" not in value and value.endswith(";"):
        return f"{value[:-1]}: "
    if ":" not in value:
        raise Misasked(f"--curl: a header is `name: value`, not `{value}`")
    if any(one in value for one in "\r\n\0"):
        raise Misasked("--curl: a header contains a line end or a NUL")
    return value


def _data(name: str, value: str) -> bytes:
    if name == "data-raw":
        return value.encode()
    if name == "data-urlencode":
        key, equals, rest = value.partition("=")
        if "@" in key or (not equals and "@" in value):
            raise Misasked("--curl: --data-urlencode with a file is not understood here; use --data-binary @file")
        return f"{key}={quote_plus(rest)}".encode() if equals and key else quote_plus(value.lstrip("=")).encode()
    if not value.startswith("@"):
        return value.encode()
    content = read_body(value[1:])
    return content.replace(b"\r", b"").replace(b"\n", b"") if name in ("data", "data-ascii") else content


def read_body(path: str) -> bytes:
    """The content of a file; raises Unreadable."""
    try:
        with open(path, "rb") as file:
            data = file.read(BODY_BYTES_MAX + 1)
    except OSError as fault:
        raise Unreadable(f"{path}: {fault.strerror or fault}") from fault
    if len(data) > BODY_BYTES_MAX:
        raise Unreadable(f"{path}: larger than {BODY_BYTES_MAX >> 20} MiB; say `content-length` with -H instead")
    return data
