"""Ordinary answers of the two most spoken dialects, read at one glance.

Intuition: a cashier who knows the till's own receipts by their form, and reads nothing on them but the sums. A receipt
of any other form he hands to the accountant.

msgspec decodes into the fields that matter and skips the others without making anything of them. What an adapter
(sentinel.inference.openai, .anthropic) would look at and is not read here has to be absent or null: then this is an
answer in text, of one choice, with usage, and the adapter would find the same. Everything else is the adapter's; a
differential test holds the two equal.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sentinel.inference.dialect import Dialect
from sentinel.inference.meter import Glances
from sentinel.inference.sheet import Sheet
from sentinel.inference.usage import fit
from workers.forms import Chat, ChatDetails, Message, Written

NO_DETAILS: Final = ChatDetails()
NOT_WRITTEN: Final = Written()
_chat: Final = msgspec.json.Decoder(Chat).decode
_message: Final = msgspec.json.Decoder(Message).decode


def is_text(body: bytes) -> bool:
    """Whether all of it is UTF-8, also what was skipped; raises UnicodeDecodeError if not."""
    return body.isascii() or bool(body.decode())


def chat(sheet: Sheet, body: bytes) -> bool:
    """What sentinel.inference.openai.read_chat_answer does with a body in text."""
    try:
        answer = _chat(body)
        is_text(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    usage, choice = answer.usage, answer.choices[0]
    received, made = usage.prompt_tokens_details or NO_DETAILS, usage.completion_tokens_details or NO_DETAILS
    output, reasoning = usage.completion_tokens, made.reasoning_tokens or 0
    if reasoning:  # where it was beside the output
        total = usage.total_tokens or 0
        if reasoning > output or total == usage.prompt_tokens + output + reasoning:
            output += reasoning
    sheet.name(answer.model)
    sheet.say(choice.message.content, choice.index)
    sheet.finish(choice.finish_reason, choice.index)
    sheet.report(fit(
        input_tokens=usage.prompt_tokens, cached=received.cached_tokens or 0, audio_input=received.audio_tokens or 0,
        output=output, reasoning=reasoning, audio_output=made.audio_tokens or 0,
    ))  # fmt: skip
    return True


def message(sheet: Sheet, body: bytes) -> bool:
    """What sentinel.inference.anthropic.read_answer does with a body of one block of text."""
    try:
        answer = _message(body)
        is_text(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    usage = answer.usage
    parts = usage.cache_creation or NOT_WRITTEN
    read, long = usage.cache_read_input_tokens or 0, parts.ephemeral_1h_input_tokens or 0
    written = max(usage.cache_creation_input_tokens or 0, long + (parts.ephemeral_5m_input_tokens or 0))
    sheet.name(answer.model)
    sheet.say(answer.content[0].text)
    sheet.finish(answer.stop_reason)
    sheet.report(fit(
        input_tokens=usage.input_tokens + read + written, cached=read, cache_write=written, cache_write_long=long,
        output=usage.output_tokens,
    ))  # fmt: skip
    return True


GLANCES: Final[Glances] = {Dialect.OPENAI_CHAT: chat, Dialect.ANTHROPIC_MESSAGES: message}
