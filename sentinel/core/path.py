"""One path, for everybody: the request target is normalised once, before anything is matched.

Intuition: a path that can be read in two ways is a door with two locks. The
route, the access rule and the log look at one reading, the upstream acts on
the other, and whoever knows both walks round the rule. So there is one pass
here, its result is matched, logged *and* sent, and a target whose reading
would still depend on the reader is refused.

Rules:
1. `Target.path` is literally the part of `Target.target` before the `?`.
   They cannot differ in meaning because they do not differ.
2. The canonical form of an escape: unreserved characters (letters, digits,
   `-._~`) are decoded, all others stay escaped, in upper case. Characters that
   may not stand in a path but have one reading only (`"<>[]^`{|}`) are escaped.
   One pass only: `%252e` is the text `%2e`, which is data, and stays so.
3. Refused always: octets that readers disagree about (controls, space, raw
   octets above 127, `\\`, `#`, NUL and other escaped controls, overlong UTF-8),
   escapes that are none, climbing above the root, and a dot segment that hides
   behind a parameter or an encoded slash (`/..;/`, `/..%2F`).
4. What is a matter of taste is a rule of the listener (plan.PathRules).
5. The query is opaque: it is sent as it came, and only checked for octets that
   could not stand in a request line.

Reserved characters are not decoded (RFC 3986 §2.2: `%2B` is not `+`), so a
route for `/a+b` does not match `/a%2Bb`. Rejected: decoding everything for
matching and sending the original, as nginx does by default. It is what makes
two readings out of one path.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sentinel.core.plan import PathRules
from sentinel.core.reasons import Reason


class Target(NamedTuple):
    """A normalised target: what is matched, and what an upstream receives."""

    path: str  # begins with "/"; "*" for OPTIONS *
    query: str  # as it came, without "?"
    target: str  # origin-form: path, and "?" with the query if there was one


class BadTarget(NamedTuple):
    """Why a target is refused, in words for the answer and the log."""

    reason: Reason
    detail: str


class SplitTarget(NamedTuple):
    """The three parts of a target; scheme and authority are "" for origin-form."""

    scheme: str
    authority: str
    origin: str


PLAIN: Final = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,=:@/]*").fullmatch
"""Nothing here needs a second look, but for `//`, dot segments and (not in the set) `;`."""
RAW_PATH: Final = re.compile(r"[!-~]*").fullmatch  # visible ASCII
RAW_QUERY: Final = re.compile(r'[!"$-~]*').fullmatch  # visible ASCII without "#"
ABSOLUTE: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]*)(.*)", re.DOTALL).fullmatch
TO_REWRITE: Final = re.compile(r'%([0-9A-Fa-f]{2})|(%)|(["<>\[\]^`{|}])')
NO_ESCAPE: Final = " "  # stands for a bad escape; raw spaces have been refused by then
ESCAPED_CONTROL: Final = re.compile(r"%(?:[01]|7F)").search
UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
HIDDEN_DOTS: Final = re.compile(r"(?:^|/|%2F|%5C)\.{1,2}(?:;|%3B|%2F|%5C)|(?:%2F|%5C)\.{1,2}(?:/|$)").search
OVERLONG: Final = re.compile(r"%C[01]|%E0%[89]|%F0%8").search


def normalise(target: str, rules: PathRules, method: str = "GET") -> Target | BadTarget:
    """Return the one reading of an origin-form target, or why there is none."""
    if "?" not in target:
        if PLAIN(target) and "//" not in target and "/." not in target:
            return Target(target, "", target)
        path, mark, query = target, "", ""
    else:
        path, mark, query = target.partition("?")
        if not RAW_QUERY(query):
            return _bad("the query contains a control, a space, `#` or a raw octet above 127")
        if PLAIN(path) and "//" not in path and "/." not in path:
            return Target(path, query, target)
    if target == "*" and method == "OPTIONS":
        return Target("*", "", "*")
    clean = _clean(path, rules)
    if isinstance(clean, BadTarget):
        return clean
    return Target(clean, query, clean + mark + query)


def split_target(target: str, method: str = "GET") -> SplitTarget | BadTarget:
    """Split origin-form or absolute-form; the authority is parsed elsewhere (core.host)."""
    if target.startswith("/") or target == "*":
        return SplitTarget("", "", target)
    parts = ABSOLUTE(target)
    if parts is None:
        return _bad("the target is neither a path nor an absolute URI")
    scheme, authority, rest = parts[1].lower(), parts[2], parts[3]
    if scheme not in ("http", "https"):
        return _bad("the scheme of the target is neither http nor https")
    if not authority:
        return BadTarget(Reason.BAD_HOST, "the absolute target names no host")
    if not rest:  # RFC 9112 §3.2.4: OPTIONS without a path asks the server as a whole
        return SplitTarget(scheme, authority, "*" if method == "OPTIONS" else "/")
    return SplitTarget(scheme, authority, rest if rest.startswith("/") else "/" + rest)


def canonical_literal(text: str) -> str | None:
    """Return the canonical form of a path that an operator wrote, or None if it has none.

    An operator may write characters as such: `/café` means `/caf%C3%A9`. What
    a request could never look like after `normalise` is refused, since a route
    for it would be dead: dot segments, controls, escapes that are none.
    """
    if not text.startswith("/"):
        return None
    escaped = "".join(c if "!" <= c <= "~" else "".join(f"%{octet:02X}" for octet in c.encode()) for c in text)
    lenient = PathRules(encoded_slash="keep", double_slash="keep", dot_segments="reject", parameters="keep")
    clean = None if "?" in escaped else _clean(escaped, lenient)
    return clean if isinstance(clean, str) else None


def _clean(path: str, rules: PathRules) -> str | BadTarget:
    """Apply every rule of the essay, in the order in which a reader would undo them."""
    if not path.startswith("/"):
        return _bad("the target does not begin with `/`")
    if not RAW_PATH(path):
        return _bad("the path contains a control, a space or a raw octet above 127")
    if "#" in path or "\\" in path:
        return _bad("the path contains `#` or `\\`")
    path = TO_REWRITE.sub(_canonical, path)
    return _refusal(path, rules) or _resolved(path, rules)


def _canonical(found: re.Match[str]) -> str:
    """Rewrite one escape, or one character that must be escaped."""
    digits = found[1]
    if digits is not None:
        character = chr(int(digits, 16))
        return character if character in UNRESERVED else "%" + digits.upper()
    return NO_ESCAPE if found[2] else f"%{ord(found[3]):02X}"


def _refusal(path: str, rules: PathRules) -> BadTarget | None:
    """Look at the rewritten path for what no reading is safe for."""
    if NO_ESCAPE in path:
        return _bad("the path contains a `%` that begins no escape")
    if "%" in path:
        if ESCAPED_CONTROL(path):
            return _bad("the path contains an escaped control or NUL")
        if OVERLONG(path):
            return _bad("the path contains overlong UTF-8")
        if rules.encoded_slash == "reject" and ("%2F" in path or "%5C" in path):
            return _bad("the path contains an encoded slash or backslash")
    if rules.parameters == "reject" and ";" in path:
        return _bad("the path contains a parameter (`;`)")
    if HIDDEN_DOTS(path):
        return _bad("a dot segment hides behind a parameter or an encoded slash")
    return None


def _resolved(path: str, rules: PathRules) -> str | BadTarget:
    """Settle double slashes, then dot segments (RFC 3986 §5.2.4)."""
    if "//" in path:
        if rules.double_slash == "reject":
            return _bad("the path contains an empty segment (`//`)")
        if rules.double_slash == "merge":
            path = re.sub("//+", "/", path)
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment not in (".", ".."):
            kept.append(segment)
        elif rules.dot_segments == "reject":
            return _bad("the path contains a dot segment")
        elif segment == "..":
            if not kept:
                return _bad("the path climbs above the root")
            kept.pop()
    if segments[-1] in (".", ".."):
        kept.append("")  # "/a/.." is the directory: "/"
    return "/" + "/".join(kept)


def _bad(detail: str) -> BadTarget:
    return BadTarget(Reason.BAD_PATH, detail)
