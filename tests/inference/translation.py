"""Transcripts of what one dialect's answers become in the other: the golden texts of tests/inference/translations.

What goes in are the answers of tests/inference/transcripts, so each of those of a chat or of messages has its
counterpart. `python -m tests.inference.translation` writes them anew: look at the difference before you keep it.
"""

from __future__ import annotations

from pathlib import Path

from sentinel.inference.dialect import Dialect
from sentinel.inference.fault import InferenceFault
from sentinel.inference.translate.pairs import PAIRS, Pair
from sentinel.inference.translate.streams import Stream
from tests.inference.transcript import Transcript, transcripts

FOLDER = Path(__file__).parent / "translations"
CREATED_S = 1_770_000_001
CLIENTS = {
    Dialect.OPENAI_CHAT: Dialect.ANTHROPIC_MESSAGES, Dialect.ANTHROPIC_MESSAGES: Dialect.OPENAI_CHAT,
}  # fmt: skip
"""By the dialect of the provider."""
TO_CLAUDE = PAIRS[Dialect.OPENAI_CHAT, Dialect.ANTHROPIC_MESSAGES]
"""A client of OpenAI's chat whose provider is Anthropic."""
TO_GPT = PAIRS[Dialect.ANTHROPIC_MESSAGES, Dialect.OPENAI_CHAT]


def translated() -> list[Transcript]:
    return [one for one in transcripts() if one.ask.dialect in CLIENTS]


def streamed() -> list[Transcript]:
    return [one for one in translated() if one.content_type.startswith("text/event-stream")]


def pair_of(transcript: Transcript) -> Pair:
    return PAIRS[CLIENTS[transcript.ask.dialect], transcript.ask.dialect]


def stream_of(transcript: Transcript) -> Stream:
    return pair_of(transcript).stream(CREATED_S, wants_usage=True)


def said(transcript: Transcript, *pieces: bytes) -> bytes:
    """What the client gets, however the provider's octets come."""
    if not transcript.content_type.startswith("text/event-stream"):
        assert len(pieces) == 1
        if b'"error"' in transcript.answer:
            return b"%d %b\n" % pair_of(transcript).failure(400, pieces[0])
        try:
            return pair_of(transcript).answer(pieces[0], CREATED_S) + b"\n"
        except InferenceFault as fault:
            return f"fault: {fault}\n".encode()
    stream = stream_of(transcript)
    return b"".join(map(stream.feed, pieces)) + stream.finish()


def expected(transcript: Transcript) -> bytes:
    return (FOLDER / f"{transcript.name}.txt").read_bytes()


def rewrite() -> None:
    FOLDER.mkdir(exist_ok=True)
    for one in translated():
        (FOLDER / f"{one.name}.txt").write_bytes(said(one, one.answer))


if __name__ == "__main__":
    rewrite()
