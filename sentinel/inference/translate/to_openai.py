"""A request of Anthropic's messages, said as one of OpenAI's chat.

It is the way back of translate/to_anthropic.py: what that one says, this one says again as it was.

Where the two differ, and what is made of it:
- Results of tools are messages of their own, and can only be text; that a tool failed (`is_error`) cannot be said.
- What the model thought, documents, searches and tools that the provider runs itself cannot be said.
- `top_k` and a cached prefix (`cache_control`) cannot be said either; an operator may have the latter left out.
- An answer that is begun for the model is a fault: a chat would answer it, not go on from it.
- Which of several sequences stopped an answer is not told by a chat.
- Usage is always asked for in a stream, since an answer here always has it.
"""

from __future__ import annotations

import json
from typing import Final

from sentinel.inference.fault import InferenceFault
from sentinel.inference.look import Members
from sentinel.inference.translate.form import Desk, Form, Neutral, plain

READER: Final = "OpenAI's chat"
NEUTRAL: Final[Neutral] = {"thinking": ({"type": "disabled"},), "service_tier": ("auto",), "mcp_servers": ([],)}
OF_TOOLS: Final[Neutral] = {"type": ("custom",), "defer_loading": (False,), "eager_input_streaming": (False,)}
OF_RESULTS: Final[Neutral] = {"is_error": (False,)}
OF_TEXTS: Final[Neutral] = {"citations": ([],)}
CHOICES: Final = {"auto": "auto", "none": "none", "any": "required"}
STOPS_MAX: Final = 4
SCHEMA_NAME: Final = "answer"
"""A schema has to have a name there, and has none here."""


def request(body: Members, desk: Desk) -> Members:
    form = desk.form(body, "$")
    model, is_stream, cap = form.word("model"), form.flag("stream"), form.amount("max_tokens")
    if cap is None:
        raise form.refuse("max_tokens", "this is missing")
    messages = [*_system(form), *_conversation(form)]
    choice, may_be_several = _choice(form)
    out = plain(
        model=model, max_completion_tokens=cap, messages=messages, stream=is_stream,
        temperature=form.number("temperature", 1), top_p=form.number("top_p", 1), stop=_stops(form),
        tools=[_tool(one) for one in form.forms("tools")] or None, tool_choice=choice,
        parallel_tool_calls=may_be_several, response_format=_format(form), user=_user(form),
        stream_options={"include_usage": True} if is_stream else None,
    )  # fmt: skip
    form.close(NEUTRAL)
    return out


def _stops(form: Form) -> list[str] | None:
    found = form.entries("stop_sequences")
    if not all(isinstance(one, str) for one in found):
        raise form.refuse("stop_sequences", "a list of strings is expected")
    if len(found) > STOPS_MAX:
        raise form.refuse("stop_sequences", f"{READER} takes {STOPS_MAX} at most")
    return found or None


def _format(form: Form) -> Members | None:
    config = form.inner("output_config")
    wanted = None if config is None else config.inner("format")
    out = None
    if wanted is not None:
        if wanted.word("type") != "json_schema":
            raise wanted.refuse("type")
        schema = wanted.inner("schema")
        if schema is None:
            raise wanted.refuse("schema", "this is missing")
        wanted.close()
        inner = {"name": SCHEMA_NAME, "strict": True, "schema": schema.members}
        out = {"type": "json_schema", "json_schema": inner}
    if config is not None:
        config.close()
    return out


def _user(form: Form) -> str | None:
    metadata = form.inner("metadata")
    if metadata is None:
        return None
    user = metadata.text("user_id")
    metadata.close()
    return user


# -- tools


def _tool(form: Form) -> Members:
    if "input_schema" not in form.members:
        raise form.refuse("type" if "type" in form.members else "input_schema")
    schema = form.inner("input_schema")
    function = plain(
        name=form.word("name"), description=form.text("description"),
        parameters=None if schema is None else schema.members, strict=form.flag("strict") or None,
    )  # fmt: skip
    form.close(OF_TOOLS)
    return {"type": "function", "function": function}


def _choice(form: Form) -> tuple[str | Members | None, bool | None]:
    """Which tool is called, and whether it may be several."""
    choice = form.inner("tool_choice")
    if choice is None:
        return None, None
    kind, is_one = choice.word("type"), choice.flag("disable_parallel_tool_use")
    out: str | Members
    if kind == "tool":
        out = {"type": "function", "function": {"name": choice.word("name")}}
    elif kind in CHOICES:
        out = CHOICES[kind]
    else:
        raise choice.refuse("type")
    choice.close()
    # That all is as if nothing were said is not said: it is how most clients ask for one call at a time.
    return None if kind == "auto" and is_one else out, False if is_one else None


# -- the conversation


def _system(form: Form) -> list[Members]:
    content = form.contents("system")
    if content is None:
        return []
    return [{"role": "system", "content": content if isinstance(content, str) else _texts(content)}]


def _conversation(form: Form) -> list[Members]:
    out: list[Members] = []
    role = ""
    for message in form.forms("messages"):
        role = message.word("role")
        content = message.contents("content")
        if content is None:
            raise message.refuse("content", "this is missing")
        if role == "user":
            out += [{"role": "user", "content": content}] if isinstance(content, str) else _user_turn(content)
        elif role == "assistant":
            out.append(
                {"role": "assistant", "content": content} if isinstance(content, str) else _answer(content)
            )
        else:
            raise message.refuse("role")
        message.close()
    if role == "assistant":
        last = len(form.members["messages"]) - 1
        raise InferenceFault(f"$.messages[{last}].role", f"{READER} does not go on from an answer that stands last")
    return out


def _user_turn(blocks: list[Form]) -> list[Members]:
    """Results of tools, and what the user says after them."""
    out: list[Members] = []
    parts: list[Members] = []
    for block in blocks:
        kind = block.word("type")
        if kind == "tool_result":
            if parts:
                raise block.refuse("type", "results of tools come before anything else")
            out.append(_result(block))
        elif kind == "text":
            parts.append({"type": "text", "text": block.word("text")})
        elif kind == "image":
            parts.append({"type": "image_url", "image_url": {"url": _image(block)}})
        else:
            raise block.refuse("type")
        block.close(OF_TEXTS if kind == "text" else OF_RESULTS if kind == "tool_result" else {})
    if parts:
        has_one_text = bool(out) and len(parts) == 1 and parts[0]["type"] == "text"
        out.append({"role": "user", "content": parts[0]["text"] if has_one_text else parts})
    return out


def _result(block: Form) -> Members:
    content = block.contents("content")
    said = content if isinstance(content, str) else _texts(content or [])
    return {"role": "tool", "tool_call_id": block.word("tool_use_id"), "content": said or ""}


def _texts(blocks: list[Form]) -> list[Members]:
    out: list[Members] = []
    for block in blocks:
        if block.word("type") != "text":
            raise block.refuse("type")
        out.append({"type": "text", "text": block.word("text")})
        block.close(OF_TEXTS)
    return out


def _image(block: Form) -> str:
    source = block.inner("source")
    if source is None:
        raise block.refuse("source", "this is missing")
    kind = source.word("type")
    if kind == "base64":
        url = f"data:{source.word('media_type')};base64,{source.word('data')}"
    elif kind == "url":
        url = source.word("url")
    else:
        raise source.refuse("type")
    source.close()
    return url


def _answer(blocks: list[Form]) -> Members:
    """What the model said before, and the tools that it called after that."""
    parts: list[Members] = []
    calls: list[Members] = []
    for block in blocks:
        kind = block.word("type")
        if kind == "text" and not calls:
            parts.append({"type": "text", "text": block.word("text")})
        elif kind == "text":
            raise block.refuse("type", f"what is said after a call of a tool has no place in {READER}")
        elif kind == "tool_use":
            calls.append(_call(block))
        else:
            raise block.refuse("type")
        block.close(OF_TEXTS if kind == "text" else {})
    if not calls:
        return {"role": "assistant", "content": parts}
    content = parts[0]["text"] if len(parts) == 1 else parts or None
    return plain(role="assistant", content=content, tool_calls=calls)


def _call(block: Form) -> Members:
    given = block.inner("input")
    function = {"name": block.word("name"), "arguments": written({} if given is None else given.members)}
    return {"id": block.word("id"), "type": "function", "function": function}


def written(given: Members) -> str:
    """The arguments of a call as a chat has them: JSON as a text."""
    try:
        return json.dumps(given, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):
        raise InferenceFault("$", "the input of a tool is no JSON, or nested too deeply") from None
