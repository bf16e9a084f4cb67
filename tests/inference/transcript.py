"""Transcripts of providers' answers, with what is to be read in them.

    # what it shows
    path: /v1/chat/completions
    ask: {…}
    type: text/event-stream
    ----
    the answer, octet by octet
    ----
    the reading

They were written by us after the providers' public documentation. `python -m tests.inference.transcript` writes the
readings anew: look at the difference before you keep it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from sentinel.inference.adapters import read_request
from sentinel.inference.ask import Ask
from sentinel.inference.dialect import recognise
from sentinel.inference.meter import Meter
from sentinel.inference.sheet import Reading

FOLDER = Path(__file__).parent / "transcripts"
RULE = b"\n----\n"


@dataclass(frozen=True)
class Transcript:
    name: str
    ask: Ask
    content_type: str
    answer: bytes
    expected: str

    def meter(self, **settings: object) -> Meter:
        """As the gateway makes it: what the client did not ask for is removed."""
        given = {"content_type": self.content_type, "is_usage_removed": not self.ask.wants_usage, "count": words}
        return Meter(self.ask, **(given | settings))  # type: ignore[arg-type]


def words(text: str) -> int:
    """A tokenizer for tests: runs of blanks part tokens."""
    return len(text.split())


def transcripts() -> list[Transcript]:
    return [read(path) for path in sorted(FOLDER.glob("*.txt"))]


def read(path: Path) -> Transcript:
    head, rest = path.read_bytes().split(RULE, 1)
    answer, expected = rest.rsplit(RULE, 1)
    fields = dict(line.split(": ", 1) for line in head.decode().splitlines() if not line.startswith("#"))
    call = recognise(fields["path"])
    assert call is not None, path
    return Transcript(path.stem, read_request(call, fields["ask"].encode()), fields["type"], answer, expected.decode())


def told(reading: Reading) -> str:
    """A reading as lines, with what is nought or missing left out."""
    lines = [f"model {reading.model}"]
    if reading.usage is None:
        lines.append("no usage")
    else:
        names = [one.name for one in fields(reading.usage) if one.name.endswith("tokens")]
        counts = ((name.removesuffix("_tokens"), getattr(reading.usage, name)) for name in names)
        lines.append("usage " + " ".join(f"{name}={count}" for name, count in counts if count))
        if not reading.usage.is_reported:
            lines.append(f"reported: input {reading.is_input_reported}, output {reading.is_output_reported}")
    lines += [f"choice {one.choice}: {one.chars} characters, {one.octets} octets, {one.tokens} tokens"
              for one in reading.produced]  # fmt: skip
    lines += [f"finish {choice}: {reason}" for choice, reason in reading.finish_reasons]
    if reading.failure is not None:
        lines.append(f"failure {reading.failure.kind}: {reading.failure.message}")
    states = [word for word, holds in (("begun", reading.has_begun), ("ended", reading.is_ended)) if holds]
    lines.append(" ".join(states) or "neither begun nor ended")
    lines += [f"doubt: {doubt.value}" for doubt in reading.doubts]
    return "\n".join(lines) + "\n"


def played(transcript: Transcript, *pieces: bytes, **settings: object) -> tuple[bytes, str]:
    """What came out, and what was read."""
    meter = transcript.meter(**settings)
    out = b"".join(map(meter.feed, pieces)) + meter.finish()
    return out, told(meter.reading())


def rewrite() -> None:
    for transcript in transcripts():
        path = FOLDER / f"{transcript.name}.txt"
        before = path.read_bytes()
        kept = before[: before.rindex(RULE) + len(RULE)]
        path.write_bytes(kept + played(transcript, transcript.answer)[1].encode())


if __name__ == "__main__":
    rewrite()
