"""What inference servers answer to checks: read whole, or not believed; never without bound."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import pytest

from workers.asking import BODY_BYTES_MAX, HEAD_BYTES_MAX, one_token, read_answer, read_models

LIST = json.dumps({"object": "list", "data": [{"id": "llama"}, {"id": "qwen"}]}).encode()
OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"content-length: %d\r\n\r\n" % len(LIST)
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


def answered(pieces: Iterable[bytes], *, ends: bool = True) -> tuple[int, bytes | None, int]:
    """What is read of these pieces, and how many octets were taken."""

    async def read() -> tuple[int, bytes | None, int]:
        reader = asyncio.StreamReader()
        taken = 0
        pending = iter(pieces)
        given = reader.read

        async def next_piece(n: int = -1) -> bytes:
            nonlocal taken
            piece = next(pending, b"")
            if piece:
                reader.feed_data(piece)
            elif ends:
                reader.feed_eof()
            found = await asyncio.wait_for(given(n), 5)
            taken += len(found)
            return found

        reader.read = next_piece  # type: ignore[method-assign]
        status, body = await read_answer(reader, "GET")
        return status, body, taken

    return asyncio.run(read())


@pytest.mark.parametrize("raw", [
    SIZED + LIST, CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(LIST), LIST), OK + b"connection: close\r\n\r\n" + LIST,
    b"HTTP/1.1 103 Early Hints\r\n\r\n" + SIZED + LIST,
])  # fmt: skip
def test_an_answer_is_read_whole_however_it_is_cut(raw: bytes) -> None:
    assert answered([raw])[:2] == (200, LIST)
    assert answered(raw[at : at + 1] for at in range(len(raw)))[:2] == (200, LIST)
    for cut in range(0, len(raw), 7):
        assert answered([raw[:cut], raw[cut:]])[:2] == (200, LIST) if cut else True


@pytest.mark.parametrize("raw", [
    b"", b"garbage\r\n\r\n", SIZED + LIST[:-1], CHUNKED + b"5\r\nab", CHUNKED + b"zz\r\n",
    OK + b"content-length: x\r\n\r\n", OK + b"content-length: 99999999999\r\n\r\n{",
    b"HTTP/1.1 101 Up\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    b"HTTP/1.1 103 Hint\r\n\r\n" * 100,
])  # fmt: skip
def test_what_lies_about_itself_is_not_believed(raw: bytes) -> None:
    assert answered([raw])[1] is None


@pytest.mark.parametrize(("head", "piece"), [
    (OK + b"connection: close\r\n\r\n", b"x" * 8192),
    (CHUNKED, b"2000\r\n" + b"x" * 8192 + b"\r\n"),
    (CHUNKED, b"1\r\nx\r\n" * 1000), (OK, b"x-more: of it\r\n"), (b"HTTP/1.1 103 Hint\r\n", b"x-more: of it\r\n"),
])  # fmt: skip
def test_what_has_no_end_is_given_up_at_the_bound(head: bytes, piece: bytes) -> None:
    def endless() -> Iterable[bytes]:
        yield head
        while True:
            yield piece

    _, body, taken = answered(endless(), ends=False)
    assert body is None and taken <= 2 * BODY_BYTES_MAX + HEAD_BYTES_MAX + 64 * 1024


@pytest.mark.parametrize(("document", "names"), [
    (LIST, ["llama", "qwen"]), (b'{"models":[{"name":"llama3:latest"}]}', ["llama3:latest"]), (b'{"data":[]}', []),
    (b'{"data":[{"id":7}]}', None), (b'{"data":["llama"]}', None), (b'{"data":{}}', None), (b"[]", None), (b"", None),
    (b"\xff", None), (b"[" * 200_000, None), (b'{"data":' + b"9" * 10_000 + b"}", None), (b'{"error":"no"}', None),
])  # fmt: skip
def test_a_list_is_read_or_it_is_none(document: bytes, names: list[str] | None) -> None:
    assert read_models(document) == names


def test_one_token_is_asked_for_in_the_paths_own_shape() -> None:
    assert one_token("/v1/completions", "m") == {"model": "m", "max_tokens": 1, "prompt": "Hi"}
    for path in ("/v1/chat/completions", "/v1/messages"):
        assert one_token(path, "m")["messages"] == [{"role": "user", "content": "Hi"}]
