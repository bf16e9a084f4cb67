"""The choice of an endpoint of one upstream: sticky first, then health and priority, then the balance.

    wish (cookie) ──▶ the endpoint it names, if it may still be used
                         │ else
    standing ──▶ levels ──▶ indices that may be tried ──▶ the balance's pick

Made once with the plan, without any state: what is known of the endpoints now, what must be
remembered from turn to turn, and chance, are the scene's. So a dry run, a replay and live
traffic choose with the same code, and differ only in what they know.

The common case is fast: everybody is usable, nothing was tried, one priority. Then nothing is
computed but the pick, and the Choice that is returned was made with the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from sentinel.core.balance.hashing import Lookup, Maglev, Ring, is_within, key_of
from sentinel.core.balance.levels import (
    DRAIN,
    MAINTENANCE,
    NO_MODEL,
    OPEN,
    STANDING_WORDS,
    UNRESOLVED,
    USABLE,
    allowed,
)
from sentinel.core.balance.loads import lighter, quicker, two_of
from sentinel.core.balance.prefixes import bound_of
from sentinel.core.balance.reports import Report, least_load, loads_of, told
from sentinel.core.balance.sticky import Tag, Tags
from sentinel.core.balance.turns import smooth_round_robin, weighted_choice
from sentinel.core.plan import Endpoint, Upstream
from sentinel.core.reasons import Reason
from sentinel.core.trace import Step
from sentinel.core.wishes import BY_PREFIX, lists_models
from sentinel.core.world import Choice, Wish

NOTES_MAX: Final = 8
"""So many endpoints that were passed over are told of one by one."""
COMPARED_MAX: Final = 16
"""Of so many endpoints it is told what each has in flight; of more, only of the one that was chosen."""
BY_LOAD: Final = frozenset({"least-request", "power-of-two", "peak-ewma"})


class Scene(Protocol):
    """What is known of one upstream's endpoints, in the order of the plan."""

    weights: Sequence[int]
    """Present ones, all above 0, on one scale."""
    purse: list[int]
    """Of smooth round-robin; the chooser writes it."""

    def standing(self) -> bytes:
        """An octet for each (levels.USABLE, …)."""

    def flights(self) -> Sequence[int]:
        """In flight at each, in the whole fleet."""

    def burdens(self) -> Sequence[int]:
        """Tokens under way at each, in the whole fleet."""

    def lightest(self, allowed: bytes, tokens: int) -> int:
        """The index with the least (tokens under way + tokens) / weight of those whose octet is not 0; -1 for none."""

    def reports(self) -> Sequence[Report | None]:
        """What each said of its load; None without a fresh reading."""

    def lacking(self, model: str) -> bytes:
        """An octet for each, not 0 for those of which it is known that they do not serve the model."""

    def latencies(self) -> Sequence[int]:
        """Peak latency of each, any unit; 0 where none was measured."""

    def least(self, allowed: bytes) -> int:
        """The index with the least (in flight + 1) / weight of those whose octet is not 0; -1 for none."""

    def least_of_all(self) -> int:
        """The same of all of them, if each may be used; -1 when that has to be looked at, and perhaps one may not."""

    def turn(self) -> int:
        """A number that is one more each time."""

    def chance(self) -> int:
        """64 bits."""

    def now_s(self) -> int:
        """Seconds since the epoch."""


LOAD_COMPARED: Final = Reason.LOAD_COMPARED
Pick = Callable[[Scene, list[int], Wish], int]


class Chooser:
    """How one upstream's endpoints are chosen."""

    __slots__ = (
        "_all", "_all_usable", "_choices", "_compares", "_everybody", "_follows", "_has_levels", "_is_quick",
        "_lists_models", "_localities", "_lookup", "_max_load", "_names", "_pick", "_priorities", "_reports",
        "_upstream", "_weighs", "tags",
    )  # fmt: skip

    def __init__(self, upstream: Upstream) -> None:
        endpoints, balance = upstream.endpoints, upstream.balance
        self._upstream = upstream
        self._names = tuple(endpoint.name for endpoint in endpoints)
        self._priorities = tuple(endpoint.priority for endpoint in endpoints)
        self._localities = tuple(endpoint.locality for endpoint in endpoints)
        self._has_levels = len(set(self._priorities)) > 1 or bool(upstream.locality)
        self._all = list(range(len(endpoints)))
        self._everybody = frozenset(self._all)
        self._all_usable = bytes(len(endpoints))
        self._choices = tuple(Choice(endpoint) for endpoint in endpoints)
        self._max_load = balance.max_load
        self._lookup: Lookup | None = None
        weights = [endpoint.weight for endpoint in endpoints]
        if balance.kind in ("maglev", "ip-hash"):
            self._lookup = Maglev(self._names, weights)
        elif balance.kind in ("ring", BY_PREFIX):
            self._lookup = Ring(self._names, weights)
        self._compares = balance.kind in BY_LOAD
        self._weighs = balance.kind == "least-tokens"
        self._reports = balance.kind == "least-load"
        self._follows = balance.kind == BY_PREFIX
        self._pick = self._picker(balance.kind)
        sticky = upstream.sticky
        self.tags = Tags(upstream.name, self._names, sticky.secrets) if sticky is not None else None
        self._lists_models = lists_models(upstream)
        # Where all are equal and the least is wanted, one look at all of them is the whole choice.
        self._is_quick = (
            balance.kind == "least-request" and not self._has_levels and sticky is None and not self._lists_models
        )

    def choose(self, scene: Scene, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
        """Which endpoint next. `tried`: those that are not to be tried again."""
        if self._is_quick and not tried:
            index = scene.least_of_all()
            if index >= 0:
                if len(self._all) == 1:
                    return self._choices[index]
                return Choice(self._upstream.endpoints[index], None, (self._compared(scene.flights(), index),))
        standing = scene.standing()
        if self._lists_models and wish.model:
            standing = _without_model(standing, scene.lacking(wish.model))
        notes: tuple[Step, ...] = ()
        if self.tags is not None:
            followed, notes = self._followed(scene, standing, tried, wish)
            if followed is not None:
                return followed
        if standing == self._all_usable and not tried and not self._has_levels:
            indices = self._all
        else:
            indices, more = self._narrowed(scene, standing, tried, wish)
            notes += more
            if not indices:
                return Choice(None, self._refusal(standing, tried), notes)
        if len(indices) == 1:
            index = indices[0]
        else:
            if self._follows:
                index, told_of = self._by_prefix(scene, indices, wish)
                notes += told_of
            elif self._reports:
                index, step = self._by_report(scene, indices)
                notes += (step,)
            else:
                index = self._pick(scene, indices, wish)
            if self._compares:
                notes += (self._compared(scene.flights(), index),)
            elif self._weighs:
                notes += (self._weighed(scene.burdens(), index, wish.tokens),)
        return Choice(self._upstream.endpoints[index], None, notes) if notes else self._choices[index]

    # Who may be tried.

    def _narrowed(
        self, scene: Scene, standing: bytes, tried: tuple[Endpoint, ...], wish: Wish
    ) -> tuple[list[int], tuple[Step, ...]]:
        upstream = self._upstream
        weights = [endpoint.weight for endpoint in upstream.endpoints]
        chance = 0
        if self._has_levels:  # a key that is hashed stays with the level that it fell on
            chance = self._level_of(wish) if self._lookup is not None else scene.chance()
        found = allowed(
            standing, weights, self._priorities, self._localities, here=upstream.locality,
            panic_share=upstream.panic_share, chance=chance,
        )  # fmt: skip
        # A name that was never resolved is tried when nobody else is left: that tells more than `none-usable`.
        indices = found.indices or [index for index, code in enumerate(standing) if code == UNRESOLVED]
        if tried:
            indices = [index for index in indices if not _is_among(upstream.endpoints[index], tried)]
            if not indices:  # the level is used up: whoever else may do
                indices = [
                    index for index, code in enumerate(standing)
                    if code in (USABLE, UNRESOLVED) and not _is_among(upstream.endpoints[index], tried)
                ]  # fmt: skip
        return indices, self._notes(standing, found.is_panic, found.priority)

    def _notes(self, standing: bytes, is_panic: bool, priority: int) -> tuple[Step, ...]:
        upstream = self._upstream
        notes: list[Step] = [
            (Reason.ENDPOINT_PASSED_OVER, endpoint.span, (endpoint.name, STANDING_WORDS[code]))
            for endpoint, code in zip(upstream.endpoints, standing, strict=True) if code != USABLE
        ][:NOTES_MAX]  # fmt: skip
        if is_panic:
            notes.append((Reason.PANIC, upstream.span, (upstream.name,)))
        if priority > min(self._priorities):
            notes.append((Reason.PRIORITY_LOWERED, upstream.span, (upstream.name, priority)))
        return tuple(notes)

    def _compared(self, flights: Sequence[int], index: int) -> Step:
        """What the endpoints had in flight, in the order of the plan, behind the number of the one that was chosen."""
        told = flights if len(flights) <= COMPARED_MAX else (flights[index],)
        return LOAD_COMPARED, self._upstream.span, (index + 1, *told)

    def _weighed(self, burdens: Sequence[int], index: int, tokens: int) -> Step:
        """The same of tokens under way, behind what the request itself weighs."""
        told = burdens if len(burdens) <= COMPARED_MAX else (burdens[index],)
        return Reason.TOKENS_COMPARED, self._upstream.span, (index + 1, tokens, *told)

    def _by_report(self, scene: Scene, indices: list[int]) -> tuple[int, Step]:
        """The one with the least load, and the loads, with the readings that they are made of."""
        reports = scene.reports()
        loads = loads_of(reports, scene.flights())
        index = least_load(loads, scene.weights, indices, scene.turn() % len(indices))
        told_of = zip(loads, reports, strict=True) if len(loads) <= COMPARED_MAX else [(loads[index], reports[index])]
        return index, (Reason.REPORTS_COMPARED, self._upstream.span, (index + 1, *[told(*one) for one in told_of]))

    def _refusal(self, standing: bytes, tried: tuple[Endpoint, ...]) -> Reason:
        if tried:
            return Reason.NO_ENDPOINT
        if NO_MODEL in standing and all(code in (NO_MODEL, DRAIN, MAINTENANCE) for code in standing):
            return Reason.MODEL_MISSING
        return Reason.BREAKER_OPEN if OPEN in standing else Reason.NONE_USABLE

    # Sticky clients.

    def _followed(
        self, scene: Scene, standing: bytes, tried: tuple[Endpoint, ...], wish: Wish
    ) -> tuple[Choice | None, tuple[Step, ...]]:
        sticky = self._upstream.sticky
        assert sticky is not None and self.tags is not None
        index, tag = self.tags.read(wish.cookie, scene.now_s())
        if tag is Tag.NONE:
            return None, ()
        if index < 0:
            return None, ((Reason.STICKY_IGNORED, sticky.span, (sticky.cookie, tag.value)),)
        endpoint = self._upstream.endpoints[index]
        # One that is drained still serves those who are his; that is what draining is for.
        if standing[index] not in (USABLE, DRAIN) or _is_among(endpoint, tried):
            why = STANDING_WORDS[standing[index]] if standing[index] else "tried already"
            return None, ((Reason.STICKY_IGNORED, sticky.span, (sticky.cookie, f"{endpoint.name}: {why}")),)
        return Choice(endpoint, None, ((Reason.STICKY_FOLLOWED, sticky.span, (sticky.cookie,)),)), ()

    # The balance.

    def _picker(self, kind: str) -> Pick:
        picks: dict[str, Pick] = {
            "random": _random, "least-request": self._least_request, "power-of-two": _power_of_two,
            "peak-ewma": _peak_ewma, "least-tokens": self._least_tokens,
            "ip-hash": self._hashed, "maglev": self._hashed, "ring": self._hashed,
        }  # fmt: skip
        weights = {endpoint.weight for endpoint in self._upstream.endpoints}
        if kind == "round-robin" and len(weights) == 1 and not self._upstream.slow_start_ns:
            return _in_turn
        return picks.get(kind, _by_weight)

    def _least_request(self, scene: Scene, indices: list[int], wish: Wish) -> int:
        return scene.least(self._octets(indices))

    def _least_tokens(self, scene: Scene, indices: list[int], wish: Wish) -> int:
        return scene.lightest(self._octets(indices), wish.tokens)

    def _by_prefix(self, scene: Scene, indices: list[int], wish: Wish) -> tuple[int, tuple[Step, ...]]:
        """The one that owns the prompt's beginning, if it is not over its part; else the one with the fewest tokens."""
        assert self._lookup is not None
        burdens = scene.burdens()
        notes: tuple[Step, ...] = ()
        if wish.mark:
            members = self._everybody if indices is self._all else frozenset(indices)
            owner = self._lookup.find(wish.mark, members.__contains__)
            bound = bound_of(owner, self._max_load, burdens, scene.weights, indices, wish.tokens)
            said = self._names[owner], burdens[owner], bound
            if burdens[owner] <= bound:
                return owner, ((Reason.PREFIX_FOLLOWED, self._upstream.span, said),)
            notes = ((Reason.PREFIX_PASSED_BY, self._upstream.span, said),)
        index = scene.lightest(self._octets(indices), wish.tokens)
        return index, (*notes, self._weighed(burdens, index, wish.tokens))

    def _level_of(self, wish: Wish) -> int:
        """What decides the level that a request falls on: the same for the same key."""
        return wish.mark if self._follows else key_of(wish.key)

    def _octets(self, indices: list[int]) -> bytes:
        """An octet for each endpoint: not 0 for those that may be tried."""
        if indices is self._all:
            return b"\1" * len(indices)
        octets = bytearray(len(self._all))
        for index in indices:
            octets[index] = 1
        return bytes(octets)

    def _hashed(self, scene: Scene, indices: list[int], wish: Wish) -> int:
        assert self._lookup is not None
        members = self._everybody if indices is self._all else frozenset(indices)
        if not self._max_load:
            return self._lookup.find(key_of(wish.key), members.__contains__)
        flights, weights = scene.flights(), scene.weights

        def allows(index: int) -> bool:
            return index in members and is_within(index, self._max_load, flights, weights, indices)

        found = self._lookup.find(key_of(wish.key), allows)
        return found if found >= 0 else self._lookup.find(key_of(wish.key), members.__contains__)


def _in_turn(scene: Scene, indices: list[int], wish: Wish) -> int:
    return indices[scene.turn() % len(indices)]


def _by_weight(scene: Scene, indices: list[int], wish: Wish) -> int:
    return smooth_round_robin(scene.purse, scene.weights, indices)


def _random(scene: Scene, indices: list[int], wish: Wish) -> int:
    return weighted_choice(scene.chance(), scene.weights, indices)


def _power_of_two(scene: Scene, indices: list[int], wish: Wish) -> int:
    one, other = two_of(scene.chance(), scene.weights, indices)
    return lighter(one, other, scene.flights(), scene.weights)


def _peak_ewma(scene: Scene, indices: list[int], wish: Wish) -> int:
    one, other = two_of(scene.chance(), scene.weights, indices)
    return quicker(one, other, scene.flights(), scene.latencies(), scene.weights)


def _without_model(standing: bytes, lacking: bytes) -> bytes:
    """Who lacks the model cannot answer, however well it is, nor if a client's cookie names it."""
    if not any(lacking):
        return standing
    return bytes([
        NO_MODEL if lacks and code != MAINTENANCE else code
        for code, lacks in zip(standing, lacking, strict=True)
    ])  # fmt: skip


def _is_among(endpoint: Endpoint, tried: tuple[Endpoint, ...]) -> bool:
    return any(endpoint is one for one in tried)
