"""A whole answer of one provider, said as one of the other.

Unlike a request an answer is read for what it says, not for how: members that providers add (tiers, fingerprints) are
not missed by anybody. What the model said and why it ended is never guessed: an answer with a content, or an end,
that the other side has no word for is a fault.

    end_turn, stop_sequence                      ↔  stop
    max_tokens, model_context_window_exceeded    ↔  length
    tool_use                                     ↔  tool_calls
    refusal                                      ↔  content_filter

(Of two words the first is the one that is said on the way back.) What a model thought before it spoke is not told
to a client that could not have asked for it; it is counted in the usage.
"""

from __future__ import annotations

from typing import Final

from sentinel.inference.anthropic import report
from sentinel.inference.fault import InferenceFault
from sentinel.inference.look import Members, entries, inner, members, text
from sentinel.inference.openai import usage_of
from sentinel.inference.sheet import Sheet
from sentinel.inference.translate.form import plain
from sentinel.inference.translate.to_anthropic import arguments_of
from sentinel.inference.translate.to_openai import written
from sentinel.inference.usage import Usage

FINISHES: Final = {
    "end_turn": "stop", "stop_sequence": "stop", "max_tokens": "length", "model_context_window_exceeded": "length",
    "tool_use": "tool_calls", "refusal": "content_filter",
}  # fmt: skip
STOPS: Final = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
THOUGHTS: Final = frozenset({"thinking", "redacted_thinking"})


def finish_of(stop: str | None, path: str) -> str:
    """OpenAI's word for the reason why an answer ended."""
    found = FINISHES.get(stop or "")
    if found is None:
        raise InferenceFault(path, "OpenAI's chat has no word for this reason")
    return found


def stop_of(finish: str | None, path: str) -> str:
    """Anthropic's word for it."""
    found = STOPS.get(finish or "")
    if found is None:
        raise InferenceFault(path, "Anthropic's messages have no word for this reason")
    return found


# -- for a client of OpenAI's chat


def completion(body: Members, created_s: int) -> Members:
    """Anthropic's message as a chat completion."""
    said: list[str] = []
    calls: list[Members] = []
    for index, entry in enumerate(entries(body, "content", "$")):
        path = f"$.content[{index}]"
        block = members(entry, path)
        kind = text(block, "type", path)
        if kind == "text":
            said.append(text(block, "text", path) or "")
        elif kind == "tool_use":
            calls.append(_called(block, path))
        elif kind not in THOUGHTS:
            raise InferenceFault(f"{path}.type", "OpenAI's chat has nothing that says this")
    message: Members = {"role": "assistant", "content": "".join(said) if said or not calls else None, "refusal": None}
    if calls:
        message["tool_calls"] = calls
    finish = finish_of(text(body, "stop_reason", "$"), "$.stop_reason")
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    sheet = Sheet()
    report(sheet, body, "$", is_final=True)
    return plain(
        id=text(body, "id", "$") or "", object="chat.completion", created=created_s,
        model=text(body, "model", "$") or "", choices=[choice],
        usage=None if sheet.usage is None else spent_on_completion(sheet.usage),
    )  # fmt: skip


def _called(block: Members, path: str) -> Members:
    function = {"name": text(block, "name", path) or "", "arguments": written(inner(block, "input", path))}
    return {"id": text(block, "id", path) or "", "type": "function", "function": function}


def spent_on_completion(usage: Usage) -> Members:
    """Usage in OpenAI's words: what was cached is part of the prompt."""
    details = plain(cached_tokens=usage.cached_tokens, cache_write_tokens=usage.cache_write_tokens or None)
    return {
        "prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens, "prompt_tokens_details": details,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }  # fmt: skip


# -- for a client of Anthropic's messages


def message(body: Members, created_s: int) -> Members:
    """A chat completion as Anthropic's message."""
    choices = entries(body, "choices", "$")
    if len(choices) != 1:
        raise InferenceFault("$.choices", "one choice is expected")
    path = "$.choices[0]"
    choice = members(choices[0], path)
    said = inner(choice, "message", path)
    content: list[Members] = []
    refusal = text(said, "refusal", f"{path}.message")
    for words in (text(said, "content", f"{path}.message"), refusal):
        if words:
            content.append({"type": "text", "text": words})
    for index, entry in enumerate(entries(said, "tool_calls", f"{path}.message")):
        place = f"{path}.message.tool_calls[{index}]"
        content.append(_use(members(entry, place), place))
    for name in ("function_call", "audio"):
        if said.get(name) is not None:
            raise InferenceFault(f"{path}.message.{name}", "Anthropic's messages have nothing that says this")
    stop = stop_of(text(choice, "finish_reason", path), f"{path}.finish_reason")
    usage = inner(body, "usage", "$")
    return {
        "id": text(body, "id", "$") or "", "type": "message", "role": "assistant",
        "model": text(body, "model", "$") or "", "content": content,
        "stop_reason": "refusal" if refusal else stop, "stop_sequence": None,
        "usage": spent_on_message(usage_of(usage, "$.usage") if usage else Usage()),
    }  # fmt: skip


def _use(call: Members, path: str) -> Members:
    if (text(call, "type", path) or "function") != "function":
        raise InferenceFault(f"{path}.type", "Anthropic's messages have nothing that says this")
    function = inner(call, "function", path)
    place = f"{path}.function"
    try:
        given = arguments_of(text(function, "arguments", place) or "")
    except ValueError:
        raise InferenceFault(f"{place}.arguments", "the model wrote arguments that are no JSON object") from None
    name = text(function, "name", place) or ""
    return {"type": "tool_use", "id": text(call, "id", path) or "", "name": name, "input": given}


def spent_on_message(usage: Usage) -> Members:
    """Usage in Anthropic's words: what was read from a cache, or written to it, stands beside the input."""
    plain_input = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
    out: Members = {
        "input_tokens": plain_input, "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens, "output_tokens": usage.output_tokens,
    }  # fmt: skip
    if usage.reasoning_tokens:
        out["output_tokens_details"] = {"thinking_tokens": usage.reasoning_tokens}
    return out
