"""From HTTP to HTTPS: a listener that sends everybody there, and one that tells browsers to come there by themselves.

A redirect is a route like any other, which the operator wrote in two words: it is matched, explained, counted, compared
and tried out as they are, and stands before them by its priority. Its name has a colon, so that no other route can
have it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from sentinel.config.check import Block
from sentinel.config.problem import Problems
from sentinel.core import plan as p

FIRST: Final = 1_000_000
"""Above every priority that can be written."""
NO_REDIRECTS: Final = frozenset(range(303, 307))
PRELOAD_NS: Final = 365 * 86_400 * p.SECOND
"""So long at least it must be remembered, or browsers do not build it in."""


def redirect_routes(listeners: Iterable[Block], order: int, problems: Problems) -> Iterator[p.Route]:
    """The routes that stand for `redirect-to-https`, in the order of the listeners."""
    for block in listeners:
        asked = block.one("redirect-to-https")
        if not block.has("redirect-to-https") or not block.args:
            continue
        if block.has("tls"):
            problems.add(
                asked.span, "this listener serves HTTPS itself, so its clients would be sent round in a circle",
                "write it into the listener that serves plain HTTP", [(block.one("tls").span, "HTTPS")],
            )  # fmt: skip
        status = asked.value("status")
        if status in NO_REDIRECTS:
            problems.add(
                asked.one("status").arg_spans[0], f"{status} does not send a client to the same place",
                "write 301, 302, 307 or 308",
            )  # fmt: skip
        exempt = tuple(one for one in asked.one("exempt").args if one)
        conditions = [p.Condition("not", parts=(p.Condition("path-prefix", values=exempt),), span=asked.span)]
        if block.has("trusted-proxies"):
            # A proxy has taken HTTPS off already. Who says so and is no proxy stays where he is, and gains nothing.
            secured = p.Condition("header", "x-forwarded-proto", ("https",), span=asked.span)
            conditions.append(p.Condition("not", parts=(secured,), span=asked.span))
        yield p.Route(
            name=f"redirect-to-https:{block.args[0]}", order=order, priority=FIRST, listeners=(block.args[0],),
            matches=(
                p.Match(path_prefixes=("/",), conditions=tuple(conditions), span=asked.span, path_span=asked.span),
            ),
            respond=p.Respond(
                status or 308, https_port=asked.value("port") or 443, span=asked.span
            ),
            span=asked.span,
        )  # fmt: skip
        order += 1


def transport_security(block: Block, problems: Problems) -> str:
    """The value of the field by which a listener's `hsts` is told; "" without it."""
    asked = block.one("hsts")
    if not block.has("hsts") or block.is_faulty:
        return ""
    age_ns, is_wide, is_built_in = (asked.props[name] for name in ("max-age", "include-subdomains", "preload"))
    if not block.has("tls"):
        problems.add(
            asked.span, "browsers ignore `hsts` on a listener that serves plain HTTP",
            "write it into the listener that has `tls`",
        )  # fmt: skip
    if is_built_in and (age_ns < PRELOAD_NS or not is_wide):
        problems.add(
            asked.span, "browsers build it in only with `include-subdomains=true` and `max-age` of a year or more",
            'write `hsts max-age="365d" include-subdomains=true preload=true`, or remove `preload`',
        )  # fmt: skip
    said = [f"max-age={age_ns // p.SECOND}"]
    said += ["includeSubDomains"] if is_wide else []
    said += ["preload"] if is_built_in else []
    return "; ".join(said)
