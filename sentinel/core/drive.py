"""Drive a coroutine of the core that may not wait: one send, and the answer.

The core is written as coroutines because some questions wait (an agent, a
remote policy). Where no such question can be asked, no event loop is needed
either: the first `send(None)` runs it to its end. A coroutine that waits all
the same is a bug of ours, and is told so at once instead of hanging.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

Answer = TypeVar("Answer")


class WaitedHere(Exception):
    """The core asked a question that waits, where only instant ones may be asked."""


def run(coroutine: Coroutine[Any, Any, Answer]) -> Answer:
    """Run to the end without an event loop; raise WaitedHere if it would wait."""
    try:
        question = coroutine.send(None)
    except StopIteration as end:
        answer: Answer = end.value
        return answer
    coroutine.close()
    raise WaitedHere(f"the decision waits for {question!r}, and nobody here can answer")
