"""Forms that msgspec fills in from JSON, or writes as JSON.

Intuition: printed forms, and the clerks who fill them in sit elsewhere (workers.glances, workers.bill).

They are apart because msgspec reads the annotations of a class when it is made, and mypyc keeps none that could be
read (ADR 29): what works with them is compiled, they are not.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from sentinel.inference.look import TOKENS_MAX

Amount = Annotated[int, msgspec.Meta(ge=0, le=TOKENS_MAX)]


class ChatDetails(msgspec.Struct, gc=False):
    cached_tokens: Amount | None = None
    audio_tokens: Amount | None = None
    reasoning_tokens: Amount | None = None
    cache_write_tokens: None = None
    cache_write_tokens_details: None = None


class ChatUsage(msgspec.Struct, gc=False):
    prompt_tokens: Amount
    completion_tokens: Amount
    total_tokens: Amount | None = None
    prompt_tokens_details: ChatDetails | None = None
    completion_tokens_details: ChatDetails | None = None
    prompt_cache_hit_tokens: None = None
    input_tokens: msgspec.UnsetType = msgspec.UNSET  # to be there at all makes it another vocabulary


class ChatMessage(msgspec.Struct, gc=False):
    content: str
    reasoning_content: None = None
    reasoning: None = None
    refusal: None = None
    tool_calls: None = None
    function_call: None = None
    audio: None = None


class ChatChoice(msgspec.Struct, gc=False):
    message: ChatMessage
    index: Amount = 0
    finish_reason: str | None = None
    text: None = None
    usage: None = None


class Chat(msgspec.Struct, gc=False):
    usage: ChatUsage
    choices: Annotated[list[ChatChoice], msgspec.Meta(min_length=1, max_length=1)]
    model: str | None = None
    error: None = None
    x_groq: None = None


class Written(msgspec.Struct, gc=False):
    """Of the cache, in a message."""

    ephemeral_1h_input_tokens: Amount | None = None
    ephemeral_5m_input_tokens: Amount | None = None


class MessageUsage(msgspec.Struct, gc=False):
    input_tokens: Amount
    output_tokens: Amount
    cache_read_input_tokens: Amount | None = None
    cache_creation_input_tokens: Amount | None = None
    cache_creation: Written | None = None
    output_tokens_details: None = None


class Block(msgspec.Struct, gc=False):
    text: str
    thinking: None = None
    name: None = None
    input: None = None


class Message(msgspec.Struct, gc=False):
    usage: MessageUsage
    content: Annotated[list[Block], msgspec.Meta(min_length=1, max_length=1)]
    model: str | None = None
    stop_reason: str | None = None
    error: None = None


class Line(msgspec.Struct, gc=False):
    """What a line of the access log has besides; the order of the fields is the order in the log."""

    model: str
    answer_model: str
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    tokens_reported: bool | None
    finish_reason: str
    first_token_ms: float | None
    cost: msgspec.Raw | msgspec.UnsetType | None = msgspec.UNSET
    currency: str | msgspec.UnsetType = msgspec.UNSET
    tenant: str | msgspec.UnsetType = msgspec.UNSET
    guardrails: str | msgspec.UnsetType = msgspec.UNSET
