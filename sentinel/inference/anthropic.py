"""Anthropic's messages.

    event: message_start          {"message":{"usage":{"input_tokens":9,"output_tokens":1,…}}}
    event: content_block_delta    {"index":0,"delta":{"type":"text_delta","text":"Hi"}}
    event: message_delta          {"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7,…}}
    event: message_stop

What is read of usage:
- Input is what was not cached: reads and writes of the cache stand beside it, and are added.
- `message_delta` is cumulative, and may repeat and exceed any number of `message_start`, also the sums of which
  `message_start` gave a breakdown: each number counts by itself, the largest one seen. Of the cache writes
  those for an hour cost more; what a breakdown does not name was for five minutes.
- Until a `message_delta` came, output is not reported: what `message_start` says of it is what was there then.
"""

from __future__ import annotations

import re
from typing import Final

from sentinel.inference.ask import Ask, Basket, model_of
from sentinel.inference.dialect import Call, Dialect
from sentinel.inference.look import Members, amount, entries, flag, inner, members, text
from sentinel.inference.openai import STRING, read_failure
from sentinel.inference.sheet import Sheet
from sentinel.inference.usage import fit

TEXT: Final[re.Pattern[bytes]] = re.compile(rb'"(?:text|partial_json|thinking)"\s*+:\s*+' + STRING.encode())
COUNTED: Final = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
LONG: Final = "ephemeral_1h_input_tokens"
SHORT: Final = "ephemeral_5m_input_tokens"
THOUGHT: Final = "thinking_tokens"


def is_ordinary(data: bytes) -> bool:
    """Whether each event is a delta of a block, which says so twice: in `event` and in `type`."""
    return data.count(b'"content_block_delta"') == data.count(b"data:") and b'"usage"' not in data


def read_request(call: Call, body: Members) -> Ask:
    basket = Basket()
    _content(basket, body, "system", "$")
    for index, entry in enumerate(entries(body, "messages", "$")):
        path = f"$.messages[{index}]"
        message = members(entry, path)
        basket.messages_count += 1
        basket.text(message, "role", path)
        _content(basket, message, "content", path)
    tools = entries(body, "tools", "$")
    basket.json(tools)
    return Ask(
        Dialect.ANTHROPIC_MESSAGES, model_of(body, call.model), basket.packed(), bool(flag(body, "stream", "$")),
        output_cap=amount(body, "max_tokens", "$"), has_tools=bool(tools),
        has_hidden_input=bool(body.get("mcp_servers") or body.get("container")),
    )  # fmt: skip


def _content(basket: Basket, holder: Members, name: str, path: str) -> None:
    """A string, or a list of blocks; results of tools have blocks of their own, one level deep."""
    if isinstance(holder.get(name), str):
        basket.text(holder, name, path)
        return
    for index, entry in enumerate(entries(holder, name, path)):
        place = f"{path}.{name}[{index}]"
        block = members(entry, place)
        kind = text(block, "type", place)
        if kind == "tool_result":
            if isinstance(block.get("content"), str):
                basket.text(block, "content", place)
            else:
                for inside, one in enumerate(entries(block, "content", place)):
                    _block(basket, members(one, f"{place}.content[{inside}]"), f"{place}.content[{inside}]")
        else:
            _block(basket, block, place)


def _block(basket: Basket, block: Members, path: str) -> None:
    kind = text(block, "type", path)
    if kind in ("text", "thinking"):
        basket.text(block, kind, path)
    elif kind == "image":
        basket.media("image/")
    elif kind == "document":
        source = inner(block, "source", path)
        if text(source, "type", f"{path}.source") == "text":
            basket.text(source, "data", f"{path}.source")
        else:
            basket.files_count += 1
    elif kind == "tool_use":
        basket.text(block, "name", path)
        basket.json(block.get("input"))
    else:
        basket.json(block)


def read_answer(sheet: Sheet, body: Members) -> None:
    if read_failure(sheet, body):
        return
    sheet.name(text(body, "model", "$"))
    for index, entry in enumerate(entries(body, "content", "$")):
        _begun(sheet, members(entry, f"$.content[{index}]"), f"$.content[{index}]")
    sheet.finish(text(body, "stop_reason", "$"))
    report(sheet, body, "$", is_final=True)


def read_event(sheet: Sheet, name: str, event: Members) -> None:
    kind = text(event, "type", "$") or name
    if kind == "content_block_delta":
        delta = inner(event, "delta", "$")
        for part in ("text", "partial_json", "thinking"):
            sheet.say(text(delta, part, "$.delta"))
    elif kind == "content_block_start":
        _begun(sheet, inner(event, "content_block", "$"), "$.content_block")
    elif kind == "message_start":
        message = inner(event, "message", "$")
        sheet.name(text(message, "model", "$.message"))
        report(sheet, message, "$.message", is_final=False)
    elif kind == "message_delta":
        sheet.finish(text(inner(event, "delta", "$"), "stop_reason", "$.delta"))
        report(sheet, event, "$", is_final=True)
    elif kind == "message_stop":
        sheet.is_ended = True
    else:
        read_failure(sheet, event)


def _begun(sheet: Sheet, block: Members, path: str) -> None:
    """A block as it begins (empty but for the name of a tool), or whole in an answer."""
    for name in ("text", "thinking", "name"):
        sheet.say(text(block, name, path))
    if given := inner(block, "input", path):
        basket = Basket()
        basket.json(given)
        sheet.say(basket.texts[0])


def report(sheet: Sheet, holder: Members, path: str, *, is_final: bool) -> None:
    """Read the usage that stands in an answer, or in an event; what was read before goes on to count."""
    usage = inner(holder, "usage", path)
    if not usage:
        return
    counts, path = sheet.counts, f"{path}.usage"
    parts, details = inner(usage, "cache_creation", path), inner(usage, "output_tokens_details", path)
    for source, name in (*((usage, name) for name in COUNTED), (parts, LONG), (parts, SHORT), (details, THOUGHT)):
        if (value := amount(source, name, path)) is not None:
            counts[name] = max(value, counts.get(name, 0))
    plain, output, read, written = (counts.get(name, 0) for name in COUNTED)
    written = max(written, counts.get(LONG, 0) + counts.get(SHORT, 0))
    sheet.report(
        fit(
            input_tokens=plain + read + written, cached=read, cache_write=written,
            cache_write_long=counts.get(LONG, 0), output=output, reasoning=counts.get(THOUGHT, 0),
        ),
        has_input="input_tokens" in counts,
        has_output=sheet.has_output or (is_final and "output_tokens" in usage),
    )  # fmt: skip
