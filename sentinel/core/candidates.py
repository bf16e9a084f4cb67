"""Candidates: a route seen through one of its hosts and one of its paths, with its rank.

A route with two matches, of three hosts and two paths each, is twelve candidates. All
candidates of a plan are put into one order, and the best one whose conditions
hold wins. This file *is* the definition of precedence; the index (core.routes)
only finds the same winner without looking at all of them.

    1. explicit priority, the higher first
    2. exact host, then wildcards (the longer first), then any host
    3. exact path, then prefixes (the longer first), then regex, then any path
    4. more conditions before fewer (those written directly in the match;
       an `any`, `all` or `not` is one condition, whatever it contains)
    5. the order in the file
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from sentinel.core.allowances import Allowance, Purse
from sentinel.core.ceilings import Ceiling, ceilings_of
from sentinel.core.conditions import (
    Test,
    compile_condition,
    host_matches,
    host_pattern,
    path_has_prefix,
    path_literal,
)
from sentinel.core.gates import Gate, gates_of, lists_of
from sentinel.core.gates import of_route as gate_of
from sentinel.core.guard.guards import Guards, guards_of, of_route
from sentinel.core.limits import Limiter, Tariff, Tell, tell
from sentinel.core.models import Directory
from sentinel.core.plan import (
    ConcurrencyLimit,
    Condition,
    Match,
    Plan,
    RateLimit,
    Route,
    TokenBudget,
    TokenLimit,
    Upstream,
)
from sentinel.core.reasons import Reason
from sentinel.core.regex import Pattern, compile_pattern
from sentinel.core.request import Request
from sentinel.core.shadows import Shade, shades_of
from sentinel.core.span import first_known
from sentinel.core.split import Splitter
from sentinel.core.throttles import Throttle
from sentinel.core.trace import Step
from sentinel.core.verdict import Respond
from sentinel.core.wishes import Wisher


class HostKind(IntEnum):
    """How a candidate names its host; the lower, the better."""

    EXACT = 0
    WILDCARD = 1
    ANY = 2


class PathKind(IntEnum):
    """How a candidate names its path; the lower, the better."""

    EXACT = 0
    PREFIX = 1
    REGEX = 2
    ANY = 3


ANY_HOST: Final = "*"
Key = tuple[int, int, int, int, int, int, int, int]
RULES: Final = (
    "has a higher priority", "has a more specific host", "has a longer wildcard host",
    "has a more specific kind of path (exact before prefix before regex)", "has a longer prefix", "has more conditions",
    "stands before it in the file", "stands before it in the file",
)  # fmt: skip
"""Why a candidate is asked before another one: what each part of a key says."""
Lost = tuple[int, Step]
"""Rank of a candidate whose host and path hold, and the step that tells which condition does not."""
Policy = tuple[Tariff | None, tuple[Ceiling, ...], tuple[Allowance, ...], tuple[Throttle, ...]]


class Policies:
    """The limits of a plan, made ready once for all routes that name the same ones.

    A thousand routes with one policy have one tariff, and one memory of keys: it stays in the
    processor's caches whatever route is asked. Where a route is part of a key each has its own.
    """

    __slots__ = ("_limits", "_made", "_tell", "gates", "guards", "lists")

    def __init__(self, plan: Plan, tell: Tell) -> None:
        self._tell = tell
        self.guards = guards_of(plan)
        self.gates = gates_of(plan)
        self.lists = lists_of(plan)
        self._limits: dict[str, RateLimit | ConcurrencyLimit | TokenBudget | TokenLimit] = {
            limit.name: limit for limit in plan.rate_limits
        }
        self._limits |= {limit.name: limit for limit in plan.concurrency_limits}
        self._limits |= {budget.name: budget for budget in plan.token_budgets}
        self._limits |= {limit.name: limit for limit in plan.token_limits}
        self._made: dict[tuple[tuple[str, ...], str], Policy] = {}

    def of(self, route: Route, more: tuple[str, ...] = ()) -> Policy:
        """What a route asks of requests; `more`: names of filters besides its own."""
        filters = route.filters + more
        wanted = [self._limits[name] for name in filters if name in self._limits]
        owner = route.name if any("route" in limit.key for limit in wanted) else ""
        policy = self._made.get((filters, owner))
        if policy is None:
            limiters = [Limiter(limit, owner) for limit in wanted if isinstance(limit, RateLimit)]
            ceilings = ceilings_of([limit for limit in wanted if isinstance(limit, ConcurrencyLimit)], owner)
            policy = self._made[filters, owner] = (
                Tariff(limiters, self._tell) if limiters else None, ceilings,
                tuple([Allowance(limit, owner) for limit in wanted if isinstance(limit, TokenBudget)]),
                tuple([Throttle(limit, owner) for limit in wanted if isinstance(limit, TokenLimit)]),
            )  # fmt: skip
        return policy


class Shared:
    """What all candidates of one match have in common: compiled conditions, verdicts and steps."""

    __slots__ = (
        "answer", "answer_step", "ceilings", "directory", "failed_steps", "gate", "guards", "https_port", "limits",
        "purse", "shades", "split", "step", "tests", "trials", "upstream", "wisher",
    )  # fmt: skip

    def __init__(
        self, route: Route, match: Match, upstream: Upstream | None, limits: Tariff | None,
        ceilings: tuple[Ceiling, ...], purse: Purse | None, split: Splitter | None, shades: tuple[Shade, ...],
        directory: Directory | None, guards: Guards | None, gate: Gate | None,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.guards = guards
        self.gate = gate
        self.split = split
        self.shades = shades
        self.limits = limits
        self.ceilings = ceilings
        self.purse = purse
        self.tests: tuple[Test, ...] = tuple(compile_condition(condition) for condition in match.conditions)
        self.failed_steps = failed_steps(route, match)
        self.trials = tuple(zip(self.tests, self.failed_steps, strict=True))
        self.step: Step = (Reason.ROUTE_MATCHED, match.span, (route.name,))
        self.upstream = upstream
        self.wisher = Wisher.of(upstream)
        self.answer: Respond | None = None
        self.answer_step: Step | None = None
        self.https_port = 0
        if route.respond is not None:
            self.https_port = route.respond.https_port
            self.answer = Respond(route)
            self.answer_step = (Reason.RESPONDED, route.respond.span, (route.respond.status,))


class Candidate:
    """One way to be matched. Everything that a decision needs is at hand, nothing is looked up later."""

    __slots__ = (
        "answer", "answer_step", "ceilings", "conditions", "directory", "failed_steps", "gate", "guards", "host",
        "host_kind", "https_port", "is_limited", "key", "limits", "match", "path", "path_kind", "pattern", "purse",
        "rank", "route",
        "shades", "split", "step", "tests", "trials", "upstream", "wisher",
    )  # fmt: skip

    def __init__(
        self, route: Route, match: Match, shared: Shared, index: int, *, host: str, path_kind: PathKind, path: str
    ) -> None:
        self.route = route
        self.match = match
        self.conditions: tuple[Condition, ...] = match.conditions
        self.tests = shared.tests
        self.failed_steps = shared.failed_steps
        self.trials = shared.trials
        self.host = host
        self.host_kind = _host_kind(host)
        self.path_kind = path_kind
        self.path = path
        self.pattern: Pattern | None = compile_pattern(path) if path_kind is PathKind.REGEX else None
        self.key = self._key(index)
        self.rank = 0  # set by `ranked`: 0 is the best of the plan
        self.step = shared.step
        self.upstream = shared.upstream
        self.split = shared.split
        self.shades = shared.shades
        self.limits = shared.limits
        self.ceilings = shared.ceilings
        self.purse = shared.purse
        self.directory = shared.directory
        self.guards = shared.guards
        self.gate = shared.gate
        is_governed = self.limits is not None or bool(self.ceilings) or self.purse is not None
        self.is_limited = is_governed or self.gate is not None
        self.wisher = shared.wisher
        self.answer = shared.answer
        self.answer_step = shared.answer_step
        self.https_port = shared.https_port

    def host_holds(self, request: Request) -> bool:
        return self.host_kind is HostKind.ANY or host_matches(request.host, self.host)

    def path_holds(self, request: Request) -> bool:
        if self.path_kind is PathKind.EXACT:
            return request.path == self.path
        if self.path_kind is PathKind.PREFIX:
            return path_has_prefix(request.path, self.path)
        return self.pattern is None or self.pattern.matches(request.path)

    def conditions_hold(self, request: Request, lost: list[Lost]) -> bool:
        """Ask the conditions beyond host and path; the first that does not hold is noted."""
        for test, failed in self.trials:
            if not test(request):
                lost.append((self.rank, failed))
                return False
        return True

    def _key(self, index: int) -> Key:
        length = -len(self.path) if self.path_kind is PathKind.PREFIX else 0
        breadth = -len(self.host) if self.host_kind is HostKind.WILDCARD else 0
        return (
            -self.route.priority, self.host_kind, breadth, self.path_kind, length,
            -len(self.conditions), self.route.order, index,
        )  # fmt: skip


def rule_between(first: Candidate, later: Candidate) -> str:
    """The rule of precedence by which a candidate is asked before another one."""
    return next(rule for rule, one, other in zip(RULES, first.key, later.key, strict=True) if one != other)


def failed_steps(route: Route, match: Match) -> tuple[Step, ...]:
    """What is told when a condition of the match is the first that does not hold: its route, its number, its name."""
    return tuple(
        (
            Reason.CONDITION_FAILED, first_known(condition.span, match.span, route.span),
            (route.name, at, f"{condition.kind} {condition.name}".strip()),
        )
        for at, condition in enumerate(match.conditions)
    )  # fmt: skip


def ranked(plan: Plan, tell: Tell = tell) -> tuple[Candidate, ...]:
    """Return all candidates of the plan, the best first; their `rank` is their place."""
    upstreams = {upstream.name: upstream for upstream in plan.upstreams}
    policies = Policies(plan, tell)
    candidates = [one for route in plan.routes for one in candidates_of(route, upstreams, policies)]
    candidates.sort(key=lambda candidate: candidate.key)  # stable: equal orders keep the plan's
    for rank, candidate in enumerate(candidates):
        candidate.rank = rank
    return tuple(candidates)


def candidates_of(route: Route, upstreams: dict[str, Upstream], policies: Policies) -> list[Candidate]:
    """Multiply out the matches of one route; a route without any matches everything."""
    upstream = None if route.upstream is None else upstreams[route.upstream]
    tariff, ceilings, allowances, throttles = policies.of(route)
    purse = None if route.inference is None else Purse(route.inference, allowances, throttles)
    split = None if route.split is None else Splitter(route.split, upstreams)
    shades = shades_of(route.shadows, upstreams)
    directory = _directory(route, upstreams, policies)
    guards, gate = of_route(route, policies.guards), gate_of(route, policies.gates, policies.lists)
    found: list[Candidate] = []
    for match in route.matches or (Match(span=route.span),):
        shared = Shared(route, match, upstream, tariff, ceilings, purse, split, shades, directory, guards, gate)
        for host in _hosts(match):
            for path_kind, path in _paths(match):
                index = len(found)
                found.append(Candidate(route, match, shared, index, host=host, path_kind=path_kind, path=path))
    return found


def _directory(route: Route, upstreams: dict[str, Upstream], policies: Policies) -> Directory | None:
    inference = route.inference
    if route.models is None or inference is None:
        return None
    return Directory(
        route.models, upstreams, lambda line: Purse(inference, *policies.of(route, line.filters)[2:])
    )


def _hosts(match: Match) -> list[str]:
    return list(dict.fromkeys(host_pattern(host) for host in match.hosts)) or [ANY_HOST]


def _paths(match: Match) -> list[tuple[PathKind, str]]:
    paths = [(PathKind.EXACT, path_literal(path)) for path in match.paths]
    paths += [(PathKind.PREFIX, path_literal(path)) for path in match.path_prefixes]
    paths += [(PathKind.REGEX, path) for path in match.path_regexes]
    return list(dict.fromkeys(paths)) or [(PathKind.ANY, "")]


def _host_kind(host: str) -> HostKind:
    if host == ANY_HOST:
        return HostKind.ANY
    return HostKind.WILDCARD if host.startswith("*.") else HostKind.EXACT
