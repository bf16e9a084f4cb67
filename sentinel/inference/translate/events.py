"""Chunks of a chat completion as Anthropic's events.

    the first chunk            →  message_start
    content, refusal           →  a block of text
    a call with a new number   →  a block of its own, after the one before is closed
    arguments                  →  content_block_delta: input_json
    finish_reason              →  the last block is closed
    [DONE], or the end         →  message_delta with usage, message_stop

What was used comes at the very end of a chat, so `message_start` says nought and `message_delta`, which is cumulative,
says it all. Calls come one after another; one that goes on after the next has begun cannot be said.
"""

from __future__ import annotations

from typing import Final

from sentinel.inference.fault import InferenceFault
from sentinel.inference.look import Members, entries, inner, members, text, whole
from sentinel.inference.openai import usage_of
from sentinel.inference.translate.answers import spent_on_message, stop_of
from sentinel.inference.translate.failures import anthropic_error, streamed
from sentinel.inference.translate.streams import written
from sentinel.inference.usage import Usage

TEXT: Final = -1
"""The number of no call: a block of text is open."""


class Events:
    """Where in an answer of a chat we are."""

    __slots__ = ("_blocks_count", "_call", "_has_refused", "_is_open", "_is_started", "_stop", "_usage", "is_over")

    def __init__(self) -> None:
        self._is_started = False
        self._is_open = False  # a block
        self._call = TEXT  # the number of the call that came last
        self._blocks_count = 0
        self._has_refused = False
        self._stop = ""
        self._usage = Usage()
        self.is_over = False

    def event(self, event: Members) -> bytes:
        if event.get("error") is not None:
            return self.failure(*streamed(event["error"]))
        if usage := inner(event, "usage", "$"):
            self._usage = usage_of(usage, "$.usage")
        choices = entries(event, "choices", "$")
        if not choices:
            return b""
        if len(choices) > 1:
            raise InferenceFault("$.choices", "one choice is expected")
        out = [] if self._is_started else [self._begin(event)]
        choice = members(choices[0], "$.choices[0]")
        if whole(choice, "index", "$.choices[0]"):
            raise InferenceFault("$.choices[0].index", "one choice is expected")
        delta, path = inner(choice, "delta", "$.choices[0]"), "$.choices[0].delta"
        for name in ("function_call", "audio"):
            if delta.get(name) is not None:
                raise InferenceFault(f"{path}.{name}", "Anthropic's messages have nothing that says this")
        refusal = text(delta, "refusal", path)
        self._has_refused = self._has_refused or bool(refusal)
        out += [self._text(words) for words in (text(delta, "content", path), refusal) if words]
        for index, call in enumerate(entries(delta, "tool_calls", path)):
            out.append(self._called(members(call, f"{path}.tool_calls[{index}]"), f"{path}.tool_calls[{index}]"))
        if (finish := text(choice, "finish_reason", "$.choices[0]")) is not None:
            self._stop = stop_of(finish, "$.choices[0].finish_reason")
            out.append(self._close())
        return b"".join(out)

    def _begin(self, event: Members) -> bytes:
        self._is_started = True
        message: Members = {
            "id": text(event, "id", "$") or "", "type": "message", "role": "assistant",
            "model": text(event, "model", "$") or "", "content": [], "stop_reason": None, "stop_sequence": None,
            "usage": spent_on_message(Usage()),
        }  # fmt: skip
        return _event("message_start", message=message)

    def _text(self, words: str) -> bytes:
        out = b""
        if not self._is_open or self._call != TEXT:
            out = self._open({"type": "text", "text": ""})
            self._call = TEXT
        return out + self._delta({"type": "text_delta", "text": words})

    def _called(self, call: Members, path: str) -> bytes:
        number, function = whole(call, "index", path), inner(call, "function", path)
        name, arguments = text(function, "name", f"{path}.function"), text(function, "arguments", f"{path}.function")
        number = 0 if number is None else number
        out = b""
        if not self._is_open or number != self._call:
            if not name:
                raise InferenceFault(f"{path}.function.name", "a call goes on that has ended, or has no name")
            block = {"type": "tool_use", "id": text(call, "id", path) or "", "name": name, "input": {}}
            out = self._open(block)
            self._call = number
        return out + self._delta({"type": "input_json_delta", "partial_json": arguments}) if arguments else out

    def _open(self, block: Members) -> bytes:
        out = self._close()
        self._is_open = True
        self._blocks_count += 1
        return out + _event("content_block_start", index=self._blocks_count - 1, content_block=block)

    def _close(self) -> bytes:
        if not self._is_open:
            return b""
        self._is_open = False
        return _event("content_block_stop", index=self._blocks_count - 1)

    def _delta(self, delta: Members) -> bytes:
        return _event("content_block_delta", index=self._blocks_count - 1, delta=delta)

    def done(self) -> bytes:
        """The end of a chat; nothing if no chunk said why the answer ended."""
        if not self._stop:
            return b""
        self.is_over = True
        delta = {"stop_reason": "refusal" if self._has_refused else self._stop, "stop_sequence": None}
        return (
            self._close()
            + _event("message_delta", delta=delta, usage=spent_on_message(self._usage))
            + _event("message_stop")
        )

    def failure(self, kind: str, message: str) -> bytes:
        self.is_over = True
        return written(anthropic_error(kind, message), "error")


def _event(kind: str, **fields: object) -> bytes:
    return written({"type": kind, **fields}, kind)
