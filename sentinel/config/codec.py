"""Plans as octets, and plans to be shown.

A plan is stored as JSON by field names (workers decode it with the dataclasses as
schema), and named by the hash of exactly these octets: what a worker loads is what was
checked, to the bit.

msgspec is asked for when something is encoded: what only reads configurations (the playground in a
browser) does without it.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from sentinel.core.conditions import SECRET_FIELDS
from sentinel.core.plan import Plan

REDACTED: Final = "(redacted)"
EMBEDDED_CHARS_MIN: Final = 8
"""Shorter ones (a port, a name) stand in other texts by chance, and are hidden only where they stand alone."""


def encode_plan(plan: Plan) -> bytes:
    """The plan's octets; equal plans give equal ones."""
    import msgspec

    return msgspec.json.encode(plan, order="deterministic")


def fingerprint(data: bytes) -> str:
    """SHA-256 of a plan's octets, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def redacted(plan: Plan) -> dict[str, Any]:
    """The plan for people and programs to look at, without anything secret."""
    import msgspec

    document: dict[str, Any] = msgspec.to_builtins(plan)
    hidden = frozenset(document.pop("secrets"))
    if document["admin"]["token"]:
        document["admin"]["token"] = REDACTED
    if document["system"]["ledger"]:
        document["system"]["ledger"] = REDACTED
    for listener in document["listeners"]:
        if listener["tls"]:
            for one in listener["tls"]["certificates"]:
                one["key_pem"] = REDACTED
    for upstream in document["upstreams"]:
        _redact(upstream["provider"])
        if upstream["tls"] and upstream["tls"]["key_pem"]:
            upstream["tls"]["key_pem"] = REDACTED
        if upstream["sticky"]:
            upstream["sticky"]["secrets"] = [REDACTED] * len(upstream["sticky"]["secrets"])
    for gate in document["basics"]:
        for user in gate["users"]:
            user["password_hash"] = REDACTED
    for gate in document["api_keys"]:
        for key in gate["keys"]:
            key["digests"] = [REDACTED] * len(key["digests"])
    for route in document["routes"]:
        for match in route["matches"]:
            _redact_conditions(match["conditions"])
        for line in route["models"]["lines"] if route["models"] else ():
            _redact(line["provider"])
    shown: dict[str, Any] = hide(document, hidden)
    return shown


def _redact_conditions(conditions: list[dict[str, Any]]) -> None:
    """Without what a request has to show as a password or a key."""
    for one in conditions:
        if one["kind"] in ("header", "header-regex") and one["name"] in SECRET_FIELDS:
            one["values"] = [REDACTED] * len(one["values"])
        _redact_conditions(one["parts"])


def _redact(provider: dict[str, Any] | None) -> None:
    if provider is not None and provider["credential"] is not None:
        provider["credential"]["secret"] = REDACTED


def hide(value: Any, hidden: frozenset[str]) -> Any:
    """Plain values without these secrets; also for what is told of decisions (`Plan.secrets`)."""
    match value:
        case str():
            return REDACTED if value in hidden else _without(value, hidden)
        case dict():
            return {name: hide(one, hidden) for name, one in value.items()}
        case list() | tuple():
            return [hide(one, hidden) for one in value]
        case _:
            return value


def _without(text: str, hidden: frozenset[str]) -> str:
    """A text in which somebody repeated a secret, without it."""
    for secret in hidden:
        if len(secret) >= EMBEDDED_CHARS_MIN and secret in text:
            text = text.replace(secret, REDACTED)
    return text
