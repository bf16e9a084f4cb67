"""OpenAI's Responses API.

    event: response.created              {"response":{"status":"in_progress","usage":null,…}}
    event: response.output_text.delta    {"delta":"Hi",…}
    event: response.completed            {"response":{"status":"completed","usage":{…},…}}
           response.incomplete | response.failed | error

Events name themselves in `type`. Whatever has the whole response in it is read as an answer would be, but for its
text, which came before in deltas. An error may come after `response.created`, with status 200 long sent.
"""

from __future__ import annotations

import re
from typing import Final

from sentinel.inference.ask import Ask, Basket, model_of
from sentinel.inference.dialect import Call, Dialect
from sentinel.inference.look import Members, amount, entries, flag, inner, members, text
from sentinel.inference.openai import STRING, detail_of, read_failure, usage_of
from sentinel.inference.sheet import Sheet

TEXT: Final[re.Pattern[bytes]] = re.compile(rb'"delta"\s*+:\s*+' + STRING.encode())
ENDINGS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
SOUND: Final = b'"response.audio.delta"'
"""Its delta is sound in base64, which is no text."""


def is_ordinary(data: bytes) -> bool:
    """Whether each event has a delta, which is text."""
    return data.count(b'"delta":') == data.count(b"data:") and b'"response"' not in data and SOUND not in data


def read_request(call: Call, body: Members) -> Ask:
    basket = Basket()
    basket.text(body, "instructions", "$")
    if isinstance(body.get("input"), str):
        basket.messages_count += 1
        basket.text(body, "input", "$")
    else:
        for index, entry in enumerate(entries(body, "input", "$")):
            _item(basket, members(entry, f"$.input[{index}]"), f"$.input[{index}]")
    tools = entries(body, "tools", "$")
    basket.json(tools)
    basket.json(inner(inner(body, "text", "$"), "format", "$.text").get("schema"))
    return Ask(
        Dialect.OPENAI_RESPONSES, model_of(body, call.model), basket.packed(), bool(flag(body, "stream", "$")),
        output_cap=amount(body, "max_output_tokens", "$"), has_tools=bool(tools),
        has_hidden_input=any(body.get(name) for name in ("previous_response_id", "conversation", "prompt")),
    )  # fmt: skip


def _item(basket: Basket, item: Members, path: str) -> None:
    kind = text(item, "type", path) or "message"
    if kind == "message":
        basket.messages_count += 1
        basket.text(item, "role", path)
        _content(basket, item, "content", path)
    elif kind == "function_call":
        basket.text(item, "name", path)
        basket.text(item, "arguments", path)
    elif kind == "function_call_output":
        _content(basket, item, "output", path)
    elif kind != "item_reference":
        basket.json(item)


def _content(basket: Basket, holder: Members, name: str, path: str) -> None:
    if isinstance(holder.get(name), str):
        basket.text(holder, name, path)
        return
    for index, entry in enumerate(entries(holder, name, path)):
        place = f"{path}.{name}[{index}]"
        part = members(entry, place)
        kind = text(part, "type", place)
        if kind in ("input_text", "output_text"):
            basket.text(part, "text", place)
        elif kind == "input_image":
            basket.images.append(detail_of(text(part, "detail", place)))
        elif kind == "input_audio":
            basket.audio_count += 1
        elif kind == "input_file":
            basket.files_count += 1
        else:
            basket.json(part)


def read_answer(sheet: Sheet, body: Members) -> None:
    _read_response(sheet, body, "$")
    for index, entry in enumerate(entries(body, "output", "$")):
        _said(sheet, members(entry, f"$.output[{index}]"), f"$.output[{index}]")


def _said(sheet: Sheet, item: Members, path: str) -> None:
    sheet.say(text(item, "arguments", path))
    for name in ("content", "summary"):
        for index, entry in enumerate(entries(item, name, path)):
            place = f"{path}.{name}[{index}]"
            part = members(entry, place)
            sheet.say(text(part, "text", place) or text(part, "refusal", place))


def read_event(sheet: Sheet, name: str, event: Members) -> None:
    kind = text(event, "type", "$") or name
    if kind == "error" or kind == "response.error":
        _read_error(sheet, event)
    elif event.get("response") is not None:
        _read_response(sheet, inner(event, "response", "$"), "$.response")
        sheet.is_ended = sheet.is_ended or kind in ENDINGS
    elif kind != "response.audio.delta" and not isinstance(event.get("delta"), dict):
        sheet.say(text(event, "delta", "$"))  # an object tells what a tool has put out, which no model has made


def _read_error(sheet: Sheet, event: Members) -> None:
    """Documented with `code` and `message` in the event itself; seen with both under `error`."""
    if not read_failure(sheet, event):
        sheet.fail(text(event, "code", "$"), text(event, "message", "$"))


def _read_response(sheet: Sheet, response: Members, path: str) -> None:
    sheet.name(text(response, "model", path))
    read_failure(sheet, response, path)
    status = text(response, "status", path)
    if status not in (None, "in_progress", "queued"):
        details = inner(response, "incomplete_details", path)
        sheet.finish(text(details, "reason", f"{path}.incomplete_details") or status)
    if found := inner(response, "usage", path):
        sheet.report(usage_of(found, f"{path}.usage"))
