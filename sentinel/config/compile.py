"""From checked blocks to a plan: what directives mean together.

Here is everything that the table cannot say: references between directives, what
excludes what, addresses that collide, certificates that do not fit. Each function
turns one kind of block into its part of the plan, and reports what is wrong with it;
a plan is made only if nothing was wrong anywhere.

Rule 1: a faulty block may have None where a value could not be read. Comparisons across
    blocks skip those; nobody is told twice.
Rule 2: names resolve over all files. The place of a problem is where the name is used,
    the place of what it collides with is told beside it.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

from sentinel.config.check import Block, meant
from sentinel.config.guarding import compile_guardrail, unread_guardrails
from sentinel.config.identities import (
    AUTHENTICATORS,
    check_certificates,
    check_doors,
    check_who,
    compile_api_key,
    compile_basic,
    compile_ip_access,
    compile_jwt,
    compile_mtls,
    with_claims,
)
from sentinel.config.pricing import read_book
from sentinel.config.problem import Problems
from sentinel.config.providers import check_providers, compile_provider, credentials_of
from sentinel.config.server_tls import MakeTlsFiles, TlsFiles, checked_files, compile_server_tls, uncovered_hosts
from sentinel.config.source import Source
from sentinel.config.to_https import redirect_routes, transport_security
from sentinel.config.upstreams import compile_upstream
from sentinel.core import plan as p
from sentinel.core.budgets import is_name, unit_name
from sentinel.core.globs import Glob
from sentinel.core.prices import PriceBook
from sentinel.core.secured import PARTS
from sentinel.core.span import NOWHERE, Span
from sentinel.core.wishes import BY_TOKENS

LISTENERS_MAX = 64
MODELS_MAX = 1000
SUBSTITUTES_MAX = 8
FALLBACK_ON = ("connect-failure", "reset", "timeout", "5xx", "429", "breaker-open", "no-endpoint", "budget")
ROLLING_MAX_NS = 31 * 86_400 * p.SECOND
BUCKET_MAX_NS = 3650 * 86_400 * p.SECOND


@dataclass(frozen=True, slots=True)
class Compiler:
    """Compiles one configuration. `secrets` are redacted in every dump."""

    problems: Problems
    warnings: Problems
    source: Source
    now_s: float
    tls_files: MakeTlsFiles = checked_files

    def plan(self, root: Block, secrets: set[str], sources: tuple[str, ...]) -> p.Plan:
        """The plan; it means something only if no problem was reported."""
        system, admin = root.one("system"), root.one("admin")
        listeners = self._listeners(root)
        groups = root.one("upstreams").all("upstream")
        upstreams = tuple(compile_upstream(block, self.problems, self.warnings, self._files()) for block in groups)
        limits = tuple(self._rate_limit(block) for block in root.one("filters").all("rate-limit"))
        ceilings = tuple(_concurrency_limit(block) for block in root.one("filters").all("concurrency-limit"))
        prices = self._prices(root)
        budgets = tuple(
            self._token_budget(block, prices, root.has("prices")) for block in root.one("filters").all("token-budget")
        )
        throttles = tuple(self._token_limit(block) for block in root.one("filters").all("token-limit"))
        guardrails = tuple(compile_guardrail(block, self.problems) for block in root.one("filters").all("guardrail"))
        api_keys = tuple(compile_api_key(block, self.problems) for block in root.one("filters").all("api-key"))
        jwts = with_claims(root, tuple(
            compile_jwt(block, {one.name for one in upstreams}, self.source, self.problems)
            for block in root.one("filters").all("jwt")
        ))  # fmt: skip
        mtls = tuple(compile_mtls(block, self.problems) for block in root.one("filters").all("mtls"))
        mtls = with_claims(root, mtls, PARTS)
        basics = tuple(compile_basic(block, self.problems) for block in root.one("filters").all("basic"))
        lists = tuple(compile_ip_access(block, self.problems) for block in root.one("filters").all("ip-access"))
        self._filter_names(root.one("filters"))
        counted = {one.name for one in budgets} | {one.name for one in throttles}
        filters = {one.name for one in limits} | {one.name for one in ceilings} | counted
        filters |= {one.name for one in guardrails} | {one.name for one in api_keys}
        filters |= {one.name for one in jwts} | {one.name for one in mtls}
        filters |= {one.name for one in basics} | {one.name for one in lists}
        names = {one.name for one in listeners}, {one.name for one in upstreams}, filters, counted
        routes = tuple(self._route(block, order, *names) for order, block in enumerate(root.one("routes").all("route")))
        routes += tuple(redirect_routes(root.one("listeners").all("listener"), len(routes), self.problems))
        self._uncounted(root, (*budgets, *throttles))
        unread_guardrails(root, guardrails, self.problems)
        self._unweighed(root, routes)
        self._unused(root, listeners, routes)
        uncovered_hosts(listeners, routes, self.warnings)
        if budgets and not system.value("state-dir") and not system.value("ledger"):
            self.warnings.add(
                budgets[0].span, "a reboot forgets what was spent of budgets: there is no `state-dir`",
                'add `system { state-dir "/var/lib/sentinel"; }`',
            )  # fmt: skip
        self._nobody_else(routes, upstreams)
        check_providers(routes, upstreams, self.problems)
        secrets = secrets | set(credentials_of(routes, upstreams)) | {system.value("ledger") or ""} - {""}
        self._journal_fits(system.one("journal"), {route.name for route in routes})
        plan = p.Plan(
            version=p.PLAN_VERSION, system=_system(system), admin=self._admin(admin), listeners=listeners,
            routes=routes, upstreams=upstreams, rate_limits=limits,
            concurrency_limits=ceilings, token_budgets=budgets, token_limits=throttles, guardrails=guardrails,
            api_keys=api_keys, jwts=jwts, mtls=mtls, basics=basics, address_lists=lists, prices=prices,
            sources=sources, secrets=tuple(sorted(secrets)),
        )  # fmt: skip
        check_who(root, plan, self.problems)
        check_certificates(root, plan, self.problems)
        check_doors(root, plan, self.problems, self.warnings)
        return plan

    def _files(self) -> TlsFiles:
        return self.tls_files(self.source, self.problems, self.warnings, self.now_s)

    def _admin(self, block: Block) -> p.Admin:
        address = block.value("address")
        token = block.value("token") if block.has("token") else ""
        host, port = address or ("127.0.0.1", 0)
        span = block.one("address").span
        if not ipaddress.ip_address(host).is_loopback and not block.has("token"):
            self.problems.add(
                span, f"the admin API on {host} can be reached from other machines, and has no token",
                'add `token (env)"SENTINEL_TOKEN"`, or listen on "127.0.0.1"',
            )  # fmt: skip
        return p.Admin(address=_joined(host, port), token=token or "", address_span=span)

    def _journal_fits(self, block: Block, routes: set[str]) -> None:
        """What is kept of the journal must be in it, and a route that it names must be there."""
        file = block.one("file")
        if block.has("file") and block.value("records") == 0:
            self.problems.add(
                file.span, "nothing is recorded, so nothing can be kept",
                "give `records` a number above 0, or remove `file`",
                [(block.one("records").span, "none are recorded")],
            )  # fmt: skip
        for keep in file.all("keep"):
            name = keep.props.get("route")
            if name and name not in routes:
                self.problems.add(keep.span, f'there is no route "{name}"', meant(name, sorted(routes)))

    def _listeners(self, root: Block) -> tuple[p.Listener, ...]:
        blocks = list(root.one("listeners").all("listener"))
        if not blocks and not root.is_faulty:
            self.problems.add(
                root.span, "there is no listener, so nobody could be served",
                'add `listeners { listener "web" { address "127.0.0.1:8080"; }; }`',
            )  # fmt: skip
        if len(blocks) > LISTENERS_MAX:
            self.problems.add(
                blocks[LISTENERS_MAX].span, f"more than {LISTENERS_MAX} listeners", "use routes by host instead"
            )
        self._collisions(blocks, root.one("admin"))
        return tuple(self._listener(block) for block in blocks)

    def _collisions(self, blocks: list[Block], admin: Block) -> None:
        """Two doors at one place; every address of a machine is also that of `*`."""
        taken: dict[int, list[tuple[str, Span]]] = {}
        if admin.value("address"):
            host, port = admin.value("address")
            taken[port] = [(host, admin.one("address").span)]
        for block in blocks:
            address = block.one("address")
            if not address.args or address.args[0] is None:
                continue
            host, port = address.args[0]
            for other, span in taken.get(port, ()):
                if other == host or _covers(host, other) or _covers(other, host):
                    what = "the other one" if span.file else "it is the admin API's unless `admin` says otherwise"
                    self.problems.add(
                        address.span, f"{_joined(host, port)} is taken already", "choose another port",
                        [(span, what)] if span.file else [(address.span, what)],
                    )  # fmt: skip
                    break
            taken.setdefault(port, []).append((host, address.span))

    def _listener(self, block: Block) -> p.Listener:
        host, port = block.value("address") or ("", 0)
        limits, paths = block.one("limits"), block.one("paths")
        tls = block.one("tls")
        proxies = block.one("trusted-proxies")
        trusted = tuple(one for one in proxies.args if one) if block.has("trusted-proxies") else ()
        if block.value("proxy-protocol") not in (None, "off") and not trusted and not block.is_faulty:
            self.problems.add(
                block.one("proxy-protocol").span, "nobody's PROXY header would be believed",
                'say who may send one, e.g. `trusted-proxies "10.0.0.0/8"`',
            )  # fmt: skip
        if block.value("trusted-hops") and not trusted and not block.is_faulty:
            self.problems.add(
                block.one("trusted-hops").span, "`trusted-hops` has no effect without `trusted-proxies`",
                'say who may send X-Forwarded-For, e.g. `trusted-proxies "10.0.0.0/8"`',
            )  # fmt: skip
        return p.Listener(
            name=block.args[0] if block.args else "", host=host, port=port,
            tls=compile_server_tls(tls, self._files(), self.problems) if block.has("tls") else None,
            max_header_bytes=limits.value("max-header-size"), max_headers=limits.value("max-headers"),
            max_uri_bytes=limits.value("max-uri-size"), max_body_bytes=limits.value("max-body-size"),
            header_timeout_ns=limits.value("header-timeout"), body_timeout_ns=limits.value("body-timeout"),
            write_timeout_ns=limits.value("write-timeout"), idle_timeout_ns=limits.value("idle-timeout"),
            max_connections=limits.value("max-connections"), connection_limit=self._connection_limit(block),
            max_open_requests=limits.value("max-open-requests"), max_requests=limits.value("max-requests"),
            trusted_proxies=trusted, trusted_hops=block.value("trusted-hops"),
            proxy_protocol=block.value("proxy-protocol"),
            path_rules=p.PathRules(
                encoded_slash=paths.value("encoded-slash"), double_slash=paths.value("double-slash"),
                dot_segments=paths.value("dot-segments"), parameters=paths.value("parameters"),
            ),
            transport_security=transport_security(block, self.problems), span=block.span,
        )  # fmt: skip

    def _route(
        self, block: Block, order: int, listeners: set[str], upstreams: set[str], limits: set[str], budgets: set[str]
    ) -> p.Route:
        name = block.args[0] if block.args and block.args[0] else ""
        said = [one for one in ("respond", "upstream", "split") if block.has(one)]
        is_answered = "respond" in said
        is_forwarded = "upstream" in said or "split" in said or block.has("models")
        has_models = block.has("models")
        for other in said[1:]:
            self.problems.add(
                block.one(other).span, f"route \"{name}\" has both `{said[0]}` and `{other}`", "remove one of the two",
                [(block.one(said[0]).span, "the other one")],
            )  # fmt: skip
        if not said and not has_models and not block.is_faulty:
            self.problems.add(
                block.span, f"route \"{name}\" does nothing with what it matches",
                'add `upstream "name"`, or `respond 404 body="nothing here"`',
            )  # fmt: skip
        if is_answered and block.has("timeout") and not is_forwarded:
            self.problems.add(
                block.one("timeout").span, "`timeout` has no effect where nothing is forwarded", "remove it"
            )
        if block.has("retry") and not is_forwarded and not block.is_faulty:
            self.problems.add(block.one("retry").span, "`retry` has no effect where nothing is forwarded", "remove it")
        if block.has("retry"):
            self._hedge(block, block.one("retry"))
        for shadow in block.all("shadow"):
            self._shadow(block, shadow, is_forwarded, upstreams)
        self._reference(block.one("upstream"), upstreams, "upstream")
        filters = block.one("filters")
        if block.has("filters"):
            who = ", ".join(AUTHENTICATORS)
            what = f"ip-access, {who}, rate-limit, concurrency-limit, token-limit, token-budget or guardrail"
            self._reference(filters, limits, what, "filters", "rate-limit")
            for wanted, span in zip(filters.args, filters.arg_spans, strict=True):
                if wanted is not None and filters.args.count(wanted) > 1:
                    remedy = "name it once; a rate limit has a `cost`"
                    self.problems.add(span, f"`{wanted}` is asked twice here", remedy)
        served = block.one("listeners")
        if block.has("listeners"):
            self._reference(served, listeners, "listener")
        return p.Route(
            name=name, matches=tuple(self._match(one) for one in block.all("matches")), order=order,
            priority=block.value("priority") or 0, listeners=tuple(one for one in served.args if one),
            filters=tuple(one for one in filters.args if one),
            respond=_respond(block.one("respond")) if is_answered else None,
            upstream=block.value("upstream") if block.has("upstream") else None,
            split=self._split(block.one("split"), upstreams) if block.has("split") else None,
            shadows=tuple(
                p.Shadow(one.args[0] if one.args and one.args[0] else "", one.props["share"] or 0, one.span)
                for one in block.all("shadow")
            ),
            retry=_retry(block.one("retry")) if block.has("retry") else None,
            inference=_inference(block.one("inference")) if block.has("inference") else None,
            models=self._models(block, upstreams, budgets) if has_models else None,
            timeout_ns=block.value("timeout") or 0,
            max_body_bytes=-1 if (size := block.value("max-body-size")) is None else size, span=block.span,
        )  # fmt: skip

    def _uncounted(self, root: Block, budgets: tuple[p.TokenBudget | p.TokenLimit, ...]) -> None:
        """Budgets where nobody reads requests, and what is said of requests that nobody reads."""
        known = {one.name: one for one in budgets}
        for route in root.one("routes").all("route"):
            filters, inference = route.one("filters"), route.one("inference")
            asked = [(name, span) for name, span in zip(filters.args, filters.arg_spans, strict=True) if name in known]
            if not route.has("inference"):
                for name, span in asked:
                    self.problems.add(
                        span, f"`{name}` counts tokens, and the route does not say that it is for language models",
                        "add `inference` to the route", [(known[name].span, "where it says so")],
                    )  # fmt: skip
                continue
            is_forwarded = route.has("upstream") or route.has("split") or route.has("models")
            if not is_forwarded and not route.is_faulty:
                self.problems.add(inference.span, "`inference` has no effect where nothing is forwarded", "remove it")
            for shadow in route.all("shadow"):
                self.problems.add(
                    shadow.span, "copies of requests to language models would take tokens that nobody counts",
                    "remove the `shadow`, or the `inference`", [(inference.span, "the `inference`")],
                )  # fmt: skip
            models = route.one("models")
            if inference.has("unrecognised") and route.has("models") and models.value("unknown") == "reject":
                self.problems.add(
                    inference.one("unrecognised").span,
                    "`unrecognised` has no effect: `models` refuses what it cannot read",
                    "remove it, or say `unknown \"forward\"` in `models`", [(models.span, "the `models`")],
                )  # fmt: skip
            elif inference.has("unrecognised") and not any(known[name].on_limit == "reject" for name, _ in asked):
                self.problems.add(
                    inference.one("unrecognised").span,
                    "`unrecognised` has no effect: no token-budget or token-limit of the route refuses",
                    "remove it, or name one in `filters`",
                )  # fmt: skip
            size = route.value("max-body-size")
            if size and inference.has("max-body-size") and inference.value("max-body-size") != size:
                self.problems.add(
                    inference.one("max-body-size").span,
                    "the route has another `max-body-size`, and the smaller one holds",
                    "remove one of the two", [(route.one("max-body-size").span, "the other one")],
                )  # fmt: skip

    def _unweighed(self, root: Block, routes: tuple[p.Route, ...]) -> None:
        """Upstreams that are balanced by what nobody reads."""
        read = {name for route in routes if route.inference is not None for name in route.upstream_names}
        for block in root.one("upstreams").all("upstream"):
            balance = block.one("balance")
            kind = balance.args[0] if balance.args else None
            measures = kind == "peak-ewma" and balance.value("measure") == "first-token"
            if (kind in BY_TOKENS or measures) and not block.is_faulty and block.args[0] not in read:
                self.problems.add(
                    balance.span, f"`{kind}` has nothing to count: no route with `inference` sends requests here",
                    "add `inference` to a route, or use `least-request`",
                )  # fmt: skip

    def _models(self, route: Block, upstreams: set[str], budgets: set[str]) -> p.Models:
        block = route.one("models")
        own = next((name for name in ("upstream", "split") if route.has(name)), "")
        if not route.has("inference") and not route.is_faulty:
            self.problems.add(block.span, "`models` needs to read requests", "add `inference` to the route")
        if route.has("respond"):
            self.problems.add(
                block.span, "`models` has no effect where the route answers by itself", "remove one of the two",
                [(route.one("respond").span, "the `respond`")],
            )  # fmt: skip
        if block.value("unknown") == "forward" and not own and not block.is_faulty:
            self.problems.add(
                block.one("unknown").span, "there is nowhere to forward what no line names",
                'add `upstream "name"` to the route, or say `unknown "reject"`',
            )  # fmt: skip
        lines = tuple(self._model(route, one, upstreams, budgets) for one in block.all("model"))
        if len(lines) > MODELS_MAX:
            self.problems.add(lines[MODELS_MAX].span, f"more than {MODELS_MAX} lines of models", "use patterns")
        self._vain_patterns(block)
        self._fallbacks(block, lines)
        return p.Models(lines, unknown=block.value("unknown"), is_listed=block.value("list"), span=block.span)

    def _model(self, route: Block, block: Block, upstreams: set[str], budgets: set[str]) -> p.Model:
        self._reference(block.one("upstream"), upstreams, "upstream")
        named = block.one("filters")
        if block.has("filters"):
            self._reference(named, budgets, "token-limit or token-budget", "filters", "token-budget")
        own = route.one("filters").args
        for name, span in zip(named.args, named.arg_spans, strict=True):
            if name is not None and (name in own or named.args.count(name) > 1):
                self.problems.add(span, f"`{name}` is asked twice here", "name it once")
        return p.Model(
            patterns=tuple(one for one in block.args if one is not None), upstream=block.value("upstream") or "",
            sent=block.value("send-as") or "",
            fallback=_fallback(block.one("fallback")) if block.has("fallback") else None,
            provider=compile_provider(block.one("provider"), self.problems) if block.has("provider") else None,
            filters=tuple(one for one in named.args if one), span=block.span,
        )  # fmt: skip

    def _fallbacks(self, block: Block, lines: tuple[p.Model, ...]) -> None:
        """Substitutes that no line takes, and those that have been asked before."""
        patterns = [[Glob(pattern) for pattern in line.patterns] for line in lines]

        def taken(name: str) -> p.Model | None:
            pairs = zip(patterns, lines, strict=True)
            return next((line for globs, line in pairs if any(glob.matches(name) for glob in globs)), None)

        for child, line in zip(block.all("model"), lines, strict=True):
            if line.fallback is None:
                continue
            said = child.one("fallback")
            if len(line.fallback.models) > SUBSTITUTES_MAX:
                self.problems.add(said.span, f"more than {SUBSTITUTES_MAX} models to fall back on", "name fewer")
            seen = {(line.upstream, line.sent or pattern) for pattern in line.patterns}
            for name, span in zip(line.fallback.models, said.arg_spans, strict=False):
                other = taken(name)
                if other is None:
                    names = [pattern for one in lines for pattern in one.patterns]
                    self.problems.add(span, f"no line takes the model `{name}`", meant(name, names) or "add one")
                elif (other.upstream, other.sent or name) in seen:
                    self.problems.add(span, f"`{name}` has been asked already", "name another one, or remove it")
                else:
                    seen.add((other.upstream, other.sent or name))

    def _vain_patterns(self, block: Block) -> None:
        """Patterns of which one before takes every name."""
        whole: dict[str, Span] = {}
        globs: list[tuple[Glob, Span]] = []
        for line in block.all("model"):
            for pattern, span in zip(line.args, line.arg_spans, strict=False):
                if pattern is None:
                    continue
                # It takes all names of another one if it takes that one's text, whose stars only stars can meet.
                first = whole.get(pattern) or next((where for glob, where in globs if glob.matches(pattern)), None)
                if first is not None:
                    self.problems.add(
                        span, f"no request comes here: a pattern before takes every name that `{pattern}` takes",
                        "move this line up, or remove it", [(first, "the one before")],
                    )  # fmt: skip
                if Glob(pattern).is_exact:
                    whole.setdefault(pattern, span)
                else:
                    globs.append((Glob(pattern), span))

    def _token_budget(self, block: Block, prices: PriceBook | None, has_prices: bool) -> p.TokenBudget:
        name = block.args[0] if block.args and block.args[0] else ""
        money, currency = block.value("money") or 0, prices.currency if prices is not None else "XXX"
        if block.has("money") == block.has("tokens") and not block.is_faulty:
            said = "both tokens and money" if block.has("money") else "no amount"
            self.problems.add(
                block.span, f'token-budget "{name}" has {said}', "give it `tokens 1000000`, or `money \"25.00\"`"
            )
        if block.has("money") and not has_prices:
            self.problems.add(
                block.one("money").span, "there is no price book, so nobody knows what anything costs",
                'add `prices { currency "USD"; price "gpt-*" { input "2.50"; output "10"; }; }`',
            )  # fmt: skip
        if block.has("unpriced") and not block.has("money"):
            self.problems.add(block.one("unpriced").span, "`unpriced` has no effect without `money`", "remove it")
        if "model" in block.one("key").args and not has_prices:
            self.warnings.add(
                block.one("key").span, "each name of a model that a client invents takes a place of `budget-keys`",
                "list the models in `prices`: others share one place then",
            )  # fmt: skip
        warn = block.one("warn-at")
        rolling_ns, rollover = block.value("rolling") or 0, block.value("rollover") or 0
        for other in ("per", "time-zone", "rollover") if block.has("rolling") else ():
            if block.has(other):
                self.problems.add(
                    block.one(other).span, f"`{other}` has no effect where the window rolls", "remove one of the two",
                    [(block.one("rolling").span, "the `rolling`")],
                )  # fmt: skip
        if rolling_ns > ROLLING_MAX_NS or rolling_ns % p.SECOND:
            self.problems.add(
                block.one("rolling").span, "a window that rolls is of whole seconds, and of 31 days at most", "say less"
            )
        for percent, span in zip(warn.args, warn.arg_spans, strict=True):
            if percent is not None and percent > 100 and block.value("on-limit") == "reject":
                self.problems.add(
                    span, f"no more than 100% of `{name}` is ever used: it refuses", "say less, or observe only"
                )
        if not is_name(unit_name(name, currency)):
            self.problems.add(block.arg_spans[0], f"`{name}` is too long for a budget's name", "take a shorter one")
        return p.TokenBudget(
            name=name, tokens=0 if money else block.value("tokens") or 1, money=money,
            on_outgrown=block.value("on-outgrown"),
            currency=currency if money else "", unpriced=block.value("unpriced"),
            warn_at=tuple(sorted({one for one in warn.args if one is not None})),
            warns_clients=bool(warn.props.get("header")),
            rolling_s=rolling_ns // p.SECOND, rollover=rollover, per=block.value("per"),
            time_zone=block.value("time-zone") or "UTC",
            key=tuple(sorted({one for one in block.one("key").args if one is not None} - {"all"})),
            on_limit=block.value("on-limit"), when_full=block.value("when-full"),
            exempt=tuple(one for one in block.one("exempt").args if one is not None),
            ipv4_prefix=block.value("ipv4-prefix"), ipv6_prefix=block.value("ipv6-prefix"), span=block.span,
        )  # fmt: skip

    def _prices(self, root: Block) -> PriceBook | None:
        block = root.one("prices")
        if not root.has("prices"):
            return None
        if not root.is_faulty and not any(one.has("inference") for one in root.one("routes").all("route")):
            remedy = "add `inference` to a route, or remove them"
            self.warnings.add(block.span, "nobody looks at the prices: no route is for language models", remedy)
        return read_book(block, self.source, self.problems)

    def _token_limit(self, block: Block) -> p.TokenLimit:
        count, period_ns = block.value("tokens") or (1, p.SECOND)
        requests, requests_period_ns = (block.value("requests") if block.has("requests") else None) or (0, p.SECOND)
        burst, requests_burst = block.value("burst") or count, block.value("request-burst") or requests
        if block.has("request-burst") and not block.has("requests"):
            self.problems.add(
                block.one("request-burst").span, "`request-burst` has no effect without `requests`", "remove it"
            )
        for amount, per, units in ((burst, period_ns, count), (requests_burst, requests_period_ns, requests or 1)):
            if -(-amount * per // units) > BUCKET_MAX_NS:
                self.problems.add(
                    block.span, "the bucket takes more than ten years to fill", "lower the burst, or raise the rate"
                )
        return p.TokenLimit(
            name=block.args[0] if block.args and block.args[0] else "", tokens=count, period_ns=period_ns, burst=burst,
            requests=requests, requests_period_ns=requests_period_ns, requests_burst=requests_burst,
            key=tuple(sorted({one for one in block.one("key").args if one is not None} - {"all"})),
            on_limit=block.value("on-limit"), when_full=block.value("when-full"),
            exempt=tuple(one for one in block.one("exempt").args if one is not None),
            ipv4_prefix=block.value("ipv4-prefix"), ipv6_prefix=block.value("ipv6-prefix"), span=block.span,
        )  # fmt: skip

    def _hedge(self, route: Block, retry: Block) -> None:
        """A second try that would begin when the first is over already."""
        hedge_ns = retry.value("hedge-after") or 0
        for block, name in ((retry, "per-try-timeout"), (route, "timeout")):
            if 0 < (block.value(name) or 0) <= hedge_ns:
                self.problems.add(
                    retry.one("hedge-after").span, f"`hedge-after` has no effect: `{name}` is over before",
                    f"lower it, or raise `{name}`", [(block.one(name).span, f"the `{name}`")],
                )  # fmt: skip

    def _shadow(self, route: Block, block: Block, is_forwarded: bool, upstreams: set[str]) -> None:
        self._reference(block, upstreams, "upstream")
        if block.props["share"] == 0:
            self.problems.add(
                block.prop_spans["share"], "nothing is copied: the share is 0%", "raise it, or remove the `shadow`"
            )
        if not is_forwarded and not route.is_faulty:
            self.problems.add(block.span, "`shadow` has no effect where nothing is forwarded", "remove it")
        forwarded = (route.one("upstream"), *route.one("split").all("upstream"))
        if block.args[:1] in [one.args[:1] for one in forwarded if one.args and one.args[0]]:
            self.warnings.add(
                block.arg_spans[0], f"upstream `{block.args[0]}` gets these requests already, and now copies too",
                "name another upstream, if this is not meant",
            )  # fmt: skip

    def _split(self, block: Block, upstreams: set[str]) -> p.Split:
        key = block.one("key")
        for part, span in zip(key.args, key.arg_spans, strict=True):
            if part in ("all", "route"):
                self.problems.add(span, f"`{part}` is the same for all requests here: one upstream gets them all",
                                  "name what differs, or leave `key` out: then it is by chance")  # fmt: skip
        shares = tuple(
            p.Share(one.args[0] if one.args and one.args[0] else "", one.props["weight"] or 0, one.span)
            for one in block.all("upstream")
        )
        for one in block.all("upstream"):
            self._reference(one, upstreams, "upstream")
        if len(shares) < 2 and not block.is_faulty:
            self.problems.add(block.span, "a split has at least two upstreams", 'add `upstream "canary" weight=5`')
        elif not any(share.weight for share in shares) and not block.is_faulty:
            self.problems.add(block.span, "nothing goes anywhere: all weights are 0", "give one of them a `weight`")
        return p.Split(
            shares, key=tuple(sorted({one for one in key.args if one is not None})),
            ipv4_prefix=block.value("ipv4-prefix"), ipv6_prefix=block.value("ipv6-prefix"), span=block.span,
        )  # fmt: skip

    def _rate_limit(self, block: Block) -> p.RateLimit:
        count, period_ns = block.value("rate") or (1, p.SECOND)
        burst, cost = block.value("burst") or count, block.value("cost") or 1
        key, exempt = block.one("key"), block.one("exempt")
        if cost > burst:
            self.problems.add(
                block.one("cost").span, f"a request costs {cost}, and the bucket holds {burst}: none would be admitted",
                "raise `burst`, or lower `cost`",
            )  # fmt: skip
        for name in ("max-delay", "max-waiting"):
            if block.has(name) and block.value("on-limit") != "delay":
                remedy = f'remove it, or say `on-limit "delay"` where `{name}` is meant'
                self.problems.add(block.one(name).span, f"`{name}` has no effect where nothing is delayed", remedy)
        if -(-period_ns // count) * max(burst, cost) > BUCKET_MAX_NS:
            remedy = "lower `burst`, or raise `rate`"
            self.problems.add(block.span, "the bucket takes more than ten years to fill", remedy)
        return p.RateLimit(
            name=block.args[0] if block.args and block.args[0] else "", period_ns=period_ns, count=count, burst=burst,
            key=tuple(sorted({one for one in key.args if one is not None} - {"all"})), cost=cost,
            on_limit=block.value("on-limit"), when_full=block.value("when-full"),
            max_delay_ns=block.value("max-delay"), max_waiting=block.value("max-waiting"),
            exempt=tuple(one for one in exempt.args if one is not None), ipv4_prefix=block.value("ipv4-prefix"),
            ipv6_prefix=block.value("ipv6-prefix"), span=block.span,
        )  # fmt: skip

    def _connection_limit(self, listener: Block) -> p.ConnectionLimit | None:
        block = listener.one("connection-limit")
        if not listener.has("connection-limit"):
            return None
        if not block.has("total") and not block.has("per-client") and not block.is_faulty:
            self.problems.add(block.span, "`connection-limit` limits nothing", "add `per-client 100`, or `total 10000`")
        return p.ConnectionLimit(
            total=block.value("total") or 0, per_client=block.value("per-client") or 0,
            ipv4_prefix=block.value("ipv4-prefix"), ipv6_prefix=block.value("ipv6-prefix"),
            exempt=tuple(one for one in block.one("exempt").args if one is not None),
            when_full=block.value("when-full"), span=block.span,
        )  # fmt: skip

    def _filter_names(self, filters: Block) -> None:
        """Routes name filters of all kinds alike, so a name stands for one of them."""
        seen: dict[str, Block] = {}
        for block in filters.children:
            name = block.args[0] if block.args else None
            first = seen.setdefault(name, block) if name else block
            if first is not block and first.directive is not block.directive:
                self.problems.add(
                    block.span, f"`{name}` is the name of a {first.directive.name} already", "give it another name",
                    [(first.span, "the other one")],
                )  # fmt: skip

    def _reference(self, block: Block, known: set[str], what: str, table: str = "", added: str = "") -> None:
        for name, span in zip(block.args, block.arg_spans, strict=True):
            if name is not None and name not in known:
                place = table or what + "s"
                remedy = meant(name, sorted(known)) or f'add `{added or what} "{name}" {{ … }}` to `{place}`'
                self.problems.add(span, f"there is no {what} `{name}`", remedy)

    def _match(self, block: Block) -> p.Match:
        if not block.children and not block.is_faulty:
            self.problems.add(
                block.span, "`matches` says nothing about the request",
                'to match every request, write `matches { path-prefix "/"; }`',
            )  # fmt: skip
        found: dict[str, tuple[str, ...]] = {}
        conditions: list[p.Condition] = []
        for child in block.children:
            kind = child.directive.name
            if kind in ("host", "path", "path-prefix", "path-regex"):
                found[kind] = found.get(kind, ()) + tuple(one for one in child.args if one is not None)
            else:
                conditions.append(self._condition(child))
        paths = next((one for one in block.children if one.directive.name.startswith("path")), None)
        return p.Match(
            hosts=() if "*" in found.get("host", ()) else found.get("host", ()), paths=found.get("path", ()),
            path_prefixes=found.get("path-prefix", ()), path_regexes=found.get("path-regex", ()),
            conditions=tuple(conditions), span=block.span,
            host_span=next((one.span for one in block.all("host")), NOWHERE),
            path_span=paths.span if paths else NOWHERE,
        )  # fmt: skip

    def _condition(self, block: Block) -> p.Condition:
        kind: Any = block.directive.name
        if kind in ("not", "any", "all"):
            if not block.children and not block.is_faulty:
                self.problems.add(block.span, f"`{kind}` has no conditions inside", "add some, or remove it")
            return p.Condition(kind, parts=tuple(self._condition(child) for child in block.children), span=block.span)
        if kind in ("header", "query"):
            name, *values = block.args or ("",)
            pattern = block.props["regex"]
            if pattern is not None and values:
                self.problems.add(
                    block.prop_spans["regex"], f"`{kind}` has values and a pattern",
                    "write two conditions, or an `any`",
                )  # fmt: skip
            if pattern is not None:
                kind, values = f"{kind}-regex", [pattern]
            return p.Condition(kind, name or "", tuple(one for one in values if one is not None), span=block.span)
        return p.Condition(kind, values=tuple(one for one in block.args if one is not None), span=block.span)

    def _nobody_else(self, routes: tuple[p.Route, ...], upstreams: tuple[p.Upstream, ...]) -> None:
        """A second try goes to another endpoint, and these upstreams have none."""
        alone = {one.name for one in upstreams if len(one.endpoints) < 2}
        for route in routes:
            if route.retry is not None and route.retry.hedge_ns and not alone.isdisjoint(route.upstream_names):
                name = next(name for name in route.upstream_names if name in alone)
                self.warnings.add(
                    route.retry.span, f'`hedge-after` has no effect: upstream "{name}" has a single endpoint',
                    "add another endpoint, or remove `hedge-after`",
                )  # fmt: skip

    def _unused(self, root: Block, listeners: tuple[p.Listener, ...], routes: tuple[p.Route, ...]) -> None:
        """What is allowed and probably not meant."""
        used = {name for route in routes for name in route.upstream_names}
        used |= {keys.value("upstream") for one in root.one("filters").all("jwt") for keys in one.all("keys")}
        used |= {shadow.upstream for route in routes for shadow in route.shadows}
        for block in root.one("upstreams").all("upstream"):
            if block.args and block.args[0] not in used:
                self.warnings.add(
                    block.span, f'no route forwards to upstream "{block.args[0]}"', "remove it, or use it"
                )
        asked = {name for route in routes for name in route.filters}
        asked |= {name for route in routes if route.models for line in route.models.lines for name in line.filters}
        for block in root.one("filters").children:
            if block.args and block.args[0] not in asked:
                what = block.directive.name
                self.warnings.add(block.span, f'no route asks {what} "{block.args[0]}"', "remove it, or use it")
        for listener in listeners:
            if not any(not route.listeners or listener.name in route.listeners for route in routes):
                self.warnings.add(
                    listener.span, f"no route is served on listener \"{listener.name}\": all its requests get 404",
                    'add a route, e.g. `route "all" { matches { path-prefix "/"; }; respond 404; }`',
                )  # fmt: skip


def _system(block: Block) -> p.System:
    probation, budget, log = block.one("probation"), block.one("crash-budget"), block.one("access-log")
    return p.System(
        workers=block.value("workers"), run_dir=block.value("run-dir"), drain_deadline_ns=block.value("drain-deadline"),
        heartbeat_timeout_ns=block.value("heartbeat-timeout"),
        max_worker_connections=block.value("max-worker-connections"),
        max_worker_requests=block.value("max-worker-requests"),
        limit_keys=block.value("limit-keys"), lease_keys=block.value("lease-keys"),
        budget_keys=block.value("budget-keys"), ledger_flush_ns=block.value("ledger-flush"),
        state_dir=block.value("state-dir") or "", state_dir_span=block.one("state-dir").span,
        ledger=block.value("ledger") or "", ledger_span=block.one("ledger").span,
        access_log=block.value("access-log"), access_log_buffer_bytes=log.props["buffer"],
        vocabularies=tuple(sorted({one for one in block.one("vocabularies").args if one})),
        cpu_affinity=block.value("cpu-affinity"), journal=_journal(block.one("journal")),
        probation=p.Probation(
            duration_ns=probation.value("duration"), failure_share_max=probation.value("max-failure-share"),
            requests_min=probation.value("min-requests"), ready_timeout_ns=probation.value("ready-timeout"),
        ),
        reload_gate=_reload_gate(block.one("reload-gate")) if block.has("reload-gate") else None,
        restarts_max=budget.value("restarts"), restarts_window_ns=budget.value("window"),
        run_dir_span=block.one("run-dir").span,
    )  # fmt: skip


def _reload_gate(block: Block) -> p.ReloadGate:
    return p.ReloadGate(
        changed_share_max=block.args[0] if block.args and block.args[0] is not None else 0,
        recent=block.props["recent"], requests_min=block.props["min-requests"], span=block.span,
    )  # fmt: skip


def _journal(block: Block) -> p.Journal:
    file = block.one("file")
    return p.Journal(
        records=block.value("records"), redacted=tuple(sorted({one for one in block.one("redact").args if one})),
        file=file.args[0] or "" if file.args else "",
        keep=tuple(
            p.Keep(
                status=one.props.get("status") or "", route=one.props.get("route") or "",
                reason=one.props.get("reason") or "", share=one.props["sample"],
            )
            for one in file.all("keep")
        ),
        span=block.span,
    )  # fmt: skip


def _concurrency_limit(block: Block) -> p.ConcurrencyLimit:
    return p.ConcurrencyLimit(
        name=block.args[0] if block.args and block.args[0] else "", most=block.value("max") or 1,
        key=tuple(sorted({one for one in block.one("key").args if one is not None} - {"all"})),
        on_limit=block.value("on-limit"), when_full=block.value("when-full"),
        exempt=tuple(one for one in block.one("exempt").args if one is not None),
        ipv4_prefix=block.value("ipv4-prefix"), ipv6_prefix=block.value("ipv6-prefix"), span=block.span,
    )  # fmt: skip


def _inference(block: Block) -> p.Inference:
    return p.Inference(
        family=block.value("family"), max_body_bytes=block.value("max-body-size") or 1,
        output_tokens=block.value("default-output-tokens") or 1, unrecognised=block.value("unrecognised"),
        has_headers=block.value("response-headers"), tenant=block.value("tenant") or "", span=block.span,
    )  # fmt: skip


def _fallback(block: Block) -> p.Fallback:
    on = tuple(one for one in block.one("on").args if one is not None) if block.has("on") else FALLBACK_ON
    return p.Fallback(
        models=tuple(one for one in block.args if one is not None), on=on,
        first_token_ns=block.value("first-token-timeout") or 0, span=block.span,
    )  # fmt: skip


def _retry(block: Block) -> p.Retry:
    return p.Retry(
        attempts=block.value("attempts"), on=tuple(one for one in block.one("on").args if one is not None),
        per_try_ns=block.value("per-try-timeout") or 0, backoff_ns=block.value("backoff"),
        backoff_max_ns=block.value("max-backoff"), body_bytes=block.value("max-body-size"),
        is_unsafe_too=block.value("unsafe-methods"), hedge_ns=block.value("hedge-after") or 0, span=block.span,
    )  # fmt: skip


def _respond(block: Block) -> p.Respond:
    headers = tuple(_pair(one) for one in block.all("header"))
    return p.Respond(
        status=block.args[0] if block.args else 0, body=block.props["body"] or "", headers=headers, span=block.span
    )


def _pair(block: Block) -> tuple[str, str]:
    name, value = (*block.args, None, None)[:2]
    return name or "", value or ""


def _covers(wide: str, narrow: str) -> bool:
    """Whether listening on `wide` takes the port of `narrow` too."""
    try:
        one, other = ipaddress.ip_address(wide), ipaddress.ip_address(narrow)
    except ValueError:
        return False
    return one.is_unspecified and one.version == other.version


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
