"""Policy tests: what a configuration shall do, written beside it.

    tests { case "…" { state …; request …; expect …; … } }  →  Case

Intuition: the examples in a contract. Each says what happens to whom, in the words of the contract, and
whoever changes a clause sees which examples no longer hold.

They are read with the configuration, by the same schema and with the same strictness, and names that
they use must be there. But they are no part of the plan: workers never see them. Running them is
the affair of explain.cases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from sentinel.config.check import Block, meant
from sentinel.config.problem import Problems
from sentinel.config.states import compile_state
from sentinel.core.cases import Case, CaseRequest, Expect, Expectation
from sentinel.core.plan import Endpoint, Plan
from sentinel.core.reasons import BY_WORD
from sentinel.core.state import NOTHING_KNOWN, State

REQUESTS_MAX: Final = 200_000
"""Of all cases together, repetitions counted: a gate that runs them holds a reload up for a minute at most."""


def compile_cases(blocks: Sequence[Block], plan: Plan, problems: Problems) -> tuple[Case, ...]:
    """The cases; they mean something only if no problem was reported."""
    cases = tuple(_Cases(plan, problems).case(block) for block in blocks)
    count = 0
    for block, case in zip(blocks, cases, strict=True):
        count += sum(request.times for request in case.requests)
        if count > REQUESTS_MAX:
            problems.add(
                block.span, f"up to here the tests ask more than {REQUESTS_MAX} requests",
                "repeat less: a `state` says at once what many requests would have brought about",
            )  # fmt: skip
            break
    return cases


class _Cases:
    def __init__(self, plan: Plan, problems: Problems) -> None:
        self._plan = plan
        self._problems = problems
        self._names = {
            "route": [route.name for route in plan.routes], "listener": [one.name for one in plan.listeners],
            "upstream": [upstream.name for upstream in plan.upstreams], "reason": list(BY_WORD), "step": list(BY_WORD),
        }  # fmt: skip

    def case(self, block: Block) -> Case:
        listener = block.one("listener")
        if block.has("listener"):
            self._reference("listener", listener)
        requests = tuple(self._requests(block))
        name = block.args[0] if block.args and block.args[0] else ""
        return Case(name, (listener.args[0] or "") if listener.args else "", requests, block.span)

    def _requests(self, block: Block) -> Iterator[CaseRequest]:
        """Walk over the case's lines in their order; each request takes the states before it and the expects after."""
        state, is_new = NOTHING_KNOWN, False
        asked: Block | None = None
        expects: list[Expect] = []
        waiting: State | None = None
        for child in block.children:
            match child.directive.name:
                case "state":
                    before = state
                    state = compile_state(child, self._plan, self._problems, state)
                    state = _joined(before, state) if is_new else state
                    is_new = True
                case "request":
                    if asked is not None:
                        yield self._request(block, asked, waiting, expects)
                    asked, expects, waiting, is_new = child, [], state if is_new else None, False
                case "expect":
                    if asked is None:
                        self._problems.add(child.span, "nothing was asked before this", "write the `request` first")
                    else:
                        expects.append(self._expect(child, asked))
        if asked is not None:
            yield self._request(block, asked, waiting, expects)
        if is_new and not block.is_faulty:
            last = list(block.all("state"))[-1]
            self._problems.add(last.span, "no request comes after this state", "move it before the request it is for")

    def _request(
        self, case: Block, block: Block, state: State | None, expects: Sequence[Expect]
    ) -> CaseRequest:
        headers = tuple((one.args[0] or "", one.args[1] or "") for one in block.all("header") if len(one.args) == 2)
        client = block.value("client-ip") if block.has("client-ip") else case.value("client-ip")
        return CaseRequest(
            request=block.args[0] if block.args and block.args[0] else "", headers=headers, client_ip=client or "",
            body_bytes=(block.value("body-size") or 0) if block.has("body-size") else -1,
            times=block.props["times"] or 1, every_ns=block.props["every"] or 0, after_ns=block.props["after"] or 0,
            state=state, expects=tuple(expects), span=block.span,
        )  # fmt: skip

    def _expect(self, block: Block, asked: Block) -> Expect:
        times = asked.props["times"] or 1
        first, last = block.props["from"] or 1, block.props["to"] or times
        if first > last or last > times:
            name = "to" if "to" in block.prop_spans else "from"
            self._problems.add(
                block.prop_spans[name], f"there are no such repetitions: the request comes {times} times",
                f"a number between {first if first <= times else 1} and {times}",
            )  # fmt: skip
        if not block.children and not block.is_faulty:
            self._problems.add(block.span, "nothing is expected", 'say what shall come of it, e.g. `route "api"`')
        return Expect(first, last, tuple(self._expectation(one) for one in block.children), block.span)

    def _expectation(self, block: Block) -> Expectation:
        kind, args = block.directive.name, block.args
        if kind in self._names:
            self._reference(kind, block)
        if kind == "endpoint":
            names = tuple(Endpoint(*one).name for one in args if one is not None)
            known = sorted({one.name for upstream in self._plan.upstreams for one in upstream.endpoints})
            for name, span in zip(names, block.arg_spans, strict=False):
                if name not in known:
                    self._problems.add(span, f"there is no endpoint `{name}`", meant(name, known))
            return Expectation(kind, names, span=block.span)
        if kind.endswith("header"):
            return Expectation(kind, tuple(args[1:]), args[0] if args and args[0] else "", block.span)
        return Expectation(kind, tuple(args), span=block.span)

    def _reference(self, kind: str, block: Block) -> None:
        names = self._names[kind]
        for name, span in zip(block.args, block.arg_spans, strict=True):
            if name is not None and name not in names:
                what = "reason" if kind == "step" else kind
                shown = meant(name, names) or (f"there are {', '.join(f'`{one}`' for one in names[:20])}")
                self._problems.add(span, f"there is no {what} `{name}`", shown if names else "there is none")


def _joined(before: State, after: State) -> State:
    """Two states of which no request came between: what the first says of buckets still counts."""
    used, held, spent = before.used, before.held, before.spent
    assert isinstance(used, dict) and isinstance(held, dict) and isinstance(after.used, dict)
    assert isinstance(after.held, dict) and isinstance(spent, dict) and isinstance(after.spent, dict)
    return replace(after, used={**used, **after.used}, held={**held, **after.held}, spent={**spent, **after.spent})
