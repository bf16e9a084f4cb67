"""From `state { … }` to a state of the fleet: names resolved, keys written, and nothing that could not come to be.

A policy test and `--state` of a dry run are this one block. What is described must be possible with the plan:
an endpoint is not unhealthy where nobody checks, and a breaker is not open where there is none. Such a line
would do nothing, and whoever wrote it would believe what the test says.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from errno import ENOENT
from typing import Final

from sentinel.config.check import Block, Checker, meant
from sentinel.config.document import SyntaxFault, parse
from sentinel.config.problem import Problem, Problems
from sentinel.config.schema import STATE
from sentinel.core.balance import levels
from sentinel.core.balance.reports import Report
from sentinel.core.budgets import unit_name, write_key
from sentinel.core.ceilings import Ceiling
from sentinel.core.gates import Authenticator, gates_of, method_of, refusals_of
from sentinel.core.identity import MISSING, Finding, Identity, recognised
from sentinel.core.keys import network_of
from sentinel.core.limits import Limiter
from sentinel.core.plan import (
    ApiKey,
    ConcurrencyLimit,
    Endpoint,
    Guardrail,
    IssuedKey,
    Jwt,
    Mtls,
    Plan,
    RateLimit,
    TokenBudget,
    TokenLimit,
    Upstream,
    User,
)
from sentinel.core.reasons import BY_WORD, Reason
from sentinel.core.span import Span
from sentinel.core.state import NOTHING_KNOWN, EndpointState, State, UpstreamState
from sentinel.core.throttles import token_bucket
from sentinel.core.wishes import BY_TOKENS, lists_models

STANDINGS: Final = {
    "usable": levels.USABLE, "draining": levels.DRAIN, "maintenance": levels.MAINTENANCE,
    "unhealthy": levels.UNHEALTHY, "ejected": levels.EJECTED, "breaker-open": levels.OPEN,
    "unresolved": levels.UNRESOLVED, "warming-up": levels.WARMING,
}  # fmt: skip
OPTION: Final = "--state"
LINES_MAX: Final = 1000
US: Final = 1000


def read_state(lines: Sequence[str], plan: Plan, before: State = NOTHING_KNOWN) -> State | tuple[Problem, ...]:
    """The state that lines of a command say: nodes of `state`, where texts may go without quotes."""
    problems = Problems()
    if len(lines) > LINES_MAX:
        problems.add(Span(OPTION, 1, 1), f"more than {LINES_MAX} lines of state", "say less, or write a policy test")
        return tuple(problems.sorted())
    quoted = [_quoted(line) for line in lines]
    text = "\n".join(given if node is None else node for node, given in zip(quoted, lines, strict=True))
    problems.know(OPTION, text)
    if None in quoted:
        place = Span(OPTION, quoted.index(None) + 1, 1)
        problems.add(place, "the quotes do not match", "close each one that is opened")
        return tuple(problems.sorted())
    try:
        nodes = parse(text, OPTION)
    except SyntaxFault as fault:
        problems.add(fault.span, fault.message, fault.remedy)
        return tuple(problems.sorted())
    block = Checker(problems, Nowhere()).block(STATE, nodes, Span(OPTION, 1, 1))
    state = compile_state(block, plan, problems, before)
    return tuple(problems.sorted()) or state

Keyed = RateLimit | ConcurrencyLimit | TokenBudget | TokenLimit
Filter = Keyed | Guardrail


@dataclass(frozen=True, slots=True)
class Nowhere:
    """The source of what is said and not written: it has no files and no environment (source.Source)."""

    def read(self, path: str) -> bytes:
        raise FileNotFoundError(ENOENT, "there are no files here", path)

    def glob(self, pattern: str) -> list[str]:
        return []

    def environ(self, name: str) -> str | None:
        return None


def compile_state(block: Block, plan: Plan, problems: Problems, before: State = NOTHING_KNOWN) -> State:
    """What is so after this block; it means something only if no problem was reported."""
    return _Compiler(plan, problems).state(block, before)


def impossible(upstream: Upstream, endpoint: Endpoint, standing: str | None) -> str:
    """Why an endpoint cannot stand so; "" when it can."""
    match standing:
        case "unhealthy" if upstream.health is None:
            return f"upstream `{upstream.name}` has no health-check"
        case "ejected" if upstream.outlier is None:
            return f"upstream `{upstream.name}` has no outlier-ejection"
        case "breaker-open" if upstream.endpoint_breaker is None:
            return f"upstream `{upstream.name}` has no circuit-breaker of each endpoint"
        case "warming-up" if upstream.health is None or not upstream.health.warm_up:
            return f"upstream `{upstream.name}` has no health-check with `warm-up`"
        case "unresolved" if endpoint.host.startswith("unix:") or _is_numeric(endpoint.host):
            return "it is an address, and no name that is resolved"
    return ""


class _Compiler:
    def __init__(self, plan: Plan, problems: Problems) -> None:
        self._plan = plan
        self._problems = problems

    def state(self, block: Block, before: State) -> State:
        endpoints, upstreams = dict(before.endpoints), dict(before.upstreams)
        for one in block.all("endpoint"):
            found = self._endpoint(one)
            if found is not None:
                upstream, endpoint = found
                if "latency" in one.prop_spans and upstream.balance.kind != "peak-ewma":
                    self._idle(one, "latency", upstream, 'balance "peak-ewma"')
                if "tokens" in one.prop_spans and upstream.balance.kind not in BY_TOKENS:
                    self._idle(one, "tokens", upstream, 'balance "least-tokens"')
                if "models" in one.prop_spans and not lists_models(upstream):
                    self._idle(one, "models", upstream, 'health-check { kind "inference"; }')
                for name in ("waiting", "cache"):
                    if name in one.prop_spans and upstream.balance.kind != "least-load":
                        self._idle(one, name, upstream, 'balance "least-load"')
                models = one.props["models"]
                endpoints[upstream.name, endpoint.name] = EndpointState(
                    STANDINGS[one.args[1]] if len(one.args) > 1 and one.args[1] else levels.USABLE,
                    one.props["in-flight"] or 0, (one.props["latency"] or 0) // US,
                    tokens=one.props["tokens"] or 0, models=None if models is None else tuple(models.split()),
                    report=_report(one),
                )  # fmt: skip
        for one in block.all("upstream"):
            group = self._upstream(one, one.args[0] if one.args else None, one.span)
            if group is not None:
                if "turn" in one.prop_spans and not _takes_turns(group):
                    turns = 'balance "round-robin" of equal weights, "least-request", "least-tokens" or "least-load"'
                    self._idle(one, "turn", group, turns)
                in_flight = one.props["in-flight"]
                upstreams[group.name] = UpstreamState(
                    self._is_open(one, group), -1 if in_flight is None else in_flight, one.props["turn"] or 0,
                    one.props["answers"] or "",
                )  # fmt: skip
                if "answers" in one.prop_spans and not self._falls_back(group.name):
                    self._problems.add(
                        one.prop_spans["answers"],
                        f"`answers` changes nothing: no model of `{group.name}` has a fallback", "remove it",
                    )  # fmt: skip
        return replace(
            before, endpoints=endpoints, upstreams=upstreams, used=self._used(block), held=self._held(block),
            spent=self._spent(block), tokens=_tokens(block) or before.tokens, model=self._model(block) or before.model,
            prompt=(block.one("tokens").props["prompt"] or "") if block.has("tokens") else before.prompt,
            untranslatable=(
                block.value("untranslatable") or "" if block.has("untranslatable") else before.untranslatable
            ),
            found={**before.found, **self._found(block)},
            found_out={**before.found_out, **self._found_out(block)},
            waiting={**before.waiting, **self._waiting(block)},
            chance=block.value("chance") if block.has("chance") else before.chance,
            now_s=block.value("at") or 0 if block.has("at") else before.now_s,
        )  # fmt: skip

    def _falls_back(self, upstream: str) -> bool:
        """Whether it matters to any route how tries there end."""
        return any(
            upstream in route.upstream_names and any(line.fallback is not None for line in route.models.lines)
            for route in self._plan.routes if route.models is not None
        )  # fmt: skip

    # Endpoints and upstreams.

    def _endpoint(self, block: Block) -> tuple[Upstream, Endpoint] | None:
        if not block.args or block.args[0] is None:
            return None
        name = Endpoint(*block.args[0]).name
        groups = self._plan.upstreams
        if block.props["upstream"] is not None:
            group = self._upstream(block, block.props["upstream"], block.prop_spans["upstream"])
            if group is None:
                return None
            groups = (group,)
        found = [(group, one) for group in groups for one in group.endpoints if one.name == name]
        if not found:
            names = sorted({one.name for group in groups for one in group.endpoints})
            self._problems.add(
                block.arg_spans[0], f"there is no endpoint `{name}`", meant(name, names) or _known(names)
            )
            return None
        if len(found) > 1:
            first, other = found[0][0].name, found[1][0].name
            self._problems.add(
                block.arg_spans[0], f"several upstreams have an endpoint `{name}`: `{first}` and `{other}`",
                f'say which, e.g. `upstream="{first}"`',
            )  # fmt: skip
            return None
        upstream, endpoint = found[0]
        standing = block.args[1] if len(block.args) > 1 else None
        why = impossible(upstream, endpoint, standing)
        if why:
            self._problems.add(block.arg_spans[1], f"`{name}` is never {standing}: {why}", "say another standing")
            return None
        return upstream, endpoint

    def _upstream(self, block: Block, name: str | None, span: Span) -> Upstream | None:
        found = next((one for one in self._plan.upstreams if one.name == name), None)
        if found is None and name is not None:
            names = [one.name for one in self._plan.upstreams]
            self._problems.add(
                block.arg_spans[0] if block.directive.name == "upstream" else span,
                f"there is no upstream `{name}`", meant(name, names) or _known(names),
            )  # fmt: skip
        return found

    def _is_open(self, block: Block, upstream: Upstream) -> bool:
        if len(block.args) < 2 or block.args[1] is None:
            return False
        if upstream.upstream_breaker is None:
            self._problems.add(
                block.arg_spans[1], f'upstream `{upstream.name}` has no circuit-breaker of scope "upstream"',
                "name its endpoints, if each of them has one",
            )  # fmt: skip
        return True

    def _idle(self, block: Block, name: str, upstream: Upstream, where: str) -> None:
        self._problems.add(
            block.prop_spans[name], f"`{name}` changes nothing in upstream `{upstream.name}`",
            f"remove it; it counts with `{where}`",
        )  # fmt: skip

    # Limits.

    def _used(self, block: Block) -> dict[bytes, int]:
        used: dict[bytes, int] = {}
        for one in block.all("limit"):
            limit = self._limit(one, (*self._plan.rate_limits, *self._plan.token_limits), "rate-limit or token-limit")
            if isinstance(limit, TokenLimit):
                self._drawn(one, limit, used)
            elif isinstance(limit, RateLimit) and (parts := self._parts(one, limit)) is not None:
                limiter = Limiter(limit, parts[0])
                remaining = one.props["remaining"] or 0
                if remaining > limiter.burst:
                    self._problems.add(
                        one.prop_spans["remaining"], f"`{limit.name}` never has more than {limiter.burst} left",
                        "say fewer: it is the limit's `burst`",
                    )  # fmt: skip
                used[limiter.key_of(parts[1])] = max(0, limiter.capacity_ns - remaining * limiter.interval_ns)
        return used

    def _drawn(self, block: Block, limit: TokenLimit, used: dict[bytes, int]) -> None:
        parts = self._parts(block, limit)
        if parts is None:
            return
        measure, key = token_bucket(limit, *parts)
        remaining = block.props["remaining"] or 0
        if remaining > measure.burst:
            self._problems.add(
                block.prop_spans["remaining"], f"`{limit.name}` never has more than {measure.burst} left",
                "say fewer: it is the limit's `burst`",
            )  # fmt: skip
        used[key] = max(0, measure.capacity_ns - measure.charge_ns(remaining))

    def _held(self, block: Block) -> dict[bytes, int]:
        held: dict[bytes, int] = {}
        for one in block.all("held"):
            limit = self._limit(one, self._plan.concurrency_limits, "concurrency-limit")
            if isinstance(limit, ConcurrencyLimit) and (parts := self._parts(one, limit)) is not None:
                held[Ceiling(limit, parts[0]).key_of(parts[1])] = one.props["count"] or 0
        return held

    def _spent(self, block: Block) -> dict[bytes, int]:
        spent: dict[bytes, int] = {}
        for one in block.all("spent"):
            budget = self._limit(one, self._plan.token_budgets, "token-budget")
            if isinstance(budget, TokenBudget) and (parts := self._parts(one, budget)) is not None:
                route, values = parts[0], iter(parts[1])
                named = [route if part == "route" else next(values) for part in budget.key]
                for at, part in enumerate(budget.key):
                    if part == "client-ip":
                        named[at] = network_of(named[at], budget.ipv4_prefix, budget.ipv6_prefix)
                unit, other = ("money", "tokens") if budget.currency else ("tokens", "money")
                if other in one.prop_spans:
                    self._problems.add(
                        one.prop_spans[other], f"`{budget.name}` is not in {other}", f"say `{unit}=` instead"
                    )
                spent[write_key(unit_name(budget.name, budget.currency), 0, named)] = one.props[unit] or 0
        return spent

    def _found_out(self, block: Block) -> dict[str, Finding]:
        """What authenticators come to, as far as it can come to that."""
        known = gates_of(self._plan)
        found: dict[str, Finding] = {}
        for one in block.all("identity"):
            name, subject, *claims = (*one.args, None)[: max(2, len(one.args))]
            gate = known.get(name)
            if gate is None:
                if name is not None:
                    remedy = meant(name, sorted(known)) or _known(sorted(known))
                    self._problems.add(one.arg_spans[0], f"`{name}` finds out nobody's identity", remedy)
                continue
            refused = one.props["refused"]
            if refused is not None and subject is not None:
                message = "who is refused is nobody"
                self._problems.add(one.prop_spans["refused"], message, "remove one of the two")
            elif refused is not None:
                found[name] = self._refused(one, gate, BY_WORD[refused])
            elif subject is None:
                found[name] = MISSING
            elif not any(part is None for part in claims):
                found[name] = self._recognised(one, gate, subject, claims)
        return found

    def _refused(self, block: Block, gate: Authenticator, reason: Reason) -> Finding:
        possible = refusals_of(gate)
        if reason not in possible:
            message = f"`{gate.name}` never refuses for that"
            self._problems.add(block.prop_spans["refused"], message, _known([one.word for one in possible]))
        return Finding(reason)

    def _recognised(self, block: Block, gate: Authenticator, subject: str, claims: Sequence[str]) -> Finding:
        if isinstance(gate, Jwt | Mtls):
            return self._by_token(block, gate, subject, claims)
        known: Sequence[IssuedKey | User] = gate.keys if isinstance(gate, ApiKey) else gate.users
        given = next((one for one in known if one.name == subject), None)
        if given is None:
            names = [one.name for one in known]
            self._problems.add(
                block.arg_spans[1], f"`{gate.name}` knows no `{subject}`", meant(subject, names) or _known(names)
            )
            return MISSING
        if claims:
            message = f"the claims of a {'key' if isinstance(gate, ApiKey) else 'user'} are in the configuration"
            self._problems.add(block.arg_spans[2], message, "remove them")
        return recognised(Identity(gate.name, method_of(gate), subject, given.claims))

    def _by_token(self, block: Block, gate: Jwt | Mtls, subject: str, claims: Sequence[str]) -> Finding:
        if len(claims) % 2:
            self._problems.add(block.arg_spans[-1], "a claim is a name and a value", "give both")
            return MISSING
        said = dict(zip(claims[::2], claims[1::2], strict=True))
        for name, span in zip(claims[::2], block.arg_spans[2::2], strict=False):
            if name not in gate.claims:
                remedy = meant(name, gate.claims) or _known(gate.claims)
                self._problems.add(span, f"nothing in the configuration asks for a claim `{name}`", remedy)
        given = tuple((name, said[name]) for name in gate.claims if name in said)
        return recognised(Identity(gate.name, method_of(gate), subject, given))

    def _found(self, block: Block) -> dict[str, tuple[str, ...] | None]:
        found: dict[str, tuple[str, ...] | None] = {}
        for one in block.all("found"):
            limit = self._limit(one, self._plan.guardrails, "guardrail")
            if not isinstance(limit, Guardrail):
                continue
            if "request" not in limit.on:
                self._problems.add(one.arg_spans[0], f"`{limit.name}` reads no requests", "remove it")
            for kind, span in zip(one.args[1:], one.arg_spans[1:], strict=True):
                if kind is not None and kind not in limit.kinds:
                    remedy = meant(kind, limit.kinds) or _known(limit.kinds)
                    self._problems.add(span, f"`{limit.name}` does not look for `{kind}`", remedy)
            kinds = tuple(dict.fromkeys(kind for kind in one.args[1:] if kind is not None))
            if one.props["unreadable"] and kinds:
                message = "nothing is found in what cannot be read"
                self._problems.add(one.prop_spans["unreadable"], message, "remove one of the two")
            found[limit.name] = None if one.props["unreadable"] else kinds
        return found

    def _model(self, block: Block) -> str:
        one = block.one("tokens")
        model = (one.props["model"] or "") if block.has("tokens") else ""
        if "*" in model:
            self._problems.add(one.prop_spans["model"], "a request is for one model", "write its whole name")
        return model

    def _waiting(self, block: Block) -> dict[str, int]:
        waiting: dict[str, int] = {}
        for one in block.all("waiting"):
            limit = self._limit(one, self._plan.rate_limits, "rate-limit")
            if isinstance(limit, RateLimit) and limit.on_limit != "delay":
                self._problems.add(
                    one.arg_spans[0], f"nobody waits at `{limit.name}`: it does not delay",
                    'it would with `on-limit "delay"`',
                )  # fmt: skip
            elif limit is not None and len(one.args) > 1:
                waiting[limit.name] = one.args[1] or 0
        return waiting

    def _limit(
        self, block: Block, known: Sequence[Filter], what: str
    ) -> Filter | None:
        name = block.args[0] if block.args else None
        found = next((one for one in known if one.name == name), None)
        if found is None and name is not None:
            names = [one.name for one in known]
            self._problems.add(
                block.arg_spans[0], f"there is no {what} `{name}`", meant(name, names) or _known(names)
            )
        return found

    def _parts(self, block: Block, limit: Keyed) -> tuple[str, list[str]] | None:
        """The route, and the other parts of a key, as they are named (as in `sentinelctl limits show`)."""
        values = [one for one in block.args[1:] if one is not None]
        if block.is_faulty:
            return None
        if len(values) != len(limit.key):
            wanted = f": {', '.join(limit.key)}" if limit.key else ""
            self._problems.add(
                block.span, f"a key of `{limit.name}` has {len(limit.key)} parts{wanted}", "give a value for each"
            )
            return None
        route = values[limit.key.index("route")] if "route" in limit.key else ""
        routes = [one.name for one in self._plan.routes if limit.name in one.filters]
        if route and route not in routes:
            self._problems.add(
                block.arg_spans[1 + limit.key.index("route")], f"no route `{route}` asks `{limit.name}`",
                meant(route, routes) or _known(routes),
            )  # fmt: skip
            return None
        return route, [value for part, value in zip(limit.key, values, strict=True) if part != "route"]


def _tokens(block: Block) -> tuple[int, int] | None:
    one = block.one("tokens")
    if not {"input", "output"} & set(one.prop_spans):  # only which model is asked, or how it begins
        return None
    return one.props["input"] or 0, one.props["output"] or 0


def _quoted(line: str) -> str | None:
    """A node as it would stand in a file: the name as it is, everything else in quotes; None: quotes do not match.

    INVARIANT: one line is one node of plain texts. Who may say a state must not be able to say `(file)"…"`.
    """
    try:
        words = shlex.split(line)
    except ValueError:
        return None
    quoted = [word if IS_NAME(word) else _text(word) for word in words[:1]]
    for word in words[1:]:
        name, equals, value = word.partition("=")
        is_property = equals and name in PROPERTIES
        quoted.append(f"{name}={_text(value)}" if is_property else _text(word))
    return " ".join(quoted)


IS_NAME: Final = re.compile(r"[a-z]+(-[a-z]+)*").fullmatch
PROPERTIES: Final = frozenset(prop.name for directive in STATE.children for prop in directive.props)


def _text(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _report(block: Block) -> Report | None:
    """What an endpoint said of its load, with the requests in flight that it is described with."""
    if not {"waiting", "cache"} & set(block.prop_spans):
        return None
    return Report(block.props["waiting"] or 0, block.props["cache"] or 0, block.props["in-flight"] or 0)


def _known(names: Sequence[str]) -> str:
    return f"there are {', '.join(f'`{name}`' for name in names[:20])}" if names else "there is none"


def _takes_turns(upstream: Upstream) -> bool:
    """Whether it matters whose turn it is (balance.chooser)."""
    kind = upstream.balance.kind
    is_even = len({endpoint.weight for endpoint in upstream.endpoints}) == 1 and not upstream.slow_start_ns
    return kind in ("least-request", "least-load") or kind in BY_TOKENS or (kind == "round-robin" and is_even)


def _is_numeric(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
