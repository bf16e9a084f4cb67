"""A world that somebody described: the core's questions answered from a state, at no cost to anybody.

Intuition: a war game. The pieces stand as they were described, the rules are those of the real thing, and
turns change the board on the table and nothing outside.

Dry runs, policy tests, dry runs against a running fleet, explanations and comparisons are all this world; they
differ in who wrote the state. It keeps what it was asked for: a bucket that was charged stays charged, so that the
twenty-first request of a test is refused as it would be live. Whoever wants each request to be the first makes a
new one for each; what costs to make is made once for all of them (Pieces).

Rules:
1. The arithmetic is the core's own: Chooser, `limits.charged`, the balances. Here are only the pieces.
2. Time stands still unless somebody moves it (`pass_ns`). Who waits for his turn at a rate limit waits no
   time here: others would not stand still meanwhile.
3. Chance is a function of the state (its seed) and of how often was asked: the same description, the same game.
4. After the decision live traffic must be let in (workers.attempt): by the upstream's own breaker, and by the
   bounds of what is in flight. `admit` is that, for endpoints that do not change under way.
5. What a request to a language model asks for is said (`State.model`, `State.tokens`), or read from its body where that
   is known (`read`), or is no model, no input and the output of the route's `default-output-tokens`; without a body it
   can be translated, unless `State.untranslatable` says no, and guardrails find in it what `State.found` says. What is
   put aside stays so: nobody answers here.
6. Who asks is said too (`State.found_out`, `State.visitor`), or seen from what the request shows, where somebody can
   verify that (`verify`). Without either it shows nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Final

from sentinel.core.allowances import Term, Window, open_window
from sentinel.core.appraisal import FREE, SAME, UNKNOWN, Appraisal, Spending, Translation, priced
from sentinel.core.balance.chooser import Chooser
from sentinel.core.balance.hashing import key_of
from sentinel.core.balance.levels import OPEN, UNHEALTHY, USABLE
from sentinel.core.balance.loads import least_request, lightest
from sentinel.core.balance.reports import Report
from sentinel.core.balance.rosters import serves
from sentinel.core.balance.warming import warmed
from sentinel.core.budgets import Offset, start_of, utc
from sentinel.core.decide import fall_back
from sentinel.core.fallbacks import ends_in, falls_on
from sentinel.core.gates import Authenticator
from sentinel.core.guard.guards import told
from sentinel.core.identity import MISSING, Finding, recognised
from sentinel.core.inspection import CLEAN, Inspection, unread
from sentinel.core.limits import ADMITTED, REFUSED, charged
from sentinel.core.plan import SECOND, Endpoint, Plan, Provider, Route, Upstream
from sentinel.core.prices import date_of
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.core.state import NOTHING_KNOWN, EndpointState, Ledger, State, UpstreamState
from sentinel.core.trace import Trace
from sentinel.core.verdict import Forward, Reject, Verdict
from sentinel.core.world import Choice, Wish

UNREAD: Final = "it is assumed to be unreadable"
MS: Final = 1_000_000
IDLE: Final = EndpointState()
WHOLE: Final = UpstreamState()
START_NS: Final = 1 << 60
"""When a description begins: late enough that a bucket that fills for ten years was full before."""


class Pieces:
    """The upstreams of a plan, made ready for any number of worlds: hash tables are too dear for each."""

    def __init__(self, plan: Plan) -> None:
        self._upstreams = {upstream.name: upstream for upstream in plan.upstreams}
        self._choosers: dict[str, Chooser] = {}

    def of(self, name: str) -> tuple[Upstream, Chooser]:
        upstream, chooser = self._upstreams[name], self._choosers.get(name)
        if chooser is None:
            chooser = self._choosers[name] = Chooser(upstream)
        return upstream, chooser


class Scene:
    """The endpoints of one upstream as described (chooser.Scene)."""

    def __init__(self, world: Assumed, upstream: Upstream, chooser: Chooser) -> None:
        self.chooser = chooser
        self.whole = world.state.upstreams.get(upstream.name, WHOLE)
        known = [world.state.endpoints.get((upstream.name, one.name), IDLE) for one in upstream.endpoints]
        self.known: Sequence[EndpointState] = known
        self.weights: Sequence[int] = [
            state.weight or warmed(endpoint.weight, 0, 0)
            for state, endpoint in zip(known, upstream.endpoints, strict=True)
        ]
        self.purse = [0] * len(known)
        self._world = world
        self._upstream = upstream
        self._turn = self.whole.turn - 1

    def standing(self) -> bytes:
        ill = USABLE if self._upstream.health is None else UNHEALTHY  # as in workers.places: nobody checks
        return bytes([ill if one.standing == UNHEALTHY else one.standing for one in self.known])

    def flights(self) -> Sequence[int]:
        return [one.in_flight for one in self.known]

    def reports(self) -> Sequence[Report | None]:
        rule = self._upstream.load_report
        if rule is None or self._world.age_ms() > rule.stale_ns // MS:  # as shm.board.report
            return [None] * len(self.known)
        return [one.report for one in self.known]

    def lacking(self, model: str) -> bytes:
        return bytes([one.models is not None and not serves(one.models, model) for one in self.known])

    def burdens(self) -> Sequence[int]:
        return [one.tokens for one in self.known]

    def latencies(self) -> Sequence[int]:
        return [one.latency_us for one in self.known]

    def least(self, allowed: bytes) -> int:
        return least_request(self.flights(), self.weights, self._from_turn(allowed), 0)

    def lightest(self, allowed: bytes, tokens: int) -> int:
        return lightest(self.burdens(), self.weights, self._from_turn(allowed), 0, tokens)

    def least_of_all(self) -> int:
        return -1 if any(self.standing()) else self.least(b"\1" * len(self.weights))

    def turn(self) -> int:
        self._turn += 1
        return self._turn

    def chance(self) -> int:
        return self._world.chance()

    def now_s(self) -> int:
        return self._world.now_s()

    def _from_turn(self, allowed: bytes) -> list[int]:
        """Those that are allowed, from the one on whose turn it is."""
        usable = [index for index, octet in enumerate(allowed) if octet]
        start = self.turn() % max(len(allowed), 1)
        return [index for index in usable if index >= start] + [index for index in usable if index < start]

    def refusal(self, endpoint: Endpoint) -> tuple[Reason | None, bool]:
        """Why an attempt may not begin there, and whether that holds for all endpoints (shm.places, `begin`)."""
        upstream, state = self._upstream, self.known[self._upstream.endpoints.index(endpoint)]
        if upstream.endpoint_breaker is not None and state.standing == OPEN:
            return Reason.BREAKER_OPEN, False
        if upstream.upstream_breaker is not None and self.whole.is_open:
            return Reason.BREAKER_OPEN, True
        if 0 < upstream.max_endpoint_requests <= state.in_flight:
            return Reason.UPSTREAM_FULL, False
        in_flight = self.whole.in_flight if self.whole.in_flight >= 0 else sum(self.flights())
        if 0 < upstream.max_requests <= in_flight:
            return Reason.UPSTREAM_FULL, True
        return None, False


class Assumed:
    """Answers from a description (sentinel.core.world.World)."""

    def __init__(self, plan: Plan, state: State = NOTHING_KNOWN, pieces: Pieces | None = None) -> None:
        self.state = NOTHING_KNOWN
        self.passed_ns = 0
        self._since_ns = START_NS
        self._epoch_s = 0
        self._used: Ledger = {}
        self._others_held: Ledger = {}
        self._tats: dict[bytes, int] = {}
        self._held: dict[bytes, int] = {}
        self._spent: dict[bytes, int] = {}
        self._others_spent: Ledger = {}
        self._described: dict[bytes, tuple[int, int]] = {}  # of the window that was open at that time
        self.verify: Callable[[Authenticator, Request], Finding] = lambda authenticator, request: MISSING
        """Who asks, by what the request shows; who can verify that says so."""
        self.dialect_of: Callable[[Route, Request], str | None] = lambda route, request: ""
        """In which dialect of language models it is, None: in none; who knows them says so."""
        self.named_in_path: Callable[[Route, Request], tuple[str, str]] = lambda route, request: ("", "")
        """The model that its path names, and what is wrong with that name; who knows dialects says so."""
        self.counts_only: Callable[[Route, Request], bool] = lambda route, request: False
        """Whether it only asks how many tokens another would take; who knows dialects says so."""
        self.read: Callable[[Route, Request], Appraisal] | None = None
        """What its body asks for, where that is known; who reads dialects says so."""
        self.inspected: Callable[[Route, Request], tuple[Inspection, ...]] | None = None
        """What guardrails find in its body, where that is known; who reads dialects says so."""
        self.translated: Callable[[Route, Provider, Request], Translation] = lambda route, provider, request: SAME
        """What becomes of it for a provider of another dialect, whatever its body says; who knows dialects says so."""
        self.offset_of: Callable[[str], Offset] = lambda time_zone: utc
        """Where zones are; who knows them says so."""
        self._book = plan.prices
        self._guardrails = frozenset(one.name for one in plan.guardrails if "request" in one.on)
        self._leases: dict[int, bytes] = {}
        self._lease = self._asked = 0
        self._pieces = Pieces(plan) if pieces is None else pieces
        self._scenes: dict[str, Scene] = {}
        self.assume(state)

    def assume(self, state: State) -> None:
        """From now on it is so; buckets, and what is held, stay as they are where it says nothing of them."""
        if state.now_s != self.state.now_s:
            self._epoch_s = state.now_s - self.passed_ns // SECOND
        self.state, self._scenes, self._asked = state, {}, 0
        self._since_ns = START_NS + self.passed_ns
        if isinstance(state.used, Mapping):
            self._tats.update({key: self._since_ns + used_ns for key, used_ns in state.used.items()})
        else:  # who is asked for keys that nobody has mentioned
            self._used = state.used
        if isinstance(state.held, Mapping):
            self._held.update(state.held)
        else:
            self._others_held = state.held

        if isinstance(state.spent, Mapping):
            self._described.update({key: (tokens, self.now_s()) for key, tokens in state.spent.items()})
            for key in [key for key in self._spent if _unopened(key) in state.spent]:
                del self._spent[key]
        else:
            self._others_spent = state.spent

    def pass_ns(self, duration_ns: int) -> None:
        """So much time passes."""
        self.passed_ns += duration_ns

    def now_s(self) -> int:
        return self._epoch_s + self.passed_ns // SECOND

    def age_ms(self) -> int:
        """How long ago it was as described."""
        return self.passed_ns // MS - (self._since_ns - START_NS) // MS

    # The core's questions.

    def chance(self) -> int:
        if self.state.chance is None:
            return 0  # one of those that may be: an explanation is to be the same each time
        self._asked += 1
        octets = f"{self.state.chance}:{self._asked}".encode()
        return int.from_bytes(blake2b(octets, digest_size=8).digest(), "big")

    def identify(self, authenticator: Authenticator, request: Request) -> Finding:
        found = self.state.found_out.get(authenticator.name)
        if found is not None:
            return found
        if self.state.visitor is not None:
            return recognised(replace(self.state.visitor, source=authenticator.name))
        return self.verify(authenticator, request)

    async def identified(self, authenticator: Authenticator, request: Request) -> Finding:
        return self.identify(authenticator, request)

    def charge(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        now_ns = START_NS + self.passed_ns
        outcome, index, tats = charged([self._tat(key) for key in keys], now_ns, terms)
        if outcome == ADMITTED:
            self._tats.update(zip(keys, tats, strict=True))
        return outcome, index, *[tat - now_ns for tat in tats]

    def take(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        outcome, index, *used = self.charge(keys, terms)
        return outcome, index, *used, *[0] * (3 * len(keys))

    def hold(self, key: bytes, most: int) -> tuple[int, int, int]:
        held = self._held.get(key)
        if held is None:
            held = self._others_held.get(key, 0)
        if held >= most:
            return REFUSED, held, 0
        self._lease += 1
        self._leases[self._lease] = key
        self._held[key] = held + 1
        return ADMITTED, held + 1, self._lease

    def let_go(self, leases: tuple[int, ...]) -> None:
        for lease in leases:
            key = self._leases.pop(lease, None)
            if key is not None and key in self._held:
                self._held[key] -= 1

    def waiting(self, name: str) -> int:
        return self.state.waiting.get(name, 0)

    async def wait(self, name: str, wait_ns: int) -> None:
        """See rule 2."""

    async def appraise(self, route: Route, request: Request) -> Appraisal:
        assert route.inference is not None, "nobody else is appraised"
        dialect = self.dialect_of(route, request) if request.method == "POST" else ""
        if dialect is None:
            return UNKNOWN
        if request.method != "POST":
            return FREE
        if self.read is not None and self.state.is_silent_on_calls:
            return self.read(route, request)
        named, fault = self.named_in_path(route, request)
        if fault:
            return Appraisal("malformed", fault=fault)
        asked, model = self.state.tokens or (0, route.inference.output_tokens), named or self.state.model
        if self.counts_only(route, request):
            return Appraisal("count", model, dialect=dialect)
        money, account = self.price(model, *asked)
        mark = key_of(self.state.prompt.encode()) if self.state.prompt else 0
        return Appraisal("ask", model, *asked, money=money, account=account, dialect=dialect, mark=mark)

    def inspect(self, route: Route, request: Request) -> tuple[Inspection, ...]:
        if self.inspected is not None and not self.state.found:
            return self.inspected(route, request)
        found = []
        for name in route.filters:
            if name in self._guardrails:
                kinds = self.state.found.get(name, ())
                if kinds is None:
                    found.append(unread(UNREAD))
                else:
                    found.append(Inspection("found", told({kind: 1 for kind in kinds})) if kinds else CLEAN)
        return tuple(found)

    def price(self, model: str, input_tokens: int, output_tokens: int) -> tuple[int, str]:
        rates = None if self._book is None else self._book.price(model, date_of(self.now_s()))
        return priced(model, self._book, rates, (input_tokens, output_tokens))

    def translate(self, route: Route, provider: Provider, request: Request) -> Translation:
        found = self.translated(route, provider, request)
        if found.kind == "said" and self.state.untranslatable:
            return Translation("unsayable", found.client, found.provider, self.state.untranslatable)
        return found

    def window(self, period: str, time_zone: str) -> Window:
        return open_window(period, self.offset_of(time_zone), self.now_s())

    def reserve(self, keys: tuple[bytes, ...], terms: tuple[Term, ...]) -> tuple[int, ...]:
        used = [self._spent_of(key) for key in keys]
        earlier = [
            sum(self._spent_earlier(one, term) for one in term.earlier(key))
            for key, term in zip(keys, terms, strict=True)
        ]
        for at, (term, before) in enumerate(zip(terms, earlier, strict=True)):
            if used[at] + term.amount > term.room(before):
                return REFUSED, at, *used, *[0 for _ in terms], *earlier
        used = [spent + term.amount for spent, term in zip(used, terms, strict=True)]
        self._spent.update(zip(keys, used, strict=True))
        leases = []
        for key in keys:
            self._lease += 1
            self._leases[self._lease] = key
            leases.append(self._lease)
        return ADMITTED, -1, *used, *leases, *earlier

    def refund(self, spending: Spending) -> None:
        for taken in spending.takings:  # no time has passed since
            if taken.key in self._tats:
                self._tats[taken.key] -= taken.charged_ns
        for one in spending.reservations:
            key = self._leases.pop(one.lease, None)
            if key is not None and key in self._spent:
                self._spent[key] -= one.amount

    def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
        scene = self._scene(upstream)
        return scene.chooser.choose(scene, tried, wish)

    # After the decision.

    def carry_out(self, table: RouteTable, request: Request, verdict: Verdict, trace: Trace) -> Verdict:
        """What becomes of a verdict that is acted on: attempts begin, fail, and fall back, as it was described."""
        while type(verdict) is Forward and verdict.errand is not None:
            fallback, found = verdict.errand.first.fallback, self._begun(verdict)
            if type(found) is Reject:
                is_failed, what = fallback is not None and falls_on(fallback, found.reason), found.reason.word
            else:
                what = self.state.upstreams.get(verdict.upstream.name, WHOLE).answers
                is_failed = fallback is not None and what != "" and ends_in(fallback, what)
            if not is_failed or verdict.errand.following is None:
                break
            if verdict.spending is not None:
                self.refund(verdict.spending)
            following = fall_back(table, verdict.route, request, verdict.errand, what, self, trace)
            if type(following) is not Forward:  # nobody else may be asked: what this one said is the answer
                break
            following.leases = verdict.leases
            verdict = following
        return self.admit(verdict)

    def admit(self, verdict: Verdict) -> Verdict:
        """What becomes of a verdict when its attempt begins."""
        if type(verdict) is not Forward:
            return verdict
        found = self._begun(verdict)
        if type(found) is Reject:
            self.let_go(verdict.leases)
            if verdict.spending is not None:
                self.refund(verdict.spending)
        return found

    def _begun(self, verdict: Forward) -> Forward | Reject:
        upstream, endpoint = verdict.upstream, verdict.endpoint
        tried: tuple[Endpoint, ...] = ()
        scene = self._scene(upstream)
        while True:
            reason, is_for_all = scene.refusal(endpoint)
            if reason is None:
                return replace(verdict, endpoint=endpoint)
            tried = (*tried, endpoint)
            other = None if is_for_all else self.choose_endpoint(upstream, tried, verdict.wish).endpoint
            if other is None:
                return Reject(reason.status, reason, verdict.route, verdict.fields)
            endpoint = other

    def _spent_of(self, key: bytes) -> int:
        spent = self._spent.get(key)
        if spent is not None:
            return spent
        tokens, said_s = self._described.get(_unopened(key), (0, -1))
        return tokens if json.loads(key)[1] <= said_s else self._others_spent.get(key, 0)

    def _spent_earlier(self, key: bytes, term: Term) -> int:
        """What is used of an earlier window: of one that was described, if it was open when it was described."""
        spent = self._spent.get(key)
        if spent is not None:
            return spent
        amount, said_s = self._described.get(_unopened(key), (0, -1))
        if term.steps and start_of(key) <= said_s < start_of(key) + term.step_s:
            return amount
        return self._others_spent.get(key, 0)

    def _tat(self, key: bytes) -> int:
        tat = self._tats.get(key)
        return self._since_ns + self._used.get(key, 0) if tat is None else tat

    def _scene(self, upstream: Upstream) -> Scene:
        scene = self._scenes.get(upstream.name)
        if scene is None:
            scene = self._scenes[upstream.name] = Scene(self, *self._pieces.of(upstream.name))
        return scene


def _unopened(key: bytes) -> bytes:
    """The key under which a description has a window (State.spent)."""
    name = json.loads(key)
    name[1] = 0
    return json.dumps(name, ensure_ascii=False, separators=(",", ":")).encode()
