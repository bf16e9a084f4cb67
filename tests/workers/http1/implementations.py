"""Both implementations of the codec, and one value that says all that can be said about a head."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest

from workers.http1 import request_twin, response_twin
from workers.http1.faults import Fault

NATIVE_IS_BUILT = find_spec("workers._native.http1") is not None
NEEDS_NATIVE = pytest.mark.skipif(not NATIVE_IS_BUILT, reason="build it: python setup.py build_ext --inplace")
IMPLEMENTATIONS = [pytest.param("native", marks=NEEDS_NATIVE), "twin"]

TWIN = SimpleNamespace(
    parse_request=request_twin.parse_request, build_request=request_twin.build_request,
    parse_response=response_twin.parse_response, build_response=response_twin.build_response,
)  # fmt: skip

BYTES_MAX, HEADERS_MAX, URI_MAX = 32 * 1024, 100, 8 * 1024
DROP = frozenset({"x-forwarded-for", "x_forwarded_for", "forwarded", "x-drop-me", "drop-me-too", "server"})
EXTRA = b"x-request-id: 0123\r\n"

REQUEST = (
    "method", "target", "minor", "headers", "keep_alive", "content_length", "chunked", "expect_continue", "upgrade",
    "host", "size",
)  # fmt: skip
RESPONSE = (
    "status", "minor", "phrase", "headers", "keep_alive", "content_length", "chunked", "until_close", "upgrade", "size",
)  # fmt: skip


def codec(implementation: str) -> Any:
    return TWIN if implementation == "twin" else import_module("workers._native.http1")


def request_outcome(
    codec: Any, data: bytes, bytes_max: int = BYTES_MAX, headers_max: int = HEADERS_MAX, uri_max: int = URI_MAX
) -> tuple[Any, ...] | None:
    """None, a fault, or every attribute of the head and everything that can be built of it."""
    try:
        head = codec.parse_request(data, 0, bytes_max, headers_max, uri_max)
    except Fault as fault:
        return type(fault), fault.reason, fault.detail
    if head is None:
        return None
    built = [
        codec.build_request(head, "/new?x", "up.test:81", extra, drop, chunked)
        for extra in (b"", EXTRA) for drop in (frozenset(), DROP) for chunked in (False, True)
    ]  # fmt: skip
    named = [(name, head.first(name), head.values(name)) for name in ("", *(name for name, _ in head.headers))]
    return (*(getattr(head, name) for name in REQUEST), named, built)


def response_outcome(
    codec: Any, data: bytes, method: str = "GET", bytes_max: int = BYTES_MAX, headers_max: int = HEADERS_MAX
) -> tuple[Any, ...] | None:
    try:
        head = codec.parse_response(data, 0, bytes_max, headers_max, method)
    except Fault as fault:
        return type(fault), fault.reason, fault.detail
    if head is None:
        return None
    built = [
        codec.build_response(head, EXTRA, keep_alive, minor, drop)
        for keep_alive in (True, False) for minor in (0, 1) for drop in (frozenset(), DROP)
    ]  # fmt: skip
    return (*(getattr(head, name) for name in RESPONSE), built)
