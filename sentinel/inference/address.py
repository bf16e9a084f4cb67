"""Under which path a provider is asked, when the model has another name there, or its interface another prefix.

    /v1/chat/completions           →  /openai/deployments/gpt-4o/chat/completions
                                      prefix "/openai/deployments/{model}"
    /models/fast:generateContent   →  /models/gemini-2.5-flash:generateContent
                                      the name stands in the path

Intuition: the same letter to another branch of the house: what comes last, the department, is written as it was; what
stands before it is the branch's own address.

A path ends in what its dialect is recognised by (`dialect.recognise`); only what stands before that, and the name of
a model within the path, are ever replaced.
"""

from __future__ import annotations

from typing import Final

from sentinel.inference.dialect import ANY_PATHS, COUNT_PATHS, Call, Dialect

UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
MODELS: Final = "/models/"
DEPLOYMENTS: Final = "/deployments/"
PLACEHOLDER: Final = "{model}"


def addressed(path: str, call: Call, sent: str, prefix: str = "") -> str:
    """The path for the provider. `sent`: its name for the model. `prefix`: what stands before the dialect's own end."""
    name = escaped(sent)
    if call.dialect is Dialect.GEMINI_GENERATE:
        head, _, method = path.rpartition(":")
        before, _, asked = head.rpartition(MODELS)
        end = f"{MODELS}{asked if asked == sent else name}:{method}"
    else:
        ends = COUNT_PATHS if call.is_count else ANY_PATHS
        end = next(end for end, dialect in ends if dialect is call.dialect)
        before = path.removesuffix(end)
        if call.model is not None and call.model != sent:
            start, _, rest = before.partition(DEPLOYMENTS)
            before = start + DEPLOYMENTS + name + rest[len(call.model) :]
    if prefix:
        before = prefix.replace(PLACEHOLDER, name).rstrip("/")
    return before + end


def escaped(name: str) -> str:
    """A model's name as one segment of a path."""
    octets = name.encode("utf-8", "replace")
    return "".join([chr(octet) if octet in UNRESERVED else f"%{octet:02X}" for octet in octets])
