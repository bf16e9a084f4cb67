"""A decision's conversation with its world, written down, and replayed from what was written.

Intuition: the minutes of a hearing. Every question and every answer stands there in order; whoever reads both
parts aloud again comes to the same verdict, for the same reasons, and the minutes of the reading are the minutes.

    Recorder(world)   asks the world, and keeps what was asked and answered
    Replay(lines)     answers from the lines; raises Diverged when something else is asked

A line is one question: its name, what was asked, what was answered, in plain values, so that lines can be kept
as JSON. Endpoints and buckets are named, not copied: a replay needs the plan that the decision was made with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sentinel.core.allowances import Term, Window
from sentinel.core.appraisal import Appraisal, Spending, Translation
from sentinel.core.gates import Authenticator
from sentinel.core.identity import Finding, Identity
from sentinel.core.inspection import Inspection
from sentinel.core.plan import Endpoint, Plan, Provider, Route, Upstream
from sentinel.core.reasons import BY_WORD
from sentinel.core.request import Request
from sentinel.core.span import Span
from sentinel.core.trace import Step
from sentinel.core.world import Choice, Wish, World

Line = list[Any]
"""[question, what was asked, what was answered]"""


class Diverged(Exception):
    """Another question is asked than was recorded: it is another decision."""


class Recorder:
    """A world that writes down what it is asked (sentinel.core.world.World)."""

    def __init__(self, world: World) -> None:
        self.lines: list[Line] = []
        self._world = world

    def chance(self) -> int:
        return int(self._keep("chance", [], self._world.chance()))

    def identify(self, authenticator: Authenticator, request: Request) -> Finding | None:
        found = self._world.identify(authenticator, request)
        self._keep("identify", [authenticator.name], None if found is None else _finding_line(found))
        return found

    async def identified(self, authenticator: Authenticator, request: Request) -> Finding:
        found = await self._world.identified(authenticator, request)
        self._keep("identified", [authenticator.name], _finding_line(found))
        return found

    def charge(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        asked = [[key.hex() for key in keys], terms.hex()]
        return tuple(self._keep("charge", asked, list(self._world.charge(keys, terms))))

    def take(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        asked = [[key.hex() for key in keys], terms.hex()]
        return tuple(self._keep("take", asked, list(self._world.take(keys, terms))))

    def hold(self, key: bytes, most: int) -> tuple[int, int, int]:
        outcome, held, lease = self._keep("hold", [key.hex(), most], list(self._world.hold(key, most)))
        return outcome, held, lease

    def let_go(self, leases: tuple[int, ...]) -> None:
        self._world.let_go(leases)
        self._keep("let-go", list(leases), None)

    def waiting(self, name: str) -> int:
        return int(self._keep("waiting", [name], self._world.waiting(name)))

    async def wait(self, name: str, wait_ns: int) -> None:
        await self._world.wait(name, wait_ns)
        self._keep("wait", [name, wait_ns], None)

    async def appraise(self, route: Route, request: Request) -> Appraisal:
        appraisal = await self._world.appraise(route, request)
        found = appraisal.kind, appraisal.model, appraisal.input_tokens, appraisal.output_tokens, appraisal.fault
        priced = appraisal.money, appraisal.account, appraisal.dialect, appraisal.mark
        self._keep("appraise", [route.name], [*found, *priced])
        return appraisal

    def inspect(self, route: Route, request: Request) -> tuple[Inspection, ...]:
        found = self._world.inspect(route, request)
        self._keep("inspect", [route.name], [[one.kind, one.told, one.attached_count] for one in found])
        return found

    def price(self, model: str, input_tokens: int, output_tokens: int) -> tuple[int, str]:
        asked = [model, input_tokens, output_tokens]
        money, account = self._keep("price", asked, list(self._world.price(model, input_tokens, output_tokens)))
        return money, account

    def translate(self, route: Route, provider: Provider, request: Request) -> Translation:
        one = self._world.translate(route, provider, request)
        self._keep(
            "translate", [route.name, provider.dialect], [one.kind, one.client, one.provider, one.fault, one.left_out]
        )
        return one

    def window(self, period: str, time_zone: str) -> Window:
        return Window(*self._keep("window", [period, time_zone], list(self._world.window(period, time_zone))))

    def reserve(self, keys: tuple[bytes, ...], terms: tuple[Term, ...]) -> tuple[int, ...]:
        return tuple(self._keep("reserve", _reserve_asked(keys, terms), list(self._world.reserve(keys, terms))))

    def refund(self, spending: Spending) -> None:
        self._world.refund(spending)
        self._keep("refund", _refund_asked(spending), None)

    def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
        choice = self._world.choose_endpoint(upstream, tried, wish)
        self._keep("choose-endpoint", _choice_asked(upstream, tried, wish), _choice_line(choice))
        return choice

    def _keep(self, question: str, asked: list[Any], answered: Any) -> Any:
        self.lines.append([question, asked, answered])
        return answered


class Replay:
    """A world that answers as was recorded (sentinel.core.world.World)."""

    def __init__(self, plan: Plan, lines: Sequence[Line]) -> None:
        self._lines = iter(lines)
        self._endpoints = {
            (upstream.name, endpoint.name): endpoint for upstream in plan.upstreams for endpoint in upstream.endpoints
        }

    def chance(self) -> int:
        return int(self._answer("chance", []))

    def identify(self, authenticator: Authenticator, request: Request) -> Finding | None:
        line = self._answer("identify", [authenticator.name])
        return None if line is None else _finding(line)

    async def identified(self, authenticator: Authenticator, request: Request) -> Finding:
        return _finding(self._answer("identified", [authenticator.name]))

    def charge(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        return tuple(self._answer("charge", [[key.hex() for key in keys], terms.hex()]))

    def take(self, keys: tuple[bytes, ...], terms: bytes) -> tuple[int, ...]:
        return tuple(self._answer("take", [[key.hex() for key in keys], terms.hex()]))

    def hold(self, key: bytes, most: int) -> tuple[int, int, int]:
        outcome, held, lease = self._answer("hold", [key.hex(), most])
        return outcome, held, lease

    def let_go(self, leases: tuple[int, ...]) -> None:
        self._answer("let-go", list(leases))

    def waiting(self, name: str) -> int:
        return int(self._answer("waiting", [name]))

    async def wait(self, name: str, wait_ns: int) -> None:
        self._answer("wait", [name, wait_ns])

    async def appraise(self, route: Route, request: Request) -> Appraisal:
        return Appraisal(*self._answer("appraise", [route.name]))

    def inspect(self, route: Route, request: Request) -> tuple[Inspection, ...]:
        return tuple(Inspection(*one) for one in self._answer("inspect", [route.name]))

    def price(self, model: str, input_tokens: int, output_tokens: int) -> tuple[int, str]:
        money, account = self._answer("price", [model, input_tokens, output_tokens])
        return money, account

    def translate(self, route: Route, provider: Provider, request: Request) -> Translation:
        return Translation(*self._answer("translate", [route.name, provider.dialect]))

    def window(self, period: str, time_zone: str) -> Window:
        return Window(*self._answer("window", [period, time_zone]))

    def reserve(self, keys: tuple[bytes, ...], terms: tuple[Term, ...]) -> tuple[int, ...]:
        return tuple(self._answer("reserve", _reserve_asked(keys, terms)))

    def refund(self, spending: Spending) -> None:
        self._answer("refund", _refund_asked(spending))

    def choose_endpoint(self, upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> Choice:
        name, refusal, notes = self._answer("choose-endpoint", _choice_asked(upstream, tried, wish))
        endpoint = None if name is None else self._endpoints[upstream.name, name]
        return Choice(endpoint, None if refusal is None else BY_WORD[refusal], tuple(map(_step, notes)))

    def finish(self) -> None:
        """Raise Diverged when more was recorded than was asked."""
        rest = next(self._lines, None)
        if rest is not None:
            raise Diverged(f"`{rest[0]}` was recorded, and is not asked")

    def _answer(self, question: str, asked: list[Any]) -> Any:
        line = next(self._lines, None)
        if line is None or line[:2] != [question, asked]:
            recorded = "nothing more" if line is None else f"`{line[0]}` of {line[1]}"
            raise Diverged(f"`{question}` of {asked} is asked, and recorded is {recorded}")
        return line[2]


def encode(lines: Sequence[Line]) -> bytes:
    """A transcript as JSON lines."""
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)


def decode(data: bytes) -> list[Line]:
    """Read a transcript back; raises ValueError."""
    return [json.loads(line) for line in data.splitlines()]


def encode_steps(steps: Sequence[Step]) -> bytes:
    """A trace as JSON lines."""
    return encode([_step_line(step) for step in steps])


def _finding_line(found: Finding) -> Line:
    one = found.identity
    identity = None if one is None else [one.source, one.method, one.subject, [list(claim) for claim in one.claims]]
    return [found.reason.word, identity, found.detail]


def _finding(line: Line) -> Finding:
    word, identity, detail = line
    if identity is None:
        return Finding(BY_WORD[word], None, detail)
    source, method, subject, claims = identity
    found = Identity(source, method, subject, tuple((name, value) for name, value in claims))
    return Finding(BY_WORD[word], found, detail)


def _reserve_asked(keys: tuple[bytes, ...], terms: tuple[Term, ...]) -> list[Any]:
    return [[key.decode() for key in keys], [[*term[:6], term.last.decode(), term.carried_max] for term in terms]]


def _refund_asked(spending: Spending) -> list[Any]:
    takings = [[one.key.hex(), list(one.mark), one.charged_ns] for one in spending.takings]
    return [spending.tokens, [[one.lease, one.amount] for one in spending.reservations], takings]


def _choice_asked(upstream: Upstream, tried: tuple[Endpoint, ...], wish: Wish) -> list[Any]:
    wished = [wish.key.hex(), wish.cookie, wish.tokens, wish.model, wish.mark]
    return [upstream.name, [endpoint.name for endpoint in tried], *wished]


def _choice_line(choice: Choice) -> list[Any]:
    name = None if choice.endpoint is None else choice.endpoint.name
    refusal = None if choice.refusal is None else choice.refusal.word
    return [name, refusal, [_step_line(step) for step in choice.notes]]


def _step_line(step: Step) -> Line:
    reason, span, details = step
    plain = [{"hex": one.hex()} if isinstance(one, bytes) else one for one in details]
    return [reason.word, [span.file, span.line, span.column], plain]


def _step(line: Line) -> Step:
    word, place, details = line
    read = (bytes.fromhex(one["hex"]) if isinstance(one, dict) else one for one in details)
    return BY_WORD[word], Span(*place), tuple(read)
