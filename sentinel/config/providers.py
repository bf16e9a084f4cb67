"""From checked blocks to providers: what upstreams and lines of `models` are told instead of what clients said.

What the table cannot say of a provider is here: fields that a credential may not stand in, prefixes that need to know a
model where nobody reads one, and dialects that the clients of a route never speak.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from sentinel.config.check import Block
from sentinel.config.problem import Problems
from sentinel.core import plan as p
from sentinel.core.globs import Glob
from sentinel.core.providers import SPOKEN, families_differ, merged
from sentinel.core.span import Span

HEADERS: Final = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}
AUTHORIZATION: Final = "authorization"
TAKEN: Final = frozenset({
    "host", "connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade", "expect", "keep-alive",
    "proxy-connection", "content-type", "content-encoding", "accept-encoding", "x-request-id",
})  # fmt: skip
"""Fields that say something else, and are the gateway's or the client's to say."""
MODEL: Final = "{model}"


def compile_provider(block: Block, problems: Problems) -> p.Provider:
    """One provider; it means something only if no problem was reported."""
    if not block.children and not block.is_faulty:
        problems.add(block.span, "`provider` says nothing", 'add `credential (env)"API_KEY"`, or what is meant')
    if block.has("credential") and block.has("client-credentials"):
        problems.add(
            block.one("client-credentials").span,
            "`client-credentials` has no effect: with a `credential` the client's never pass", "remove one of the two",
        )  # fmt: skip
    dialect: Any = block.value("dialect") or ""
    clients: Any = block.value("client-credentials") or ""
    return p.Provider(
        dialect=dialect, host=block.value("host") or "", path_prefix=block.value("path-prefix") or "",
        query=tuple(_parameter(one) for one in block.all("query")),
        credential=_credential(block.one("credential"), dialect, problems) if block.has("credential") else None,
        client_credentials=clients,
        translate=_translate(block.one("translate")) if block.has("translate") else None, span=block.span,
    )  # fmt: skip


def check_providers(
    routes: tuple[p.Route, ...], upstreams: tuple[p.Upstream, ...], problems: Problems
) -> None:
    """What a provider says that has no effect, or none that could be meant, on the routes that lead to it."""
    known = {one.name: one for one in upstreams}
    for route in routes:
        _one_language(route, known, problems)
        for provider, is_chosen, span in _led_to(route, known):
            family = "auto" if route.inference is None else route.inference.family
            if families_differ(family, provider):
                problems.add(
                    span, f'clients of route "{route.name}" speak `{family}`, and this provider `{provider.dialect}`',
                    "name an upstream that speaks it", [(provider.span, "the provider")],
                )  # fmt: skip
            if provider.translate is not None:
                _check_translate(provider, provider.translate, problems)
            if MODEL in provider.path_prefix and not is_chosen and route.inference is not None:
                problems.add(
                    provider.span, f'route "{route.name}" leads here without `models`, and nobody knows the `{MODEL}`',
                    "write the name, or let a line of `models` lead here", [(span, "the route")],
                )  # fmt: skip
    read = {name for route in routes if route.inference is not None for name in route.upstream_names}
    for upstream in upstreams:
        if upstream.provider is not None and upstream.name not in read:
            one = upstream.provider
            for word, said in (
                ("dialect", one.dialect), ("path-prefix", one.path_prefix), ("translate", one.translate),
            ):  # fmt: skip
                if said:
                    problems.add(
                        upstream.provider.span, f"`{word}` has no effect: no route with `inference` leads here",
                        "remove it, or add `inference` to a route",
                    )  # fmt: skip


def _one_language(route: p.Route, known: dict[str, p.Upstream], problems: Problems) -> None:
    """A request is in one dialect, and so are all whom it falls back on, unless one of the two translates."""
    lines = () if route.models is None else route.models.lines

    def dialect(line: p.Model) -> str:
        provider = merged(line.provider, known[line.upstream].provider) if line.upstream in known else None
        return "" if provider is None or provider.translate is not None else provider.dialect

    for line in lines:
        for name in () if line.fallback is None else line.fallback.models:
            other = next((one for one in lines if any(Glob(pattern).matches(name) for pattern in one.patterns)), None)
            if other is None or line.fallback is None or not dialect(line) or not dialect(other):
                continue
            if SPOKEN[dialect(line)][0] not in SPOKEN[dialect(other)]:
                problems.add(
                    line.fallback.span,
                    f"`{name}` speaks `{dialect(other)}`, and what falls back on it `{dialect(line)}`",
                    "name a model that speaks it", [(other.span, "its line")],
                )  # fmt: skip


def credentials_of(routes: tuple[p.Route, ...], upstreams: tuple[p.Upstream, ...]) -> Iterator[str]:
    """All secrets of providers, also those that stand in the file as they are."""
    providers = [one.provider for one in upstreams]
    providers += [line.provider for route in routes if route.models is not None for line in route.models.lines]
    for one in providers:
        if one is not None and one.credential is not None:
            yield one.credential.secret


def _led_to(route: p.Route, known: dict[str, p.Upstream]) -> Iterator[tuple[p.Provider, bool, Span]]:
    """The providers that a route leads to, whether by a line of `models`, and where it says so."""
    for line in () if route.models is None else route.models.lines:
        if line.upstream in known:
            provider = merged(line.provider, known[line.upstream].provider)
            if provider is not None:
                yield provider, True, line.span
    shares = () if route.split is None else tuple((share.upstream, share.span) for share in route.split.shares)
    for name, span in shares or ((route.upstream, route.span),):
        upstream = known.get(name or "")
        if upstream is not None and upstream.provider is not None:
            yield upstream.provider, False, span


def _translate(block: Block) -> p.Translate:
    return p.Translate(
        max_tokens=block.value("max-tokens") or 0,
        left_out=tuple(sorted({one for one in block.one("leave-out").args if one is not None})), span=block.span,
    )  # fmt: skip


def _check_translate(provider: p.Provider, how: p.Translate, problems: Problems) -> None:
    """Translations into nothing, or into what nobody here can say."""
    if not provider.dialect:
        problems.add(how.span, "`translate` has no effect without `dialect`", 'add `dialect "anthropic"`, or "openai"')
    elif provider.dialect == "gemini":
        problems.add(how.span, "nothing is translated for providers that speak `gemini`", "remove it")
    elif how.max_tokens and provider.dialect != "anthropic":
        problems.add(how.span, "`max-tokens` has no effect: only `anthropic` insists on a cap", "remove it")


def _credential(block: Block, dialect: str, problems: Problems) -> p.Credential:
    header = block.value("header") or HEADERS.get(dialect, AUTHORIZATION)
    if header in TAKEN or header.startswith("x-forwarded-"):
        problems.add(
            block.one("header").span, f"`{header}` says something else", 'for example "authorization" or "api-key"'
        )
    scheme = block.value("scheme") if block.has("scheme") else "Bearer" if header == AUTHORIZATION else ""
    return p.Credential(header, (block.args[0] if block.args else "") or "", scheme or "")


def _parameter(block: Block) -> tuple[str, str]:
    """A parameter as it is sent; names and values may have any characters."""
    name, value = (*block.args, None, None)[:2]
    return quote(name or "", safe=""), quote(value or "", safe="")
