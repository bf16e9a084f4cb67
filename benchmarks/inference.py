"""What understanding LLM traffic costs: a chunk of a stream, a body, an estimate.

Run with `python -m benchmarks.inference`. CPU time of this process, best of several rounds, so that neighbours
matter little. Streams are fed one event at a time, as upstreams send them:

    ordinary    an event with text and nothing else: nearly all of a stream; with all that is put off until later
    removing    the same, while an event with usage is looked for that is to be removed
    split       the same, but each event comes in two halves
    gzip        the same, inflated on the way
    parsed      an event that is parsed, such as one of several choices

The aim is 3 µs for an ordinary one.
"""

from __future__ import annotations

import json
import timeit
import zlib
from collections.abc import Callable
from time import process_time
from typing import Any

from sentinel.core.prices import read_prices
from sentinel.inference.adapters import read_request
from sentinel.inference.ask import Ask, Input
from sentinel.inference.dialect import Call, Dialect
from sentinel.inference.estimate import Estimator
from sentinel.inference.insist import asking_for_usage
from sentinel.inference.look import decode_request
from sentinel.inference.meter import Meter
from sentinel.inference.prices import cost
from sentinel.inference.usage import fit

CHUNKS = 5_000
ROUNDS = 7
EVENTS = "text/event-stream"
WORDS = ("The", " gateway", " reads", " what", " passes", ",", " and", " changes", " nothing", ".")


def sse(document: dict[str, Any], name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(document, separators=(',', ':'))}\n\n".encode()


def chat(word: str) -> bytes:
    choice = {"index": 0, "delta": {"content": word}, "logprobs": None, "finish_reason": None}
    return sse({
        "id": "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz", "object": "chat.completion.chunk", "created": 1770000000,
        "model": "gpt-4o-mini-2024-07-18", "service_tier": "default", "system_fingerprint": "fp_0123456789",
        "choices": [choice], "usage": None,
    })  # fmt: skip


def response(word: str) -> bytes:
    kind = "response.output_text.delta"
    return sse({"type": kind, "sequence_number": 9, "item_id": "msg_0123456789abcdef", "output_index": 0,
                "content_index": 0, "delta": word, "logprobs": [], "obfuscation": "xK2dd9"}, kind)  # fmt: skip


def message(word: str) -> bytes:
    delta = {"type": "text_delta", "text": word}
    return sse({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")


def gemini(word: str) -> bytes:
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 9, "totalTokenCount": 18}
    part = {"content": {"parts": [{"text": word * 20}], "role": "model"}, "index": 0}
    return sse({"candidates": [part], "usageMetadata": usage, "modelVersion": "gemini-x-001"})


def ollama(word: str) -> bytes:
    said = {"role": "assistant", "content": word}
    return json.dumps({"model": "llama-x", "created_at": "2026-01-01T00:00:00.000000Z", "message": said,
                       "done": False}, separators=(",", ":")).encode() + b"\n"  # fmt: skip


def per_chunk_us(make: Callable[[], Meter], chunks: list[bytes]) -> float:
    """A whole stream, from the meter's making to its end, over its chunks."""

    def stream() -> None:
        meter = make()
        for chunk in chunks:
            meter.feed(chunk)
        meter.finish()
        meter.reading()

    return min(timeit.repeat(stream, number=1, repeat=ROUNDS, timer=process_time)) / len(chunks) * 1e6


def each_us(action: Callable[[], object], number: int) -> float:
    return min(timeit.repeat(action, number=number, repeat=ROUNDS, timer=process_time)) / number * 1e6


def halves(chunks: list[bytes]) -> list[bytes]:
    return [half for chunk in chunks for half in (chunk[: len(chunk) // 2], chunk[len(chunk) // 2 :])]


def squeezed(chunks: list[bytes]) -> list[bytes]:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    return [packer.compress(chunk) + packer.flush(zlib.Z_SYNC_FLUSH) for chunk in chunks]


def streams() -> None:
    print(f"{'stream, one event a chunk':<44}{'octets':>8}{'µs per chunk':>14}")
    for name, dialect, make, kind in (
        ("OpenAI chat", Dialect.OPENAI_CHAT, chat, EVENTS),
        ("OpenAI responses", Dialect.OPENAI_RESPONSES, response, EVENTS),
        ("Anthropic messages", Dialect.ANTHROPIC_MESSAGES, message, EVENTS),
        ("Ollama chat", Dialect.OLLAMA_CHAT, ollama, "application/x-ndjson"),
        ("Gemini, usage on each (parsed)", Dialect.GEMINI_GENERATE, gemini, EVENTS),
    ):
        chunks = [make(WORDS[number % len(WORDS)]) for number in range(CHUNKS)]
        ask = Ask(dialect, "m", Input(), True)
        took = per_chunk_us(lambda ask=ask, kind=kind: Meter(ask, content_type=kind), chunks)  # type: ignore[misc]
        print(f"{name:<44}{len(chunks[1]):>8}{took:>14.2f}")
    chunks = [chat(WORDS[number % len(WORDS)]) for number in range(CHUNKS)]
    one, several = (Ask(Dialect.OPENAI_CHAT, "m", Input(), True, choices_count=n, wants_usage=False) for n in (1, 2))
    for name, given, ask, settings in (
        ("OpenAI chat, removing", chunks, one, {"is_usage_removed": True}),
        ("OpenAI chat, split in two, per half", halves(chunks), one, {"is_usage_removed": True}),
        ("OpenAI chat, gzip", squeezed(chunks), one, {"encoding": "gzip"}),
        ("OpenAI chat, parsed", chunks, several, {}),
    ):
        took = per_chunk_us(
            lambda ask=ask, settings=settings: Meter(ask, content_type=EVENTS, **settings), given  # type: ignore[misc]
        )
        print(f"{name:<44}{len(given[1]):>8}{took:>14.2f}")
    decode = each_us(lambda: json.loads(chunks[0][6:]), 20_000)
    print(f"{'for comparison: json.loads of one event':<44}{len(chunks[0]):>8}{decode:>14.2f}")


def bodies() -> None:
    print(f"\n{'body':<44}{'octets':>8}{'µs':>14}")
    small = {"model": "gpt-4o-mini", "stream": True, "max_tokens": 256, "messages": [
        {"role": "system", "content": "Be brief. " * 20}, {"role": "user", "content": "Say something. " * 45},
    ]}  # fmt: skip
    large = {"model": "text-embedding-3-small", "input": ["word " * 64] * 2000}
    for name, dialect, body, number in (
        ("chat request", Dialect.OPENAI_CHAT, small, 2000), ("embeddings", Dialect.OPENAI_EMBEDDINGS, large, 10),
    ):  # fmt: skip
        octets, call = json.dumps(body).encode(), Call(dialect)
        took = each_us(lambda call=call, octets=octets: read_request(call, octets), number)  # type: ignore[misc]
        decode = each_us(lambda octets=octets: decode_request(octets), number)  # type: ignore[misc]
        print(f"{name + ', read':<44}{len(octets):>8}{took:>14.1f}   of which JSON {decode:.1f}")
    octets = json.dumps(small).encode()
    ask = read_request(Call(Dialect.OPENAI_CHAT), octets)
    print(f"{'chat request, asking for usage':<44}{len(octets):>8}"
          f"{each_us(lambda: asking_for_usage(ask, octets), 20_000):>14.2f}")  # fmt: skip
    answer = json.dumps({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 150}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 150, "total_tokens": 350},
    }).encode()  # fmt: skip

    def metered() -> None:
        meter = Meter(ask, content_type="application/json")
        meter.feed(answer)
        meter.finish()
        meter.reading()

    print(f"{'chat answer':<44}{len(answer):>8}{each_us(metered, 2000):>14.1f}")


def estimates() -> None:
    print(f"\n{'estimate':<52}{'µs':>14}")
    ask = Ask(Dialect.OPENAI_CHAT, "secret", Input(("word " * 200,), messages_count=1))
    print(f"{'1,000 octets by ratio':<52}{each_us(lambda: Estimator().estimate(ask), 2000):>14.1f}")
    try:
        import bpe_openai
    except ImportError:
        print("the real vocabulary is not measured: `pip install bpe-openai`")
    else:
        encoding = bpe_openai.get_encoding("o200k_base")
        counting = Estimator({"o200k": lambda text: len(encoding.encode_ordinary(text))})
        text = "The gateway reads what passes, and changes nothing in it. " * 80
        known = Ask(Dialect.OPENAI_CHAT, "gpt-4o", Input((text,)))
        tokens = counting.estimate(known).input_tokens
        took = each_us(lambda: counting.estimate(known), 20) / tokens * 1000
        print(f"{'1,000 tokens counted (o200k)':<52}{took:>14.1f}")
    book, _ = read_prices('{"currency":"USD","prices":[{"models":["*"],"input":150000,"output":600000}]}')
    assert book is not None
    rates, usage = book.prices[0].rates, fit(input_tokens=1000, cached=500, output=200, reasoning=50)
    print(f"{'the cost of a request':<52}{each_us(lambda: cost(usage, rates), 20_000):>14.2f}")


def main() -> None:
    streams()
    bodies()
    estimates()


if __name__ == "__main__":
    main()
