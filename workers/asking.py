"""What an inference server is asked, apart from what clients want: which models it has, for one token, how busy it is.

Intuition: before the restaurant's critics come, somebody orders a cup of coffee. That the door is open says little;
the menu says what there could be, and the coffee that there is somebody in the kitchen who is awake.

Rules:
1. What comes is a stranger's: a head of HEAD_BYTES_MAX, a body of BODY_BYTES_MAX, all of it within the check's
   timeout, and never trusted to be JSON, or in anybody's shape. A body that ends before its length said is none.
2. The list is OpenAI's (`data` of objects with an `id`; vLLM, SGLang, Ollama and Anthropic speak so), or Ollama's own
   (`models` of objects with a `name`). One name that is no text makes it no list.
3. For a token is asked as little as can be: one, of one word. An answer is good if it is a success and brings what
   answers bring (`choices`, or `content`); an error that comes with 200 is an error.
4. Each question has a connection of its own, as checks do (workers.health).
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any, Final

from sentinel.core.machines.health import Finding
from sentinel.core.plan import HealthCheck, LoadReport
from sentinel.inference.gauges import Dials, Gauges
from workers.handshakes import Handshaker, open_streams
from workers.http1.bodies import ChunkedBody
from workers.http1.faults import UpstreamFault
from workers.http1.heads import ResponseHead, parse_response

HEAD_BYTES_MAX: Final = 32 * 1024
HEADERS_MAX: Final = 100
BODY_BYTES_MAX: Final = 256 * 1024
PAGE_BYTES_MAX: Final = 1 << 20
"""Of metrics: vLLM's have some 50 KiB for each model."""
READ_BYTES: Final = 64 * 1024
MODELS_MAX: Final = 1000
"""More names than that are cut: nobody reads them, and shared memory has no room for them."""
LOOPS_MAX: Final = 64
"""Interim answers before the final one."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found. finding None: it could not be made. models: what the server told, None: nothing."""

    finding: Finding | None
    models: tuple[str, ...] | None = None
    is_whole: bool = True
    took_ns: int = 0


async def ask_inference(
    host: str, port: int, check: HealthCheck, authority: str, handshaker: Handshaker | None = None
) -> Found:
    """Ask for the list, and then for a token if that is wanted. Raises OSError, and what a timeout raises."""
    began_ns = time.monotonic_ns()
    status, body = await exchange(host, port, _head(check, authority, "GET", check.path), handshaker=handshaker)
    if body is None:
        return Found(Finding.MALFORMED)
    if not _is_expected(check, status):
        return Found(Finding.BAD_STATUS)
    names = read_models(body)
    if names is None:
        return Found(Finding.MALFORMED)
    listed = names[:MODELS_MAX]
    finding = Finding.GOOD
    if check.completion_path:
        model = check.completion or (names[0] if names else "")
        finding = Finding.NO_MODEL
        if model in names:
            finding = await _ask_for_a_token(host, port, check, authority, model, handshaker)
    took_ns = time.monotonic_ns() - began_ns
    return Found(finding, tuple(listed), len(listed) == len(names), took_ns)


async def ask_load(
    host: str, port: int, rule: LoadReport, dials: Dials, authority: str, handshaker: Handshaker | None = None
) -> Gauges | Finding:
    """Read an endpoint's page of metrics; raises as `ask_inference` does."""
    request = (
        f"GET {rule.path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: sentinel-load-report\r\n"
        "accept: text/plain\r\naccept-encoding: identity\r\nconnection: close\r\n\r\n"
    )
    status, body = await exchange(host, port, request.encode("latin-1"), PAGE_BYTES_MAX, handshaker)
    if body is None:
        return Finding.MALFORMED
    if status != 200:
        return Finding.BAD_STATUS
    return dials.read(body) or Finding.NO_METRIC


async def _ask_for_a_token(
    host: str, port: int, check: HealthCheck, authority: str, model: str, handshaker: Handshaker | None
) -> Finding:
    asked = json.dumps(one_token(check.completion_path, model)).encode()
    head = _head(check, authority, "POST", check.completion_path, len(asked))
    status, body = await exchange(host, port, head + asked, handshaker=handshaker)
    if body is None:
        return Finding.MALFORMED
    if not 200 <= status < 300:
        return Finding.BAD_STATUS
    return Finding.GOOD if _is_answer(body) else Finding.MALFORMED


def one_token(path: str, model: str) -> dict[str, Any]:
    """The smallest request to this path: OpenAI's chat and Anthropic's messages say it alike, completions do not."""
    asked: dict[str, Any] = {"model": model, "max_tokens": 1}
    if path.rstrip("/").endswith("/completions") and not path.rstrip("/").endswith("/chat/completions"):
        return asked | {"prompt": "Hi"}
    return asked | {"messages": [{"role": "user", "content": "Hi"}]}


def read_models(body: bytes) -> list[str] | None:
    """The names in a list of models; None when it is none."""
    document = _document(body)
    if document is None:
        return None
    for members, name in (("data", "id"), ("models", "name")):
        entries = document.get(members)
        if isinstance(entries, list):
            names = [entry.get(name) if isinstance(entry, dict) else None for entry in entries]
            texts = [one for one in names if isinstance(one, str)]
            return texts if len(texts) == len(names) else None
    return None


def _is_answer(body: bytes) -> bool:
    document = _document(body)
    if document is None or document.get("error"):
        return False
    return any(isinstance(document.get(name), list) and document[name] for name in ("choices", "content"))


def _document(body: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):  # also no UTF-8
        return None
    return document if isinstance(document, dict) else None


def _is_expected(check: HealthCheck, status: int) -> bool:
    return any(first <= status <= last for first, last in check.statuses)


def _head(check: HealthCheck, authority: str, method: str, path: str, length: int = -1) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1", f"host: {authority}", "user-agent: sentinel-health-check",
        "accept: application/json", "accept-encoding: identity", "connection: close",
    ]  # fmt: skip
    if check.bearer:
        lines.append(f"authorization: Bearer {check.bearer}")
    if length >= 0:
        lines += ["content-type: application/json", f"content-length: {length}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def exchange(
    host: str, port: int, request: bytes, body_bytes_max: int = BODY_BYTES_MAX, handshaker: Handshaker | None = None
) -> tuple[int, bytes | None]:
    """Send this, and return the final answer's status and whole body; None for what is no HTTP, or too much."""
    reader, writer = await open_streams(handshaker, host, port)
    try:
        writer.write(request)
        return await read_answer(reader, request.partition(b" ")[0].decode(), body_bytes_max=body_bytes_max)
    finally:
        writer.transport.abort()


async def read_answer(
    reader: asyncio.StreamReader, method: str, head_bytes_max: int = HEAD_BYTES_MAX,
    body_bytes_max: int = BODY_BYTES_MAX,
) -> tuple[int, bytes | None]:  # fmt: skip
    """The status of the final answer, and its whole body; None in its place when there is none to be believed."""
    received, start, interims = b"", 0, 0
    while True:
        try:
            head = parse_response(received, start, head_bytes_max, HEADERS_MAX, method) if received else None
        except UpstreamFault:
            return 0, None
        if head is None:
            piece = await reader.read(READ_BYTES) if len(received) < head_bytes_max + READ_BYTES else b""
            if not piece:
                return 0, None
            received += piece
        elif head.status < 200:
            start, interims = start + head.size, interims + 1
            if interims > LOOPS_MAX or head.status == 101:
                return 0, None
        else:
            body = await _body(reader, head, received[start + head.size :], body_bytes_max)
            return head.status, body


async def _body(reader: asyncio.StreamReader, head: ResponseHead, begun: bytes, octets_max: int) -> bytes | None:
    """All of a body, if it is whole and not too long."""
    pieces, size, received = [], 0, begun
    chunks = ChunkedBody(reframe=False, fault=UpstreamFault) if head.chunked else None
    if head.content_length > octets_max:
        return None
    read = len(begun)
    while True:
        payload = received
        if chunks is not None:
            try:
                payload, _ = chunks.feed(received)
            except UpstreamFault:
                return None
        pieces.append(payload)
        size += len(payload)
        if size > octets_max or read > 2 * octets_max:  # framing has a price too: chunks of one octet
            return None
        if (chunks is not None and chunks.done) or 0 <= head.content_length <= size:
            return b"".join(pieces)[: head.content_length if head.content_length >= 0 else None]
        if chunks is None and head.content_length < 0 and not head.until_close:
            return b""  # 204 and its like
        received = await reader.read(READ_BYTES)
        read += len(received)
        if not received:
            return b"".join(pieces) if head.until_close else None
