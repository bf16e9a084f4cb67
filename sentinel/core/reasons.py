"""The closed vocabulary of reasons: every conclusion the gateway can come to.

A reason is a stable word. The same word stands in the `x-sentinel-reason`
header, the access log, the metrics and the trace, and has a page in the
reference with a remedy. Its number is the encoding in shared memory: numbers
are never reused, and a new reason takes the next one.

Culprits: `client` sent what we refuse, `upstream` broke or was silent,
`operator` wrote it so, `gateway` had to protect itself, `none` is the good way.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, Literal

Culprit = Literal["client", "upstream", "operator", "gateway", "none"]

REASONS_MAX: Final = 192
"""Shared memory holds this many reason counters a route (see shm.layout)."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a reason stands for; `status` is the answer it leads to, 0 where none follows."""

    number: int
    word: str
    status: int
    culprit: Culprit
    text: str
    remedy: str


@unique
class Reason(Enum):
    """Every reason there is."""

    # The good way.
    PROXIED = Meaning(0, "proxied", 0, "none", "the upstream's answer was relayed", "nothing to do")
    RESPONDED = Meaning(1, "responded", 0, "operator", "the route answers by itself (`respond`)", "change the route's `respond` directive if this is not wanted")
    UPGRADED = Meaning(2, "upgraded", 101, "none", "the connection became a tunnel (WebSocket or another Upgrade)", "nothing to do")
    ROUTE_MATCHED = Meaning(3, "route-matched", 0, "none", "all conditions of this route hold, and no better route's do", "nothing to do")
    ENDPOINT_CHOSEN = Meaning(4, "endpoint-chosen", 0, "none", "the balancer chose this endpoint", "nothing to do")
    CONDITION_FAILED = Meaning(5, "condition-failed", 0, "none", "a better ranked route was passed over because this condition does not hold", "compare the request with the condition at the place named")

    # What the client did.
    BAD_REQUEST_LINE = Meaning(10, "bad-request-line", 400, "client", "the request line is not HTTP/1.1 grammar", "send `METHOD target HTTP/1.1` with single spaces and CRLF")
    BAD_HEADER = Meaning(11, "bad-header", 400, "client", "a header field is malformed: control bytes, folding, a space before the colon, or an empty name", "send fields as `name: value` with CRLF line ends")
    BAD_FRAMING = Meaning(12, "bad-framing", 400, "client", "the length of the body is ambiguous: Content-Length and Transfer-Encoding together, repeated or malformed lengths, or an unknown coding", "send exactly one valid Content-Length, or `Transfer-Encoding: chunked`")
    BAD_CHUNK = Meaning(13, "bad-chunk", 400, "client", "a chunk of the body is malformed", "send chunk sizes as plain hexadecimal with CRLF line ends")
    BAD_HOST = Meaning(14, "bad-host", 400, "client", "Host is missing, repeated, malformed, or contradicts the request target", "send exactly one Host field that agrees with the target")
    BAD_PATH = Meaning(15, "bad-path", 400, "client", "the path is ambiguous: encoded slashes or NUL, bad escapes, or it climbs above the root", "send a normalised path, or relax the listener's `paths` rules")
    URI_TOO_LONG = Meaning(16, "uri-too-long", 414, "client", "the request target is longer than the listener allows", "shorten it, or raise `max-uri-size`")
    HEADER_TOO_LARGE = Meaning(17, "header-too-large", 431, "client", "the head of the request is larger than the listener allows", "send less, or raise `max-header-size` or `max-headers`")
    BODY_TOO_LARGE = Meaning(18, "body-too-large", 413, "client", "the body is larger than allowed", "send less, or raise `max-body-size`")
    HEADER_TIMEOUT = Meaning(19, "header-timeout", 408, "client", "the head of the request did not arrive in time", "send faster, or raise `header-timeout`")
    BODY_TIMEOUT = Meaning(20, "body-timeout", 408, "client", "the body of the request stalled", "send faster, or raise `body-timeout`")
    BAD_VERSION = Meaning(21, "bad-version", 505, "client", "the HTTP version is not 1.0 or 1.1", "speak HTTP/1.1")
    BAD_EXPECTATION = Meaning(22, "bad-expectation", 417, "client", "the Expect field asks for something other than 100-continue", "drop the Expect field")
    METHOD_REFUSED = Meaning(23, "method-refused", 501, "client", "the method is not served by a gateway (CONNECT, or TRACE)", "use another method")
    CLIENT_GONE = Meaning(24, "client-gone", 499, "client", "the client left before the answer was complete", "nothing to do, unless clients time out too early")
    BAD_PROXY_HEADER = Meaning(25, "bad-proxy-header", 400, "client", "the PROXY protocol header is missing, malformed, or from an untrusted peer", "send it only from `trusted-proxies`, or turn `proxy-protocol` off")
    PLAIN_HTTP_ON_TLS = Meaning(26, "plain-http-on-tls", 400, "client", "plain HTTP was sent to a TLS port", "use https://")
    TOKENS_ASKED = Meaning(29, "tokens-asked", 0, "none", "the request asks how many tokens another would take, and takes none itself: no budget is charged", "nothing to do; a `rate-limit` holds for it")
    DIALECT_MISMATCH = Meaning(28, "dialect-mismatch", 400, "client", "the request is in another dialect than the provider's that it would go to", "ask for a model of a provider that speaks this dialect, or use the client of the provider's own")
    SLOW_READER = Meaning(27, "slow-reader", 499, "client", "the client did not read its answer in time", "read faster, or raise `write-timeout`")

    # What the upstream did.
    CONNECT_FAILED = Meaning(40, "connect-failed", 502, "upstream", "no connection to the endpoint could be made", "see that the endpoint listens and is reachable")
    CONNECT_TIMEOUT = Meaning(41, "connect-timeout", 504, "upstream", "connecting to the endpoint took too long", "see that the endpoint is reachable, or raise `connect` in its `timeouts`")
    FIRST_BYTE_TIMEOUT = Meaning(42, "first-byte-timeout", 504, "upstream", "the endpoint accepted the request and did not begin to answer in time", "look at the endpoint, or raise `first-byte` in its `timeouts`")
    UPSTREAM_IDLE_TIMEOUT = Meaning(43, "upstream-idle-timeout", 504, "upstream", "the endpoint's answer stalled", "look at the endpoint, or raise `idle` in its `timeouts`")
    TOTAL_TIMEOUT = Meaning(44, "total-timeout", 504, "upstream", "the exchange took longer than the route's `timeout`", "look at the endpoint, or raise `timeout`")
    UPSTREAM_CLOSED = Meaning(45, "upstream-closed", 502, "upstream", "the endpoint closed the connection before it answered", "look at the endpoint's log")
    UPSTREAM_ABORTED = Meaning(46, "upstream-aborted", 502, "upstream", "the endpoint broke off in the middle of its answer", "look at the endpoint's log")
    UPSTREAM_MALFORMED = Meaning(47, "upstream-malformed", 502, "upstream", "the endpoint's answer is not valid HTTP/1.1, or its length is ambiguous", "mend the endpoint")
    TLS_UNTRUSTED = Meaning(55, "tls-untrusted", 502, "upstream", "nobody whom we trust vouches for the endpoint's certificate", "see who issued it (`why` tells), and name that authority's certificate as `ca` of the upstream's `tls`; a server must also send the certificates between its own and that one")
    TLS_WRONG_NAME = Meaning(56, "tls-wrong-name", 502, "upstream", "the endpoint's certificate is made out in another name", "write the name that the certificate has as `server-name` of the upstream's `tls`, or have the endpoint show the right one")
    TLS_EXPIRED = Meaning(57, "tls-expired", 502, "upstream", "the endpoint's certificate has expired, or is not valid yet", "have it renewed; if it is valid, look at the clock of this machine")
    TLS_WRONG_PIN = Meaning(58, "tls-wrong-pin", 502, "upstream", "the public key of the endpoint's certificate is none of those that `pin` names", "if the endpoint has a new key, and you know why, add it to `pin`; `why` tells what it is")
    TLS_NOT_SPOKEN = Meaning(59, "tls-not-spoken", 502, "upstream", "the endpoint does not speak TLS on this port", "name its TLS port, or leave out `tls` (and `https://`) if it speaks plain HTTP")
    TLS_REFUSED = Meaning(38, "tls-refused", 502, "upstream", "the TLS handshake failed: the endpoint refused it or closed the connection", "`why` tells what it said: it may want a client certificate (`certificate`, `key`), or a version below `min-version`")
    TLS_TIMEOUT = Meaning(39, "tls-timeout", 504, "upstream", "the TLS handshake took too long", "see that the endpoint speaks TLS on this port, or raise `tls-handshake` in its `timeouts`")
    NAME_UNRESOLVED = Meaning(48, "name-unresolved", 503, "upstream", "the endpoint's name has never been resolved", "see that the name exists in DNS")
    NO_ENDPOINT = Meaning(49, "no-endpoint", 503, "upstream", "no endpoint of the upstream may be tried", "see that its names resolve and its endpoints are reachable")

    BREAKER_OPEN = Meaning(50, "breaker-open", 503, "upstream", "a circuit breaker is open: the endpoints failed too often, and are left alone for a while", "look at the endpoints, or at the upstream's `circuit-breaker`; `sentinelctl breakers` shows until when")
    NONE_USABLE = Meaning(51, "none-usable", 503, "upstream", "no endpoint of the upstream may be used: they are unhealthy, ejected, or taken out", "look at the endpoints with `sentinelctl endpoints`")
    UPSTREAM_FULL = Meaning(52, "upstream-full", 503, "upstream", "the upstream, or each of its endpoints, has as many requests in flight as its `limits` allow", "raise `max-requests` or `max-endpoint-requests` of the upstream's `limits`, let more wait with `max-pending`, or add endpoints")

    TRY_TIMEOUT = Meaning(53, "try-timeout", 504, "upstream", "the endpoint did not begin to answer within the route's `per-try-timeout`, and no other try was left", "look at the endpoint, raise `per-try-timeout`, or allow more `attempts`")

    FIRST_TOKEN_TIMEOUT = Meaning(54, "first-token-timeout", 504, "upstream", "the model did not bring its first token within `first-token-timeout`, and no other model could be asked", "look at the upstream, raise `first-token-timeout`, or name another model in `fallback`")

    # What the operator, or the gateway itself, decided.
    NO_ROUTE = Meaning(60, "no-route", 404, "operator", "no route matches the request", "add a route, or compare with `sentinelctl why`")
    OVERLOADED = Meaning(61, "overloaded", 503, "gateway", "a limit on connections, on requests in flight or on open files is reached", "raise `max-connections` or `max-open-requests` (listener), `max-worker-connections` or `max-worker-requests` (system) or the open files that the service may have (LimitNOFILE), or add workers")
    DRAIN_DEADLINE = Meaning(62, "drain-deadline", 503, "gateway", "the worker's drain deadline came before the exchange ended", "raise `drain-deadline`")
    INTERNAL = Meaning(63, "internal", 500, "gateway", "a fault in the gateway; it was counted and logged", "please report it with the log line")

    # What policy decided.
    WITHIN_LIMIT = Meaning(70, "within-limit", 0, "none", "a rate limit was charged and admits the request", "nothing to do")
    RATE_LIMITED = Meaning(71, "rate-limited", 429, "operator", "a rate limit of the route is used up", "wait as long as `Retry-After` says, or raise the `rate` or `burst` of the limit that is named")
    WOULD_BE_LIMITED = Meaning(72, "would-be-limited", 0, "none", "a rate limit that only observes is used up", "nothing to do; with `on-limit \"reject\"` this request would be refused")
    LIMITS_FULL = Meaning(73, "limits-full", 503, "gateway", "shared memory has no room for another rate limit key, and the limit says `when-full \"reject\"`", "raise `limit-keys`, or say `when-full \"admit\"`")
    DELAYED = Meaning(74, "delayed", 0, "none", "a rate limit is used up, and the request waited for its turn", "nothing to do; with `on-limit \"reject\"` it would be refused")
    WITHIN_CONCURRENCY = Meaning(75, "within-concurrency", 0, "none", "a concurrency limit has room for the request", "nothing to do")
    CONCURRENCY_LIMITED = Meaning(76, "concurrency-limited", 429, "operator", "as many requests of this key are under way as a concurrency limit of the route allows", "wait for one of them to end, or raise `max` of the limit that is named")
    CONCURRENCY_EXCEEDED = Meaning(77, "concurrency-exceeded", 0, "none", "a concurrency limit that only observes has no room for the request", "nothing to do; with `on-limit \"reject\"` this request would be refused")
    LEASES_FULL = Meaning(78, "leases-full", 503, "gateway", "shared memory has no room for another key that holds something, and the limit says `when-full \"reject\"`", "raise `lease-keys`, or say `when-full \"admit\"`")
    CONNECTION_LIMITED = Meaning(79, "connection-limited", 429, "operator", "the listener, or this client, has as many connections as `connection-limit` allows", "close some, or raise `total` or `per-client`")

    # How an endpoint was chosen.
    ENDPOINT_PASSED_OVER = Meaning(80, "endpoint-passed-over", 0, "none", "this endpoint may not be used now", "see `sentinelctl endpoints`")
    OVER_TLS = Meaning(121, "over-tls", 0, "none", "the endpoint is spoken to over TLS", "nothing to do")
    TLS_SECURED = Meaning(122, "tls-secured", 0, "none", "the connection to the endpoint is encrypted; how, and whose certificate it showed", "nothing to do")
    PANIC = Meaning(81, "panic", 0, "none", "fewer endpoints are usable than `panic-threshold` says, so health is not looked at", "look at the endpoints, and at what their checks ask")
    PRIORITY_LOWERED = Meaning(82, "priority-lowered", 0, "none", "the endpoints of the first priority do not suffice, so this request goes to the next", "nothing to do; see `sentinelctl endpoints`")
    STICKY_FOLLOWED = Meaning(83, "sticky-followed", 0, "none", "the client's cookie names this endpoint", "nothing to do")
    SPLIT_CHOSEN = Meaning(88, "split-chosen", 0, "none", "the route splits its requests, and this one is for this upstream", "nothing to do; with a `key` it is always the same one")
    TRIED_ANOTHER = Meaning(85, "tried-another", 0, "none", "an endpoint failed before anything was sent to it, so another one was tried", "look at the endpoint that failed")
    RETRIED = Meaning(86, "retried", 0, "none", "a try failed, and the route's `retry` sends the request again", "look at the endpoint that failed")
    RETRY_DENIED = Meaning(87, "retry-denied", 0, "none", "a try failed, and it is not tried again although the route's `retry` would: the fleet's budget of retries is used up, or the request cannot be sent twice", "look at the endpoint that failed; see `retry-budget`, and `max-body-size` and `unsafe-methods` of `retry`")
    STICKY_IGNORED = Meaning(84, "sticky-ignored", 0, "none", "the client's cookie names no endpoint that may be used, so another one is chosen and the cookie renewed", "nothing to do")
    TOKENS_COMPARED = Meaning(89, "tokens-compared", 0, "none", "the balance compared the tokens that endpoints have under way, and this one has the fewest for its weight", "nothing to do; see `sentinelctl endpoints`")
    PREFIX_FOLLOWED = Meaning(97, "prefix-followed", 0, "none", "prompts that begin like this one go to this endpoint, and it has room for one more", "nothing to do")
    PREFIX_PASSED_BY = Meaning(96, "prefix-passed-by", 0, "none", "prompts that begin like this one go to this endpoint, but it has more than its part of the tokens under way, so the request goes where there are fewest", "nothing to do; with a higher `max-load` more requests would wait for the endpoint that knows their beginning")
    REPORTS_COMPARED = Meaning(98, "reports-compared", 0, "none", "the balance compared what endpoints report of their queues and caches, and this one has the least load for its weight", "nothing to do; see `sentinelctl endpoints`")
    MODEL_MISSING = Meaning(99, "model-missing", 404, "operator", "none of the upstream's endpoints serves the model that the request asks for, by the lists that they told", "ask for a model that `sentinelctl endpoints` tells, or have it served")

    # Who asks.
    AUTHENTICATED = Meaning(6, "authenticated", 0, "none", "the request shows who sent it, and that is true", "nothing to do")
    CREDENTIALS_MISSING = Meaning(7, "credentials-missing", 401, "operator", "the route is for known clients only, and the request does not show who sent it", "send a key, as `WWW-Authenticate` says and in the place that `read-from` of the filter names; a route for everybody names no such filter")
    KEY_UNKNOWN = Meaning(8, "key-unknown", 401, "operator", "the request shows a key that is none of those that were given out, or two of them", "send one key, whole; `sentinelctl hash-key` shows which line it belongs to")

    TOKEN_MALFORMED = Meaning(130, "token-malformed", 401, "operator", "the request shows something that is no signed token, or one that says too little or too much", "send a JWT that is signed (JWS), and has `exp` and who it is of; what is wrong is in the step of `sentinelctl why`")
    TOKEN_EXPIRED = Meaning(131, "token-expired", 401, "operator", "the token was valid until a moment that has passed", "get a new token; if it is new, compare the clocks, and see `leeway`")
    TOKEN_EARLY = Meaning(132, "token-early", 401, "operator", "the token is valid only from a moment that is still to come", "wait, or compare the clocks; see `leeway`")
    TOKEN_WRONG_ISSUER = Meaning(133, "token-wrong-issuer", 401, "operator", "the token was issued by somebody else than `issuer` names", "get a token from that issuer; a trailing slash counts")
    TOKEN_WRONG_AUDIENCE = Meaning(134, "token-wrong-audience", 401, "operator", "the token is for others than `audience` names", "ask the issuer for a token for this audience")
    TOKEN_KEY_UNKNOWN = Meaning(135, "token-key-unknown", 401, "operator", "the token is signed with a key that is not among those of the issuer", "get a new token; if the issuer has new keys, they are fetched within seconds")
    TOKEN_FORGED = Meaning(136, "token-forged", 401, "operator", "the token's signature is not that of its key", "get a new token, and send it whole")
    TOKEN_ALGORITHM_REFUSED = Meaning(137, "token-algorithm-refused", 401, "operator", "the token is signed by an algorithm that `algorithms` does not name", "have the issuer sign by one of them; `none` and shared secrets are never accepted")
    PASSWORD_WRONG = Meaning(123, "password-wrong", 401, "operator", "the request shows a name and a password that do not belong together, or no such name is known", "send both as they were given out; whether the name is known is told to nobody")
    PASSWORDS_WAITING = Meaning(139, "passwords-waiting", 503, "gateway", "more passwords wait to be verified than one worker can do in time", "try again; many wrong ones at once are somebody who guesses: limit their addresses with `ip-access`, or the connections of one client")
    ADDRESS_ALLOWED = Meaning(69, "address-allowed", 0, "none", "clients may come from this address", "nothing to do")
    ADDRESS_DENIED = Meaning(9, "address-denied", 403, "operator", "clients may not come from this address", "come from an address that the `ip-access` that is named allows, or add this one; behind a proxy see `trusted-proxies`")
    KEYS_UNAVAILABLE = Meaning(138, "keys-unavailable", 503, "gateway", "the keys that verify tokens were never fetched, so nobody can be let in", "see on standard error and in `sentinel_jwks_failures_total` why, and whether the upstream of `keys` can be reached")

    # Which model, and whose.
    MODEL_ROUTED = Meaning(64, "model-routed", 0, "none", "a line of the route's `models` takes the model that the request names, and no line before it does", "nothing to do")
    MODEL_UNKNOWN = Meaning(65, "model-unknown", 404, "client", "the request names no model that a line of the route's `models` takes", "ask for one of the models that `models` names, add a line, or say `unknown \"forward\"`")
    MODEL_DEFAULTED = Meaning(66, "model-defaulted", 0, "none", "no line of the route's `models` takes the model that the request names, so it goes to the route's own upstream", "nothing to do; with `unknown \"reject\"` it would be refused")
    MODELS_LISTED = Meaning(67, "models-listed", 0, "none", "the gateway itself answers which models there are, from the lines of `models`", "nothing to do; without `list true` the route's own upstream is asked")

    FELL_BACK = Meaning(68, "fell-back", 0, "none", "a model failed before anything was answered, and the next one of the line's `fallback` is asked", "look at the upstream that failed")

    # A second try beside the first, and copies.
    HEDGED = Meaning(100, "hedged", 0, "none", "the endpoint had not begun to answer after `hedge-after`, so the request was sent to another one as well", "look at the endpoint that is slow, or raise `hedge-after` if this happens to more than a few requests in a hundred")
    HEDGE_DENIED = Meaning(101, "hedge-denied", 0, "none", "the endpoint had not begun to answer after `hedge-after`, and the request was not sent to another one: it cannot be sent twice, there is no other endpoint, or the fleet's budget of retries is used up", "look at the endpoint that is slow; see `retry-budget`, and `max-body-size` and `unsafe-methods` of `retry`")
    HEDGE_WON = Meaning(102, "hedge-won", 0, "none", "of two tries under way the second answered first, and the first was cut", "look at the endpoint that is slow")
    HEDGE_LOST = Meaning(103, "hedge-lost", 0, "none", "of two tries under way the first answered first, and the second was cut", "nothing to do")
    HEDGE_FAILED = Meaning(104, "hedge-failed", 0, "none", "of two tries under way one failed, and the other went on", "look at the endpoint that failed")
    SHADOWED = Meaning(105, "shadowed", 0, "none", "the route's `shadow` sends a copy of the request to another upstream, whose answer is thrown away", "nothing to do; what became of copies is in `sentinel_shadow_requests_total`")

    # Over TLS from a client.
    CLIENT_SECURED = Meaning(140, "client-secured", 0, "none", "the client's connection is encrypted; how, which name it asked for, and whose certificate it showed", "nothing to do")
    MISDIRECTED = Meaning(141, "misdirected", 421, "client", "the request is for a host that is served on other terms (client certificates) than the name that its connection asked for", "ask for the host over a connection of its own, whose SNI names it")
    CERTIFICATE_REFUSED = Meaning(142, "certificate-refused", 403, "client", "the client's certificate is vouched for, and has none of the names that `san` of `client-certificates` admits, or has expired since the session began", "use a certificate with such a name, or add the name to `san`")
    TLS_ON_PLAIN_HTTP = Meaning(143, "tls-on-plain-http", 400, "client", "a TLS handshake was sent to a listener that serves plain HTTP", "use http:// for this port, or give the listener a `tls` block")

    # What the trace measures.
    ATTEMPTED = Meaning(110, "attempted", 0, "none", "one try at an endpoint: over which connection, when, for how long, and how it ended", "nothing to do; if tries fail or are slow, look at the endpoint")
    LOAD_COMPARED = Meaning(111, "load-compared", 0, "none", "the balance compared what the endpoints are doing, and this one has least to do", "nothing to do; see `sentinelctl endpoints`")

    # Language models, and what they take.
    WITHIN_BUDGET = Meaning(106, "within-budget", 0, "none", "a token budget has put aside what the request may take at most", "nothing to do")
    BUDGET_OVERDRAWN = Meaning(150, "budget-overdrawn", 0, "none", "a stream took more than was put aside, and went on although the budget had no more", "nothing to do; `on-outgrown \"end\"` of the budget ends such streams, and a smaller `max_tokens`, or a larger `default-output-tokens`, puts aside what they take")
    BUDGET_OUTGROWN = Meaning(151, "budget-outgrown", 429, "operator", "the stream took more than was put aside, and the budget has no more", "wait until the window ends, raise the budget that is named in the step of `sentinelctl why`, or say `on-outgrown \"continue\"`")
    BUDGET_EXHAUSTED = Meaning(107, "budget-exhausted", 429, "operator", "what is left of a token budget is less than the request may take at most", "wait until the window ends (`Retry-After`), ask for less (`max_tokens`), or raise `tokens` of the budget that is named")
    BUDGET_EXCEEDED = Meaning(108, "budget-exceeded", 0, "none", "a token budget that only observes has less left than the request may take at most", "nothing to do; with `on-limit \"reject\"` this request would be refused")
    LARGER_THAN_BUDGET = Meaning(109, "larger-than-budget", 413, "operator", "the request may take more tokens than a whole window of a token budget has", "ask for less (`max_tokens`), lower `default-output-tokens`, or raise `tokens` of the budget that is named")
    BUDGETS_FULL = Meaning(116, "budgets-full", 503, "gateway", "shared memory has no room for another key of a token budget, and the budget says `when-full \"reject\"`", "wait until windows end, or say `when-full \"admit\"`")
    INFERENCE_UNKNOWN = Meaning(117, "inference-unknown", 400, "client", "the route has a token budget or `models`, and the request is in no dialect of a language model that can be read", "use one of the paths of docs/explanation/inference.md, name the `family`, or say `unrecognised \"admit\"` (`unknown \"forward\"` of `models`)")
    INFERENCE_MALFORMED = Meaning(112, "inference-malformed", 400, "client", "the route has a token budget or `models`, and the request is not in the shape of its dialect, so that it cannot be read", "send what the provider documents, without a content-encoding and with no name twice in an object, or say `unrecognised \"admit\"` (`unknown \"forward\"` of `models`)")
    UNCOUNTED = Meaning(113, "uncounted", 0, "none", "the request could not be read as one to a language model, and passes uncounted", "name the `family`, or give this traffic a route of its own")
    TOKENS_REPORTED = Meaning(114, "tokens-reported", 0, "none", "what the answer took, as the provider reported it", "nothing to do")
    TOKENS_COUNTED = Meaning(115, "tokens-counted", 0, "none", "what the answer took, counted from the text that passed, since the provider did not report it", "nothing to do; a stream that breaks or whose client leaves is counted so")

    # What it costs.
    PRICED = Meaning(30, "priced", 0, "none", "what the answer cost, by the price book", "nothing to do")
    NO_PRICE = Meaning(32, "no-price", 400, "operator", "the route has a budget of money, and the price book has no price for the model today", "ask for another model; or add a line for it to `prices`, or say `unpriced \"admit\"` in the budget")
    BUDGET_WARNED = Meaning(33, "budget-warned", 0, "none", "with what the request puts aside, so much of a token budget is used that its `warn-at` is passed", "nothing to do yet; `sentinelctl budgets` shows what is left")
    WITHIN_TOKEN_LIMIT = Meaning(34, "within-token-limit", 0, "none", "a token limit gives what the request may take at most", "nothing to do")
    TOKEN_LIMITED = Meaning(35, "token-limited", 429, "operator", "a token limit has less left than the request may take at most", "wait as long as `Retry-After` says, ask for less (`max_tokens`), or raise the `tokens` or `burst` of the limit that is named")
    LARGER_THAN_TOKEN_LIMIT = Meaning(36, "larger-than-token-limit", 413, "operator", "the request may take more tokens than a full bucket of a token limit holds", "ask for less (`max_tokens`), lower `default-output-tokens`, or raise the `burst` of the limit that is named")
    TOKEN_LIMIT_EXCEEDED = Meaning(37, "token-limit-exceeded", 0, "none", "a token limit that only observes has less left than the request may take at most", "nothing to do; with `on-limit \"reject\"` this request would be refused")
    UNPRICED = Meaning(31, "unpriced", 0, "none", "the price book has no price for the model today, so what the answer cost is not known", "add a line for the model to `prices`")

    # Said in another dialect.
    TRANSLATED = Meaning(124, "translated", 0, "none", "the provider speaks another dialect than the client, and the request was said in its own", "nothing to do; what was left out is named in `leave-out`")
    UNTRANSLATABLE = Meaning(125, "untranslatable", 400, "client", "the provider speaks another dialect than the client, and the request says something that cannot be said there", "leave out what is named, give such requests an upstream that speaks the client's dialect, or name what does not matter in `leave-out`")
    ANSWER_UNTRANSLATABLE = Meaning(126, "answer-untranslatable", 502, "operator", "the provider's answer cannot be said in the client's dialect: it is encoded, too large, not in its own dialect, or says something that has no word there", "look at the provider's answer; give such requests an upstream that speaks the client's dialect")

    # What was looked for in what models read and say.
    GUARDRAIL_PASSED = Meaning(90, "guardrail-passed", 0, "none", "a guardrail has looked through all texts, and found nothing", "nothing to do")
    GUARDRAIL_OBSERVED = Meaning(91, "guardrail-observed", 0, "none", "a guardrail that only observes has found something, and everything goes on as it was", "nothing to do; with `action \"redact\"` or `\"block\"` it would not")
    GUARDRAIL_REDACTED = Meaning(92, "guardrail-redacted", 0, "none", "a guardrail has found something, and put its `replacement` in its place", "nothing to do")
    GUARDRAIL_SKIPPED = Meaning(93, "guardrail-skipped", 0, "none", "a guardrail could not read everything, and what it could not read goes on as it was", "say `when-unreadable \"block\"` if it shall not; see what could not be read in the step")
    GUARDRAIL_BLOCKED = Meaning(94, "guardrail-blocked", 400, "operator", "a guardrail has found something in the request that must not be sent", "leave it out; which guardrail, and what kind of thing it is, is in the step of `sentinelctl why`")
    GUARDRAIL_UNREADABLE = Meaning(95, "guardrail-unreadable", 400, "operator", "a guardrail cannot read the request, and lets nothing pass that it has not read", "send what the provider documents, without a content-encoding, to a path of docs/explanation/inference.md; raise `max-text`, or say `when-unreadable \"pass\"`")
    GUARDRAIL_WATCHES = Meaning(118, "guardrail-watches", 0, "none", "a guardrail will look through the answer", "nothing to do")
    ANSWER_BLOCKED = Meaning(119, "answer-blocked", 403, "operator", "a guardrail has found something in the answer that must not be shown", "nothing to do; which guardrail, and what kind of thing it is, is in the step of `sentinelctl why`")
    ANSWER_UNREADABLE = Meaning(120, "answer-unreadable", 502, "operator", "a guardrail cannot read the answer, and lets nothing pass that it has not read", "look at the provider's answer: it is encoded, too large, or not in its dialect; raise `max-text`, or say `when-unreadable \"pass\"`")

    @property
    def number(self) -> int:
        return self.value.number

    @property
    def word(self) -> str:
        return self.value.word

    @property
    def status(self) -> int:
        return self.value.status


BY_NUMBER: Final[dict[int, Reason]] = {reason.value.number: reason for reason in Reason}
BY_WORD: Final[dict[str, Reason]] = {reason.value.word: reason for reason in Reason}
assert len(BY_NUMBER) == len(BY_WORD) == len(Reason), "numbers and words are unique"
assert max(BY_NUMBER) < REASONS_MAX, "shared memory has a counter for each number"
