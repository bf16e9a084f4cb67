"""Anthropic's events as chunks of a chat completion.

    message_start                     →  the role
    content_block_delta: text         →  content
    content_block_start: tool_use     →  a call: its number, id and name
    content_block_delta: input_json   →  its arguments, as they come
    message_delta                     →  finish_reason
    message_stop                      →  usage, if the client asked for it; [DONE]
    ping                              →  a comment
    error                             →  an error

Blocks come one after another, each closed before the next; a stream that does otherwise cannot be said.
"""

from __future__ import annotations

from typing import Final

from sentinel.inference.anthropic import report
from sentinel.inference.fault import InferenceFault
from sentinel.inference.look import Members, inner, text
from sentinel.inference.openai import read_failure
from sentinel.inference.sheet import Sheet
from sentinel.inference.translate.answers import THOUGHTS, finish_of, spent_on_completion
from sentinel.inference.translate.failures import openai_error
from sentinel.inference.translate.streams import written
from sentinel.inference.translate.to_openai import written as as_text

PING: Final = b": ping\n\n"
END: Final = b"data: [DONE]\n\n"


class Chunks:
    """Where in an answer of Anthropic's we are."""

    __slots__ = (
        "_block", "_calls_count", "_finish", "_has_arguments", "_head", "_input", "_sheet", "_wants_usage", "is_over",
    )  # fmt: skip

    def __init__(self, created_s: int, *, wants_usage: bool) -> None:
        self._head: Members = {"id": "", "object": "chat.completion.chunk", "created": created_s, "model": ""}
        self._wants_usage = wants_usage
        self._sheet = Sheet()  # for usage alone
        self._block = ""  # the kind of the one that is open
        self._calls_count = 0
        self._has_arguments = False
        self._input: Members = {}
        self._finish = ""
        self.is_over = False

    def event(self, event: Members) -> bytes:
        match text(event, "type", "$"):
            case "content_block_delta":
                return self._delta(inner(event, "delta", "$"))
            case "content_block_start":
                return self._start(inner(event, "content_block", "$"))
            case "content_block_stop":
                return self._stop()
            case "message_start":
                return self._begin(inner(event, "message", "$"))
            case "message_delta":
                report(self._sheet, event, "$", is_final=True)
                if (stop := text(inner(event, "delta", "$"), "stop_reason", "$.delta")) is not None:
                    self._finish = finish_of(stop, "$.delta.stop_reason")
                return b""
            case "message_stop":
                return self._end()
            case "ping":
                return PING
            case "error":
                return self._failed(event)
        return b""  # new kinds of events may come, and are to be passed over

    def _begin(self, message: Members) -> bytes:
        head = self._head
        head["id"], head["model"] = text(message, "id", "$.message") or "", text(message, "model", "$.message") or ""
        report(self._sheet, message, "$.message", is_final=False)
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def _start(self, block: Members) -> bytes:
        kind = text(block, "type", "$.content_block") or ""
        if self._block:
            raise InferenceFault("$.type", "a block begins before the last one has ended")
        self._block = kind
        if kind == "text":
            said = text(block, "text", "$.content_block")
            return self._chunk({"content": said}) if said else b""
        if kind == "tool_use":
            function = {"name": text(block, "name", "$.content_block") or "", "arguments": ""}
            self._has_arguments, self._input = False, inner(block, "input", "$.content_block")
            self._calls_count += 1
            return self._call(function, id=text(block, "id", "$.content_block") or "", type="function")
        if kind not in THOUGHTS:
            raise InferenceFault("$.content_block.type", "OpenAI's chat has nothing that says this")
        return b""

    def _delta(self, delta: Members) -> bytes:
        block, kind = self._block, text(delta, "type", "$.delta")
        if block in THOUGHTS:
            return b""
        if block == "text" and kind == "text_delta":
            return self._chunk({"content": text(delta, "text", "$.delta") or ""})
        if block == "tool_use" and kind == "input_json_delta":
            arguments = text(delta, "partial_json", "$.delta")
            if not arguments:
                return b""
            self._has_arguments = True
            return self._call({"arguments": arguments})
        raise InferenceFault("$.delta.type", "OpenAI's chat has nothing that says this")

    def _stop(self) -> bytes:
        block, self._block = self._block, ""
        if block == "tool_use" and not self._has_arguments:  # nothing is an empty object, also in a chat
            return self._call({"arguments": as_text(self._input)})
        return b""

    def _end(self) -> bytes:
        if not self._finish:
            raise InferenceFault("$.type", "the answer ends without a reason")
        self.is_over = True
        out = self._chunk({}, self._finish)
        if self._wants_usage and self._sheet.usage is not None:
            out += written({**self._head, "choices": [], "usage": spent_on_completion(self._sheet.usage)})
        return out + END

    def _failed(self, event: Members) -> bytes:
        said = Sheet()
        read_failure(said, event)
        failure = said.failure
        return self.failure(failure.kind if failure else "api_error", failure.message if failure else "")

    def _call(self, function: Members, **more: str) -> bytes:
        return self._chunk({"tool_calls": [{"index": self._calls_count - 1, **more, "function": function}]})

    def _chunk(self, delta: Members, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        extra: Members = {"usage": None} if self._wants_usage else {}
        return written({**self._head, "choices": [choice], **extra})

    def done(self) -> bytes:
        return b""  # Anthropic's end is an event

    def failure(self, kind: str, message: str) -> bytes:
        self.is_over = True
        return written(openai_error(kind, message))
