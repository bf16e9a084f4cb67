"""Drive a coroutine of the core without an event loop: one send, and the answer, or what it waits for.

The core is written as coroutines because some questions wait (a turn at a rate limit,
a password, a body, an agent, a remote policy). Nearly all requests ask none of these, and then the first `send(None)`
runs the decision to its end. One that waits says for what (`Pause`, `Wanted`, `Unsettled`), and whoever drives it goes
on when that has come: live traffic with a timer, with the body's last octet or with a thread's word, and no task. Where
nobody can wait, a coroutine that does all the same is a bug of ours, and is told so at once instead of hanging.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from dataclasses import dataclass
from typing import Any, TypeVar, final

from sentinel.core.appraisal import Appraisal
from sentinel.core.gates import Authenticator
from sentinel.core.identity import Finding
from sentinel.core.plan import Route

Answer = TypeVar("Answer")


class WaitedHere(Exception):
    """The core asked a question that waits, where only instant ones may be asked."""


@final
@dataclass(frozen=True, slots=True)
class Pause:
    """A coroutine of the core waits so long; send None when it is over."""

    wait_ns: int

    def __await__(self) -> Generator[Pause, None, None]:
        yield self


@final
class Wanted:
    """A coroutine of the core waits for what is in a request's body; it is sent the appraisal."""

    __slots__ = ("route",)

    def __init__(self, route: Route) -> None:
        self.route = route

    def __await__(self) -> Generator[Wanted, Appraisal, Appraisal]:
        return (yield self)


@final
class Unsettled:
    """A coroutine of the core waits for who asks; it is sent the finding."""

    __slots__ = ("authenticator",)

    def __init__(self, authenticator: Authenticator) -> None:
        self.authenticator = authenticator

    def __await__(self) -> Generator[Unsettled, Finding, Finding]:
        return (yield self)


def advance(
    coroutine: Coroutine[Any, Any, Answer], answered: Appraisal | Finding | None = None
) -> Answer | Pause | Wanted | Unsettled:
    """Run on to the end, or to the next thing that is waited for. `answered`: what was wanted."""
    try:
        question = coroutine.send(answered)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    if type(question) is Pause or type(question) is Wanted or type(question) is Unsettled:
        return question
    coroutine.close()
    raise WaitedHere(f"the decision waits for {question!r}, and nobody here can answer")


def run(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """Run to the end where nobody can wait; raise WaitedHere if it would."""
    answer = advance(coroutine)
    if type(answer) is Pause or type(answer) is Wanted or type(answer) is Unsettled:
        coroutine.close()
        raise WaitedHere(f"the decision waits for {answer!r}, and nobody here can answer")
    return answer
