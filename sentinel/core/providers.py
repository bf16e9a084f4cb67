"""What an upstream is told instead of what the client said, where it is somebody else's service: a provider of models.

Intuition: a purchasing department. The order is the employee's; the address, the customer number and the signature
are the firm's, and what the employee has in his own pocket is nobody's business outside.

A line of `models` may say some of it anew: what it says holds, the rest is the upstream's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sentinel.core.plan import Provider

SPOKEN: Final[dict[str, tuple[str, ...]]] = {
    "openai": ("openai",), "openai-compatible": ("openai",), "anthropic": ("anthropic",), "gemini": ("gemini",),
    "ollama": ("ollama", "openai"),
}  # fmt: skip
"""With which word dialects begin (sentinel.inference.dialect) that each family speaks."""


def merged(line: Provider | None, upstream: Provider | None) -> Provider | None:
    """What a line of `models` says, and else its upstream."""
    if line is None or upstream is None:
        return line or upstream
    names = {name for name, _ in line.query}
    return replace(
        line, dialect=line.dialect or upstream.dialect, host=line.host or upstream.host,
        path_prefix=line.path_prefix or upstream.path_prefix,
        query=(*(one for one in upstream.query if one[0] not in names), *line.query),
        credential=line.credential or upstream.credential,
        client_credentials=line.client_credentials or upstream.client_credentials,
        translate=line.translate or upstream.translate,
    )  # fmt: skip


def speaks(provider: Provider | None, dialect: str) -> bool:
    """Whether a request in this dialect is understood there; where one of the two is not known, it is."""
    if provider is None or not provider.dialect or not dialect:
        return True
    return dialect.partition("-")[0] in SPOKEN[provider.dialect]


def families_differ(family: str, provider: Provider | None) -> bool:
    """Whether clients of a family are never understood there."""
    if provider is None or not provider.dialect or family == "auto" or provider.translate is not None:
        return False
    return SPOKEN[family][0] not in SPOKEN[provider.dialect]
