"""Conditions as questions: each is compiled to one small function of the request.

Intuition: the operator writes what a request must be like; a worker wants to ask
it a million times a second. So everything that is known from the plan (sets of
values, patterns, canonical paths) is prepared here once.

How fields and parameters are read, so that nobody walks round a condition by
spelling it differently:

1. A field that came in several lines is one list (RFC 9110 §5.3), so the lines
   are joined first. A condition holds for the whole value or for any member of
   the list: `x-role "admin"` holds for `x-role: user, admin` and for two lines.
2. Names and values of the query are compared after decoding `+` and escapes; a
   parameter that came several times holds if any of its values does. Escapes
   that are none, and octets that are no UTF-8, stand for themselves as latin-1.
3. Methods are compared as they are: they are case-sensitive (RFC 9110 §9.1).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from sentinel.core.host import canonical_host
from sentinel.core.path import canonical_literal
from sentinel.core.plan import Condition
from sentinel.core.regex import Pattern, compile_pattern
from sentinel.core.request import Request

Test = Callable[[Request], bool]
"""The compiled form of a condition."""

SECRET_FIELDS: Final = frozenset({
    "authorization", "cookie", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token",
})  # fmt: skip
"""What their values say is nobody's to read: they are shown to no one, whoever said them."""
ESCAPES: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")


def compile_condition(condition: Condition) -> Test:
    """Return the function that says whether the condition holds."""
    return COMPILERS[condition.kind](condition)


def field_values(request: Request, name: str) -> list[str]:
    """Return the whole value of a field, then the members of its list; empty when it is absent."""
    lines = request.values(name)
    if not lines:
        return lines
    whole = lines[0] if len(lines) == 1 else ", ".join(lines)
    if "," not in whole:
        return [whole]
    return [whole, *(member.strip(" \t") for member in whole.split(","))]


def query_values(request: Request, name: str) -> list[str]:
    """Return the decoded values of a query parameter, in order."""
    return [value for key, value in query_pairs(request.query) if key == name]


def query_pairs(query: str) -> Iterator[tuple[str, str]]:
    """Walk over the decoded parameters of a query; one without "=" has the value ""."""
    for pair in query.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            yield decoded(name.replace("+", " ")), decoded(value.replace("+", " "))


def host_matches(host: str, pattern: str) -> bool:
    """Say whether a canonical host is of a canonical host pattern."""
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) >= len(pattern)
    return host == pattern


def path_has_prefix(path: str, prefix: str) -> bool:
    """Say whether a canonical prefix covers a canonical path; it ends on a segment border."""
    if not path.startswith(prefix):
        return False
    return len(path) == len(prefix) or prefix.endswith("/") or path[len(prefix)] == "/"


def host_pattern(text: str) -> str:
    """Return the canonical form of a host that an operator wrote; `*` means any, and stays."""
    if text == "*":
        return text
    star, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    host = canonical_host(name)
    if host is None or (star and host.startswith("[")):
        raise ValueError(f"not a host: {text!r}")
    return star + host


def path_literal(text: str) -> str:
    """Return the canonical form of a path that an operator wrote; raise ValueError when it has none."""
    path = canonical_literal(text)
    if path is None:
        raise ValueError(f"not a path: {text!r}")
    return path


def _method(condition: Condition) -> Test:
    methods = frozenset(condition.values)
    if len(methods) == 1:
        (only,) = methods
        return lambda request: request.method == only
    return lambda request: request.method in methods


def _header(condition: Condition) -> Test:
    name, wanted = condition.name, frozenset(condition.values)
    if not wanted:
        return lambda request: any(key == name for key, _ in request.headers)
    return lambda request: not wanted.isdisjoint(field_values(request, name))


def _header_regex(condition: Condition) -> Test:
    name, matches_any = condition.name, _any_pattern(condition.values)
    return lambda request: any(matches_any(value) for value in field_values(request, name))


def _query(condition: Condition) -> Test:
    name, wanted = condition.name, frozenset(condition.values)
    if not wanted:
        return lambda request: any(key == name for key, _ in query_pairs(request.query))
    return lambda request: not wanted.isdisjoint(query_values(request, name))


def _query_regex(condition: Condition) -> Test:
    name, matches_any = condition.name, _any_pattern(condition.values)
    return lambda request: any(matches_any(value) for value in query_values(request, name))


def _host(condition: Condition) -> Test:
    patterns = tuple(host_pattern(value) for value in condition.values)
    if "*" in patterns:
        return lambda request: True
    return lambda request: any(host_matches(request.host, pattern) for pattern in patterns)


def _path(condition: Condition) -> Test:
    paths = frozenset(path_literal(value) for value in condition.values)
    return lambda request: request.path in paths


def _path_prefix(condition: Condition) -> Test:
    prefixes = tuple(path_literal(value) for value in condition.values)
    return lambda request: any(path_has_prefix(request.path, prefix) for prefix in prefixes)


def _path_regex(condition: Condition) -> Test:
    matches_any = _any_pattern(condition.values)
    return lambda request: matches_any(request.path)


def _not(condition: Condition) -> Test:
    tests = tuple(compile_condition(part) for part in condition.parts)
    return lambda request: not any(test(request) for test in tests)


def _any(condition: Condition) -> Test:
    tests = tuple(compile_condition(part) for part in condition.parts)
    return lambda request: any(test(request) for test in tests)


def _all(condition: Condition) -> Test:
    tests = tuple(compile_condition(part) for part in condition.parts)
    return lambda request: all(test(request) for test in tests)


def _any_pattern(values: tuple[str, ...]) -> Callable[[str], bool]:
    patterns: tuple[Pattern, ...] = tuple(compile_pattern(value) for value in values)
    if len(patterns) == 1:
        return patterns[0].matches
    return lambda value: any(pattern.matches(value) for pattern in patterns)


def decoded(text: str) -> str:
    """Percent-encoded octets as what they stand for; those that are no UTF-8 as latin-1."""
    return ESCAPES.sub(_decoded_octets, text) if "%" in text else text


def _decoded_octets(found: re.Match[str]) -> str:
    octets = bytes.fromhex(found[0].replace("%", ""))
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


COMPILERS: Final[dict[str, Callable[[Condition], Test]]] = {
    "method": _method,
    "header": _header,
    "header-regex": _header_regex,
    "query": _query,
    "query-regex": _query_regex,
    "host": _host,
    "path": _path,
    "path-prefix": _path_prefix,
    "path-regex": _path_regex,
    "not": _not,
    "any": _any,
    "all": _all,
}
