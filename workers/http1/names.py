"""The names of fields that mean something to a proxy, and what they mean.

Intuition: the labels on a parcel. Some are for the carrier on this leg of the
way and are torn off here (hop-by-hop), some say how large the parcel is and are
written anew by each carrier (framing), some are read by those who guard the
door, so nobody on the way may tear them off (protected). All others are
passed on unread.

This table is the one source: the twin uses it as it stands, and the native
kernel reads it when it is loaded.

Rules:
1. Connection removes what it nominates (RFC 9110 section 7.6.1), except protected names and
   names that begin with `x-`. Removing `X-Forwarded-For` or `Authorization` at a client's wish
   is an attack on whoever stands behind us and trusts that these were looked at.
2. An underscore is a dash to CGI-like upstreams. So a name with an underscore that would be
   special or protected with a dash (`Content_Length`, `X_Forwarded_For`) is an alias, and
   is dropped: never merged, never passed. Other names with underscores pass.
3. No special or protected name is believed in a trailer: it comes after all that it could govern.
4. HTTP2-Settings and an Upgrade to h2c go no further: a tunnel into the upstream's HTTP/2 side
   would pass by every policy here.

Rejected: refusing aliases. Harmless clients send them, and dropping is as safe.
"""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final


@unique
class Role(IntEnum):
    """What the codec does with a field. The numbers are those of `enum role` in the native kernel."""

    PLAIN = 0  # passed on
    GUARDED = 1  # passed on, cannot be nominated away, not believed in trailers
    HOST = 2
    LENGTH = 3
    CODING = 4
    CONNECTION = 5
    UPGRADE = 6
    EXPECT = 7
    TRAILER = 8
    HOP = 9  # for this hop only, or an alias: dropped


HOP_BY_HOP: Final = (
    "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "http2-settings",
)  # fmt: skip

GUARDED: Final = (
    # Who asks, and what they may.
    "authorization", "authentication-info", "cookie", "set-cookie", "www-authenticate", "origin", "referer",
    "access-control-allow-credentials", "access-control-allow-headers", "access-control-allow-methods",
    "access-control-allow-origin", "access-control-expose-headers", "access-control-max-age",
    "access-control-request-headers", "access-control-request-method", "content-security-policy",
    "strict-transport-security", "sec-fetch-dest", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-user",
    "sec-websocket-accept", "sec-websocket-extensions", "sec-websocket-key", "sec-websocket-protocol",
    "sec-websocket-version", "x-api-key", "api-key", "x-csrf-token", "x-frame-options", "x-content-type-options",
    # Who is asked, on which way.
    "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto",
    "x-forwarded-server", "x-forwarded-prefix", "x-forwarded-uri", "x-original-url", "x-rewrite-url", "x-real-ip",
    "x-client-ip", "true-client-ip", "cf-connecting-ip", "x-http-method-override", "x-method-override",
    "x-request-id", "x-correlation-id", "x-sentinel-reason", "traceparent", "tracestate", "max-forwards",
    "idempotency-key",
    # What the content is.
    "content-type", "content-encoding", "content-language", "content-location", "content-range",
    "content-disposition", "accept", "accept-charset", "accept-encoding", "accept-language", "accept-ranges",
    "range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range",
    # How long it lives, and where it lies.
    "cache-control", "pragma", "expires", "age", "date", "vary", "etag", "last-modified", "location", "allow",
    "retry-after", "ratelimit", "ratelimit-policy", "warning", "user-agent", "server",
)  # fmt: skip

FAMILIAR: Final = (
    "alt-svc", "dnt", "from", "link", "nel", "p3p", "permissions-policy", "priority", "referrer-policy", "report-to",
    "sec-ch-ua", "sec-ch-ua-arch", "sec-ch-ua-mobile", "sec-ch-ua-model", "sec-ch-ua-platform", "sec-gpc",
    "server-timing", "save-data", "timing-allow-origin", "upgrade-insecure-requests", "x-cache", "x-powered-by",
    "x-requested-with", "x-xss-protection", "cdn-loop", "purpose", "viewport-width", "width", "dpr",
)  # fmt: skip
"""Not special at all, but so common that one str is kept for each."""

ROLES: Final[dict[str, Role]] = {
    **dict.fromkeys(FAMILIAR, Role.PLAIN),
    **dict.fromkeys(GUARDED, Role.GUARDED),
    **dict.fromkeys(HOP_BY_HOP, Role.HOP),
    "host": Role.HOST,
    "content-length": Role.LENGTH,
    "transfer-encoding": Role.CODING,
    "connection": Role.CONNECTION,
    "upgrade": Role.UPGRADE,
    "expect": Role.EXPECT,
    "trailer": Role.TRAILER,
}


def role_of(name: str) -> Role:
    """The role of a field; `name` in lower case."""
    role = ROLES.get(name)
    if role is not None:
        return role
    if "_" in name and ROLES.get(name.replace("_", "-"), Role.PLAIN) is not Role.PLAIN:
        return Role.HOP
    return Role.PLAIN


def is_removable(name: str, role: Role) -> bool:
    """May Connection nominate this field away?"""
    return role is Role.PLAIN and not name.startswith("x-")
