from typing import final

@final
class RequestHead:
    method: str
    target: str
    minor: int
    headers: list[tuple[str, str]]
    keep_alive: bool
    content_length: int
    chunked: bool
    expect_continue: bool
    upgrade: str
    host: str | None
    size: int
    def first(self, name: str, /) -> str: ...
    def values(self, name: str, /) -> list[str]: ...

@final
class ResponseHead:
    status: int
    minor: int
    phrase: str
    headers: list[tuple[str, str]]
    keep_alive: bool
    content_length: int
    chunked: bool
    until_close: bool
    upgrade: str
    size: int

def parse_request(
    data: bytes | bytearray | memoryview, start: int, max_bytes: int, max_headers: int, max_uri: int, /
) -> RequestHead | None: ...
def build_request(
    head: RequestHead, target: str, host: str, extra: bytes, drop: frozenset[str], chunked: bool, /
) -> bytes: ...
def parse_response(
    data: bytes | bytearray | memoryview, start: int, max_bytes: int, max_headers: int, request_method: str, /
) -> ResponseHead | None: ...
def build_response(
    head: ResponseHead, extra: bytes, keep_alive: bool, client_minor: int, drop: frozenset[str], /
) -> tuple[bytes, str]: ...
