from collections.abc import Callable
from typing import final

from sentinel.core.reasons import Reason
from sentinel.core.span import Span
from sentinel.core.trace import Step

@final
class Books:
    lines_bytes: int
    lines_count: int
    def __new__(
        cls, generation: int, worker: int, is_logged: bool, is_recorded: bool, reasons: list[tuple[Reason, int]],
        spans: list[tuple[Span, bytes, bytes, int]], steps: list[tuple[Step, bytes]], secret: tuple[int, int],
        redacted: int, rare: Callable[..., bytes], layout: tuple[int, int, int], /,
    ) -> Books: ...  # fmt: skip
    def enter(
        self, began_ns: int, duration_ns: int, request_id: str, client_ip: str, method: str, host: str, path: str,
        query_bytes: int, protocol: str, status: int, reason_number: int, reason_word: str, route: str, upstream: str,
        endpoint: str, attempts: int, answered_ns: int, bytes_in: int, bytes_out: int, user_agent: str,
        listener: str, steps: list[Step], more: bytes = ..., /,
    ) -> bytes: ...  # fmt: skip
    def take_lines(self) -> bytes: ...
