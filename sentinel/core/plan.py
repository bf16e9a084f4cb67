"""The plan: a compiled, immutable generation of configuration.

Plain frozen dataclasses, so that the core runs anywhere; JSON is their encoding
(written by control, read by workers), and the fingerprint is the hash of it.
Every union is spelled as optional fields or as a `kind` word, since that is
what decoders without schemas of their own can read back.

Units are in the names: `_ns` nanoseconds, `_bytes` octets. A limit of 0 means
"no limit" only where the field says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sentinel.core.prices import PriceBook
from sentinel.core.span import NOWHERE, Span

PLAN_VERSION = 1
"""Bumped with every change of these shapes; a worker refuses another version."""

SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a match; all of `values` are alternatives.

    kind     name        values / parts
    method   -           methods, upper case
    header   lower case  exact values; none: the field is present
    query    parameter   exact values; none: the parameter is present
    header-regex, query-regex: values are patterns (core.regex), whole-value match
    not      -           parts: none of them may hold
    any      -           parts: at least one must hold
    all      -           parts: all must hold (inside any and not)
    host, path, path-prefix, path-regex: values as in Match (only inside any/not/all)
    """

    kind: Literal[
        "method", "header", "header-regex", "query", "query-regex",
        "host", "path", "path-prefix", "path-regex", "not", "any", "all",
    ]  # fmt: skip
    name: str = ""
    values: tuple[str, ...] = ()
    parts: tuple[Condition, ...] = ()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Match:
    """What a request must be like: any of the hosts, any of the paths, all of the conditions.

    hosts: lower case, without port; "*.example.com" matches any name below it
    (one label or more), an empty tuple any host. paths: any one of the three
    kinds; all empty: any path. Prefixes match on segment borders.
    """

    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    path_prefixes: tuple[str, ...] = ()
    path_regexes: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    span: Span = NOWHERE
    host_span: Span = NOWHERE
    path_span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Respond:
    """A fixed answer; header names lower case. https_port: where the same is to be asked for over HTTPS; 0: nowhere."""

    status: int
    body: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    span: Span = NOWHERE
    https_port: int = 0


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`count` requests in each `period_ns`, and `burst` at once, for each value of the key.

    key: parts as in core.keys (`client-ip`, `header:x-tenant`, ...), all of which together name a bucket.
    exempt: networks of clients that it does not concern. when_full: what happens when shared memory has no
    room for another key.
    """

    name: str
    period_ns: int
    count: int
    burst: int
    key: tuple[str, ...] = ("client-ip",)
    cost: int = 1
    on_limit: Literal["reject", "delay", "observe"] = "reject"
    max_delay_ns: int = 0  # how long a request may wait for its turn
    max_waiting: int = 100  # requests of one worker that may do so
    when_full: Literal["admit", "reject"] = "admit"
    exempt: tuple[str, ...] = ()
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class ConcurrencyLimit:
    """At most `most` requests under way in the whole fleet, for each value of the key (parts as in RateLimit)."""

    name: str
    most: int
    key: tuple[str, ...] = ("client-ip",)
    on_limit: Literal["reject", "observe"] = "reject"
    when_full: Literal["admit", "reject"] = "admit"
    exempt: tuple[str, ...] = ()
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class TokenLimit:
    """So many tokens of language models in each `period_ns`, and `burst` at once; and so many requests, if it says so.

    For each value of the key, as in TokenBudget. What a request may take at most is taken, what it did not take is
    given back.
    """

    name: str
    tokens: int
    period_ns: int
    burst: int
    requests: int = 0  # 0: they are not counted
    requests_period_ns: int = SECOND
    requests_burst: int = 0
    key: tuple[str, ...] = ("client-ip",)
    on_limit: Literal["reject", "observe"] = "reject"
    when_full: Literal["admit", "reject"] = "admit"
    exempt: tuple[str, ...] = ()
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class TokenBudget:
    """So much of language models in each window of the calendar, for each value of the key (as in RateLimit).

    The amount is in tokens, or in micro-units of money; the other one is 0. unpriced: what becomes of a request whose
    model has no price, at a budget of money that refuses. key: also `model`.
    """

    name: str
    tokens: int = 0
    per: Literal["hour", "day", "week", "month"] = "day"
    time_zone: str = "UTC"  # of the window's beginning: a name of the IANA database
    key: tuple[str, ...] = ("client-ip",)
    on_limit: Literal["reject", "observe"] = "reject"
    when_full: Literal["admit", "reject"] = "admit"
    exempt: tuple[str, ...] = ()
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    money: int = 0
    currency: str = ""  # "": it is in tokens
    unpriced: Literal["reject", "admit"] = "reject"
    warn_at: tuple[int, ...] = ()  # percent, rising
    warns_clients: bool = False
    rolling_s: int = 0  # the window is the last so many seconds, instead of `per`
    rollover: int = 0  # thousandths of the amount that may be carried over from the last window
    on_outgrown: Literal["continue", "end"] = "continue"  # of a stream that takes more than was put aside, or is left
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class OwnPattern:
    """An operator's pattern (core.regex.search), and what is found by it is called."""

    name: str
    text: str
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class WordList:
    """Words and phrases, and what is found by them is called."""

    name: str
    words: tuple[str, ...]
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Guardrail:
    """What is looked for in the texts of requests to language models, and of their answers (core.guard).

    detect: kinds that are known by their shape. when_unreadable: what becomes of what cannot be read. max_text_bytes:
    characters of all texts of a request, or of an answer that is no stream, at most. series: of each name in
    `metric_names`, its number in the metric tables (given by control).
    """

    name: str
    detect: tuple[str, ...] = ()
    patterns: tuple[OwnPattern, ...] = ()
    words: tuple[WordList, ...] = ()
    on: tuple[Literal["request", "response"], ...] = ("request", "response")
    action: Literal["redact", "block", "observe"] = "redact"
    replacement: str = "[{kind}]"
    when_unreadable: Literal["block", "pass"] = "block"
    max_text_bytes: int = 1 << 20
    series: tuple[int, ...] = ()
    span: Span = NOWHERE

    @property
    def kinds(self) -> tuple[str, ...]:
        """What may be found, by name."""
        return (*self.detect, *(one.name for one in self.patterns), *(one.name for one in self.words))

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Under which it is counted: of no route, since a route's name has no blank."""
        sides = (f"guardrail {self.name} on {side}" for side in ("request", "response"))
        return (*sides, *(f"guardrail {self.name} kind {kind}" for kind in self.kinds))


@dataclass(frozen=True, slots=True)
class Inference:
    """A route's requests are for language models: they are read, and what they take is counted.

    family: whose language; "auto": by the path. output_tokens: taken for the most that is answered where a request
    sets no bound. unrecognised: what becomes of requests that cannot be read, at budgets that refuse. has_headers: what
    an answer took stands in its head. tenant: the part of a request by which metrics tell tenants apart; "": none.
    """

    family: Literal["auto", "openai", "openai-compatible", "anthropic", "gemini", "ollama"] = "auto"
    max_body_bytes: int = 1 << 20
    output_tokens: int = 1024
    unrecognised: Literal["reject", "admit"] = "reject"
    has_headers: bool = False
    tenant: str = ""
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Credential:
    """By what a provider knows who asks: this field has the secret, after a word if `scheme` is one."""

    header: str
    secret: str
    scheme: str = ""


@dataclass(frozen=True, slots=True)
class Translate:
    """Requests in another dialect are said in the provider's, and its answers in the client's.

    max_tokens: the cap for clients that set none, where a provider insists on one; 0: they have to. left_out: names of
    members that are not translated but left out.
    """

    max_tokens: int = 0
    left_out: tuple[str, ...] = ()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Provider:
    """What an upstream is told instead of what the client said; "", () and None: what the client said.

    dialect: the family whose language it speaks. path_prefix: what stands before the end by which a dialect is
    recognised; `{model}` in it is the model. query: parameters, as they are sent. credential: with one, the client's
    own are left off. client_credentials: what becomes of the client's without one; "": they pass, unless it takes
    the place of a model that has one. translate: with it, what comes in another dialect is translated; without, it is
    refused.
    """

    dialect: Literal["", "openai", "openai-compatible", "anthropic", "gemini", "ollama"] = ""
    host: str = ""
    path_prefix: str = ""
    query: tuple[tuple[str, str], ...] = ()
    credential: Credential | None = None
    client_credentials: Literal["", "drop", "pass"] = ""
    translate: Translate | None = None
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Fallback:
    """What other models are asked, one after the other, when one fails before anything has been answered.

    models: named as a client would. on: conditions by word, and statuses as digits (core.fallbacks). first_token_ns:
    how long one may take to its first token, where another one is left; 0: as long as its upstream's timeouts say.
    """

    models: tuple[str, ...]
    on: tuple[str, ...]
    first_token_ns: int = 0
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Model:
    """One line of `models`: requests for a model that one of the patterns takes (core.globs) go to this upstream.

    sent: the name that the provider is asked for; "": the one that the client said. filters: names of token budgets
    that hold besides the route's.
    """

    patterns: tuple[str, ...]
    upstream: str
    sent: str = ""
    filters: tuple[str, ...] = ()
    fallback: Fallback | None = None
    provider: Provider | None = None  # what it says of it holds before what the upstream says (core.providers)
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Models:
    """Which upstream a route's requests are for, by the model that they name: the first line that fits (core.models).

    unknown: what becomes of a model that no line names; "forward": it goes to the route's own upstream or split.
    is_listed: whether the gateway itself answers who asks which models there are.
    """

    lines: tuple[Model, ...]
    unknown: Literal["reject", "forward"] = "reject"
    is_listed: bool = False
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """One client's key, as it is kept: SHA-256 of it in hex; several while it is exchanged for another."""

    name: str
    digests: tuple[str, ...]
    claims: tuple[tuple[str, str], ...] = ()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Clients are known by keys that were given to them.

    read_from: where a key is looked for, in order: `header:NAME`, `bearer` (of Authorization) or `query:NAME`.
    is_forwarded: the upstream gets it too. passed_on: fields by which the upstream is told who asks, and what each
    says: `subject`, `method` or `claim:NAME`.
    """

    name: str
    keys: tuple[IssuedKey, ...]
    read_from: tuple[str, ...] = ("header:x-api-key",)
    is_forwarded: bool = False
    passed_on: tuple[tuple[str, str], ...] = ()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class KeysFrom:
    """One worker fetches public keys for the fleet, from this upstream."""

    upstream: str
    path: str
    every_ns: int = 300 * SECOND
    timeout_ns: int = 5 * SECOND


@dataclass(frozen=True, slots=True)
class Jwt:
    """Clients are known by tokens that somebody else has signed (JWS, RFC 7515 and 7519).

    issuer, audiences: what `iss` is, and one of which is in `aud`. algorithms: by which they may be signed. keys_json:
    a JWK set; "": it is fetched (keys_from). claims: those that the plan uses. leeway_ns: by which clocks may differ.
    """

    name: str
    issuer: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...]
    keys_json: str = ""
    keys_from: KeysFrom | None = None
    leeway_ns: int = 30 * SECOND
    subject_claim: str = "sub"
    claims: tuple[str, ...] = ()
    read_from: tuple[str, ...] = ("bearer",)
    is_forwarded: bool = False
    passed_on: tuple[tuple[str, str], ...] = ()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Mtls:
    """Clients are known by the certificate that their connection has shown (ClientCertificates).

    part: what of it says whom it is of, and claims: those that the plan uses (core.secured.Shown.part).
    """

    name: str
    part: Literal["name", "subject", "uri", "dns", "email", "ip", "fingerprint"] = "name"
    claims: tuple[str, ...] = ()
    passed_on: tuple[tuple[str, str], ...] = ()
    span: Span = NOWHERE

    @property
    def read_from(self) -> tuple[str, ...]:
        """No place of a request: what is shown is no part of it, and cannot be sent on either."""
        return ()

    @property
    def is_forwarded(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class User:
    """One user and the hash of his password (core.passwords)."""

    name: str
    password_hash: str
    claims: tuple[tuple[str, str], ...] = ()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Basic:
    """Clients are known by name and password (RFC 7617)."""

    name: str
    users: tuple[User, ...]
    read_from: tuple[str, ...] = ("basic",)
    is_forwarded: bool = False
    passed_on: tuple[tuple[str, str], ...] = ()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class AddressRule:
    """Clients of these networks may come in, or may not."""

    is_allowed: bool
    networks: tuple[str, ...]
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class IpAccess:
    """From where clients may come: the first rule that has the address decides."""

    name: str
    rules: tuple[AddressRule, ...]
    otherwise: Literal["allow", "deny"] = "deny"
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class ConnectionLimit:
    """How many connections a listener has in the whole fleet; 0: no limit. per_client: of each client's network."""

    total: int = 0
    per_client: int = 0
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    exempt: tuple[str, ...] = ()
    when_full: Literal["admit", "reject"] = "admit"
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Retry:
    """When a request is tried again (core.retry). `attempts`: all tries together.

    on: conditions by word, and statuses as digits. per_try_ns: from the choice to the answer's first octet;
    0: as long as the upstream's timeouts say. body_bytes: of a request's body that is kept for another try.
    hedge_ns: when a try has brought no head of an answer after so long, a second one begins beside it; 0: never.
    """

    attempts: int
    on: tuple[str, ...]
    per_try_ns: int = 0
    backoff_ns: int = 25_000_000
    backoff_max_ns: int = 250_000_000
    hedge_ns: int = 0
    body_bytes: int = 64 * 1024
    is_unsafe_too: bool = False  # also methods that are not idempotent
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Share:
    """One upstream of a split; weight 0: nothing goes there now."""

    upstream: str
    weight: int
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Split:
    """Which part of a route's requests goes to which upstream. key: as in RateLimit; empty: by chance."""

    shares: tuple[Share, ...]
    key: tuple[str, ...] = ()
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Shadow:
    """A copy of some requests goes to this upstream, and its answer is nobody's. share: thousandths of the requests."""

    upstream: str
    share: int = 1000
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Route:
    """One route; exactly one of `respond`, `upstream` and `split` is set, with `models` at most one of the last two.

    Several matches are alternatives.

    `series` is its stable number in the metric tables (given by control). `listeners`
    empty: served on all.
    """

    name: str
    matches: tuple[Match, ...]
    order: int
    priority: int = 0
    series: int = 0
    listeners: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()  # names of limits and others, in the order in which they are told of
    respond: Respond | None = None
    upstream: str | None = None
    split: Split | None = None
    shadows: tuple[Shadow, ...] = ()
    retry: Retry | None = None
    inference: Inference | None = None
    models: Models | None = None
    timeout_ns: int = 0  # of the whole exchange; 0: none
    max_body_bytes: int = -1  # -1: the listener's
    span: Span = NOWHERE

    @property
    def upstream_names(self) -> tuple[str, ...]:
        """The upstreams that its requests may be for."""
        own: tuple[str, ...] = () if self.upstream is None else (self.upstream,)
        if self.split is not None:
            own = tuple(share.upstream for share in self.split.shares)
        if self.models is None:
            return own
        return tuple(dict.fromkeys((*own, *(line.upstream for line in self.models.lines))))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of an upstream; `host` is an IP address, a DNS name, or `unix:/path` (port 0).

    priority: 0 is used first. locality: where it stands, "" anywhere. place: its number in shared memory
    (given by control, -1 without).
    """

    host: str
    port: int
    weight: int = 1
    priority: int = 0
    locality: str = ""
    place: int = -1
    span: Span = NOWHERE

    @property
    def name(self) -> str:
        """As operators write it: "10.0.0.7:80", "[::1]:80", "unix:/run/app.sock"."""
        if self.host.startswith("unix:"):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Balance:
    """How an endpoint is chosen (sentinel.core.balance has the rules).

    key: parts of the request that are hashed (maglev, ring, ip-hash). max_load: thousandths of the average in flight
    that an endpoint may have before keys go past it; 0: no bound. half_life_ns: of the memory of latencies (peak-ewma).
    measure: what these are, the time to the head of an answer, or to the first token of a stream.
    """

    kind: Literal[
        "round-robin", "random", "least-request", "power-of-two", "peak-ewma", "least-tokens", "least-load",
        "prefix-affinity", "ip-hash", "maglev", "ring",
    ] = "round-robin"  # fmt: skip
    key: tuple[str, ...] = ()
    max_load: int = 0
    half_life_ns: int = 10 * SECOND
    measure: Literal["answer", "first-token"] = "answer"
    ipv4_prefix: int = 32
    ipv6_prefix: int = 64
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Sticky:
    """A cookie that brings a client back to its endpoint. The first secret signs, all of them verify."""

    cookie: str
    secrets: tuple[str, ...]
    max_age_ns: int = 0  # 0: until the browser closes
    path: str = "/"
    same_site: Literal["lax", "strict", "none"] = "lax"
    is_secure: bool = False
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What one worker asks each endpoint again and again; `statuses` are inclusive ranges of good answers.

    inference: `path` is that of the list of models; with a completion_path one token is asked for, of `completion` or
    of the first that is listed. warm_up: so many good answers in a row, each within warm_up_ns, before it is used.
    """

    kind: Literal["http", "tcp", "inference"] = "tcp"
    path: str = "/"
    method: str = "GET"
    host: str = ""  # "": the endpoint's name
    statuses: tuple[tuple[int, int], ...] = ((200, 399),)
    port: int = 0  # 0: the endpoint's
    interval_ns: int = 5 * SECOND
    timeout_ns: int = 2 * SECOND
    healthy_after: int = 2
    unhealthy_after: int = 3
    completion: str = ""
    completion_path: str = ""
    bearer: str = ""
    warm_up: int = 0
    warm_up_ns: int = 0
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Where one worker reads what an endpoint has before it (sentinel.inference.gauges); names of metrics."""

    path: str = "/metrics"
    port: int = 0  # 0: the endpoint's
    every_ns: int = SECOND
    timeout_ns: int = SECOND
    stale_ns: int = 5 * SECOND
    waiting: tuple[str, ...] = ()
    cache: tuple[str, ...] = ()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class OutlierEjection:
    """Who fails real requests is left out for a while; shares and factors in thousandths, 0: this is not looked at."""

    failures: int = 5  # in a row
    interval_ns: int = 10 * SECOND
    requests_min: int = 50  # of an endpoint within an interval, for the two below
    deviations: int = 1900  # below the mean success rate, in standard deviations
    latency_factor: int = 0  # of the median of the endpoints' mean latencies
    eject_for_ns: int = 30 * SECOND  # times how often it was ejected
    eject_for_max_ns: int = 300 * SECOND
    max_ejected: int = 500
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Breaker:
    """When to stop asking; shares in thousandths. 0 of `failures`, `error_share`, `slow_ns`: this is not looked at."""

    failures: int = 5  # in a row
    error_share: int = 0
    slow_ns: int = 0
    slow_share: int = 500
    calls_min: int = 20  # within the window, for the shares
    window_ns: int = 10 * SECOND
    open_ns: int = 10 * SECOND
    open_max_ns: int = 10 * SECOND  # doubled up to this while probes fail
    probes: int = 1
    probe_timeout_ns: int = 30 * SECOND
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """How endpoints are spoken to over TLS, and whom they must prove to be; texts are PEM.

    server_name: "": the endpoint's host. ca_pem: whom we trust; "": whom the system trusts. pins: SHA-256 of public
    keys in base64, one of which the endpoint's certificate must have; none: any. is_verified: False: whoever answers
    is believed, but for pins.
    """

    server_name: str = ""
    ca_pem: str = ""
    certificate_pem: str = ""  # by which we say who we are; "": we do not
    key_pem: str = ""
    min_version: Literal["1.2", "1.3"] = "1.2"
    pins: tuple[str, ...] = ()
    is_verified: bool = True
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Upstream:
    name: str
    endpoints: tuple[Endpoint, ...]
    balance: Balance = Balance()
    place: int = -1  # its number in shared memory
    sticky: Sticky | None = None
    health: HealthCheck | None = None
    outlier: OutlierEjection | None = None
    load_report: LoadReport | None = None
    provider: Provider | None = None
    endpoint_breaker: Breaker | None = None  # one for each endpoint
    upstream_breaker: Breaker | None = None  # one for all of them
    retry_share: int = 200  # thousandths of a retry that each attempt earns the fleet
    retry_min: int = 10  # retries a second besides
    max_requests: int = 0  # in flight, over the fleet; 0: no limit
    max_endpoint_requests: int = 0  # the same of each endpoint
    max_pending: int = 0  # requests of one worker that may wait for the two above
    pending_timeout_ns: int = SECOND
    slow_start_ns: int = 0
    panic_share: int = 0  # thousandths: with fewer usable endpoints than that, all are used; 0: never
    locality: str = ""  # endpoints of the same are preferred
    tls: UpstreamTls | None = None
    connect_timeout_ns: int = 5 * SECOND
    tls_handshake_timeout_ns: int = 5 * SECOND  # once it is connected
    first_byte_timeout_ns: int = 60 * SECOND
    idle_timeout_ns: int = 60 * SECOND  # between two reads of an answer's body
    keepalive_timeout_ns: int = 60 * SECOND  # of an unused pooled connection
    keepalive_connections: int = 128  # unused ones kept per worker
    resolve_interval_ns: int = 30 * SECOND
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate with its chain, and its key, as PEM text: a generation carries what it serves.

    names: in whom it is made out, lower case; "*.example.com" is any name one label below. key_kind: a name has one
    certificate for each. expires_s: when the first of the chain does, in seconds since the epoch; 0: nobody looked.
    """

    chain_pem: str
    key_pem: str
    names: tuple[str, ...] = ()
    key_kind: str = ""
    expires_s: int = 0
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class ClientCertificates:
    """Who may ask for these names: whoever one of `ca_pem` vouches for, and `crl_pem` does not take back.

    mode: "optional": who shows no certificate may ask too. sans: patterns (core.globs) of which one has to be a
    name of the certificate; none: any. names: hosts as in Match; none: whatever no other terms are for.
    """

    mode: Literal["require", "optional"]
    ca_pem: str
    crl_pem: str = ""
    sans: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class WatchedFile:
    """A file of certificates that control looks after, and the SHA-256 (hex) of what was in it."""

    path: str
    digest: str


@dataclass(frozen=True, slots=True)
class Tls:
    """What a listener serves over TLS. The first certificate is for whoever names nobody, or somebody unknown.

    profile: which versions and ciphers there are (workers.tls); min_version: "": the profile's. client_certificates:
    terms on which names are served; on none that have not any.
    """

    certificates: tuple[Certificate, ...]
    unknown_name: Literal["default", "refuse"] = "default"
    profile: Literal["modern", "intermediate"] = "intermediate"
    min_version: Literal["", "1.2", "1.3"] = ""
    client_certificates: tuple[ClientCertificates, ...] = ()
    watched: tuple[WatchedFile, ...] = ()
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class PathRules:
    """How ambiguous paths are treated, before anything is matched (core.path).

    encoded_slash: `%2F` and `%5C`; reject or keep as they are (they never become separators).
    double_slash: reject, merge to one, or keep. dot_segments: reject or resolve.
    parameters: `;` in a segment; reject or keep as ordinary characters.
    """

    encoded_slash: Literal["reject", "keep"] = "reject"
    double_slash: Literal["reject", "merge", "keep"] = "merge"
    dot_segments: Literal["reject", "resolve"] = "resolve"
    parameters: Literal["reject", "keep"] = "keep"


@dataclass(frozen=True, slots=True)
class Listener:
    name: str
    host: str
    port: int
    tls: Tls | None = None
    max_header_bytes: int = 32 * 1024
    max_headers: int = 100
    max_uri_bytes: int = 8 * 1024
    max_body_bytes: int = 0  # 0: no limit
    header_timeout_ns: int = 10 * SECOND
    body_timeout_ns: int = 30 * SECOND  # between two reads of a request's body
    write_timeout_ns: int = 30 * SECOND  # a client that does not read
    idle_timeout_ns: int = 75 * SECOND  # of a kept-alive connection between requests
    max_connections: int = 10_000  # per worker
    connection_limit: ConnectionLimit | None = None  # over the fleet
    max_open_requests: int = 0  # in flight per worker; 0: no limit
    max_requests: int = 0  # per connection; 0: no limit
    trusted_proxies: tuple[str, ...] = ()  # networks whose X-Forwarded-* and PROXY headers count
    trusted_hops: int = 0  # how many X-Forwarded-For entries from the right may be believed; 0: all trusted ones
    proxy_protocol: Literal["off", "v1", "v2", "any"] = "off"
    path_rules: PathRules = PathRules()
    transport_security: str = ""  # what answers have as Strict-Transport-Security; "": nothing
    span: Span = NOWHERE

    @property
    def address(self) -> str:
        """Where it listens, as operators write it: "127.0.0.1:80", "[::1]:80"."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Probation:
    """How a new generation is watched after it was published."""

    duration_ns: int = 10 * SECOND
    failure_share_max: int = 500  # thousandths of requests that upstreams, or faults of ours, made fail
    requests_min: int = 20  # fewer requests than this prove nothing
    ready_timeout_ns: int = 30 * SECOND


@dataclass(frozen=True, slots=True)
class ReloadGate:
    """How many of the newest recorded requests a reload may treat differently; shares in thousandths."""

    changed_share_max: int
    recent: int = 1000  # so many requests are compared
    requests_min: int = 20  # fewer than this prove nothing
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Keep:
    """Which records are kept in a file: those for which all of it holds. status: "404" or "5xx"; "": any.

    share: of them, in thousandths, chosen by their request id.
    """

    status: str = ""
    route: str = ""
    reason: str = ""
    share: int = 1000


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of decisions: how much of it there is, what is not in it, and what is kept for longer."""

    records: int = 4096  # of each process in shared memory; 0: none
    redacted: tuple[str, ...] = ()  # names of core.record.REDACTABLE
    file: str = ""  # where records are kept as JSON lines; "": nowhere
    keep: tuple[Keep, ...] = ()  # alternatives; none: all records
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class System:
    workers: int = 2
    run_dir: str = "/run/sentinel"
    state_dir: str = ""
    ledger: str = ""  # a database instead of a file in the state_dir; secret: it has a password
    drain_deadline_ns: int = 30 * SECOND
    heartbeat_timeout_ns: int = 10 * SECOND  # a worker silent for longer is killed
    max_worker_connections: int = 20_000
    max_worker_requests: int = 0  # in flight; 0: no limit
    limit_keys: int = 65_536  # room for so many keys of rate limits
    lease_keys: int = 8192  # and for so many that hold something at a time
    budget_keys: int = 4096  # and for so many windows of budgets
    ledger_flush_ns: int = SECOND  # a power cut takes no more than this of what was spent
    access_log: str = "-"  # "-": standard output; "off"; else a path
    access_log_buffer_bytes: int = 1 << 20  # more than this waiting: lines are dropped, and counted
    cpu_affinity: bool = False
    vocabularies: tuple[str, ...] = ()  # by which workers count tokens
    journal: Journal = Journal()
    probation: Probation = Probation()
    reload_gate: ReloadGate | None = None
    restarts_max: int = 5  # crashes of one lane within the window before the crash-loop rule
    restarts_window_ns: int = 10 * SECOND
    run_dir_span: Span = NOWHERE
    state_dir_span: Span = NOWHERE
    ledger_span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Admin:
    address: str = "127.0.0.1:9901"
    token: str = ""  # required beyond loopback
    address_span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Plan:
    version: int
    system: System
    admin: Admin
    listeners: tuple[Listener, ...]
    routes: tuple[Route, ...]
    upstreams: tuple[Upstream, ...]
    sources: tuple[str, ...] = field(default=())  # the files it was made from
    rate_limits: tuple[RateLimit, ...] = field(default=())
    concurrency_limits: tuple[ConcurrencyLimit, ...] = ()
    token_budgets: tuple[TokenBudget, ...] = ()
    token_limits: tuple[TokenLimit, ...] = ()
    guardrails: tuple[Guardrail, ...] = ()
    api_keys: tuple[ApiKey, ...] = ()
    jwts: tuple[Jwt, ...] = ()
    mtls: tuple[Mtls, ...] = ()
    basics: tuple[Basic, ...] = ()
    address_lists: tuple[IpAccess, ...] = ()
    prices: PriceBook | None = None
    secrets: tuple[str, ...] = field(default=())  # texts that came from (env) and (file): never shown
