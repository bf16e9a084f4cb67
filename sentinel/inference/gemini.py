"""Gemini's generateContent and streamGenerateContent.

    POST …/models/NAME:streamGenerateContent?alt=sse      events; without alt=sse one JSON list, bit by bit
    {"candidates":[{"content":{"parts":[{"text":"Hi"}]},"index":0,"finishReason":"STOP"}],"usageMetadata":{…}}

Each event has usage, cumulative: the last one holds. Thoughts are counted beside the candidates, and prompts of
tools beside the prompt: both are added. Names may be written in either of protocol buffers' two ways, so
`generation_config` is `generationConfig`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sentinel.inference.ask import Ask, Basket, choices_of, model_of
from sentinel.inference.dialect import Call, Dialect
from sentinel.inference.look import Members, amount, entries, inner, members, text, whole
from sentinel.inference.openai import STRING, read_failure
from sentinel.inference.sheet import Sheet
from sentinel.inference.usage import fit

TEXT: Final[re.Pattern[bytes]] = re.compile(rb'"text"\s*+:\s*+' + STRING.encode())
SNAKE: Final = {
    "systemInstruction": "system_instruction", "generationConfig": "generation_config",
    "maxOutputTokens": "max_output_tokens", "candidateCount": "candidate_count", "cachedContent": "cached_content",
    "inlineData": "inline_data", "fileData": "file_data", "mimeType": "mime_type", "functionCall": "function_call",
    "functionResponse": "function_response", "responseSchema": "response_schema",
}  # fmt: skip


def is_ordinary(data: bytes) -> bool:
    return (
        b'"usageMetadata"' not in data
        and b'"finishReason"' not in data
        and b'"functionCall"' not in data
        and b'"promptFeedback"' not in data
        and b'"error"' not in data
    )


def _name(holder: Members, name: str) -> str:
    """The way in which this holder writes the name."""
    other = SNAKE[name]
    return other if other in holder and name not in holder else name


def _inner(holder: Members, name: str, path: str) -> Members:
    return inner(holder, _name(holder, name), path)


def read_request(call: Call, body: Members) -> Ask:
    basket = Basket()
    _parts(basket, _inner(body, "systemInstruction", "$"), "$.systemInstruction")
    for index, entry in enumerate(entries(body, "contents", "$")):
        basket.messages_count += 1
        _parts(basket, members(entry, f"$.contents[{index}]"), f"$.contents[{index}]")
    tools = entries(body, "tools", "$")
    basket.json(tools)
    settings, path = _inner(body, "generationConfig", "$"), "$.generationConfig"
    basket.json(settings.get(_name(settings, "responseSchema")))
    return Ask(
        Dialect.GEMINI_GENERATE, model_of(body, call.model), basket.packed(), bool(call.is_stream),
        output_cap=amount(settings, _name(settings, "maxOutputTokens"), path),
        choices_count=choices_of(whole(settings, _name(settings, "candidateCount"), path), f"{path}.candidateCount"),
        has_tools=bool(tools), has_hidden_input=bool(body.get(_name(body, "cachedContent"))),
    )  # fmt: skip


def _parts(basket: Basket, content: Members, path: str) -> None:
    for index, entry in enumerate(entries(content, "parts", path)):
        place = f"{path}.parts[{index}]"
        part = members(entry, place)
        basket.text(part, "text", place)
        for name in ("inlineData", "fileData"):
            if data := _inner(part, name, place):
                basket.media(text(data, _name(data, "mimeType"), f"{place}.{name}") or "")
        for name in ("functionCall", "functionResponse"):
            basket.json(part.get(_name(part, name)))


def read_answer(sheet: Sheet, body: Members) -> None:
    if read_failure(sheet, body):
        return
    sheet.name(text(body, "modelVersion", "$"))
    for position, entry in enumerate(entries(body, "candidates", "$")):
        path = f"$.candidates[{position}]"
        candidate = members(entry, path)
        index = whole(candidate, "index", path)
        index = position if index is None else index
        content = inner(candidate, "content", path)
        for number, part in enumerate(entries(content, "parts", f"{path}.content")):
            _said(sheet, members(part, f"{path}.content.parts[{number}]"), index, f"{path}.content.parts[{number}]")
        if reason := text(candidate, "finishReason", path):
            sheet.finish(reason, index)
            sheet.is_ended = True
    sheet.finish(text(inner(body, "promptFeedback", "$"), "blockReason", "$.promptFeedback"))
    if found := inner(body, "usageMetadata", "$"):
        _report(sheet, found, "$.usageMetadata")


def read_event(sheet: Sheet, name: str, event: Members) -> None:
    read_answer(sheet, event)


def _said(sheet: Sheet, part: Members, index: int, path: str) -> None:
    sheet.say(text(part, "text", path), index)
    if call := inner(part, "functionCall", path):
        basket = Basket()
        basket.text(call, "name", f"{path}.functionCall")
        basket.json(call.get("args"))
        sheet.say("".join(basket.texts), index)


def _report(sheet: Sheet, usage: Members, path: str) -> None:
    def count(name: str) -> int:
        return amount(usage, name, path) or 0

    thoughts = count("thoughtsTokenCount")
    has_output = "candidatesTokenCount" in usage or "totalTokenCount" in usage
    sheet.report(
        fit(
            input_tokens=count("promptTokenCount") + count("toolUsePromptTokenCount"),
            cached=count("cachedContentTokenCount"), audio_input=_sound(usage, "promptTokensDetails", path),
            output=count("candidatesTokenCount") + thoughts, reasoning=thoughts,
            audio_output=_sound(usage, "candidatesTokensDetails", path),
        ),
        has_input="promptTokenCount" in usage, has_output=has_output,
    )  # fmt: skip


def _sound(usage: Members, name: str, path: str) -> int:
    """The tokens of the modality AUDIO."""
    found: list[Any] = entries(usage, name, path)
    parts = [(members(one, f"{path}.{name}[{index}]"), f"{path}.{name}[{index}]") for index, one in enumerate(found)]
    return sum(amount(part, "tokenCount", place) or 0 for part, place in parts if part.get("modality") == "AUDIO")
