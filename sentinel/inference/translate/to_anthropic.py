"""A request of OpenAI's chat, said as one of Anthropic's messages.

    system, developer (at the beginning)   →  system
    user, assistant                        →  turns
    tool, tool, user                       →  one turn of the user: results first, then what he says
    tool_calls, their arguments as text    →  tool_use, its input as an object

Where the two differ, and what is made of it:
- Anthropic insists on a cap. Where the client sets none it is the one of the terms, or a fault.
- Instructions amid a conversation have no place there; an answer that is begun for the model means something else
  there (it goes on from it, a chat answers it). Both are faults.
- A temperature above 1 is a fault: there is none.
- A schema that an answer must keep to is always kept to there, so only a strict one says the same. Its name goes.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from sentinel.inference.fault import InferenceFault
from sentinel.inference.look import Members
from sentinel.inference.translate.form import Desk, Form, Neutral, plain

READER: Final = "Anthropic's messages"
IMAGE: Final = re.compile(r"data:(image/(?:jpeg|png|gif|webp));base64,")
TOOL_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")
NEUTRAL: Final[Neutral] = {
    "n": (1,), "frequency_penalty": (0,), "presence_penalty": (0,), "logprobs": (False,), "logit_bias": ({},),
    "modalities": (["text"],), "service_tier": ("auto",), "store": (False,), "metadata": ({},), "functions": ([],),
}  # fmt: skip
"""What holds without being said."""
OF_OPTIONS: Final[Neutral] = {"include_obfuscation": (False,)}
OF_ANSWERS: Final[Neutral] = {"tool_calls": ([],), "annotations": ([],)}
"""Members that the SDK's own answers carry along when they are sent back."""
CHOICES: Final = {"auto": "auto", "none": "none", "required": "any"}


def request(body: Members, desk: Desk) -> Members:
    form = desk.form(body, "$")
    model, is_stream = form.word("model"), form.flag("stream")
    system, messages = _conversation(form)
    out = plain(
        model=model, max_tokens=_cap(form, desk), system=system, messages=messages, stream=is_stream,
        temperature=form.number("temperature", 1), top_p=form.number("top_p", 1), stop_sequences=_stops(form),
        tools=[_tool(one) for one in form.forms("tools")] or None, output_config=_format(form),
    )  # fmt: skip
    if choice := _choice(form, has_tools="tools" in out):
        out["tool_choice"] = choice
    if user := form.text("user"):
        out["metadata"] = {"user_id": user}
    if options := form.inner("stream_options"):
        options.flag("include_usage")  # what comes of it is made here (translate/chunks.py)
        options.close(OF_OPTIONS)
    form.close(NEUTRAL)
    return out


def _cap(form: Form, desk: Desk) -> int:
    caps = [cap for name in ("max_completion_tokens", "max_tokens") if (cap := form.amount(name)) is not None]
    if not caps and desk.terms.max_tokens is None:
        raise InferenceFault(form.at("max_tokens"), f"{READER} need this, and none is configured")
    if len(set(caps)) > 1:
        raise form.refuse("max_tokens", "it is not the same as max_completion_tokens")
    return caps[0] if caps else desk.terms.max_tokens or 0


def _stops(form: Form) -> list[str] | None:
    if isinstance(form.members.get("stop"), str):
        return [form.word("stop")]
    found = form.entries("stop")
    if not all(isinstance(one, str) for one in found):
        raise form.refuse("stop", "a string or a list of strings is expected")
    return found or None


def _format(form: Form) -> Members | None:
    wanted = form.inner("response_format")
    if wanted is None:
        return None
    kind = wanted.word("type")
    if kind == "text":
        wanted.close()
        return None
    schema = wanted.inner("json_schema") if kind == "json_schema" else None
    if schema is None:
        raise wanted.refuse("type")
    schema.text("name")
    if not schema.flag("strict"):
        raise schema.refuse("strict", "only a strict schema says the same in both dialects")
    found = schema.inner("schema")
    if found is None:
        raise schema.refuse("schema", "this is missing")
    schema.close()
    wanted.close()
    return {"format": {"type": "json_schema", "schema": found.members}}


# -- tools


def _tool(form: Form) -> Members:
    if form.word("type") != "function":
        raise form.refuse("type")
    function = form.inner("function")
    if function is None:
        raise form.refuse("function", "this is missing")
    schema = function.inner("parameters")
    out = plain(
        name=function.word("name"), description=function.text("description"),
        input_schema={"type": "object", "properties": {}} if schema is None else schema.members,
        strict=function.flag("strict") or None,
    )  # fmt: skip
    function.close()
    form.close()
    return out


def _choice(form: Form, *, has_tools: bool) -> Members | None:
    found, may_be_several = form("tool_choice"), form.flag("parallel_tool_calls")
    out: Members
    if found is None or isinstance(found, str):
        word = "auto" if found is None else CHOICES.get(found)
        if word is None:
            raise form.refuse("tool_choice")
        out = {"type": word}
    else:
        out = _one_tool(form)
    if may_be_several is False and out["type"] != "none":
        return {**out, "disable_parallel_tool_use": True} if has_tools else None
    return None if found is None or not has_tools else out


def _one_tool(form: Form) -> Members:
    choice = form.inner("tool_choice")
    assert choice is not None
    if choice.word("type") != "function":
        raise choice.refuse("type")
    function = choice.inner("function")
    if function is None:
        raise choice.refuse("function", "this is missing")
    out = {"type": "tool", "name": function.word("name")}
    function.close()
    choice.close()
    return out


# -- the conversation


def _conversation(form: Form) -> tuple[str | list[Members] | None, list[Members]]:
    system: list[str | list[Members]] = []
    turns: list[Members] = []
    role, is_answering = "", False
    for message in form.forms("messages"):
        role = message.word("role")
        if role in ("system", "developer"):
            if turns:
                raise message.refuse("role", f"instructions amid a conversation have no place in {READER}")
            system.append(_said(message))
        elif role == "user":
            content = _said(message, is_user=True)
            if is_answering:  # results and what follows them are one turn
                turns[-1]["content"] += _blocks(content)
            else:
                turns.append({"role": "user", "content": content})
        elif role == "assistant":
            turns.append({"role": "assistant", "content": _answer(message)})
        elif role == "tool":
            if not is_answering:
                turns.append({"role": "user", "content": []})
            turns[-1]["content"].append(_result(message))
        else:
            raise message.refuse("role")
        is_answering = role == "tool"
        message.close(OF_ANSWERS)
    if role == "assistant":
        last = len(form.members["messages"]) - 1
        raise InferenceFault(f"$.messages[{last}].role", f"{READER} would go on from an answer that stands last")
    if len(system) == 1:
        return system[0], turns
    return [block for one in system for block in _blocks(one)] or None, turns


def _said(message: Form, *, is_user: bool = False) -> str | list[Members]:
    """Content, as a text where it came as one."""
    content = message.contents("content")
    if content is None:
        raise message.refuse("content", "this is missing")
    return content if isinstance(content, str) else [_part(one, is_user=is_user) for one in content]


def _blocks(content: str | list[Members]) -> list[Members]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _part(form: Form, *, is_user: bool) -> Members:
    kind = form.word("type")
    if kind == "text":
        out: Members = {"type": "text", "text": form.word("text")}
    elif kind == "image_url" and is_user:
        out = {"type": "image", "source": _image(form)}
    else:
        raise form.refuse("type")
    form.close()
    return out


def _image(form: Form) -> Members:
    image = form.inner("image_url")
    if image is None:
        raise form.refuse("image_url", "this is missing")
    url = image.word("url")
    image.close({"detail": ("auto",)})
    if url.startswith("https://"):
        return {"type": "url", "url": url}
    found = IMAGE.match(url)
    if found is None:
        raise image.refuse("url", "a data URL of a JPEG, PNG, GIF or WebP in base64 is expected, or an https address")
    return {"type": "base64", "media_type": found[1], "data": url[found.end() :]}


def _answer(message: Form) -> str | list[Members]:
    """What the model said before, and which tools it called."""
    calls = [_call(one) for one in message.forms("tool_calls")]
    content = message.contents("content")
    if not calls:
        if content is None:
            raise message.refuse("content", "this is missing")
        return content if isinstance(content, str) else [_part(one, is_user=False) for one in content]
    if isinstance(content, str):  # many clients say nothing with an empty text, which Anthropic takes for a mistake
        return [*(_blocks(content) if content else []), *calls]
    return [*(_part(one, is_user=False) for one in content or ()), *calls]


def _call(form: Form) -> Members:
    if form.word("type") != "function":
        raise form.refuse("type")
    function = form.inner("function")
    if function is None:
        raise form.refuse("function", "this is missing")
    out = {"type": "tool_use", "id": _id(form, "id"), "name": function.word("name"), "input": _input(function)}
    function.close()
    form.close()
    return out


def _input(function: Form) -> Members:
    try:
        return arguments_of(function.word("arguments"))
    except ValueError:
        raise function.refuse("arguments", "these are no JSON object") from None


def arguments_of(text: str) -> Members:
    """The object that a call's arguments are; no text at all is what some servers write for no arguments."""
    try:
        found: Any = json.loads(text, parse_constant=_refuse) if text.strip() else {}
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _id(form: Form, name: str) -> str:
    found = form.word(name)
    if TOOL_ID.fullmatch(found) is None:
        raise form.refuse(name, f"{READER} take letters, digits, _ and - in it")
    return found


def _result(message: Form) -> Members:
    return {"type": "tool_result", "tool_use_id": _id(message, "tool_call_id"), "content": _said(message)}
