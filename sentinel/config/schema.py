"""The schema: every directive there is, as one table.

From this table come the checker, `sentinelctl schema`, the reference page, and the
defaults of the plan. What it says is never said again in code: the checker walks it,
and the compiler (compile.py) turns what was found into a plan.

Intuition: a form to be filled in. Each line has its name, what may be written on it,
what is assumed when it stays empty, and a note for whoever fills it in.

Rule 1: a directive is in the table when something obeys it (tests/style holds that), and
    not before.
Rule 2: defaults are written as an operator would write them, and are read by the same
    readers as everything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from sentinel.config import kinds as k
from sentinel.config.kinds import Kind
from sentinel.core.guard.finders import built_in
from sentinel.core.jwks import ALGORITHMS
from sentinel.core.secured import PARTS

VERSION: Final = "1.0"
FOUND_KINDS: Final = tuple(sorted(built_in()))


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a directive, or, with `is_list`, one or more of a kind."""

    name: str
    kind: Kind
    is_list: bool = False
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class Property:
    """`name=value` on a directive's line. `default`: as an operator would write it; None: there is none."""

    name: str
    kind: Kind
    doc: str
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive.

    default: of the one argument, as an operator would write it; None: there is none.
    is_repeatable: several may stand side by side. is_required: there must be (at least) one.
    is_table: it only holds children, and several of it are read as one.
    is_recursive: it holds what the block that it stands in holds.
    key: the argument by which siblings must differ.
    """

    name: str
    doc: str
    args: tuple[Argument, ...] = ()
    props: tuple[Property, ...] = ()
    children: tuple[Directive, ...] = ()
    default: str | None = None
    example: str = ""
    is_repeatable: bool = False
    is_required: bool = False
    is_table: bool = False
    is_recursive: bool = False
    key: str = ""

    def child(self, name: str) -> Directive | None:
        return next((one for one in self.children if one.name == name), None)


def _one(name: str, kind: Kind, doc: str, default: str | None = None, **more: Any) -> Directive:
    """A directive with a single argument."""
    return Directive(name, doc, (Argument("value", kind),), default=default, **more)


CONDITIONS: Final = (
    Directive("method", "The request's method is one of these.", (Argument("methods", k.METHOD, True),),
              example='method "GET" "POST"', is_repeatable=True),
    Directive("header", "The request has this header; with values: one of its values is one of these.",
              (Argument("name", k.FIELD_NAME), Argument("values", k.FIELD_VALUE_KIND, True, True)),
              (Property("regex", k.PATTERN, "A pattern that a whole value of the header matches, instead of values."),),
              example='header "x-tenant" "acme"', is_repeatable=True),
    Directive("query", "The query has this parameter; with values: one of its values is one of these.",
              (Argument("name", k.TEXT), Argument("values", k.TEXT, True, True)),
              (Property("regex", k.PATTERN, "A pattern that a whole value of the parameter matches, instead of values."),),
              example='query "version" "2"', is_repeatable=True),
)  # fmt: skip
PLACES: Final = (
    Directive("host", "The host is one of these; `*.` at the beginning stands for one label or more.",
              (Argument("hosts", k.HOST, True),), example='host "api.example.com" "*.api.example.com"',
              is_repeatable=True),
    Directive("path", "The path, without query, is one of these.", (Argument("paths", k.PATH, True),),
              example='path "/healthz"', is_repeatable=True),
    Directive("path-prefix", "The path begins with one of these, up to a border between segments.",
              (Argument("prefixes", k.PATH, True),), example='path-prefix "/v1"', is_repeatable=True),
    Directive("path-regex", "The whole path matches one of these patterns.", (Argument("patterns", k.PATTERN, True),),
              example='path-regex "/users/[0-9]+"', is_repeatable=True),
)  # fmt: skip


GROUPS: Final = (
    Directive("not", "None of the conditions inside may hold.", is_repeatable=True, is_recursive=True,
              example='not { header "x-internal"; }'),
    Directive("any", "At least one of the conditions inside holds.", is_repeatable=True, is_recursive=True,
              example='any { method "POST"; query "dry-run"; }'),
    Directive("all", "All of the conditions inside hold.", is_repeatable=True, is_recursive=True,
              example='all { method "GET"; header "accept" "text/html"; }'),
)  # fmt: skip
MATCHES: Final = Directive(
    "matches",
    "What a request must be like: one of the hosts, one of the paths, and all other conditions. Several `matches` are "
    "alternatives.",
    children=PLACES + CONDITIONS + GROUPS, is_repeatable=True, is_required=True,
    example='matches { host "api.example.com"; path-prefix "/v1"; }',
)  # fmt: skip

SYSTEM: Final = Directive(
    "system", "The fleet as a whole.",
    children=(
        _one("workers", k.integer(1, 256), "Number of worker processes.", "2"),
        _one("run-dir", k.FILE, "Directory of the instance: lock, `control.sock`, plans. Changing it needs a restart.",
             '"/run/sentinel"'),
        _one("state-dir", k.FILE, "Directory for what outlives a reboot: what operators said of endpoints and breakers, and the audit log. Without "
             "it that lasts until the machine is started anew, and the audit log is in the run-dir.", example='state-dir "/var/lib/sentinel"'),
        _one("ledger", k.LEDGER, "A PostgreSQL database for what operators said and what was spent of budgets, instead of a file in the `state-dir`; best "
             "from `(env)` or `(file)`, since it has a password. Each instance writes its own rows, under `application_name`, by default the machine's name. "
             "Needs `pip install 'sentinel-gateway[postgresql]'`.", example='ledger (env)"SENTINEL_LEDGER"'),
        _one("ledger-flush", k.duration("100ms"), "How often what was spent of budgets is written into the ledger (a file in the `state-dir`, or a database), "
             "if anything was. A power cut takes no more than that.", '"1s"'),
        _one("drain-deadline", k.duration(), "How long requests that run may take to finish, in a reload, a drain or a "
             "stop. What is silent is closed then.", '"30s"'),
        _one("heartbeat-timeout", k.duration("1s"), "A worker that has not been heard of for so long is killed and "
             "replaced.", '"10s"'),
        _one("max-worker-connections", k.integer(1, 1_000_000), "Connections of clients per worker, over all "
             "listeners. More are answered 503.", "20000"),
        _one("max-worker-requests", k.integer(0, 1_000_000), "Requests in flight per worker, over all listeners. More are "
             "answered 503; 0: no limit but the connections'.", "0"),
        _one("budget-keys", k.integer(32, 131_072), "How many windows of budgets shared memory has room for (one for each key of a budget), 448 octets "
             "each and 64 for each process; 32 when the service is started without a `token-budget`. Rounded up to a power of two. Changing it needs a restart.", "4096"),
        _one("lease-keys", k.integer(1024, 524_288), "How many keys may hold something at a time (requests under way, connections), 64 octets "
             "each and 16 for each process. Rounded up to a power of two. Changing it needs a restart.", "8192"),
        _one("limit-keys", k.integer(1024, 16_777_216), "How many keys of rate limits and token limits shared memory has room for, 96 octets each; "
             "a full table is `when-full`. Rounded up to a power of two. Changing it needs a restart.", "65536"),
        Directive("vocabularies", "With which vocabularies of OpenAI's models text is counted before it is sent, instead of by a ratio that is learnt: `o200k` is "
                  "of gpt-4o and later, `cl100k` of gpt-4, gpt-3.5 and embeddings. Each takes some 0.1 GiB of each worker. Needs "
                  "`pip install 'sentinel-gateway[inference]'`.", (Argument("names", k.one_of("o200k", "cl100k"), True),),
                  example='vocabularies "o200k" "cl100k"'),
        Directive("access-log", "Where the access log goes: `-` is standard output, `off` is nowhere, else a file.",
                  (Argument("target", k.FILE),),
                  (Property("buffer", k.size("4KiB", "1GiB"), "How much may wait for a slow disk; lines beyond it are "
                            "dropped and counted.", '"1MiB"'),), default='"-"', example='access-log "/var/log/sentinel.log"'),
        Directive("journal", "The journal of decisions, which `sentinelctl why` and `trace` read.", children=(
            _one("records", k.integer(0, 1_048_576), "How many requests of each worker process can be explained afterwards, 512 octets each; 0: none "
                 "are recorded. Changing it needs a restart, but for 0.", "4096"),
            Directive("redact", "What is not recorded of a request; a mark stands for it, by which only equal values are known to be equal. The "
                      "query is never recorded.", (Argument("fields", k.one_of("client-ip", "host", "path"), True),),
                      example='redact "client-ip"'),
            Directive("file", "Keep records for longer: as JSON lines in this file. It can be moved away at any time, and is made anew.",
                      (Argument("path", k.FILE),), children=(
                Directive("keep", "Which records: those for which all of this holds. Several are alternatives; without any, all records are kept.", (), (
                    Property("status", k.STATUS_FILTER, "This status, or a class like `5xx`."),
                    Property("route", k.NAME_KIND, "This route."),
                    Property("reason", k.REASON, "This reason."),
                    Property("sample", k.PERCENT, "This share of them, chosen by their request ids.", '"100%"'),
                ), is_repeatable=True, example='keep status="5xx"'),
            ), example='file "/var/log/sentinel/decisions.jsonl" { keep sample="1%"; }'),
        )),
        _one("default-deny", k.BOOLEAN, "Whether each route must say who may use it: name a filter that finds out who asks (`api-key`, `jwt`, `basic`), or be "
             "`public`. A configuration with a route that does neither is refused.", "false"),
        _one("cpu-affinity", k.BOOLEAN, "Bind each worker to one core.", "false"),
        Directive("probation", "How a new generation is watched after it has taken over. If it fails, the former "
                  "content is served again.", children=(
            _one("duration", k.duration("0s"), "How long it is watched.", '"10s"'),
            _one("max-failure-share", k.PERCENT, "The share of requests that fail by an upstream (or by a fault of ours) above which it has failed: relayed 5xx, 502, 504. What clients or `respond` cause does not count.", '"50%"'),
            _one("min-requests", k.integer(1, 1_000_000), "Fewer requests than this prove nothing.", "20"),
            _one("ready-timeout", k.duration("100ms"), "How long its workers may take to become ready.", '"30s"'),
        )),
        Directive("reload-gate", "Refuse a reload that would treat more than this share of the newest recorded requests differently "
                  "(see `sentinelctl diff`). The gate of what runs decides; `sentinelctl reload --force` passes it.",
                  (Argument("share", k.PERCENT),),
                  (Property("recent", k.integer(1, 20_000), "How many requests are compared.", "1000"),
                   Property("min-requests", k.integer(1, 20_000), "With fewer recorded requests nothing is refused.", "20")),
                  example='reload-gate "5%" recent=1000'),
        _one("require-tests", k.BOOLEAN, "Whether the policy tests of this configuration must pass (and be there) before it is rolled out, "
             "at the start too. If they do not, what serves serves on.", "false"),
        Directive("crash-budget", "How often the worker of one lane may crash before its generation has failed.", children=(
            _one("restarts", k.integer(1, 1000), "Crashes within the window that are tolerated.", "5"),
            _one("window", k.duration("1s"), "Length of the window.", '"10s"'),
        )),
    ),
)  # fmt: skip

ADMIN: Final = Directive(
    "admin", "The admin API, `/metrics` and `/health`. `control.sock` in the run-dir serves the same.",
    children=(
        _one("address", k.LISTEN, "Where it listens. Anything but loopback needs a token. Changing it needs a restart.",
             '"127.0.0.1:9901"'),
        _one("token", k.SECRET, "Bearer token that callers must send.", example='token (env)"SENTINEL_TOKEN"'),
    ),
)  # fmt: skip

LISTENER: Final = Directive(
    "listener", "An address on which clients are served.", (Argument("name", k.NAME_KIND),), is_repeatable=True, key="name",
    children=(
        _one("address", k.LISTEN, "IP address and port.", is_required=True, example='address "0.0.0.0:8080"'),
        Directive("tls", "Serve HTTPS. Certificates and keys are read at each reload.", children=(
            Directive("certificate", "PEM file with a certificate and its chain. Of several, clients get the one that is made out in the name which "
                      "they ask for (SNI): by exactly that name, else by a wildcard. A name may have one for each kind of key (EC, RSA). The "
                      "first is for those who ask for nobody, or for somebody unknown.", (Argument("file", k.FILE),), children=(
                _one("key", k.FILE, "PEM file with its private key.", example='key "tls/privkey.pem"'),
            ), is_repeatable=True, is_required=True, key="file", example='certificate "tls/fullchain.pem" { key "tls/privkey.pem"; }'),
            _one("key", k.FILE, "PEM file with the private key, where there is a single certificate.", example='key "tls/privkey.pem"'),
            _one("unknown-name", k.one_of("default", "refuse"), "What happens to a client that asks for a name which no certificate is made out in, or "
                 "for none: it gets the first certificate, or is refused (`unrecognized_name`).", '"default"'),
            _one("profile", k.one_of("modern", "intermediate"), "Mozilla's: `intermediate` is TLS 1.2 and 1.3 with forward secrecy and "
                 "authenticated ciphers, for clients of the last ten years; `modern` is TLS 1.3 alone.", '"intermediate"'),
            _one("min-version", k.one_of("1.2", "1.3"), "The oldest version that is spoken. Without it: the profile's.", example='min-version "1.3"'),
            _one("watch", k.BOOLEAN, "Look after all files of this block, and reload by itself when they have changed, with the same checks: new connections get the "
                 "new certificates. What is not accepted is told, and what served serves on. A configuration that has changed besides is left alone.", "false"),
            Directive("client-certificates", "Whether clients have to show a certificate (`require`), or may (`optional`): one that is valid now and vouched for by "
                      "somebody who is trusted. Several are for different `names`. A request for a host on other terms than the name that its connection asked "
                      "for is answered 421.", (Argument("mode", k.one_of("require", "optional")),), children=(
                _one("ca", k.FILE, "PEM file with the certificates of those who are trusted.", is_required=True, example='ca "tls/clients-ca.pem"'),
                _one("crl", k.FILE, "PEM file with lists of what they have taken back, one of each of them that issues certificates for clients. Read at each "
                     "reload; when a list is older than it says, nobody is admitted.", example='crl "tls/clients.crl"'),
                Directive("san", "One of the certificate's names (DNS, URI, e-mail or IP address) must be like one of these, else its requests are answered "
                          "403. `*` stands for any characters; with `://` it is for URIs, such as SPIFFE's, alone.", (Argument("patterns", k.SAN, True),),
                          example='san "spiffe://example.org/ns/web/*"'),
                Directive("names", "Only for clients that ask for one of these names. Without it: for all that have no terms of their own.",
                          (Argument("hosts", k.HOST, True),), example='names "admin.example.com"'),
            ), is_repeatable=True, example='client-certificates "require" { ca "tls/clients-ca.pem"; }'),
        )),
        Directive("redirect-to-https", "Send every request to the same place over HTTPS (308), before any route.", children=(
            _one("port", k.integer(1, 65535), "Where HTTPS is served.", "443"),
            _one("status", k.integer(301, 308), "How it is said: 308 or 301 for good, 307 or 302 for now. With 301 and 302 clients may ask again by GET.", "308"),
            Directive("exempt", "Paths that begin with one of these, up to a border between segments, go to the routes.",
                      (Argument("prefixes", k.PATH, True),), default='"/.well-known/acme-challenge"', example='exempt "/.well-known/acme-challenge" "/healthz"'),
        )),
        Directive("hsts", "Tell browsers to come by HTTPS only (Strict-Transport-Security), in every answer of this listener; what an upstream says of it is left off.",
                  (), (Property("max-age", k.duration("0s"), "For how long they shall remember it.", '"365d"'),
                       Property("include-subdomains", k.BOOLEAN, "For all names below the host too.", "false"),
                       Property("preload", k.BOOLEAN, "That browsers may have it built in: hard to take back. Needs a year, and `include-subdomains`.", "false")),
                  example='hsts max-age="365d"'),
        Directive("limits", "Bounds for what clients may send, and how slowly.", children=(
            _one("max-header-size", k.size("1KiB", "16MiB"), "Octets of a request's head; more is answered 431.", '"32KiB"'),
            _one("max-headers", k.integer(1, 1000), "Header fields of a request; more are answered 431.", "100"),
            _one("max-uri-size", k.size("64B", "1MiB"), "Octets of the request target; more are answered 414.", '"8KiB"'),
            _one("max-body-size", k.size("0B", "1024TiB"), "Octets of a body; more are answered 413. `0B`: no limit.", '"0B"'),
            _one("header-timeout", k.duration("10ms"), "Time for a whole head; longer is answered 408.", '"10s"'),
            _one("body-timeout", k.duration("10ms"), "Time between two pieces of a body; longer is answered 408.", '"30s"'),
            _one("write-timeout", k.duration("10ms"), "How long a client may not read while an answer waits.", '"30s"'),
            _one("idle-timeout", k.duration("10ms"), "How long a kept-alive connection may be silent between requests.", '"75s"'),
            _one("max-connections", k.integer(1, 1_000_000), "Connections per worker. More are answered 503.", "10000"),
            _one("max-open-requests", k.integer(0, 1_000_000), "Requests in flight per worker. More are answered 503; 0: no limit "
                 "but the connections'.", "0"),
            _one("max-requests", k.integer(0, 1_000_000_000), "Requests per connection; 0: no limit.", "0"),
        )),
        Directive("connection-limit", "How many connections this listener has in the whole fleet, exact over all workers. More are answered "
                  "429 and closed; on TLS listeners they are only closed.", children=(
            _one("total", k.integer(1, 10_000_000), "In all.", example="total 10000"),
            _one("per-client", k.integer(1, 1_000_000), "From one client's address.", example="per-client 100"),
            _one("ipv4-prefix", k.integer(0, 32), "Clients of one IPv4 network of this length are counted together.", "32"),
            _one("ipv6-prefix", k.integer(0, 128), "Clients of one IPv6 network of this length are counted together.", "64"),
            Directive("exempt", "Clients of these networks are not counted.", (Argument("networks", k.NETWORK, True),),
                      example='exempt "10.0.0.0/8"'),
            _one("when-full", k.one_of("admit", "reject"), "What happens while shared memory has no room for another key (see "
                 "`lease-keys`): admit it uncounted, or refuse it.", '"admit"'),
        ), example="connection-limit { per-client 100; }"),
        Directive("trusted-proxies", "Networks whose `X-Forwarded-*` and PROXY headers are believed.",
                  (Argument("networks", k.NETWORK, True),), example='trusted-proxies "10.0.0.0/8"'),
        _one("trusted-hops", k.integer(0, 32), "How many entries of `X-Forwarded-For`, from the right, may be believed; "
             "0: as many as are trusted proxies.", "0"),
        _one("proxy-protocol", k.one_of("off", "v1", "v2", "any"), "Whether trusted proxies begin connections with a "
             "PROXY header.", '"off"'),
        Directive("paths", "What happens to ambiguous paths, before anything is matched.", children=(
            _one("encoded-slash", k.one_of("reject", "keep"), "`%2F` and `%5C`. Kept, they are never separators.", '"reject"'),
            _one("double-slash", k.one_of("reject", "merge", "keep"), "`//`.", '"merge"'),
            _one("dot-segments", k.one_of("reject", "resolve"), "`.` and `..`, also encoded.", '"resolve"'),
            _one("parameters", k.one_of("reject", "keep"), "`;` in a segment. Kept, it is an ordinary character.", '"keep"'),
        )),
    ),
    example='listener "web" { address "127.0.0.1:8080"; }',
)  # fmt: skip

PROVIDER: Final = Directive(
    "provider", "What is said there instead of what the client said, where it is somebody else's service of language models. A line of "
    "`models` may say some of it anew.",
    children=(
        _one("dialect", k.one_of("openai", "openai-compatible", "anthropic", "gemini", "ollama"), "Whose language it speaks: requests in "
             "another one are refused, or translated (`translate`). Without it: whatever the client speaks.", example='dialect "anthropic"'),
        _one("host", k.AUTHORITY, "The Host field. Without it: over TLS the endpoints' name, if they "
             "have the same one; else what the client said.", example='host "api.openai.com"'),
        _one("path-prefix", k.PROVIDER_PATH, "What its paths have before the end by which a dialect is recognised (`/chat/completions`, "
             "`/v1/messages`, …); `{model}` is the model. Without it: what the client's have.", example='path-prefix "/openai/deployments/{model}"'),
        Directive("query", "A parameter of the query, in the place of the client's.", (Argument("name", k.TEXT), Argument("value", k.TEXT)),
                  is_repeatable=True, key="name", example='query "api-version" "2024-10-21"'),
        Directive("credential", "By what it knows who asks, best from `(env)` or `(file)`: read at each reload, shown nowhere. Whatever the client "
                  "sent as its own is left off: `authorization`, `x-api-key`, `api-key`, `x-goog-api-key`, `openai-organization`, "
                  "`openai-project`, `x-goog-user-project`, `key` of the query, cookies, and what proxies that log people in tell of them.",
                  (Argument("secret", k.SECRET),), children=(
            _one("header", k.FIELD_NAME, "In which field. Without it: as the `dialect` has it, `x-api-key` (Anthropic), `x-goog-api-key` (Gemini), "
                 "else `authorization`.", example='header "api-key"'),
            _one("scheme", k.FIELD_VALUE_KIND, "A word before it. Without it: `Bearer` in `authorization`, none elsewhere.", example='scheme "Token"'),
        ), example='credential (env)"OPENAI_API_KEY"'),
        _one("client-credentials", k.one_of("drop", "pass"), "What becomes of the client's own where there is no `credential`. Without it they "
             "pass, unless it takes the place of a model that is asked with the gateway's `credential`: then they are left off.",
             example='client-credentials "drop"'),
        Directive("translate", "Requests in another dialect than the provider's are said in its own, and its answers in the client's, instead of being "
                  "refused: OpenAI's chat completions and Anthropic's messages.", children=(
            _one("max-tokens", k.integer(1, 1_000_000_000), "The cap of output for clients of OpenAI's that set none. Anthropic's providers insist "
                 "on one; without it such requests are refused.", example="max-tokens 4096"),
            Directive("leave-out", "Members of requests that are left out where they cannot be translated, instead of being refused.",
                      (Argument("names", k.NAME_KIND, True),), example='leave-out "cache_control"'),
        ), example="translate { max-tokens 4096; }"),
    ),
    example='provider { dialect "openai"; credential (env)"OPENAI_API_KEY"; }',
)  # fmt: skip

ROUTE: Final = Directive(
    "route", "Requests that match go to an upstream, or get one answer.", (Argument("name", k.NAME_KIND),),
    is_repeatable=True, key="name",
    children=(
        _one("priority", k.integer(-1000, 1000), "Routes of a higher priority are tried first.", "0"),
        Directive("listeners", "Serve this route on these listeners only.", (Argument("names", k.NAME_KIND, True),),
                  example='listeners "web"'),
        MATCHES,
        Directive("respond", "Answer with this status.", (Argument("status", k.integer(200, 599)),),
                  (Property("body", k.TEXT, "The body.", '""'),),
                  (Directive("header", "A header of the answer.",
                             (Argument("name", k.FIELD_NAME), Argument("value", k.FIELD_VALUE_KIND)), is_repeatable=True,
                             example='header "cache-control" "no-store"'),),
                  example='respond 404 body="nothing here"'),
        Directive("filters", "From where (`ip-access`), and who may ask (`api-key`, `jwt`, `mtls`, `basic`), limits that requests must be within, all of them, and guardrails. A request that a limit "
                  "refuses is charged to none.", (Argument("names", k.NAME_KIND, True),), example='filters "per-client"'),
        _one("public", k.BOOLEAN, "With `default-deny`: this route is for everybody.", "false"),
        _one("upstream", k.NAME_KIND, "Forward to this upstream.", example='upstream "api"'),
        Directive("split", "Forward to one of several upstreams, by weight. When all endpoints of that upstream fail, the request fails: "
                  "it does not go to another one.", children=(
            Directive("upstream", "One of them.", (Argument("name", k.NAME_KIND),),
                      (Property("weight", k.integer(0, 1_000_000), "Its share, relative to the others; 0: nothing, for now.", "1"),),
                      is_repeatable=True, is_required=True, key="name", example='upstream "canary" weight=5'),
            Directive("key", "Requests with the same key go to the same upstream: parts as in `rate-limit`. Without it, chance decides for "
                      "each request.", (Argument("parts", k.KEY_PART, True),), example='key "cookie:session"'),
            _one("ipv4-prefix", k.integer(0, 32), "Clients of one IPv4 network of this length go together.", "32"),
            _one("ipv6-prefix", k.integer(0, 128), "Clients of one IPv6 network of this length go together.", "64"),
        ), example='split { upstream "stable" weight=95; upstream "canary" weight=5; }'),
        Directive("shadow", "Send a copy of the request to this upstream too, and throw its answer away. The copy delays nothing and "
                  "fails nothing; it has `x-sentinel-shadow`, with the route's name.", (Argument("upstream", k.NAME_KIND),),
                  (Property("share", k.PERCENT, "Of how many requests, by chance.", '"100%"'),),
                  is_repeatable=True, key="upstream", example='shadow "next" share="10%"'),
        Directive("retry", "Try a request again, at another endpoint if there is one, when a try failed and nothing of an answer has "
                  "reached the client. Methods that are not idempotent (POST, PATCH, …) only if nothing was sent.", children=(
            _one("attempts", k.integer(2, 10), "Tries, the first one included.", "2"),
            Directive("on", "What is a failed try: `connect-failure`, `reset` (it closed before it answered), `timeout`, `malformed` "
                      "(no valid answer), `gateway-error` (502, 503, 504), `5xx`, or a status.",
                      (Argument("conditions", k.RETRY_ON, True),), default='"connect-failure"',
                      example='on "connect-failure" "reset" "503"'),
            _one("per-try-timeout", k.duration(), "Time for one try, up to the first octet of its answer. Without it: the upstream's "
                 "`timeouts`.", example='per-try-timeout "2s"'),
            _one("hedge-after", k.duration(), "When a try has brought no head of an answer after this time, send the request to another "
                 "endpoint as well; the first good answer is the client's. It counts as a try, and takes from the `retry-budget`. "
                 "Without it: never two at a time.", example='hedge-after "50ms"'),
            _one("backoff", k.duration("0s"), "A try begins after a random part of this time, doubled with each one.", '"25ms"'),
            _one("max-backoff", k.duration("0s"), "And never later than this.", '"250ms"'),
            _one("max-body-size", k.size("0B", "16MiB"), "A request with a larger body is not tried again once some of it was sent.",
                 '"64KiB"'),
            _one("unsafe-methods", k.BOOLEAN, "Try methods again that are not idempotent: what they do may be done twice.", "false"),
        ), example='retry { attempts 3; on "connect-failure" "503"; }'),
        Directive("inference", "Requests are for language models: they are read, what they take is counted, and `token-budget` filters hold. "
                  "OpenAI's (and compatible servers'), Anthropic's, Gemini's and Ollama's languages are known.", children=(
            _one("family", k.one_of("auto", "openai", "openai-compatible", "anthropic", "gemini", "ollama"), "Whose language the upstream "
                 "speaks. `auto`: the path tells.", '"auto"'),
            _one("max-body-size", k.size("1KiB", "64MiB"), "Octets of a body: it is kept whole before anything is sent on. More are "
                 "answered 413.", '"1MiB"'),
            _one("default-output-tokens", k.integer(1, 10_000_000), "How many tokens of output are put aside for a request that sets no "
                 "bound.", "1024"),
            _one("unrecognised", k.one_of("reject", "admit"), "What happens, where a `token-budget` refuses, to a request that cannot be "
                 "read and so cannot be counted: 400, or pass uncounted. GET, HEAD, OPTIONS and DELETE always pass.", '"reject"'),
            _one("response-headers", k.BOOLEAN, "Say in the answer's head which model it is of (`x-sentinel-model`), and, if it has a length and "
                 "at most 64 KiB, what it took: `x-sentinel-input-tokens`, `-cached-tokens`, `-output-tokens`, and `-cost` where there are "
                 "`prices`. Such an answer goes on when it is whole. Of a stream the model alone is known when its head is sent.", "false"),
            _one("tenant", k.TENANT_PART, "The part of a request that metrics of language models have as the label `tenant`, and the access log as a field: a name that a client "
                 "cannot choose at will, for there is room for 255 labels (of route, model, dialect and tenant) and the rest is "
                 "`(other)`. It is shown to whoever reads either: no credential. Without it the label is empty.",
                 example='tenant "header:x-tenant"'),
        ), example='inference { family "openai"; }'),
        Directive("models", "Which upstream a request is for, by the model that it names: the first line that takes the name. Needs `inference`; "
                  "an `upstream` or `split` of the route is for what names no model, and for `unknown \"forward\"`.", children=(
            Directive("model", "Requests for these models. `*` stands for any characters.", (Argument("patterns", k.MODEL, True),), children=(
                _one("upstream", k.NAME_KIND, "Where they go.", is_required=True, example='upstream "openai"'),
                _one("send-as", k.MODEL_NAME, "The name that the upstream is asked for, in the body or in the path. Without it: the name that the "
                     "client said.", example='send-as "gpt-4o-2024-11-20"'),
                Directive("filters", "Token budgets and token limits that hold for these models, besides the route's own.", (Argument("names", k.NAME_KIND, True),),
                          example='filters "openai-monthly"'),
                Directive("fallback", "Whom to ask instead when this fails before an octet of an answer has gone to the client: names of models, as "
                          "a client would say them, one after the other.", (Argument("models", k.MODEL_NAME, True),), children=(
                    Directive("on", "What is a failure: `connect-failure`, `reset`, `timeout`, `malformed`, `gateway-error` (502, 503, 504), `5xx`, a "
                              "status; `breaker-open`, `no-endpoint` (none healthy, or none that serves the model), `full` (the upstream's `limits`), `budget` (a token-budget has "
                              "not enough left, or no price). Without it: all of these but `malformed` and `full`, and 429.",
                              (Argument("conditions", k.FALLBACK_ON, True),), example='on "connect-failure" "429" "budget"'),
                    _one("first-token-timeout", k.duration(), "How long a model may take to its first token; of what is no stream, to the head of "
                         "its answer. Until then a stream is held back. Without it: as long as the upstream's `timeouts` say.",
                         example='first-token-timeout "5s"'),
                ), example='fallback "gpt-4o-mini" "llama-3.1-8b"'),
                PROVIDER,
            ), is_repeatable=True, is_required=True, example='model "gpt-*" { upstream "openai"; }'),
            _one("unknown", k.one_of("reject", "forward"), "What happens to a model that no line takes, and to what cannot be read: refuse it "
                 "as the provider would (404), or send it to the route's own `upstream` or `split`.", '"reject"'),
            _one("list", k.BOOLEAN, "Answer `GET …/models` here, with the names that the lines say without `*`.", "false"),
        ), example='models { model "gpt-*" { upstream "openai"; }; }'),
        _one("timeout", k.duration("1ms"), "Time for the whole exchange; longer is answered 504. Without it: no limit.",
             example='timeout "30s"'),
        _one("max-body-size", k.size("0B", "1024TiB"), "Octets of a request's body, instead of the listener's limit.",
             example='max-body-size "10MiB"'),
    ),
    example='route "api" { matches { path-prefix "/v1"; }; upstream "api"; }',
)  # fmt: skip

BALANCE: Final = Directive(
    "balance", "How an endpoint is chosen. Counts of requests in flight and latencies are those of all workers together.",
    (Argument("kind", k.one_of("round-robin", "random", "least-request", "power-of-two", "peak-ewma",
                               "least-tokens", "least-load", "prefix-affinity", "ip-hash", "maglev", "ring")),),
    children=(
        Directive("key", "What `maglev` and `ring` hash: parts of the request, as in a rate limit's `key`.",
                  (Argument("parts", k.KEY_PART, True),), example='key "cookie:user"'),
        _one("max-load", k.LOAD, "With a hash: an endpoint that has more than this share of the average in flight is passed over. With "
             "`prefix-affinity`: of the average of tokens under way, and without it 125%.",
             example='max-load "125%"'),
        _one("measure", k.one_of("answer", "first-token"), "With `peak-ewma`: the time to the head of an answer, or to the first token of a stream.",
             '"answer"'),
        _one("half-life", k.duration("10ms"), "With `peak-ewma`: how fast a high latency is forgotten.", '"10s"'),
        _one("ipv4-prefix", k.integer(0, 32), "With a client's address: networks of this length count as one client.", "32"),
        _one("ipv6-prefix", k.integer(0, 128), "The same for IPv6.", "64"),
    ),
    default='"round-robin"', example='balance "least-request"',
)  # fmt: skip

STICKY_COOKIE: Final = Directive(
    "sticky-cookie", "Bring a client back to the endpoint that served it first, by a signed cookie. If that endpoint may not be "
    "used, another one is chosen and the cookie renewed.", (Argument("name", k.COOKIE_NAME),),
    children=(
        Directive("secret", "What signs the cookie; with several, the first signs, and all are accepted.",
                  (Argument("secrets", k.SECRET, True),), is_required=True, example='secret (env)"STICKY_SECRET"'),
        _one("max-age", k.duration("1s"), "How long the browser keeps it. Without it: until the browser closes.",
             example='max-age "1d"'),
        _one("path", k.PATH, "The cookie's path.", '"/"'),
        _one("same-site", k.one_of("lax", "strict", "none"), "The cookie's SameSite.", '"lax"'),
        _one("secure", k.BOOLEAN, "Whether browsers send it over https only.", "false"),
    ),
    example='sticky-cookie "srv" { secret (env)"STICKY_SECRET"; }',
)  # fmt: skip

HEALTH_CHECK: Final = Directive(
    "health-check", "Ask every endpoint again and again whether it is well; one worker does it for the fleet. Without `path`, a "
    "connection that is accepted is good.",
    children=(
        _one("kind", k.one_of("inference"), "Ask an inference server which models it has, at `path` (`/v1/models` without it). The answer is kept, "
             "and an endpoint that does not list the model of a request gets none of it.", example='kind "inference"'),
        Directive("completion", 'With `kind "inference"`: ask for one token besides, of this model, or of the first that is listed.',
                  (Argument("model", k.TEXT, is_optional=True),),
                  (Property("path", k.TARGET, "Where.", '"/v1/chat/completions"'),), example='completion "llama-3.1-8b"'),
        _one("bearer", k.FIELD_VALUE_KIND, 'With `kind "inference"`: the key that the server wants.', example='bearer (env)"VLLM_API_KEY"'),
        Directive("warm-up", 'With `kind "inference"`: an endpoint that is new, or was unhealthy, is used only after so many good checks in a row.',
                  (Argument("count", k.integer(1, 100)),),
                  (Property("within", k.duration(), "Each of them within this time. Without it: within `timeout`."),),
                  example='warm-up 3 within="2s"'),
        _one("path", k.TARGET, "Ask with HTTP for this path.", example='path "/healthz"'),
        _one("method", k.METHOD, "With `path`: the method.", '"GET"'),
        _one("host", k.FIELD_VALUE_KIND, "With `path`: the Host field. Without it: the endpoint's address.", example='host "app.internal"'),
        Directive("expect", "With `path`: the statuses of a good answer.", (Argument("statuses", k.STATUSES, True),),
                  default='"200-399"', example='expect "200-299" "404"'),
        _one("port", k.integer(1, 65_535), "Ask on this port. Without it: the endpoint's.", example="port 9090"),
        _one("interval", k.duration("10ms"), "From one check to the next, of each endpoint.", '"5s"'),
        _one("timeout", k.duration("1ms"), "A slower answer is a bad one.", '"2s"'),
        _one("healthy-after", k.integer(1, 100), "So many good checks in a row make an endpoint healthy again.", "2"),
        _one("unhealthy-after", k.integer(1, 100), "So many bad checks in a row make it unhealthy.", "3"),
    ),
    example='health-check { path "/healthz"; interval "5s"; }',
)  # fmt: skip

LOAD_REPORT: Final = Directive(
    "load-report", "With `balance \"least-load\"`: read from each endpoint's page of metrics (Prometheus) how many requests wait there and how "
    "much of its cache is in use; one worker does it for the fleet.",
    children=(
        _one("path", k.TARGET, "Where the page is.", '"/metrics"'),
        _one("port", k.integer(1, 65_535), "On this port. Without it: the endpoint's.", example="port 9400"),
        _one("every", k.duration("10ms"), "From one reading to the next, of each endpoint.", '"1s"'),
        _one("timeout", k.duration("1ms"), "A page that takes longer is none.", '"1s"'),
        _one("stale-after", k.duration("10ms"), "A reading that is older counts no more.", '"5s"'),
        Directive("waiting", "Metrics that count the requests that wait; all lines of the page are added up. Without it: "
                  "`vllm:num_requests_waiting` and `sglang:num_queue_reqs`.", (Argument("names", k.METRIC, True),),
                  example='waiting "my_server_queue_length"'),
        Directive("cache", "Metrics that tell the part of the cache that is in use, 0 to 1; of several lines the largest. Without it: "
                  "`vllm:kv_cache_usage_perc`, `vllm:gpu_cache_usage_perc` and `sglang:token_usage`.", (Argument("names", k.METRIC, True),),
                  example='cache "my_server_cache_usage"'),
    ),
    example='load-report { every "1s"; }',
)  # fmt: skip

OUTLIER_EJECTION: Final = Directive(
    "outlier-ejection", "Leave out endpoints that fail real requests, for a while. A failure is an answer 5xx, or none.",
    children=(
        _one("failures", k.integer(0, 10_000), "So many failures in a row eject; 0: not looked at.", "5"),
        _one("interval", k.duration("50ms"), "How often endpoints are compared.", '"10s"'),
        _one("min-requests", k.integer(1, 1_000_000), "Endpoints with fewer requests in an interval are not compared.", "50"),
        _one("deviations", k.FACTOR, "A success rate so many standard deviations below the mean ejects; 0: not looked at.", "1.9"),
        _one("latency-factor", k.FACTOR, "A mean latency of so many times the median ejects; 0: not looked at.", "0"),
        _one("eject-for", k.duration("10ms"), "For how long, times how often it was ejected before.", '"30s"'),
        _one("max-eject-for", k.duration("10ms"), "And never longer than this.", '"5m"'),
        _one("max-ejected", k.PERCENT, "No more than this share of the endpoints is ejected at a time.", '"50%"'),
    ),
    example="outlier-ejection { failures 5; }",
)  # fmt: skip

CIRCUIT_BREAKER: Final = Directive(
    "circuit-breaker", "Stop asking who fails, and try again with few requests after a while. The state is the fleet's.",
    is_repeatable=True,
    children=(
        _one("scope", k.one_of("endpoint", "upstream"), "One for each endpoint, or one for all of them together.", '"endpoint"'),
        _one("failures", k.integer(0, 65_535), "So many failures in a row open it; 0: not looked at.", "5"),
        _one("error-rate", k.PERCENT, "This share of failures within the window opens it; `0%`: not looked at.", '"0%"'),
        _one("slow-call", k.duration(), "An answer that takes longer is slow.", example='slow-call "2s"'),
        _one("slow-rate", k.PERCENT, "With `slow-call`: this share of slow answers within the window opens it.", '"50%"'),
        _one("window", k.duration("100ms"), "What the two rates are taken over.", '"10s"'),
        _one("min-calls", k.integer(1, 65_535), "With fewer calls within the window the rates mean nothing.", "20"),
        _one("open-for", k.duration("10ms"), "How long nobody is let through.", '"10s"'),
        _one("max-open-for", k.duration("10ms"), "The time doubles with each failed trial, up to this. Without it: it does not.",
             example='max-open-for "5m"'),
        _one("probes", k.integer(1, 255), "So many requests are let through then; all must succeed.", "1"),
        _one("probe-timeout", k.duration("10ms"), "A trial without an outcome after so long is over, and another one begins.", '"30s"'),
    ),
    example='circuit-breaker { failures 5; open-for "10s"; }',
)  # fmt: skip

UPSTREAM_TLS: Final = Directive(
    "tls", "Speak TLS with the endpoints; `https://` before them does the same. An endpoint must show a certificate that is valid now, made out "
    "in its name, and vouched for by somebody who is trusted. Checks and load reports go over TLS too.",
    children=(
        _one("server-name", k.SERVER_NAME, "The name that the certificate must have, and that is sent as SNI. Without it: the endpoint's host.",
             example='server-name "api.example.com"'),
        _one("ca", k.FILE, "PEM file with the certificates of those who are trusted. Without it: whom the system trusts.",
             example='ca "tls/internal-ca.pem"'),
        _one("certificate", k.FILE, "PEM file with the certificate, and its chain, by which this gateway says who it is. It is read at each reload.",
             example='certificate "tls/gateway.pem"'),
        _one("key", k.FILE, "PEM file with the private key of that certificate.", example='key "tls/gateway.key"'),
        _one("min-version", k.one_of("1.2", "1.3"), "The oldest version of TLS that is spoken.", '"1.2"'),
        Directive("pin", "The public key of the endpoint's own certificate must be one of these, besides.", (Argument("keys", k.PIN, True),),
                  example='pin "sha256//r/mIkG3eEpVdm+u/ko/cwxzOMo1bk4TyHIlByibiA5E="'),
        _one("verify", k.one_of("on", "off"), "`off`: whoever answers is believed, so anybody on the way can read and change everything; `check` "
             "warns of it. With `pin`, the key alone decides.", '"on"'),
    ),
    example='tls { ca "tls/internal-ca.pem"; }',
)  # fmt: skip

UPSTREAM: Final = Directive(
    "upstream", "A group of endpoints that serve the same.", (Argument("name", k.NAME_KIND),), is_repeatable=True, key="name",
    children=(
        Directive("endpoint", "One address. A DNS name is resolved again and again, and all its addresses are used. After `https://` the port may "
                  "be left out (443), and TLS is spoken as by `tls`.",
                  (Argument("address", k.UPSTREAM_ENDPOINT),),
                  (Property("weight", k.integer(1, 1000), "Its share, relative to the other endpoints.", "1"),
                   Property("priority", k.integer(0, 15), "Endpoints of a higher number are used when those of lower ones "
                            "do not suffice.", "0"),
                   Property("locality", k.NAME_KIND, "Where it stands; see the upstream's `locality`.")),
                  is_repeatable=True, is_required=True, key="address", example='endpoint "10.0.0.7:8080" weight=2'),
        UPSTREAM_TLS,
        BALANCE,
        PROVIDER,
        STICKY_COOKIE,
        HEALTH_CHECK,
        LOAD_REPORT,
        OUTLIER_EJECTION,
        CIRCUIT_BREAKER,
        Directive("limits", "How much the fleet asks of it at a time. More is answered 503, or waits.", children=(
            _one("max-requests", k.integer(0, 1_000_000), "Requests in flight, of all workers; 0: no limit.", "0"),
            _one("max-endpoint-requests", k.integer(0, 1_000_000), "The same for each endpoint.", "0"),
            _one("max-pending", k.integer(0, 100_000), "How many requests of a worker wait for the two above.", "0"),
            _one("pending-timeout", k.duration("1ms"), "How long one waits at most.", '"1s"'),
        )),
        Directive("retry-budget", "How many retries the fleet may make: a share of all attempts, and so many a second besides. More "
                  "would only add to the load of an upstream that cannot bear it.",
                  (Argument("share", k.PERCENT),), (Property("min", k.RATE, "Retries that are allowed however few attempts there are.",
                                                             '"10/s"'),),
                  default='"20%"', example='retry-budget "20%" min="10/s"'),
        _one("locality", k.NAME_KIND, "Where this gateway stands: endpoints of the same `locality` are used before others of the "
             "same priority.", example='locality "eu-1"'),
        _one("panic-threshold", k.PERCENT, "With fewer usable endpoints than this, all are used, whatever their health; `0%`: never.",
             '"0%"'),
        _one("slow-start", k.duration("0s"), "How long an endpoint that became healthy gets less than its share.", '"0s"'),
        Directive("timeouts", "How patient to be with an endpoint.", children=(
            _one("connect", k.duration(), "Time to connect; longer is answered 504.", '"5s"'),
            _one("tls-handshake", k.duration(), "Time for the TLS handshake, once it is connected; longer is answered 504.", '"5s"'),
            _one("first-byte", k.duration(), "Time from the request's end to the answer's first octet; longer is 504.", '"60s"'),
            _one("idle", k.duration(), "Time between two pieces of an answer.", '"60s"'),
        )),
        Directive("keepalive", "Connections that are kept for the next request.", children=(
            _one("timeout", k.duration("0s"), "How long one is kept unused.", '"60s"'),
            _one("connections", k.integer(0, 65_535), "How many unused ones are kept per worker.", "128"),
        )),
        _one("resolve-interval", k.duration("1s"), "How often DNS names are resolved again.", '"30s"'),
    ),
    example='upstream "api" { endpoint "127.0.0.1:9001"; }',
)  # fmt: skip

PASS_IDENTITY: Final = Directive(
    "pass-identity", "Tell the upstream who asks, in these headers. Under their names nothing that a client sends ever reaches an upstream, on any "
    "route, also spelt with `_`. What is not printable ASCII is percent-encoded, and so is `%`.", children=(
        Directive("header", "A header, and what it says: `subject`, `method` (of finding out who it is) or `claim:NAME`.",
                  (Argument("name", k.FIELD_NAME), Argument("part", k.IDENTITY_PART)), is_repeatable=True, is_required=True, key="name",
                  example='header "x-tenant" "claim:tenant"'),
    ),
    example='pass-identity { header "x-user" "subject"; header "x-tenant" "claim:tenant"; }',
)  # fmt: skip
FORWARD_CREDENTIAL: Final = _one(
    "forward-credential", k.BOOLEAN, "Send what the client showed to the upstream too. Without it that is left off, wherever a route that names this "
    "filter forwards to.", "false",
)  # fmt: skip

API_KEY: Final = Directive(
    "api-key", "Only who sends one of these keys may use the routes that name this filter; others are answered 401. Of several filters that find out "
    "who asks any one suffices.", (Argument("name", k.NAME_KIND),), is_repeatable=True, key="name",
    children=(
        Directive("key", "A client's key, as its hash; with several, each of them is good. `sentinelctl hash-key` makes both.",
                  (Argument("client", k.SUBJECT), Argument("hashes", k.KEY_DIGEST, True)),
                  children=(
            Directive("claim", "What else is known of this client, for `claim:NAME` of keys and headers.",
                      (Argument("name", k.CLAIM_NAME), Argument("value", k.CLAIM_VALUE)), is_repeatable=True, key="name",
                      example='claim "tenant" "acme"'),
        ), is_repeatable=True, is_required=True, key="client",
                  example='key "acme-web" "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b" { claim "tenant" "acme"; }'),
        Directive("read-from", "Where the key is: the first of these that the request has.", (Argument("places", k.CREDENTIAL_PLACE, True),),
                  default='"header:x-api-key"', example='read-from "header:x-api-key" "bearer"'),
        FORWARD_CREDENTIAL,
        PASS_IDENTITY,
    ),
    example='api-key "clients" { key "acme" (file)"acme.sha256"; }',
)  # fmt: skip

JWT: Final = Directive(
    "jwt", "Only who sends a token that this issuer has signed may use the routes that name this filter; others are answered 401. A token must be a JWT with a "
    "signature, `exp`, and the claim that says whom it is of.", (Argument("name", k.NAME_KIND),), is_repeatable=True, key="name",
    children=(
        _one("issuer", k.CLAIM_VALUE, "What its `iss` must be, to the letter.", is_required=True, example='issuer "https://login.example.com"'),
        Directive("audience", "One of these must be in its `aud`.", (Argument("names", k.CLAIM_VALUE, True),), is_required=True,
                  example='audience "https://api.example.com"'),
        Directive("algorithms", "By which it may be signed. `none` and shared secrets are never accepted.",
                  (Argument("names", k.one_of(*sorted(ALGORITHMS)), True),), is_required=True, example='algorithms "RS256" "ES256"'),
        Directive("keys", "The issuer's public keys, as a JWK set: from a file, or fetched by one worker for the fleet.", children=(
            _one("file", k.FILE, "This file, relative to the one that says it. It is read at each reload.", example='file "issuer-keys.json"'),
            _one("upstream", k.NAME_KIND, "From this upstream, as the upstream says: over TLS, from several endpoints. As long as nobody answers "
                 "the last set stays in use, over reloads too.", example='upstream "login"'),
            _one("path", k.TARGET, "With `upstream`: where.", '"/.well-known/jwks.json"'),
            _one("every", k.duration("100ms"), "With `upstream`: how often. A token of a key that is not there has the set fetched soon, at most once in ten seconds.", '"5m"'),
            _one("timeout", k.duration("1ms"), "With `upstream`: how long one attempt may take.", '"5s"'),
        ), example='keys { upstream "login"; path "/.well-known/jwks.json"; }'),
        _one("leeway", k.duration("0s"), "By how much clocks may differ: so much longer, and so much earlier, a token is valid.", '"30s"'),
        _one("subject", k.CLAIM_NAME, "The claim that says whom it is of.", '"sub"'),
        Directive("read-from", "Where the token is: the first of these that the request has.", (Argument("places", k.CREDENTIAL_PLACE, True),),
                  default='"bearer"', example='read-from "bearer" "query:access_token"'),
        FORWARD_CREDENTIAL,
        PASS_IDENTITY,
    ),
    example='jwt "tokens" { issuer "https://login.example.com"; audience "api"; algorithms "RS256"; keys { file "keys.json"; }; }',
)  # fmt: skip
MTLS: Final = Directive(
    "mtls", "Only who has shown a certificate may use the routes that name this filter; others are answered 401. Which certificates are admitted is said by "
    "the listener's `client-certificates`.", (Argument("name", k.NAME_KIND),), is_repeatable=True, key="name",
    children=(
        _one("subject", k.one_of(*PARTS), "What of the certificate says whom it is of: its first name with its kind before it (`name`, like `uri:spiffe://…`), its "
             "`subject`, its first name of one kind, or its SHA-256 (`fingerprint`). All of these are claims too.", '"name"'),
        PASS_IDENTITY,
    ),
    example='mtls "services" { subject "uri"; }',
)  # fmt: skip

BASIC: Final = Directive(
    "basic", "Only who sends one of these names with its password (HTTP's Basic) may use the routes that name this filter; others are answered 401. Passwords "
    "are verified aside, and who has shown his is known for five minutes.", (Argument("name", k.NAME_KIND),), is_repeatable=True, key="name",
    children=(
        Directive("user", "A name, and the hash of its password. `sentinelctl hash-password` makes it.",
                  (Argument("name", k.USER_NAME), Argument("hash", k.PASSWORD_HASH)),
                  children=(
            Directive("claim", "What else is known of this user, for `claim:NAME` of keys and headers.",
                      (Argument("name", k.CLAIM_NAME), Argument("value", k.CLAIM_VALUE)), is_repeatable=True, key="name",
                      example='claim "role" "operator"'),
        ), is_repeatable=True, is_required=True, key="name", example='user "alice" (file)"alice.scrypt"'),
        FORWARD_CREDENTIAL,
        PASS_IDENTITY,
    ),
    example='basic "staff" { user "alice" (file)"alice.scrypt"; }',
)  # fmt: skip

IP_ACCESS: Final = Directive(
    "ip-access", "From where clients may come. The first line that has the client's address decides; others are answered 403, before anybody looks at who asks. "
    "Of several such filters of a route all must allow it.", (Argument("name", k.NAME_KIND),), is_repeatable=True, key="name",
    children=(
        Directive("allow", "Clients of these networks may.", (Argument("networks", k.NETWORK, True),), is_repeatable=True, example='allow "10.0.0.0/8" "2001:db8::/32"'),
        Directive("deny", "Clients of these networks may not.", (Argument("networks", k.NETWORK, True),), is_repeatable=True, example='deny "10.66.0.0/16"'),
        _one("otherwise", k.one_of("allow", "deny"), "Clients of no line.", '"deny"'),
    ),
    example='ip-access "office" { allow "10.0.0.0/8"; }',
)  # fmt: skip

RATE_LIMIT: Final = Directive(
    "rate-limit", "A limit that routes share by its name, exact over all workers, and kept over reloads.",
    (Argument("name", k.NAME_KIND),), is_repeatable=True, key="name",
    children=(
        _one("rate", k.RATE, "How many requests in how much time.", is_required=True, example='rate "100/s"'),
        _one("burst", k.integer(1, 1_000_000_000), "How many at once, after a pause. Without it: as many as in the time of "
             "the rate.", example="burst 20"),
        Directive("key", "What has a bucket of its own: each value of `client-ip`, `identity` or `claim:NAME` (of who asks, see `api-key`), "
                  "`header:NAME`, `cookie:NAME`, `query:NAME`, `path-segment:N`, `host`, `listener`, `method`, `route`, or of several together; `all`: one bucket for all. Requests "
                  "without the header (cookie, …) share one.", (Argument("parts", k.KEY_PART, True),), default='"client-ip"',
                  example='key "client-ip" "path-segment:1"'),
        _one("ipv4-prefix", k.integer(0, 32), "Clients of one IPv4 network of this length share a bucket.", "32"),
        _one("ipv6-prefix", k.integer(0, 128), "Clients of one IPv6 network of this length share a bucket.", "64"),
        _one("cost", k.integer(1, 1_000_000), "What one request takes from its bucket.", "1"),
        _one("on-limit", k.one_of("reject", "delay", "observe"), "Answer 429, let the request wait for its turn (see `max-delay`), or "
             "only write down that it would be refused.", '"reject"'),
        _one("max-delay", k.duration("1ms"), "How long a request may wait with `on-limit \"delay\"`; who would have to wait longer is "
             "answered 429.", '"1s"'),
        _one("max-waiting", k.integer(1, 1_000_000), "How many requests of one worker may wait at this limit; more are answered 429.",
             "100"),
        _one("when-full", k.one_of("admit", "reject"), "What happens while shared memory has no room for another key (see "
             "`limit-keys`): admit it uncounted, or answer 503. Keys that are limited are never forgotten for it.", '"admit"'),
        Directive("exempt", "Clients of these networks are not limited.", (Argument("networks", k.NETWORK, True),),
                  example='exempt "10.0.0.0/8"'),
    ),
    example='rate-limit "per-client" { rate "100/s"; burst 20; }',
)  # fmt: skip

CONCURRENCY_LIMIT: Final = Directive(
    "concurrency-limit", "How many requests of one key may be under way at the same time, exact over all workers. A tunnel is under way "
    "until it ends.", (Argument("name", k.NAME_KIND),), is_repeatable=True, key="name",
    children=(
        _one("max", k.integer(1, 1_000_000), "How many.", is_required=True, example="max 10"),
        Directive("key", "What is counted apart: as in `rate-limit`.", (Argument("parts", k.KEY_PART, True),), default='"client-ip"',
                  example='key "header:x-tenant"'),
        _one("ipv4-prefix", k.integer(0, 32), "Clients of one IPv4 network of this length are counted together.", "32"),
        _one("ipv6-prefix", k.integer(0, 128), "Clients of one IPv6 network of this length are counted together.", "64"),
        _one("on-limit", k.one_of("reject", "observe"), "Answer 429, or only write down that it would be.", '"reject"'),
        _one("when-full", k.one_of("admit", "reject"), "What happens while shared memory has no room for another key (see "
             "`lease-keys`): admit it uncounted, or answer 503. Keys that hold something are never forgotten for it.", '"admit"'),
        Directive("exempt", "Clients of these networks are not counted.", (Argument("networks", k.NETWORK, True),),
                  example='exempt "10.0.0.0/8"'),
    ),
    example='concurrency-limit "per-tenant" { max 10; key "header:x-tenant"; }',
)  # fmt: skip

TOKEN_LIMIT: Final = Directive(
    "token-limit", "How many tokens of language models, and how many requests, in how much time; exact over all workers, and kept over reloads. What a request may take "
    "at most is taken before it is sent on; what it did not take is given back. More is answered 429, and what never fits 413.",
    (Argument("name", k.NAME_KIND),), is_repeatable=True, key="name",
    children=(
        _one("tokens", k.RATE, "How many tokens in how much time, input and output together.", is_required=True, example='tokens "90000/m"'),
        _one("burst", k.integer(1, 1_000_000_000), "How many tokens at once, after a pause. Without it: as many as in the time of `tokens`.", example="burst 20000"),
        _one("requests", k.RATE, "How many requests in how much time, besides. They are not given back.", example='requests "500/m"'),
        _one("request-burst", k.integer(1, 1_000_000_000), "How many requests at once. Without it: as many as in the time of `requests`.", example="request-burst 50"),
        Directive("key", "What has buckets of its own: as in `token-budget`.", (Argument("parts", k.MODEL_KEY_PART, True),), default='"client-ip"',
                  example='key "header:x-tenant" "model"'),
        _one("ipv4-prefix", k.integer(0, 32), "Clients of one IPv4 network of this length share buckets.", "32"),
        _one("ipv6-prefix", k.integer(0, 128), "Clients of one IPv6 network of this length share buckets.", "64"),
        _one("on-limit", k.one_of("reject", "observe"), "Answer 429, or only write down that it would be.", '"reject"'),
        _one("when-full", k.one_of("admit", "reject"), "What happens while shared memory has no room for another key (see `limit-keys`): admit it "
             "uncounted, or answer 503. Keys that are limited are never forgotten for it.", '"admit"'),
        Directive("exempt", "Clients of these networks are not limited.", (Argument("networks", k.NETWORK, True),), example='exempt "10.0.0.0/8"'),
    ),
    example='token-limit "per-tenant" { tokens "90000/m"; requests "500/m"; key "header:x-tenant"; }',
)  # fmt: skip

TOKEN_BUDGET: Final = Directive(
    "token-budget", "How many tokens of language models may be taken in a window of the calendar, or how much money they may cost, exact over all workers, and "
    "kept over reloads. What a request may take at most is put aside before it is sent on; what it did not take comes back.",
    (Argument("name", k.NAME_KIND),), is_repeatable=True, key="name",
    children=(
        _one("tokens", k.integer(1, 1_000_000_000_000), "How many, input and output together.", example="tokens 1000000"),
        _one("money", k.MONEY, "How much, in the currency of the price book (see `prices`), instead of `tokens`: what they cost by their kind.",
             example='money "25.00"'),
        _one("unpriced", k.one_of("reject", "admit"), "With `money`: what happens to a request whose model has no price today: answer 400, or let it "
             "pass uncounted. A budget that only observes passes it.", '"reject"'),
        Directive("warn-at", "Percentages of the amount from which on somebody is told: each request in its trace (`budget-warned`) and in a counter, and "
                  "once for each window in control's log and in the audit log.", (Argument("percentages", k.integer(1, 1000), True),),
                  (Property("header", k.BOOLEAN, "Tell clients too, in `x-sentinel-budget-warning`.", "false"),),
                  example="warn-at 80 95 header=true"),
        _one("per", k.one_of("hour", "day", "week", "month"), "The window. Weeks begin on Monday.", '"day"'),
        _one("time-zone", k.TIME_ZONE, "Where the clock hangs by which windows begin.", '"UTC"'),
        _one("rolling", k.duration("1m"), "Instead of `per`: the window is always the last so much time. It moves on by a 24th of it: what was spent counts for that much longer, "
             "at most, and never for less.", example='rolling "24h"'),
        _one("rollover", k.PERCENT, "What was not used of the last window's own amount is added to this one, up to this share of the amount.", example='rollover "20%"'),
        Directive("key", "What has a budget of its own: as in `rate-limit`, or `model`. With a price book, models that are not in it share one.",
                  (Argument("parts", k.MODEL_KEY_PART, True),), default='"client-ip"',
                  example='key "header:x-tenant"'),
        _one("ipv4-prefix", k.integer(0, 32), "Clients of one IPv4 network of this length share a budget.", "32"),
        _one("ipv6-prefix", k.integer(0, 128), "Clients of one IPv6 network of this length share a budget.", "64"),
        _one("on-limit", k.one_of("reject", "observe"), "Answer 429, or only write down that it would be.", '"reject"'),
        _one("on-outgrown", k.one_of("continue", "end"), "What becomes of a stream that takes more than was put aside when the budget has no more: it goes on, and "
             "overdraws the budget, or it is ended with an error in its own dialect, after what has come.", '"continue"'),
        _one("when-full", k.one_of("admit", "reject"), "What happens while shared memory has no room for another key: admit it "
             "uncounted, or answer 503. Keys whose window runs are never forgotten for it.", '"admit"'),
        Directive("exempt", "Clients of these networks have no budget here.", (Argument("networks", k.NETWORK, True),),
                  example='exempt "10.0.0.0/8"'),
    ),
    example='token-budget "per-tenant" { tokens 1000000; per "day"; key "header:x-tenant"; }',
)  # fmt: skip

GUARDRAIL: Final = Directive(
    "guardrail", "What is looked for in the texts that language models read and say, and what is done about it. What is found is written down nowhere: "
    "only its kind, and how often.", (Argument("name", k.NAME_KIND),), is_repeatable=True, key="name",
    children=(
        Directive("detect", "What is known by its shape. `credit-card` and `iban` only with the right check digits; `secret`: keys of clouds, model "
                  "providers, forges and chats by their beginning, and JSON web tokens.", (Argument("kinds", k.one_of(*FOUND_KINDS), True),),
                  example='detect "email" "credit-card" "iban"'),
        Directive("pattern", "A pattern of your own, found anywhere in a text. Its repeats have bounds, so that what is found is at most 256 characters long.",
                  (Argument("name", k.NAME_KIND), Argument("pattern", k.SEARCH)), is_repeatable=True, key="name", example='pattern "ticket" "PROJ-[0-9]{4,6}"'),
        Directive("words", "Words and phrases, found whole and whatever their case.", (Argument("name", k.NAME_KIND), Argument("words", k.PHRASE, True)),
                  is_repeatable=True, key="name", example='words "codenames" "manta" "blue heron"'),
        Directive("on", "Where it is looked for: in what models are asked, in what they answer. Without it: in both.",
                  (Argument("sides", k.one_of("request", "response"), True),), example='on "request"'),
        _one("action", k.one_of("redact", "block", "observe"), "Put the `replacement` in its place; refuse, as the provider itself would (a stream that "
             "has begun is ended with an error); or only count and tell it.", '"redact"'),
        _one("replacement", k.REPLACEMENT, "With `redact`: what stands there instead. `{kind}` is the kind of what was found.", '"[{kind}]"'),
        _one("max-text", k.size("1KiB", "64MiB"), "Characters that are looked through, of all texts of a request, or of an answer that is no stream; more is "
             "`when-unreadable`.", '"1MiB"'),
        _one("when-unreadable", k.one_of("block", "pass"), "What happens to what cannot be read: in no known dialect, encoded, too long. Passing is "
             "told as `guardrail-skipped`.", '"block"'),
    ),
    example='guardrail "personal-data" { detect "email" "credit-card"; action "redact"; }',
)  # fmt: skip

PRICES: Final = Directive(
    "prices", "The price book: what tokens of language models cost. Changing it is a reload; its version is a hash of the prices, and is told with what "
    "they are used for.",
    children=(
        _one("currency", k.CURRENCY_KIND, "What prices are in. A `file` may say it too.", example='currency "USD"'),
        _one("file", k.FILE, "Read more prices from this JSON file, relative to the file that says it: `currency`, and `prices` in whole micro-units "
             "for a million tokens. Prices that stand here go first.", example='file "prices.json"'),
        Directive("price", "What a million tokens of these models cost. Of several lines that fit a model, the most specific one holds.",
                  (Argument("models", k.MODEL, True),), children=(
            _one("input", k.PRICE, "Tokens that are read.", is_required=True, example='input "2.50"'),
            _one("output", k.PRICE, "Tokens that are made.", is_required=True, example='output "10.00"'),
            _one("cached-input", k.PRICE, "Input that came from the provider's cache. Without it: as `input`.", example='cached-input "1.25"'),
            _one("cache-write", k.PRICE, "Input that was written into the cache. Without it: as `input`.", example='cache-write "3.125"'),
            _one("cache-write-long", k.PRICE, "The same for an hour. Without it: as `cache-write`.", example='cache-write-long "5.00"'),
            _one("audio-input", k.PRICE, "Sound that was heard. Without it: as `input`.", example='audio-input "40.00"'),
            _one("reasoning", k.PRICE, "Thoughts. Without it: as `output`.", example='reasoning "10.00"'),
            _one("audio-output", k.PRICE, "Sound that was made. Without it: as `output`.", example='audio-output "80.00"'),
            _one("from", k.DAY, "The first day (UTC) on which it holds. Without it: always.", example='from "2026-01-01"'),
            _one("until", k.DAY, "The first day on which it holds no more. Without it: for ever.", example='until "2027-01-01"'),
        ), is_repeatable=True, example='price "gpt-4o" "gpt-4o-2*" { input "2.50"; cached-input "1.25"; output "10.00"; }'),
    ),
    example='prices { currency "USD"; price "gpt-*" { input "2.50"; output "10"; }; }',
)  # fmt: skip

STATE: Final = Directive(
    "state", "What is assumed of the fleet from here on. What is not mentioned is as it was; at the beginning endpoints are usable and "
    "idle, buckets full, and nothing is held.",
    children=(
        Directive("endpoint", "How an endpoint stands.",
                  (Argument("address", k.ENDPOINT), Argument("standing", k.one_of(
                      "usable", "draining", "maintenance", "unhealthy", "ejected", "breaker-open", "unresolved", "warming-up"), is_optional=True)),
                  (Property("upstream", k.NAME_KIND, "Of which upstream; needed where several have this address."),
                   Property("in-flight", k.integer(0, 1_000_000), "Requests under way there.", "0"),
                   Property("latency", k.duration("0s"), 'Its measured latency, for `balance "peak-ewma"`.', '"0s"'),
                   Property("tokens", k.integer(0, 2_000_000_000), "Tokens of language models under way there, for `balance \"least-tokens\"`.", "0"),
                   Property("waiting", k.integer(0, 1_000_000), "What it reports, for `balance \"least-load\"`: requests that wait."),
                   Property("cache", k.PERCENT, "And the part of its cache that is in use."),
                   Property("models", k.TEXT, "The models that it serves, with blanks between them. Without it: nobody knows.")),
                  is_repeatable=True, example='endpoint "127.0.0.1:9001" "ejected"'),
        Directive("upstream", "An upstream as a whole.",
                  (Argument("name", k.NAME_KIND), Argument("breaker", k.one_of("breaker-open"), is_optional=True)),
                  (Property("in-flight", k.integer(0, 100_000_000), "Requests under way. Without it: as many as at its endpoints."),
                   Property("turn", k.integer(0, 1_000_000), "Whose turn it is, where endpoints take turns; 0: the first one's.", "0"),
                   Property("answers", k.TRY_END, "How tries there end, for `fallback` of models: a status, `connect-failure`, `reset`, "
                            "`timeout` or `malformed`. Without it: well.")),
                  is_repeatable=True, example='upstream "api" "breaker-open"'),
        Directive("limit", "A bucket of a rate limit or of a token limit's tokens, named by a value for each part of the limit's key, in the order in which "
                  "`sentinelctl limits` shows them.",
                  (Argument("limit", k.NAME_KIND), Argument("key", k.TEXT, True, True)),
                  (Property("remaining", k.integer(0, 1_000_000_000), "How many requests of cost 1, or tokens, it still admits.", "0"),),
                  is_repeatable=True, example='limit "per-client" "192.0.2.7" remaining=0'),
        Directive("held", "What is under way under a key of a concurrency limit, named as in `limit`.",
                  (Argument("limit", k.NAME_KIND), Argument("key", k.TEXT, True, True)),
                  (Property("count", k.integer(0, 1_000_000), "How many.", "1"),),
                  is_repeatable=True, example='held "uploads" "acme" count=5'),
        Directive("spent", "What of a token budget is used in the window that is open, named as in `limit`.",
                  (Argument("budget", k.NAME_KIND), Argument("key", k.TEXT, True, True)),
                  (Property("tokens", k.integer(0, 1_000_000_000_000), "How many.", "0"),
                   Property("money", k.SPENT_MONEY, "Of a budget of money: how much.", '"0"')),
                  is_repeatable=True, example='spent "per-tenant" "acme" tokens=999000'),
        Directive("tokens", "What requests to language models ask for from here on. Without it: no input, and `default-output-tokens`.",
                  props=(Property("model", k.MODEL, "Of which model.", '"model"'),
                         Property("input", k.integer(0, 1_000_000_000), "Tokens of input.", "0"),
                         Property("output", k.integer(0, 1_000_000_000), "Tokens of output at most.", "0"),
                         Property("prompt", k.TEXT, 'For `balance "prefix-affinity"`: any text. Prompts with the same one begin alike.')),
                  example="tokens input=1200 output=500"),
        _one("untranslatable", k.TEXT, "Requests to language models say something there that cannot be said in another `dialect`, from here on; "
             '"": they do not.', example='untranslatable "$.seed"'),
        Directive("found", "What a guardrail finds in the texts of requests from here on: kinds by name, or nothing.",
                  (Argument("guardrail", k.NAME_KIND), Argument("kinds", k.NAME_KIND, True, True)),
                  (Property("unreadable", k.BOOLEAN, "It cannot read them.", "false"),),
                  is_repeatable=True, example='found "personal-data" "email"'),
        Directive("identity", "What a filter that finds out who asks comes to, from here on: who it is, and for some filters claims, each as its name and "
                  "its value. Without it, what requests show is looked at.",
                  (Argument("filter", k.NAME_KIND), Argument("subject", k.SUBJECT, is_optional=True), Argument("claims", k.CLAIM_VALUE, True, True)),
                  (Property("refused", k.REASON, "It lets nobody in, for this reason. Without it, and without a subject: nothing is shown."),),
                  is_repeatable=True, key="filter", example='identity "clients" "acme-web"'),
        Directive("waiting", "How many requests wait for their turn at a rate limit that delays.",
                  (Argument("limit", k.NAME_KIND), Argument("count", k.integer(0, 1_000_000))),
                  is_repeatable=True, example='waiting "per-client" 100'),
        _one("chance", k.integer(0, 1_000_000_000), "Throw other dice: where chance decides (a `split` without key, `balance` "
             '"random"), another number may lead elsewhere, and the same number always leads to the same.', example="chance 7"),
        _one("at", k.MOMENT, "The time of day, for the age of cookies.", example='at "2026-03-29T12:00:00Z"'),
    ),
    is_repeatable=True, example='state { endpoint "127.0.0.1:9001" "ejected"; }',
)  # fmt: skip

EXPECT: Final = Directive(
    "expect", "What must come of the request before it. All that is said must hold.",
    props=(
        Property("from", k.integer(1, 100_000), "With `times`: of the repetitions from this one on.", "1"),
        Property("to", k.integer(1, 100_000), "With `times`: up to this one. Without it: up to the last."),
    ),
    children=(
        _one("route", k.NAME_KIND, "The route that matches.", example='route "api"'),
        _one("verdict", k.one_of("forward", "respond", "reject"), "What happens.", example='verdict "forward"'),
        Directive("status", "The status of the answer that the gateway makes itself is one of these.",
                  (Argument("statuses", k.STATUSES, True),), example="status 429"),
        _one("reason", k.TEXT, "The reason of the end, as in `x-sentinel-reason`.", example='reason "rate-limited"'),
        _one("upstream", k.NAME_KIND, "The upstream that it goes to.", example='upstream "api"'),
        Directive("endpoint", "The endpoint that it goes to is one of these.", (Argument("addresses", k.ENDPOINT, True),),
                  example='endpoint "127.0.0.1:9001"'),
        Directive("step", "The decision has a step with this reason.", (Argument("reason", k.TEXT),), is_repeatable=True,
                  example='step "would-be-limited"'),
        Directive("header", "The answer has this header, as far as the gateway writes it; with a value: with this value.",
                  (Argument("name", k.FIELD_NAME), Argument("value", k.FIELD_VALUE_KIND, is_optional=True)), is_repeatable=True,
                  example='header "retry-after" "1"'),
        Directive("no-header", "The gateway does not write this header into the answer.", (Argument("name", k.FIELD_NAME),),
                  is_repeatable=True, example='no-header "retry-after"'),
        Directive("upstream-header", "The upstream is sent this header; with a value: with this value.",
                  (Argument("name", k.FIELD_NAME), Argument("value", k.FIELD_VALUE_KIND, is_optional=True)), is_repeatable=True,
                  example='upstream-header "x-forwarded-for" "192.0.2.7"'),
        Directive("no-upstream-header", "The upstream is not sent this header.", (Argument("name", k.FIELD_NAME),),
                  is_repeatable=True, example='no-upstream-header "x-forwarded-user"'),
    ),
    is_repeatable=True, is_required=True, example='expect { route "api"; status 429; }',
)  # fmt: skip

CASE: Final = Directive(
    "case", "Requests in their order, and what must come of each. A case begins with a fleet at rest; what its requests take from "
    "limits stays taken.", (Argument("name", k.TEXT),), is_repeatable=True, key="name",
    children=(
        _one("client-ip", k.ADDRESS, "The address that connects.", '"127.0.0.1"'),
        _one("listener", k.NAME_KIND, "Where the requests arrive. Without it: as scheme and port of the URL say.",
             example='listener "web"'),
        STATE,
        Directive("request", "A request: a method and a URL, or a path.", (Argument("request", k.REQUEST),),
                  (Property("times", k.integer(1, 100_000), "So often, one after the other.", "1"),
                   Property("every", k.duration("0s"), "So much time from one to the next.", '"0s"'),
                   Property("after", k.duration("0s"), "So much time passes before the first.", '"0s"')),
                  (Directive("header", "A header of it.", (Argument("name", k.FIELD_NAME), Argument("value", k.FIELD_VALUE_KIND)),
                             is_repeatable=True, example='header "x-tenant" "acme"'),
                   _one("client-ip", k.ADDRESS, "The address that connects, for this request.", example='client-ip "192.0.2.7"'),
                   _one("body-size", k.size("0B", "1024TiB"), "How long its body is. Without it: it has none.", example='body-size "2MiB"')),
                  is_repeatable=True, is_required=True, example='request "GET https://api.example.com/v1" times=21'),
        EXPECT,
    ),
    example='case "health is public" { request "GET /healthz"; expect { status 200; }; }',
)  # fmt: skip

ROOT: Final = Directive(
    "", "A configuration file.",
    children=(
        Directive("schema-version", "The version of this vocabulary; the first node of the main file.",
                  (Argument("version", k.TEXT),), example=f'schema-version "{VERSION}"'),
        SYSTEM,
        ADMIN,
        Directive("listeners", "Where clients are served.", children=(LISTENER,), is_table=True),
        Directive("routes", "What happens to requests.", children=(ROUTE,), is_table=True),
        Directive("filters", "What routes may ask of requests.", children=(IP_ACCESS, API_KEY, JWT, MTLS, BASIC, RATE_LIMIT, CONCURRENCY_LIMIT, TOKEN_LIMIT, TOKEN_BUDGET, GUARDRAIL),
                  is_table=True),
        Directive("upstreams", "Where requests are forwarded to.", children=(UPSTREAM,), is_table=True),
        PRICES,
        Directive("tests", "Policy tests: what this configuration shall do, for `sentinelctl test`. They are no part of the plan that "
                  "workers get.", children=(CASE,), is_table=True),
    ),
)  # fmt: skip

INCLUDE: Final = Directive(
    "include", "Read these files here. The pattern is relative to the file that says it; files come in the order of their "
    "names. Allowed in a file and in `listeners`, `routes`, `filters`, `upstreams` and `tests`.", (Argument("pattern", k.FILE),),
    example='include "conf.d/*.kdl"', is_repeatable=True,
)  # fmt: skip


def schema_json() -> dict[str, Any]:
    """The table for programs: what `sentinelctl schema` prints."""
    return {"version": VERSION, "include": _document(INCLUDE), "directives": [_document(one) for one in ROOT.children]}


def _document(one: Directive) -> dict[str, Any]:
    document: dict[str, Any] = {"name": one.name, "doc": one.doc}
    if one.args:
        document["arguments"] = [
            {"name": arg.name, **_kind(arg.kind), "list": arg.is_list, "optional": arg.is_optional} for arg in one.args
        ]
    if one.props:
        document["properties"] = [
            {"name": prop.name, **_kind(prop.kind), "doc": prop.doc, "default": prop.default} for prop in one.props
        ]
    document |= {"default": one.default, "repeatable": one.is_repeatable, "required": one.is_required}
    if one.example:
        document["example"] = one.example
    if one.is_recursive:
        document["recursive"] = True
    if one.children:
        document["children"] = [_document(child) for child in one.children]
    return document


def _kind(kind: Kind) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": kind.name, "expects": kind.expects}
    if kind.words:
        found["words"] = list(kind.words)
    if kind.unit:
        found["units"] = kind.unit.split(", ")
    return found
