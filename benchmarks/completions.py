"""What a completion costs a worker outside the kernel: the whole exchange, with transports of paper.

They are those of benchmarks.exchange. Run with `python -m benchmarks.completions`, or with some cases' names;
`--profile` shows where it goes. A request and an answer of 1 KiB each, or a stream of a hundred chunks, each of which
comes by itself as a provider sends it. `plain` is the same octets over a route without `inference`: what is more is
the price of knowing what a model took. Log, counters and journal are on, as they are by default; a budget is one that
never ends.

A chunk's cost is that of the whole stream without that of its beginning and end, over its chunks.
"""

from __future__ import annotations

import cProfile
import gc
import json
import os
import pstats
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import uvloop

from benchmarks.exchange import Paper
from benchmarks.inference import EVENTS, WORDS, chat, message, sse
from sentinel.core.places import place_names, with_places
from sentinel.core.plan import (
    PLAN_VERSION,
    Admin,
    Endpoint,
    Inference,
    Listener,
    Match,
    Plan,
    Route,
    System,
    TokenBudget,
    Upstream,
)
from shm.region import Region, Role
from workers.downstream import Downstream
from workers.intake import Intake
from workers.main import GC_YOUNG_MAX
from workers.pool import Link
from workers.service import Service

CONNECTIONS: Final = 64
TURNS: Final = 12
ROUNDS: Final = 15
CHUNKS: Final = 100
BUDGET: Final = 1 << 48
SAID: Final = " ".join(["the", "gateway", "reads", "what", "passes", "and", "changes", "nothing"] * 14)


def _head(path: str, body: bytes) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: bench.example\r\nAccept: application/json\r\nx-tenant: acme\r\n"
        "Content-Type: application/json\r\nUser-Agent: OpenAI/Python 2.1.0\r\nAccept-Encoding: gzip, deflate\r\n"
        f"Authorization: Bearer sk-0123456789abcdef\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def _asked(*, is_stream: bool, wants_usage: bool = True) -> bytes:
    document: dict[str, Any] = {
        "model": "gpt-4o-mini", "max_tokens": 256, "temperature": 0.7, "messages": [
            {"role": "system", "content": "You answer in one sentence."}, {"role": "user", "content": SAID},
        ],
    }  # fmt: skip
    if is_stream:
        document["stream"] = True
        if wants_usage:
            document["stream_options"] = {"include_usage": True}
    return json.dumps(document).encode()


def answered() -> bytes:
    said = {"role": "assistant", "content": SAID, "refusal": None, "annotations": []}
    body = json.dumps({
        "id": "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz", "object": "chat.completion", "created": 1770000000,
        "model": "gpt-4o-mini-2024-07-18", "choices": [
            {"index": 0, "message": said, "logprobs": None, "finish_reason": "stop"}
        ], "usage": USAGE, "service_tier": "default", "system_fingerprint": "fp_0123456789",
    }).encode()  # fmt: skip
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


USAGE: Final = {
    "prompt_tokens": 140, "completion_tokens": 126, "total_tokens": 266,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0},
}  # fmt: skip
STREAM_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % EVENTS.encode()


def chunk(octets: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(octets), octets)


def openai_stream(chunks: int, *, has_usage: bool = True) -> list[bytes]:
    role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    frame = {"id": "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz", "object": "chat.completion.chunk", "created": 1770000000,
             "model": "gpt-4o-mini-2024-07-18"}  # fmt: skip
    events = [sse({**frame, "choices": [role], "usage": None})]
    events += [chat(WORDS[at % len(WORDS)]) for at in range(chunks)]
    events.append(sse({**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None}))
    if has_usage:
        events.append(sse({**frame, "choices": [], "usage": USAGE}))
    return [STREAM_HEAD, *map(chunk, events), chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"]


def _anthropic_stream(chunks: int) -> list[bytes]:
    usage = {"input_tokens": 140, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "output_tokens": 1}
    started = {"id": "msg_0123456789abcdef", "type": "message", "role": "assistant", "content": [],
               "model": "claude-sonnet-4-5", "stop_reason": None, "usage": usage}  # fmt: skip
    block = {"type": "text", "text": ""}
    events = [sse({"type": "message_start", "message": started}, "message_start")]
    events.append(sse({"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start"))
    events += [message(WORDS[at % len(WORDS)]) for at in range(chunks)]
    events.append(sse({"type": "content_block_stop", "index": 0}, "content_block_stop"))
    ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 126}}
    events.append(sse(ended, "message_delta"))
    return [STREAM_HEAD, *map(chunk, events), chunk(sse({"type": "message_stop"}, "message_stop")) + b"0\r\n\r\n"]


CHAT: Final = "/v1/chat/completions"
MESSAGES: Final = "/v1/messages"


@dataclass(frozen=True, slots=True)
class Case:
    """One row. `chunks`: 0 for an answer that comes whole."""

    name: str
    path: str = CHAT
    chunks: int = 0
    is_metered: bool = True
    has_budget: bool = False
    wants_usage: bool = True

    def request(self) -> bytes:
        body = _asked(is_stream=bool(self.chunks), wants_usage=self.wants_usage)
        return _head(self.path, body)

    def answer(self, chunks: int) -> list[bytes]:
        if not self.chunks:
            return [answered()]
        return _anthropic_stream(chunks) if self.path == MESSAGES else openai_stream(chunks)


CASES: Final = (
    Case("whole, plain", is_metered=False),
    Case("whole"),
    Case("whole, budget", has_budget=True),
    Case("stream, plain", chunks=CHUNKS, is_metered=False),
    Case("stream", chunks=CHUNKS),
    Case("stream, budget", chunks=CHUNKS, has_budget=True),
    Case("stream, budget, usage removed", chunks=CHUNKS, has_budget=True, wants_usage=False),
    Case("messages stream, budget", path=MESSAGES, chunks=CHUNKS, has_budget=True),
)


def _plan(case: Case, region: Region) -> Plan:
    budgets = (TokenBudget("per-tenant", BUDGET, "month", key=("header:x-tenant",)),) if case.has_budget else ()
    route = Route(
        "models", (Match(path_prefixes=("/v1",)),), 0, upstream="models", series=region.series_index("models"),
        filters=tuple(one.name for one in budgets), inference=Inference() if case.is_metered else None,
    )  # fmt: skip
    upstream = Upstream("models", (Endpoint("127.0.0.1", 9001),))
    plan = Plan(
        PLAN_VERSION, System(access_log="/dev/null"), Admin(), (Listener("web", "127.0.0.1", 8080),), (route,),
        (upstream,), token_budgets=budgets,
    )  # fmt: skip
    return with_places(plan, region.place_numbers(place_names(plan)))


class Stage:
    """A worker of one case, with its clients and its links."""

    def __init__(self, case: Case, region: Region, slot: int) -> None:
        self._loop = uvloop.new_event_loop()
        self._service = service = Service(self._loop, _plan(case, region), region, slot=slot, generation=1)
        self._request = case.request()
        self._answers = {chunks: case.answer(chunks) for chunks in {0, case.chunks}}
        intake = Intake(service.plan.listeners[0])
        self._clients = []
        for _ in range(CONNECTIONS):
            client = Downstream(service, intake)
            client.connection_made(cast(Any, Paper()))
            self._clients.append(client)
        place = service.world.groups()[0].places[0]
        for _ in range(CONNECTIONS):
            link = Link(place.pools[0])
            link.connection_made(cast(Any, Paper()))
            link.uses = 1
            place.pools[0].give_back(link)

    def turn(self, chunks: int) -> int:
        """All clients ask, and all are answered piece by piece, by turns: the nanoseconds that took."""
        clients, request, answer = self._clients, self._request, self._answers[chunks]
        begun_ns = time.thread_time_ns()
        for client in clients:
            client.data_received(request)
        links = [cast(Any, client.exchange).link for client in clients]
        for piece in answer:
            for link in links:
                link.data_received(piece)
        took_ns = time.thread_time_ns() - begun_ns
        assert all(client.exchange is None and client.served for client in clients), "each was answered to its end"
        return took_ns

    def round_us(self, chunks: int) -> float:
        took_ns = sum(self.turn(chunks) for _ in range(TURNS))
        self._service.ledger.tick(0)
        return took_ns / 1000 / TURNS / CONNECTIONS

    def close(self) -> None:
        self._service.log.close(1.0)
        self._loop.close()


@contextmanager
def staged(case: Case) -> Iterator[Stage]:
    name = f"/sentinel-bench-{os.getpid()}"
    region = Region.create(name, series_max=16, slots_max=4)
    stage = None
    try:
        slot = region.claim_slot(pid=os.getpid(), birth_ns=0, role=Role.WORKER, generation=1, lane=0)
        stage = Stage(case, region, slot)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_YOUNG_MAX, 20, 50)  # as in a worker (workers.main)
        yield stage
    finally:
        if stage is not None:
            stage.close()
        region.unlink()
        region.close()


def costs_us(case: Case, rounds: int = ROUNDS) -> tuple[float, float | None]:
    """An exchange, and a chunk of it; the best of all rounds."""
    with staged(case) as stage:
        whole = min(stage.round_us(case.chunks) for _ in range(rounds))
        if not case.chunks:
            return whole, None
        ends = min(stage.round_us(0) for _ in range(rounds))
        return ends, (whole - ends) / case.chunks


def profile(case: Case) -> None:
    with staged(case) as stage:
        stage.round_us(case.chunks)
        profiler = cProfile.Profile()
        profiler.enable()
        for _ in range(5):
            stage.round_us(case.chunks)
        profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(40)


def main(words: Sequence[str]) -> None:
    names = [word for word in words if not word.startswith("--")]
    cases = [case for case in CASES if not names or case.name in names]
    if "--profile" in words:
        for case in cases:
            print(case.name)
            profile(case)
        return
    print(f"{'case':<34}{'µs a completion':>18}{'µs a chunk':>14}")
    for case in cases:
        exchange, chunk = costs_us(case)
        print(f"{case.name:<34}{exchange:>18.1f}" + ("" if chunk is None else f"{chunk:>14.2f}"), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
