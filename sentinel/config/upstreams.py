"""From checked blocks to upstreams: endpoints, and the policies by which one of them is chosen.

What the table cannot say of an upstream is here: settings that another setting makes
meaningless (a key without a hash, a panic threshold where nothing ever finds an endpoint
unhealthy). Such a setting is refused, since whoever wrote it believes that it does something.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sentinel.config.check import Block
from sentinel.config.problem import Problems
from sentinel.config.providers import compile_provider
from sentinel.config.server_tls import TlsFiles
from sentinel.config.upstream_tls import compile_tls, shared_authority
from sentinel.core import plan as p
from sentinel.core.wishes import BY_PREFIX

HASHES = ("ip-hash", "maglev", "ring")
KEYED = ("maglev", "ring")
HTTP_ONLY = ("method", "host", "expect")
WAITING = ("vllm:num_requests_waiting", "sglang:num_queue_reqs")
CACHE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage")
PREFIX_LOAD = 1250
"""Thousandths of its part that an endpoint may have under way before a prompt's beginning does not matter."""
INFERENCE_ONLY = ("completion", "bearer", "warm-up")


def compile_upstream(block: Block, problems: Problems, warnings: Problems, files: TlsFiles) -> p.Upstream:
    """One upstream of the plan; it means something only if no problem was reported."""
    for child, message, remedy in _contradictions(block):
        problems.add(child.span, message, remedy)
    timeouts, keepalive, limits = block.one("timeouts"), block.one("keepalive"), block.one("limits")
    health, outlier, sticky = (block.one(name) for name in ("health-check", "outlier-ejection", "sticky-cookie"))
    breakers = _breakers(block, problems)
    endpoints = tuple(_endpoint(one) for one in block.all("endpoint"))
    tls = compile_tls(block, endpoints, problems, warnings, files)
    provider = compile_provider(block.one("provider"), problems) if block.has("provider") else None
    if provider is not None and tls is not None and not provider.host:
        provider = replace(provider, host=shared_authority(tls, endpoints))
    upstream = p.Upstream(
        name=block.args[0] if block.args else "", endpoints=endpoints,
        balance=_balance(block.one("balance")),
        sticky=_sticky(sticky) if block.has("sticky-cookie") else None,
        health=_health(health) if block.has("health-check") else None,
        outlier=_outlier(outlier) if block.has("outlier-ejection") else None,
        load_report=_load_report(block.one("load-report")) if kind_of(block) == "least-load" else None,
        provider=provider, tls=tls, tls_handshake_timeout_ns=timeouts.value("tls-handshake"),
        endpoint_breaker=breakers.get("endpoint"), upstream_breaker=breakers.get("upstream"),
        max_requests=limits.value("max-requests"), max_endpoint_requests=limits.value("max-endpoint-requests"),
        max_pending=limits.value("max-pending"), pending_timeout_ns=limits.value("pending-timeout"),
        retry_share=block.value("retry-budget"), retry_min=_a_second(block.one("retry-budget").props["min"]),
        slow_start_ns=block.value("slow-start"), panic_share=block.value("panic-threshold"),
        locality=block.value("locality") or "",
        connect_timeout_ns=timeouts.value("connect"), first_byte_timeout_ns=timeouts.value("first-byte"),
        idle_timeout_ns=timeouts.value("idle"), keepalive_timeout_ns=keepalive.value("timeout"),
        keepalive_connections=keepalive.value("connections"), resolve_interval_ns=block.value("resolve-interval"),
        span=block.span,
    )  # fmt: skip
    if upstream.locality and upstream.locality not in {one.locality for one in upstream.endpoints}:
        warnings.add(block.one("locality").span, f"no endpoint has locality `{upstream.locality}`", "add it to some")
    return upstream


def _contradictions(block: Block) -> Iterator[tuple[Block, str, str]]:
    """Settings that would do nothing, each with its block, what is wrong, and the remedy."""
    if block.is_faulty:
        return
    balance, health, limits = block.one("balance"), block.one("health-check"), block.one("limits")
    kind = balance.args[0] if balance.args else None
    if kind in KEYED and not balance.has("key"):
        yield balance, f"`{kind}` has nothing to hash", 'add `{ key "client-ip"; }`, or another part of the request'
    wrong = [
        ("key", KEYED), ("max-load", (*HASHES, BY_PREFIX)), ("half-life", ("peak-ewma",)), ("measure", ("peak-ewma",)),
        ("ipv4-prefix", HASHES), ("ipv6-prefix", HASHES),
    ]  # fmt: skip
    for name, kinds in wrong:
        if balance.has(name) and kind is not None and kind not in kinds:
            yield balance.one(name), f"`{name}` has no effect with `{kind}`", f"remove it, or use {_either(kinds)}"
    yield from _idle_checks(health) if block.has("health-check") else ()
    if block.has("health-check") and not health.has("path") and not health.has("kind"):
        for name in HTTP_ONLY:
            if health.has(name):
                yield health.one(name), f"`{name}` has no effect without `path`", 'add `path "/healthz"`, or remove it'
    report = block.one("load-report")
    if block.has("load-report") and kind not in (None, "least-load"):
        yield report, f"`load-report` has no effect with `{kind}`", 'remove it, or use `balance "least-load"`'
    if report.value("stale-after") and report.value("every") and report.value("stale-after") <= report.value("every"):
        why = "readings would be too old before the next one comes"
        yield report.one("stale-after"), why, "make `stale-after` several times as long as `every`"
    judges = [name for name in ("health-check", "outlier-ejection", "circuit-breaker") if block.has(name)]
    if block.has("panic-threshold") and block.value("panic-threshold") and not judges:
        remedy = "add a `health-check`, or remove it"
        why = "`panic-threshold` has no effect: no endpoint is ever found unusable"
        yield block.one("panic-threshold"), why, remedy
    healers = {"health-check", "outlier-ejection"} & set(judges)
    if block.has("slow-start") and block.value("slow-start") and not healers:
        why, remedy = "`slow-start` has no effect: no endpoint ever becomes healthy again", "add a `health-check`"
        yield block.one("slow-start"), why, remedy
    ceilings = limits.value("max-requests") or limits.value("max-endpoint-requests")
    if limits.value("max-pending") and not ceilings:
        yield limits.one("max-pending"), "`max-pending` has no effect: nothing ever waits", "add `max-requests`"
    if limits.has("pending-timeout") and not limits.value("max-pending"):
        why = "`pending-timeout` has no effect without `max-pending`"
        yield limits.one("pending-timeout"), why, "add `max-pending`"
    sticky = block.one("sticky-cookie")
    if block.has("sticky-cookie") and sticky.value("same-site") == "none" and not sticky.value("secure"):
        why = "browsers drop cookies with SameSite=None that are not secure"
        yield sticky.one("same-site"), why, "add `secure true`"


def _idle_checks(health: Block) -> Iterator[tuple[Block, str, str]]:
    if not health.has("kind"):
        for name in INFERENCE_ONLY:
            if health.has(name):
                why = f'`{name}` has no effect without `kind "inference"`'
                yield health.one(name), why, 'add `kind "inference"`, or remove it'
        return
    if health.has("method"):
        yield health.one("method"), "`method` has no effect: a list of models is asked for with GET", "remove it"
    if health.has("warm-up") and health.has("healthy-after"):
        yield health.one("healthy-after"), "`healthy-after` has no effect: `warm-up` says how many", "remove it"


def _breakers(block: Block, problems: Problems) -> dict[str, p.Breaker]:
    found: dict[str, p.Breaker] = {}
    places: dict[str, Block] = {}
    for one in block.all("circuit-breaker"):
        scope = one.value("scope")
        if scope in found:
            problems.add(
                one.span, f"a second circuit-breaker for the same scope, `{scope}`", "remove one of the two",
                [(places[scope].span, "the other one")],
            )  # fmt: skip
        if not one.is_faulty and not one.has("slow-call") and one.has("slow-rate"):
            problems.add(one.one("slow-rate").span, "`slow-rate` has no effect without `slow-call`", "add `slow-call`")
        looks_at = one.value("failures") or one.value("error-rate") or one.has("slow-call")
        if not one.is_faulty and not looks_at:
            remedy = "add `failures`, `error-rate` or `slow-call`"
            problems.add(one.span, "this circuit-breaker looks at nothing", remedy)
        longest = one.value("max-open-for")
        if longest is not None and one.value("open-for") is not None and longest < one.value("open-for"):
            problems.add(one.one("max-open-for").span, "`max-open-for` is shorter than `open-for`", "raise it")
        found[scope], places[scope] = _breaker(one), one
    return found


def _breaker(block: Block) -> p.Breaker:
    return p.Breaker(
        failures=block.value("failures"), error_share=block.value("error-rate"), slow_ns=block.value("slow-call") or 0,
        slow_share=block.value("slow-rate"), calls_min=block.value("min-calls"), window_ns=block.value("window"),
        open_ns=block.value("open-for"), open_max_ns=block.value("max-open-for") or block.value("open-for"),
        probes=block.value("probes"), probe_timeout_ns=block.value("probe-timeout"), span=block.span,
    )  # fmt: skip


def _balance(block: Block) -> p.Balance:
    kind = block.args[0] if block.args else None
    parts = {"client-ip"} if kind == "ip-hash" else {one for one in block.one("key").args if one} - {"all"}
    return p.Balance(
        kind=kind or "round-robin", key=tuple(sorted(parts)),
        max_load=block.value("max-load") or (PREFIX_LOAD if kind == BY_PREFIX else 0),
        measure=block.value("measure"),
        half_life_ns=block.value("half-life"), ipv4_prefix=block.value("ipv4-prefix"),
        ipv6_prefix=block.value("ipv6-prefix"), span=block.span,
    )  # fmt: skip


def _sticky(block: Block) -> p.Sticky:
    return p.Sticky(
        cookie=block.args[0] if block.args and block.args[0] else "",
        secrets=tuple(one for one in block.one("secret").args if one), max_age_ns=block.value("max-age") or 0,
        path=block.value("path"), same_site=block.value("same-site"), is_secure=block.value("secure"), span=block.span,
    )  # fmt: skip


def _health(block: Block) -> p.HealthCheck:
    is_inference = block.has("kind")
    completion, warm_up = block.one("completion"), block.one("warm-up")
    return p.HealthCheck(
        kind="inference" if is_inference else "http" if block.has("path") else "tcp",
        path=block.value("path") or ("/v1/models" if is_inference else "/"), method=block.value("method"),
        completion=(completion.args[0] if completion.args else None) or "",
        completion_path=completion.props["path"] if block.has("completion") else "",
        bearer=block.value("bearer") or "", warm_up=warm_up.args[0] if warm_up.args and warm_up.args[0] else 0,
        warm_up_ns=(warm_up.props["within"] or 0) if block.has("warm-up") else 0,
        host=block.value("host") or "", statuses=tuple(one for one in block.one("expect").args if one),
        port=block.value("port") or 0, interval_ns=block.value("interval"), timeout_ns=block.value("timeout"),
        healthy_after=block.value("healthy-after"), unhealthy_after=block.value("unhealthy-after"), span=block.span,
    )  # fmt: skip


def kind_of(block: Block) -> str:
    balance = block.one("balance")
    return (balance.args[0] if balance.args else None) or ""


def _load_report(block: Block) -> p.LoadReport:
    return p.LoadReport(
        path=block.value("path"), port=block.value("port") or 0, every_ns=block.value("every"),
        timeout_ns=block.value("timeout"), stale_ns=block.value("stale-after"),
        waiting=tuple(one for one in block.one("waiting").args if one) or WAITING,
        cache=tuple(one for one in block.one("cache").args if one) or CACHE, span=block.span,
    )  # fmt: skip


def _outlier(block: Block) -> p.OutlierEjection:
    return p.OutlierEjection(
        failures=block.value("failures"), interval_ns=block.value("interval"), requests_min=block.value("min-requests"),
        deviations=block.value("deviations"), latency_factor=block.value("latency-factor"),
        eject_for_ns=block.value("eject-for"), eject_for_max_ns=block.value("max-eject-for"),
        max_ejected=block.value("max-ejected"), span=block.span,
    )  # fmt: skip


def _endpoint(block: Block) -> p.Endpoint:
    host, port, _ = block.args[0] if block.args and block.args[0] else ("", 0, False)
    return p.Endpoint(
        host, port, weight=block.props["weight"], priority=block.props["priority"],
        locality=block.props["locality"] or "", span=block.span,
    )  # fmt: skip


def _a_second(rate: tuple[int, int] | None) -> int:
    """Retries a second, at least one."""
    count, period_ns = rate or (1, p.SECOND)
    return max(1, count * p.SECOND // period_ns)


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(f"`{word}`" for word in words)
