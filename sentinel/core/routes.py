"""The route table: the plan's routes, indexed so that ten thousand cost what ten do.

Intuition: a sorting office. Nobody carries a letter past ten thousand boxes;
one looks at the town, then the street, and only the last few boxes are
compared. Here the town is the host, the street the path, and the boxes are
candidates with conditions.

    listener → exact host     one hash look-up
             → wildcards      one look-up per label of the host, longest first
             → any host
                  each → paths (see pathindex)

What a look-up costs depends on the host's labels, on the depth of prefixes, and on
the candidates that share host and path; never on the number of routes.

Priorities: where all candidates have the same priority, specificity is the order,
and the first hit wins. Where priorities differ, a less specific candidate may
be the better one; then every list that covers host and path is looked at, and
the lowest rank wins. These are still only a handful: nothing is scanned.

The table is immutable, and belongs to one generation. It has a memory all the same: where no candidate of a
listener has conditions beyond host and path, these two decide, and who asks for what was asked for
lately gets the same answer without a search. The memory is bounded, and starts anew when it was full for long.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sentinel.core.candidates import ANY_HOST, Candidate, HostKind, Lost, ranked
from sentinel.core.gates import gates_of
from sentinel.core.guard.guards import Guards
from sentinel.core.limits import Tell, tell
from sentinel.core.models import Directory, said_models
from sentinel.core.pathindex import PathIndex
from sentinel.core.plan import Endpoint, Plan, Upstream, UpstreamTls
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.span import NOWHERE, Span
from sentinel.core.trace import Step
from sentinel.core.verdict import Reject
from sentinel.core.wishes import marked_routes

REMEMBERED_MAX: Final = 2048
REMEMBERED_CHARS_MAX: Final = 256
PASSED_MAX: Final = 16 * REMEMBERED_MAX
"""A full memory is kept for so many searches: where paths never come again, remembering them is most of the cost."""


class HostIndex:
    """The candidates of one listener, by host."""

    __slots__ = ("any_host", "exact", "has_tests", "is_uniform", "wild")

    def __init__(self, candidates: list[Candidate]) -> None:
        self.exact: dict[str, PathIndex] = {}
        self.wild: dict[str, PathIndex] = {}  # key: ".example.com"
        self.any_host = PathIndex()
        self.has_tests = any(candidate.tests for candidate in candidates)
        self.is_uniform = len({candidate.route.priority for candidate in candidates}) < 2
        for candidate in candidates:  # in the order of rank
            self._paths(candidate).add(candidate)
        for paths in (*self.exact.values(), *self.wild.values(), self.any_host):
            paths.seal()

    def find(self, request: Request, lost: list[Lost]) -> Candidate | None:
        """Return the best candidate that matches."""
        if not self.is_uniform:
            return self._find_ranked(request, lost)
        host = request.host
        paths = self.exact.get(host)
        if paths is not None:
            found = paths.first(request, lost)
            if found is not None:
                return found
        if self.wild:
            dot = host.find(".", 1)
            while dot != -1:
                paths = self.wild.get(host[dot:])
                if paths is not None:
                    found = paths.first(request, lost)
                    if found is not None:
                        return found
                dot = host.find(".", dot + 1)
        return self.any_host.first(request, lost)

    def _find_ranked(self, request: Request, lost: list[Lost]) -> Candidate | None:
        best: Candidate | None = None
        host = request.host
        if host in self.exact:
            best = self.exact[host].best(request, best, lost)
        if self.wild:
            dot = host.find(".", 1)
            while dot != -1:
                paths = self.wild.get(host[dot:])
                if paths is not None:
                    best = paths.best(request, best, lost)
                dot = host.find(".", dot + 1)
        return self.any_host.best(request, best, lost)

    def _paths(self, candidate: Candidate) -> PathIndex:
        match candidate.host_kind:
            case HostKind.EXACT:
                return self.exact.setdefault(candidate.host, PathIndex())
            case HostKind.WILDCARD:
                return self.wild.setdefault(candidate.host.removeprefix(ANY_HOST), PathIndex())
            case HostKind.ANY:
                return self.any_host


class RouteTable:
    """A plan that can be asked; made by `compile_routes`."""

    __slots__ = (
        "_found", "_passed", "by_model", "candidates", "directories", "endpoint_steps", "guards", "listeners",
        "marked", "no_route", "no_route_step", "plan", "said_models", "tls_steps", "unbound", "upstreams",
    )  # fmt: skip

    def __init__(self, plan: Plan, tell: Tell) -> None:
        self.plan = plan
        self.upstreams: dict[str, Upstream] = {upstream.name: upstream for upstream in plan.upstreams}
        self.candidates = ranked(plan, tell)
        self.by_model: dict[str, Candidate] = {  # of each route that chooses by model, one of its
            one.route.name: one for one in self.candidates if one.directory is not None
        }
        self.directories: dict[str, Directory] = {
            name: one.directory for name, one in self.by_model.items() if one.directory is not None
        }
        self.guards: dict[str, Guards] = {
            one.route.name: one.guards for one in self.candidates if one.guards is not None
        }
        self.marked = marked_routes(plan)
        self.said_models = said_models(plan)
        self.unbound = HostIndex([one for one in self.candidates if not one.route.listeners])
        bound = {name for route in plan.routes for name in route.listeners}
        self.listeners: dict[str, HostIndex] = {  # listeners that no route names share one index
            name: HostIndex(self.candidates_on(name)) for name in sorted(bound)
        }
        # By identity: the world chooses among the plan's own endpoints. Another one is described on the spot.
        self.endpoint_steps: dict[int, Step] = {
            id(endpoint): chosen(upstream, endpoint) for upstream in plan.upstreams for endpoint in upstream.endpoints
        }
        self.tls_steps: dict[int, Step] = {
            id(endpoint): over_tls(upstream.tls, endpoint)
            for upstream in plan.upstreams if upstream.tls is not None for endpoint in upstream.endpoints
        }  # fmt: skip
        self.no_route = Reject(Reason.NO_ROUTE.status, Reason.NO_ROUTE, None)
        self.no_route_step: Step = (Reason.NO_ROUTE, NOWHERE, ())
        self._found: dict[tuple[str, str, str], Candidate] = {}
        self._passed = 0  # searches since the memory was full

    def find(self, request: Request, lost: list[Lost] | None = None) -> Candidate | None:
        """Return the best candidate for a request, or None; `lost`: see pathindex."""
        asked = request.path, request.host, request.listener
        return self._found.get(asked) or self._search(request, asked, [] if lost is None else lost)

    def _search(self, request: Request, asked: tuple[str, str, str], lost: list[Lost]) -> Candidate | None:
        index = self.listeners.get(request.listener, self.unbound)
        found = index.find(request, lost)
        if found is None or index.has_tests:
            return found
        if len(self._found) < REMEMBERED_MAX:
            if sum(map(len, asked)) <= REMEMBERED_CHARS_MAX:
                self._found[asked] = found
        elif self._passed < PASSED_MAX:
            self._passed += 1
        else:
            self._passed = 0
            self._found.clear()
        return found

    def endpoint_step(self, upstream: Upstream, endpoint: Endpoint) -> Step:
        """Return the step that says which endpoint the world chose."""
        return self.endpoint_steps.get(id(endpoint)) or chosen(upstream, endpoint)

    def tls_step(self, tls: UpstreamTls, endpoint: Endpoint) -> Step:
        """Return the step that says that this endpoint is spoken to over TLS."""
        return self.tls_steps.get(id(endpoint)) or over_tls(tls, endpoint)

    def fixed_steps(self) -> Iterator[Step]:
        """Walk over all steps that were made with the table (core.record writes them out beforehand)."""
        yield self.no_route_step
        yield from self.endpoint_steps.values()
        yield from self.tls_steps.values()
        for candidate in self.candidates:
            yield candidate.step
            yield from candidate.failed_steps
            if candidate.split is not None:
                yield from candidate.split.steps
            for shade in candidate.shades:
                yield shade.step
            if candidate.answer_step is not None:
                yield candidate.answer_step

    def spans(self) -> Iterator[Span]:
        """Walk over the places that steps name which are made on the spot, with what was measured."""
        for listener in self.plan.listeners:
            if listener.tls is not None:
                yield listener.tls.span
                yield from (one.span for one in listener.tls.client_certificates)
        for upstream in self.plan.upstreams:
            yield upstream.span
            yield from (endpoint.span for endpoint in upstream.endpoints)
            if upstream.sticky is not None:
                yield upstream.sticky.span
            if upstream.tls is not None:
                yield upstream.tls.span
        yield from (limit.span for limit in self.plan.rate_limits)
        yield from (limit.span for limit in self.plan.concurrency_limits)
        yield from (guardrail.span for guardrail in self.plan.guardrails)
        yield from (one.span for one in gates_of(self.plan).values())
        for access in self.plan.address_lists:
            yield access.span
            yield from (rule.span for rule in access.rules)
        yield from (route.retry.span for route in self.plan.routes if route.retry is not None)
        for route in self.plan.routes:
            if route.models is not None:
                yield route.models.span
                yield from (line.span for line in route.models.lines)
                yield from (line.fallback.span for line in route.models.lines if line.fallback is not None)
                yield from (line.provider.span for line in route.models.lines if line.provider is not None)
        yield from (upstream.provider.span for upstream in self.plan.upstreams if upstream.provider is not None)

    def candidates_on(self, listener: str) -> list[Candidate]:
        """Return the candidates that are served on a listener, the best first."""
        return [one for one in self.candidates if not one.route.listeners or listener in one.route.listeners]


def chosen(upstream: Upstream, endpoint: Endpoint) -> Step:
    return (Reason.ENDPOINT_CHOSEN, endpoint.span, (upstream.name, endpoint.host, endpoint.port))


def over_tls(tls: UpstreamTls, endpoint: Endpoint) -> Step:
    """As whom the endpoint is addressed, who must vouch for it ("": nobody), and whether its key is pinned."""
    trusted = "" if not tls.is_verified else "ca" if tls.ca_pem else "system"
    return (Reason.OVER_TLS, tls.span, (tls.server_name or endpoint.host, trusted, "pinned" if tls.pins else ""))


def compile_routes(plan: Plan, tell: Tell = tell) -> RouteTable:
    """Index a plan's routes. Raises ValueError on hosts, paths or patterns that a checked plan cannot have.

    `tell`: who puts into words what limits say; a worker hands in a faster one that says the same.
    """
    return RouteTable(plan, tell)
