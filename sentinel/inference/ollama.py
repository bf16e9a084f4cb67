"""Ollama's own interface: chat, generate, embed. A stream is one JSON object a line.

    {"message":{"role":"assistant","content":"Hi"},"done":false}
    {"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":9,"eval_count":2}

It streams unless it is told not to. A prompt that was cached whole may have no count: then the input is not
reported, rather than taken for nothing. An error in the middle is a line with `error`.
"""

from __future__ import annotations

import re
from typing import Final

from sentinel.inference.ask import Ask, Basket, Detail, model_of
from sentinel.inference.dialect import Call, Dialect
from sentinel.inference.look import Members, amount, entries, flag, inner, members, text, whole
from sentinel.inference.openai import STRING, read_failure, strings_or_tokens
from sentinel.inference.sheet import Sheet
from sentinel.inference.usage import fit

TEXT: Final[re.Pattern[bytes]] = re.compile(rb'"(?:content|response|thinking)"\s*+:\s*+' + STRING.encode())


def is_ordinary(data: bytes) -> bool:
    count = data.count(b'"done"')
    return (
        (count == data.count(b'"done":false') or count == data.count(b'"done": false'))
        and b'"error"' not in data
        and b'"tool_calls"' not in data
    )


def read_chat(call: Call, body: Members) -> Ask:
    basket = Basket()
    for index, entry in enumerate(entries(body, "messages", "$")):
        path = f"$.messages[{index}]"
        message = members(entry, path)
        basket.messages_count += 1
        for name in ("role", "content", "thinking"):
            basket.text(message, name, path)
        basket.json(entries(message, "tool_calls", path))
        basket.images += [Detail.AUTO] * len(entries(message, "images", path))
    tools = entries(body, "tools", "$")
    basket.json(tools)
    return _ask(Dialect.OLLAMA_CHAT, call, body, basket, has_tools=bool(tools))


def read_generate(call: Call, body: Members) -> Ask:
    basket = Basket()
    for name in ("system", "prompt", "suffix"):
        basket.text(body, name, "$")
    basket.images += [Detail.AUTO] * len(entries(body, "images", "$"))
    basket.token_ids_count = len(entries(body, "context", "$"))
    return _ask(Dialect.OLLAMA_GENERATE, call, body, basket)


def _ask(dialect: Dialect, call: Call, body: Members, basket: Basket, *, has_tools: bool = False) -> Ask:
    if isinstance(body.get("format"), dict):
        basket.json(body["format"])
    cap = whole(inner(body, "options", "$"), "num_predict", "$.options")
    is_stream = flag(body, "stream", "$")
    return Ask(
        dialect, model_of(body, call.model), basket.packed(), is_stream is not False,
        output_cap=None if cap is None or cap < 0 else cap,  # -1: no end, -2: until the context is full
        has_tools=has_tools,
    )  # fmt: skip


def read_embed(call: Call, body: Members) -> Ask:
    basket = Basket()
    strings_or_tokens(basket, body.get("input"), "$.input")
    return Ask(Dialect.OLLAMA_EMBED, model_of(body, call.model), basket.packed(), output_cap=0)


def read_answer(sheet: Sheet, body: Members) -> None:
    if read_failure(sheet, body):
        return
    sheet.name(text(body, "model", "$"))
    message = inner(body, "message", "$")
    for name in ("thinking", "content"):
        sheet.say(text(message, name, "$.message"))
    for index, entry in enumerate(entries(message, "tool_calls", "$.message")):
        basket = Basket()
        basket.json(members(entry, f"$.message.tool_calls[{index}]").get("function"))
        sheet.say("".join(basket.texts))
    for name in ("thinking", "response"):
        sheet.say(text(body, name, "$"))
    if flag(body, "done", "$"):
        sheet.finish(text(body, "done_reason", "$"))
        sheet.is_ended = True
    read, said = amount(body, "prompt_eval_count", "$"), amount(body, "eval_count", "$")
    if read is not None or said is not None:
        is_embedding = "embeddings" in body
        sheet.report(
            fit(input_tokens=read or 0, output=said or 0),
            has_input=read is not None, has_output=said is not None or is_embedding,
        )  # fmt: skip


def read_event(sheet: Sheet, name: str, event: Members) -> None:
    read_answer(sheet, event)
