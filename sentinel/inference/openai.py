"""OpenAI's chat completions, completions and embeddings, and what speaks like them (vLLM, SGLang, Azure, …).

    data: {"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}
    data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}
    data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}          if the client asked for it
    data: [DONE]                                                                    or the connection just ends

Where servers differ, and what is read:
- Usage is on an event without choices, or on the last one with choices, or on each one, summed up (vLLM's
  continuous statistics): the last one holds. Some put it within a choice or under `x_groq`.
- Thoughts come as `reasoning_content` or `reasoning`.
- Most count reasoning as part of the completion; where prompt, completion and reasoning only together give
  the total, it was beside it, and is added.
- Of `max_tokens` and `max_completion_tokens` the larger one is taken: servers disagree which of them wins,
  and what is reserved must not be too little.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sentinel.inference.ask import Ask, Basket, Detail, choices_of, model_of
from sentinel.inference.dialect import Call, Dialect
from sentinel.inference.fault import InferenceFault
from sentinel.inference.look import Members, amount, entries, flag, inner, members, text, whole
from sentinel.inference.sheet import Sheet
from sentinel.inference.usage import Usage, fit

OPENAI_CHAT: Final = Dialect.OPENAI_CHAT  # an enum's member costs a search where it is named
COMPLETION_CAP: Final = 16
"""What a completion (not a chat) is cut at when the client says nothing."""

STRING: Final = r'"((?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+)"'
"""A JSON string. It cannot run over the end of a line, so that matches never depend on what came together."""
PLAIN: Final = re.compile(rb'"delta":\{"content":' + STRING.encode() + rb"\}")
"""What nearly all events are; found several times as fast as the next."""
CHAT: Final = re.compile(
    rb'"(?:content|reasoning_content|reasoning|refusal|arguments|name)"\s*+:\s*+' + STRING.encode()
)
COMPLETION: Final = re.compile(rb'"text"\s*+:\s*+' + STRING.encode())
SAID: Final = ("content", "reasoning_content", "reasoning", "refusal")
"""Where a message has text."""


def is_ordinary(data: bytes) -> bool:
    """Whether each event is the part of a choice that goes on, and none has usage.

    Within strings, quotes have a backslash before them, so these are names. An error, an event without
    choices and the end have no reason of finishing that is null. Somebody's text that has `data:` in it
    is looked at closely, which costs some time and nothing else.
    """
    count = data.count(b'"finish_reason":null') or data.count(b'"finish_reason": null')
    if count != data.count(b"data:"):
        return False
    count = data.count(b'"usage"')
    return count == data.count(b'"usage":null') or count == data.count(b'"usage": null')


def chat_text(data: bytes) -> list[bytes]:
    """The text in ordinary events, as it is written there."""
    found: list[bytes] = PLAIN.findall(data)
    return found if len(found) == data.count(b"data:") else CHAT.findall(data)


# -- requests


def read_chat(call: Call, body: Members) -> Ask:
    basket = Basket()
    for index, entry in enumerate(entries(body, "messages", "$")):
        if not basket.message(entry):
            _message(basket, members(entry, f"$.messages[{index}]"), f"$.messages[{index}]")
    tools = [*entries(body, "tools", "$"), *entries(body, "functions", "$")]
    if tools:
        basket.json(tools)
    if "response_format" in body:
        form = inner(body, "response_format", "$")
        if text(form, "type", "$.response_format") == "json_schema":
            basket.json(form.get("json_schema"))
    if options := inner(body, "prediction", "$"):
        _content(basket, options, "$.prediction")
    is_stream = bool(flag(body, "stream", "$"))
    cap, older_cap = amount(body, "max_completion_tokens", "$"), amount(body, "max_tokens", "$")
    if cap is None or (older_cap is not None and older_cap > cap):
        cap = older_cap
    return Ask(
        OPENAI_CHAT, model_of(body, call.model), basket.packed(), is_stream, output_cap=cap,
        choices_count=choices_of(whole(body, "n", "$"), "$.n"), has_tools=bool(tools),
        wants_usage=not is_stream or _wants_usage(body), has_stream_options="stream_options" in body,
    )  # fmt: skip


def _wants_usage(body: Members) -> bool:
    return bool(flag(inner(body, "stream_options", "$"), "include_usage", "$.stream_options"))


def _message(basket: Basket, message: Members, path: str) -> None:
    basket.messages_count += 1
    if name := text(message, "name", path):
        basket.names_count += 1
        basket.texts.append(name)
    basket.text(message, "role", path)
    _content(basket, message, path)
    for name in ("refusal", "reasoning_content"):
        basket.text(message, name, path)
    for index, entry in enumerate(entries(message, "tool_calls", path)):
        _call(basket, members(entry, f"{path}.tool_calls[{index}]"), f"{path}.tool_calls[{index}]")
    if call := inner(message, "function_call", path):
        _function(basket, call, f"{path}.function_call")


def _call(basket: Basket, call: Members, path: str) -> None:
    _function(basket, inner(call, "function", path), f"{path}.function")


def _function(basket: Basket, function: Members, path: str) -> None:
    basket.text(function, "name", path)
    basket.text(function, "arguments", path)


def _content(basket: Basket, message: Members, path: str) -> None:
    """A string, or a list of parts."""
    if isinstance(message.get("content"), str):
        basket.text(message, "content", path)
        return
    for index, entry in enumerate(entries(message, "content", path)):
        place = f"{path}.content[{index}]"
        part = members(entry, place)
        kind = text(part, "type", place)
        if kind in ("text", "refusal"):
            basket.text(part, kind, place)
        elif kind == "image_url":
            basket.images.append(_detail(part, place))
        elif kind == "input_audio":
            basket.audio_count += 1
        elif kind == "file":
            basket.files_count += 1
        else:
            basket.json(part)


def _detail(part: Members, path: str) -> Detail:
    if isinstance(part.get("image_url"), str):
        return Detail.AUTO
    return detail_of(text(inner(part, "image_url", path), "detail", f"{path}.image_url"))


def detail_of(word: str | None) -> Detail:
    return {"low": Detail.LOW, "high": Detail.HIGH}.get(word or "", Detail.AUTO)


def read_completion(call: Call, body: Members) -> Ask:
    basket = Basket()
    prompts = strings_or_tokens(basket, body.get("prompt"), "$.prompt")
    basket.text(body, "suffix", "$")
    is_stream = bool(flag(body, "stream", "$"))
    each = max(choices_of(whole(body, name, "$"), f"$.{name}") for name in ("n", "best_of"))
    cap = amount(body, "max_tokens", "$")
    return Ask(
        Dialect.OPENAI_COMPLETIONS, model_of(body, call.model), basket.packed(), is_stream,
        output_cap=COMPLETION_CAP if cap is None else cap, choices_count=each * max(prompts, 1),
        wants_usage=not is_stream or _wants_usage(body), has_stream_options="stream_options" in body,
    )  # fmt: skip


def read_embeddings(call: Call, body: Members) -> Ask:
    basket = Basket()
    strings_or_tokens(basket, body.get("input"), "$.input")
    return Ask(Dialect.OPENAI_EMBEDDINGS, model_of(body, call.model), basket.packed(), output_cap=0)


def strings_or_tokens(basket: Basket, value: Any, path: str) -> int:
    """A string, strings, tokens, or lists of tokens; returns how many inputs these are."""
    if value is None:
        return 0
    if isinstance(value, str):
        basket.texts.append(value)
        return 1
    if not isinstance(value, list):
        raise InferenceFault(path, "a string or a list is expected")
    if all(type(one) is str for one in value):
        basket.texts.extend(value)
        return len(value)
    if all(type(one) is int for one in value):
        basket.token_ids_count += len(value)
        return 1
    for index, one in enumerate(value):
        if not isinstance(one, list) or not all(type(token) is int for token in one):
            raise InferenceFault(f"{path}[{index}]", "strings, tokens, or lists of tokens are expected")
        basket.token_ids_count += len(one)
    return len(value)


# -- answers


def read_chat_answer(sheet: Sheet, body: Members) -> None:
    _read(sheet, body, "message")


def read_chat_event(sheet: Sheet, name: str, event: Members) -> None:
    _read(sheet, event, "delta")


def _read(sheet: Sheet, body: Members, holder: str) -> None:
    if read_failure(sheet, body):
        return
    sheet.name(text(body, "model", "$"))
    for position, entry in enumerate(entries(body, "choices", "$")):
        path = f"$.choices[{position}]"
        choice = members(entry, path)
        index = whole(choice, "index", path)
        index = position if index is None else index
        _said(sheet, inner(choice, holder, path), index, f"{path}.{holder}")
        sheet.say(text(choice, "text", path), index)
        sheet.finish(text(choice, "finish_reason", path), index)
        _report(sheet, choice, path)
    if "x_groq" in body:
        _report(sheet, inner(body, "x_groq", "$"), "$.x_groq")
    _report(sheet, body, "$")


def _said(sheet: Sheet, message: Members, index: int, path: str) -> None:
    for name in SAID:
        if name in message:
            sheet.say(text(message, name, path), index)
    for position, entry in enumerate(entries(message, "tool_calls", path)):
        place = f"{path}.tool_calls[{position}]"
        _called(sheet, inner(members(entry, place), "function", place), index, f"{place}.function")
    if call := inner(message, "function_call", path):
        _called(sheet, call, index, f"{path}.function_call")
    if message.get("audio"):
        sheet.has_begun = True


def _called(sheet: Sheet, function: Members, index: int, path: str) -> None:
    sheet.say(text(function, "name", path), index)
    sheet.say(text(function, "arguments", path), index)


def read_embeddings_answer(sheet: Sheet, body: Members) -> None:
    if read_failure(sheet, body):
        return
    sheet.name(text(body, "model", "$"))
    _report(sheet, body, "$")


def read_failure(sheet: Sheet, body: Members, path: str = "$") -> bool:
    """An error under `error`: an object, or a bare string. Says whether there was one."""
    error = body.get("error")
    if error is None:
        return False
    if isinstance(error, str):
        sheet.fail("error", error)
        return True
    error = members(error, f"{path}.error")
    words = [error.get(name) for name in ("type", "status", "code")]
    kind = next((word for word in words if isinstance(word, str) and word), None)
    message = error.get("message")
    sheet.fail(kind, message if isinstance(message, str) else None)
    return True


def _report(sheet: Sheet, holder: Members, path: str) -> None:
    if found := inner(holder, "usage", path):
        sheet.report(usage_of(found, f"{path}.usage"))


def usage_of(found: Members, path: str) -> Usage:
    """Usage in either of OpenAI's two vocabularies."""
    is_later = "input_tokens" in found
    prompt, completion = ("input_tokens", "output_tokens") if is_later else ("prompt_tokens", "completion_tokens")
    input_tokens, output = amount(found, prompt, path) or 0, amount(found, completion, path) or 0
    received, received_at = inner(found, f"{prompt}_details", path), f"{path}.{prompt}_details"
    made, made_at = inner(found, f"{completion}_details", path), f"{path}.{completion}_details"
    reasoning = amount(made, "reasoning_tokens", made_at) or 0
    total = amount(found, "total_tokens", path) or 0
    if reasoning > output or (reasoning and total == input_tokens + output + reasoning):
        output += reasoning
    cached = amount(received, "cached_tokens", received_at) or amount(found, "prompt_cache_hit_tokens", path) or 0
    written_long = inner(received, "cache_write_tokens_details", received_at)
    return fit(
        input_tokens=input_tokens, cached=cached, cache_write=amount(received, "cache_write_tokens", received_at) or 0,
        cache_write_long=amount(written_long, "ttl_12h_tokens", f"{received_at}.cache_write_tokens_details") or 0,
        audio_input=amount(received, "audio_tokens", received_at) or 0, output=output, reasoning=reasoning,
        audio_output=amount(made, "audio_tokens", made_at) or 0,
    )  # fmt: skip


def is_usage_alone(event: Members) -> bool:
    """The event that a client gets only if it asks: usage, and no choices."""
    return event.get("choices") == [] and isinstance(event.get("usage"), dict)
