"""The mock's language models: OpenAI's and Anthropic's interfaces, without a model behind them.

    POST /v1/chat/completions, /v1/completions, /v1/responses, /v1/embeddings      OpenAI
    POST /v1/messages, /v1/messages/count_tokens                                   Anthropic
    GET  /v1/models, /v1/models/NAME                                               both
    GET  /metrics                                                                  vLLM's, of an engine with few seats

Whatever stands before `/v1` does not matter: a gateway's route may have a prefix.

Intuition: a flight simulator. It answers like the real thing, always the same to the same, and one may ask it for an
engine on fire. It shares no code with sentinel/inference, so that a mistake there does not look right here.

A token is a run of up to four letters or digits, or any other character by itself; blanks belong to the token
after them. So text and usage can be checked by hand. An answer repeats the words of the last message, 32 tokens
of them, or as many as the cap allows. Models may be called anything; words in the name, or in the header
`x-mock`, ask for trouble:

    mock-tokens=200     so many tokens unless the cap is lower     mock-rate=50    tokens a second, streamed (fast)
    mock-slow           the first token only after `mock-delay=`   mock-delay=2    seconds (1)
    mock-error=429      that status, in the provider's shape       mock-no-usage   nothing is said of usage
    mock-dies           the connection breaks amid the stream      mock-fails      an error event amid the stream
    mock-no-done        no [DONE] at the end                       mock-cached     half of the input was cached
    mock-reasons        half of the output are thoughts            mock-tool       the first tool is called
"""

from __future__ import annotations

import asyncio
import json
import re
import struct
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import blake2b
from itertools import cycle, islice
from typing import Any, Final

BODY_BYTES_MAX: Final = 16 * 1024 * 1024
TOKENS_DEFAULT: Final = 32
TOKENS_MAX: Final = 100_000
RATE_MAX: Final = 100_000.0
DELAY_MAX_S: Final = 60.0
CHOICES_MAX: Final = 128
DIMENSIONS_MAX: Final = 4096
CREATED: Final = 1_770_000_000
"""When every answer was made: the same request has the same answer."""
TOKEN: Final = re.compile(r"\s*(?:\w{1,4}|[^\w\s])|\s+$")
SWITCHES: Final = (
    "tokens", "rate", "slow", "delay", "error", "no-usage", "dies", "fails", "no-done", "cached", "reasons", "tool",
)  # fmt: skip
SWITCH: Final = re.compile(rf"mock-({'|'.join(SWITCHES)})(?:[=-](\d+(?:\.\d+)?))?")
SEATS: Final = 8
MODELS: Final = ("mock", "mock-slow", "mock-error=429", "mock-dies", "mock-no-usage", "mock-embed")
OPENAI_ERRORS: Final = {
    400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error",
}  # fmt: skip
ANTHROPIC_ERRORS: Final = {
    400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 413: "request_too_large",
    429: "rate_limit_error", 529: "overloaded_error",
}  # fmt: skip

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer that is one JSON document."""

    status: int
    document: Body
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Events:
    """An answer that is a stream; it ends with the exception Death where a connection is to break."""

    chunks: AsyncIterator[bytes]


class Death(Exception):
    """The stream ends here, without its end."""


class Refusal(Exception):
    """The request is not answered."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Script:
    """What the name of the model and the header `x-mock` ask for."""

    switches: dict[str, float]

    @staticmethod
    def of(*words: str) -> Script:
        found = SWITCH.findall(" ".join(words).lower())
        return Script({name: float(number) if number else 0.0 for name, number in found})

    def __contains__(self, name: str) -> bool:
        return name in self.switches

    def number(self, name: str, default: float, largest: float) -> float:
        return min(self.switches.get(name) or default, largest)

    @property
    def delay_s(self) -> float:
        if "slow" not in self and "delay" not in self:
            return 0.0
        return self.number("delay", 1.0, DELAY_MAX_S)

    @property
    def error(self) -> int | None:
        status = int(self.switches.get("error") or 0)
        return (status if 400 <= status <= 599 else 500) if "error" in self else None

    async def wait(self) -> None:
        """Between two tokens."""
        rate = self.number("rate", 0.0, RATE_MAX)
        if rate:
            await asyncio.sleep(1 / rate)


@dataclass(frozen=True, slots=True)
class Saying:
    """One answer, made: its tokens, and what they count."""

    model: str
    script: Script
    id: str
    tokens: tuple[str, ...]
    is_cut: bool
    input_tokens: int
    tool: str | None

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def cached_tokens(self) -> int:
        return self.input_tokens // 2 if "cached" in self.script else 0

    @property
    def reasoning_tokens(self) -> int:
        return len(self.tokens) // 2 if "reasons" in self.script else 0

    @property
    def arguments(self) -> str:
        return json.dumps({"text": self.text})


def tokens_of(text: str) -> list[str]:
    return TOKEN.findall(text)


def metrics(running_count: int) -> str:
    """The page that vLLM would have: an engine with SEATS, where more wait, and a cache that is full at twice as many.

    It is told and not felt: the mock itself lets nobody wait.
    """
    readings = (
        ("num_requests_running", min(running_count, SEATS)), ("num_requests_waiting", max(0, running_count - SEATS)),
        ("kv_cache_usage_perc", min(running_count / (2 * SEATS), 1.0)),
    )  # fmt: skip
    return "".join(
        f'# TYPE vllm:{name} gauge\nvllm:{name}{{engine="0",model_name="mock"}} {value}\n' for name, value in readings
    )


def is_answered(method: str, path: str) -> bool:
    """Whether this is a language model's path."""
    _, _, name = path.rpartition("/v1/")
    return name in ANSWERS if method == "POST" else method == "GET" and bool(re.fullmatch("models(/[^/]+)?", name))


def answer(method: str, path: str, header: str, body: bytes) -> Whole | Events:
    """What is answered where `is_answered`. `header`: the value of `x-mock`."""
    _, _, name = path.rpartition("/v1/")
    is_anthropic = name.startswith("messages")
    try:
        if method == "GET":
            return _models(name.removeprefix("models").strip("/"))
        if len(body) > BODY_BYTES_MAX:
            raise Refusal(413, "The body is too large")
        request = _decoded(body)
        script = Script.of(_model(request), header)
        if script.error is not None:
            raise Refusal(script.error, "The mock was asked to refuse")
        return ANSWERS[name](request, script)
    except Refusal as fault:
        return Whole(fault.status, _error(fault.status, str(fault), is_anthropic=is_anthropic))


def _decoded(body: bytes) -> Body:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, "We could not parse the JSON body of your request") from None
    if not isinstance(request, dict):
        raise Refusal(400, "The body is not an object")
    return request


def _model(request: Body) -> str:
    model = request.get("model")
    if not isinstance(model, str) or not model:
        raise Refusal(400, "model: a string is required")
    return model


def _error(status: int, message: str, *, is_anthropic: bool) -> Body:
    if is_anthropic:
        kind = ANTHROPIC_ERRORS.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_mock"}
    code = "rate_limit_exceeded" if status == 429 else None
    kind = OPENAI_ERRORS.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _models(name: str) -> Whole:
    """In both providers' shapes at once: each client reads what it knows."""
    found = [
        {"id": one, "object": "model", "type": "model", "created": CREATED, "owned_by": "sentinel",
         "display_name": one, "created_at": "2026-02-02T02:40:00Z"}
        for one in MODELS
    ]  # fmt: skip
    if not name:
        return Whole(200, {"object": "list", "data": found, "has_more": False, "first_id": MODELS[0],
                           "last_id": MODELS[-1]})  # fmt: skip
    one = next((entry for entry in found if entry["id"] == name), None)
    return Whole(200, one) if one else Whole(404, _error(404, "No such model", is_anthropic=False))


# -- what is said


def _texts(value: Any) -> list[str]:
    """All text within messages, prompts and blocks, in order."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    if isinstance(value, dict):
        return [text for name in ("text", "content", "output") for text in _texts(value.get(name))]
    return []


def _say(request: Body, script: Script, given: list[str], caps: tuple[str, ...], choice: int = 0) -> Saying:
    asked = [request[name] for name in caps if isinstance(request.get(name), int)]
    wanted = int(script.number("tokens", TOKENS_DEFAULT, TOKENS_MAX))
    count = max(min([wanted, *asked]), 0)
    words = (given[-1] if given else "").split() or ["Hello"]
    turned = islice(cycle(words), choice, choice + count)  # each choice begins with another word
    digest = blake2b(json.dumps(request, sort_keys=True).encode(), digest_size=9).hexdigest()
    tools = request.get("tools")
    return Saying(
        _model(request), script, digest, tuple(tokens_of(" ".join(turned))[:count]),
        bool(asked) and min(asked) <= wanted,
        sum(len(tokens_of(text)) for text in given), _tool(tools) if "tool" in script and tools else None,
    )  # fmt: skip


def _tool(tools: Any) -> str:
    first = tools[0] if isinstance(tools, list) and tools and isinstance(tools[0], dict) else {}
    inside = first.get("function")
    name = (inside if isinstance(inside, dict) else first).get("name")
    return name if isinstance(name, str) else "tool"


def _count(request: Body) -> int:
    number = request.get("n")
    return min(number, CHOICES_MAX) if isinstance(number, int) and number > 0 else 1


def _openai_usage(said: list[Saying]) -> Body:
    first, output = said[0], sum(len(one.tokens) for one in said)
    return {
        "prompt_tokens": first.input_tokens, "completion_tokens": output, "total_tokens": first.input_tokens + output,
        "prompt_tokens_details": {"cached_tokens": first.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": sum(one.reasoning_tokens for one in said), "audio_tokens": 0},
    }  # fmt: skip


def _event(document: Body | str, name: str = "") -> bytes:
    data = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


def _trouble(script: Script, number: int, count: int) -> str:
    """Whether now, half way through, something happens."""
    if number != count // 2:
        return ""
    return "dies" if "dies" in script else "fails" if "fails" in script else ""


# -- OpenAI: chat completions and completions


def _chat(request: Body, script: Script) -> Whole | Events:
    return _choices(request, script, _texts(request.get("messages")), ("max_completion_tokens", "max_tokens"), CHAT)


def _completions(request: Body, script: Script) -> Whole | Events:
    return _choices(request, script, _texts(request.get("prompt")), ("max_tokens",), COMPLETION)


@dataclass(frozen=True, slots=True)
class Form:
    """What differs between a chat and a completion."""

    prefix: str
    whole: str
    part: str
    message: Callable[[Saying], Body]
    delta: Callable[[str], Body]


def _message(said: Saying) -> Body:
    if said.tool is None:
        return {"message": {"role": "assistant", "content": said.text, "refusal": None}}
    function = {"name": said.tool, "arguments": said.arguments}
    calls = [{"id": f"call_{said.id}", "type": "function", "function": function}]
    return {"message": {"role": "assistant", "content": None, "refusal": None, "tool_calls": calls}}


CHAT: Final = Form(
    "chatcmpl", "chat.completion", "chat.completion.chunk", _message, lambda text: {"delta": {"content": text}}
)
COMPLETION: Final = Form(
    "cmpl", "text_completion", "text_completion", lambda said: {"text": said.text}, lambda text: {"text": text}
)


def _choices(request: Body, script: Script, given: list[str], caps: tuple[str, ...], form: Form) -> Whole | Events:
    said = [_say(request, script, given, caps, choice) for choice in range(_count(request))]
    if request.get("stream"):
        options = request.get("stream_options")
        wants_usage = isinstance(options, dict) and options.get("include_usage") is True
        return Events(_choice_events(said, form, wants_usage=wants_usage and "no-usage" not in script))
    choices = [
        {"index": index, **form.message(one), "logprobs": None, "finish_reason": _reason(one)}
        for index, one in enumerate(said)
    ]
    document = {**_envelope(said[0], form, form.whole), "choices": choices}
    if "no-usage" not in script:
        document["usage"] = _openai_usage(said)
    return Whole(200, document, script.delay_s)


def _envelope(said: Saying, form: Form, kind: str) -> Body:
    return {"id": f"{form.prefix}-{said.id}", "object": kind, "created": CREATED, "model": said.model}


def _reason(said: Saying) -> str:
    return "tool_calls" if said.tool else "length" if said.is_cut else "stop"


async def _choice_events(said: list[Saying], form: Form, *, wants_usage: bool) -> AsyncIterator[bytes]:
    script, envelope = said[0].script, _envelope(said[0], form, form.part)
    extra: Body = {"usage": None} if wants_usage else {}

    def event(index: int, part: Body, reason: str | None = None) -> bytes:
        choice = {"index": index, **part, "logprobs": None, "finish_reason": reason}
        return _event({**envelope, "choices": [choice], **extra})

    await asyncio.sleep(script.delay_s)
    for index, one in enumerate(said):
        if form is CHAT:
            yield event(index, {"delta": {"role": "assistant", "content": "", "refusal": None}})
        if one.tool is not None:
            for part in _call_parts(one):
                yield event(index, {"delta": {"tool_calls": [part]}})
    longest = max(len(one.tokens) for one in said)
    for number in range(longest):
        trouble = _trouble(script, number, longest)
        if trouble == "fails":
            yield _event(_error(500, "The mock was asked to fail", is_anthropic=False))
        if trouble:
            raise Death
        await script.wait()
        for index, one in enumerate(said):
            if one.tool is None and number < len(one.tokens):
                yield event(index, form.delta(one.tokens[number]))
    for index, one in enumerate(said):
        yield event(index, form.delta("") if form is COMPLETION else {"delta": {}}, _reason(one))
    if wants_usage:
        yield _event({**envelope, "choices": [], "usage": _openai_usage(said)})
    if "no-done" not in script:
        yield _event("[DONE]")


def _call_parts(said: Saying) -> list[Body]:
    half = len(said.arguments) // 2
    first = {"index": 0, "id": f"call_{said.id}", "type": "function", "function": {"name": said.tool, "arguments": ""}}
    rest = [{"index": 0, "function": {"arguments": part}} for part in (said.arguments[:half], said.arguments[half:])]
    return [first, *rest]


# -- OpenAI: responses and embeddings


def _responses(request: Body, script: Script) -> Whole | Events:
    given = [*_texts(request.get("instructions")), *_texts(request.get("input"))]
    said = _say(request, script, given, ("max_output_tokens",))
    if request.get("stream"):
        return Events(_response_events(said))
    return Whole(200, _response(said, "incomplete" if said.is_cut else "completed"), script.delay_s)


def _response(said: Saying, status: str, error: Body | None = None) -> Body:
    is_over = status in ("completed", "incomplete")
    usage = {
        "input_tokens": said.input_tokens,
        "input_tokens_details": {"cached_tokens": said.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": len(said.tokens), "output_tokens_details": {"reasoning_tokens": said.reasoning_tokens},
        "total_tokens": said.input_tokens + len(said.tokens),
    }  # fmt: skip
    return {
        "id": f"resp_{said.id}", "object": "response", "created_at": CREATED, "status": status, "error": error,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None, "metadata": {}, "model": said.model, "output": [_item(said)] if is_over else [],
        "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": usage if is_over and "no-usage" not in said.script else None,
    }  # fmt: skip


def _item(said: Saying) -> Body:
    if said.tool is not None:
        return {"id": f"fc_{said.id}", "type": "function_call", "status": "completed", "call_id": f"call_{said.id}",
                "name": said.tool, "arguments": said.arguments}  # fmt: skip
    return {"id": f"msg_{said.id}", "type": "message", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": said.text, "annotations": []}]}  # fmt: skip


async def _response_events(said: Saying) -> AsyncIterator[bytes]:
    numbers = iter(range(TOKENS_MAX * 2))
    script, item = said.script, _item(said)

    def event(kind: str, **fields: Any) -> bytes:
        return _event({"type": kind, "sequence_number": next(numbers), **fields}, kind)

    where = {"item_id": item["id"], "output_index": 0}
    kind, name, whole = "response.output_text", "text", said.text
    if said.tool is not None:
        kind, name, whole = "response.function_call_arguments", "arguments", said.arguments
    else:
        where["content_index"] = 0
    yield event("response.created", response=_response(said, "in_progress"))
    await asyncio.sleep(script.delay_s)
    yield event("response.output_item.added", output_index=0, item={**item, "status": "in_progress"})
    pieces = said.tokens if said.tool is None else tuple(tokens_of(whole))
    for number, token in enumerate(pieces):
        trouble = _trouble(script, number, len(pieces))
        if trouble == "fails":
            error = {"code": "server_error", "message": "The mock was asked to fail"}
            yield event("response.failed", response=_response(said, "failed", error))
        if trouble:
            raise Death
        await script.wait()
        yield event(f"{kind}.delta", **where, delta=token, **({"logprobs": []} if name == "text" else {}))
    yield event(f"{kind}.done", **where, **{name: whole}, **({"logprobs": []} if name == "text" else {}))
    yield event("response.output_item.done", output_index=0, item=item)
    status = "incomplete" if said.is_cut else "completed"
    yield event(f"response.{status}", response=_response(said, status))


def _embeddings(request: Body, script: Script) -> Whole:
    given = request.get("input")
    inputs = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given
    if not isinstance(inputs, list) or not inputs:
        raise Refusal(400, "input: a string, tokens, or a list of either is required")
    size = request.get("dimensions")
    size = min(size, DIMENSIONS_MAX) if isinstance(size, int) and size > 0 else 8
    tokens = sum(len(tokens_of(one)) if isinstance(one, str) else len(one) for one in inputs)
    data = [
        {"object": "embedding", "index": index, "embedding": _embedding(one, size, request.get("encoding_format"))}
        for index, one in enumerate(inputs)
    ]
    usage = {} if "no-usage" in script else {"usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
    return Whole(200, {"object": "list", "data": data, "model": _model(request), **usage}, script.delay_s)


def _embedding(text: Any, size: int, form: Any) -> list[float] | str:
    digest = blake2b(json.dumps(text).encode()).digest()
    numbers = [(digest[index % len(digest)] - 128) / 128 for index in range(size)]
    if form != "base64":
        return numbers
    return b64encode(struct.pack(f"<{size}f", *numbers)).decode()


# -- Anthropic


def _messages(request: Body, script: Script) -> Whole | Events:
    if not isinstance(request.get("max_tokens"), int):
        raise Refusal(400, "max_tokens: Field required")
    said = _say(request, script, _given(request), ("max_tokens",))
    if request.get("stream"):
        return Events(_message_events(said))
    return Whole(200, _anthropic_message(said, is_over=True), script.delay_s)


def _count_tokens(request: Body, script: Script) -> Whole:
    return Whole(200, {"input_tokens": sum(len(tokens_of(text)) for text in _given(request))}, script.delay_s)


def _given(request: Body) -> list[str]:
    return [*_texts(request.get("system")), *_texts(request.get("messages"))]


def _block(said: Saying) -> Body:
    if said.tool is None:
        return {"type": "text", "text": said.text, "citations": None}
    return {"type": "tool_use", "id": f"toolu_{said.id}", "name": said.tool, "input": {"text": said.text}}


def _anthropic_message(said: Saying, *, is_over: bool) -> Body:
    usage = {
        "input_tokens": said.input_tokens - said.cached_tokens, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": said.cached_tokens, "output_tokens": len(said.tokens) if is_over else 1,
    }  # fmt: skip
    return {
        "id": f"msg_{said.id}", "type": "message", "role": "assistant", "model": said.model,
        "content": [_block(said)] if is_over else [], "stop_reason": _stop(said) if is_over else None,
        "stop_sequence": None, **({} if "no-usage" in said.script else {"usage": usage}),
    }  # fmt: skip


def _stop(said: Saying) -> str:
    return "tool_use" if said.tool else "max_tokens" if said.is_cut else "end_turn"


async def _message_events(said: Saying) -> AsyncIterator[bytes]:
    script = said.script

    def event(kind: str, **fields: Any) -> bytes:
        return _event({"type": kind, **fields}, kind)

    await asyncio.sleep(script.delay_s)
    yield event("message_start", message=_anthropic_message(said, is_over=False))
    empty: Body = {"text": ""} if said.tool is None else {"input": {}}
    yield event("content_block_start", index=0, content_block={**_block(said), **empty})
    yield event("ping")
    pieces = said.tokens if said.tool is None else tuple(tokens_of(said.arguments))
    for number, token in enumerate(pieces):
        trouble = _trouble(script, number, len(pieces))
        if trouble == "fails":
            error = {"type": "overloaded_error", "message": "The mock was asked to fail"}
            yield event("error", error=error)
        if trouble:
            raise Death
        await script.wait()
        kind, name = ("text_delta", "text") if said.tool is None else ("input_json_delta", "partial_json")
        yield event("content_block_delta", index=0, delta={"type": kind, name: token})
    yield event("content_block_stop", index=0)
    usage = {} if "no-usage" in script else {"usage": {"output_tokens": len(said.tokens)}}
    yield event("message_delta", delta={"stop_reason": _stop(said), "stop_sequence": None}, **usage)
    yield event("message_stop")


ANSWERS: Final[dict[str, Callable[[Body, Script], Whole | Events]]] = {
    "chat/completions": _chat, "completions": _completions, "responses": _responses, "embeddings": _embeddings,
    "messages": _messages, "messages/count_tokens": _count_tokens,
}  # fmt: skip
