"""Another try: what happens between a try that failed and the next one.

    a try failed ──▶ again? ──no──▶ its answer, or our refusal
                       │yes
                     wait (jitter) ──▶ choose, another endpoint if there is one ──▶ attempt.aim

The rules are the core's (sentinel.core.retry), the budget is the fleet's (shared memory), and here is
what must be taken back: the link is cut, the answer's beginning is dropped, the body that was kept
goes before what still comes. A client that leaves meanwhile ends the waiting. Where two tries are under way
(workers.hedging), the other one goes on, and nothing is begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel.core.plan import Retry
from sentinel.core.reasons import Reason
from sentinel.core.retry import backoff_ns, is_failed_answer, is_failed_try, may_be_sent_again
from shm.places import FAILURE, SUCCESS
from workers import attempt, hedging
from workers.timers import NEVER

if TYPE_CHECKING:
    from workers.exchange import Exchange


def prepare(exchange: Exchange, retry: Retry) -> None:
    """The route tries again: keep what that needs, and begin to count."""
    exchange.retry = retry
    exchange.kept_max = retry.body_bytes
    if exchange.kept_bytes > retry.body_bytes:
        exchange.kept = None
    _begin_try(exchange, retry)
    hedging.arm(exchange, retry)


def again(exchange: Exchange, retry: Retry, reason: Reason | None, status: int = 0) -> bool:
    """A try ended for this reason, or with an answer of this status: is it tried again? If so, it was begun."""
    if exchange.rival is not None and hedging.goes_on(exchange, exchange.rival, retry, reason, status):
        return True
    if exchange.tries >= retry.attempts or exchange.interims or exchange.is_tunnel:
        return False
    if not (is_failed_answer(retry, status) if reason is None else is_failed_try(retry, reason)):
        return False
    group, endpoint = exchange.group, exchange.endpoint
    if group is None or endpoint is None:
        return False
    what = str(status) if reason is None else reason.word
    obstacle = _obstacle(exchange, retry)
    if not obstacle and not group.may_retry():
        obstacle = "the budget is used up"
    if obstacle:
        exchange.trace.step(Reason.RETRY_DENIED, retry.span, endpoint.name, what, obstacle)
        return False
    wait_ns = backoff_ns(retry, exchange.tries, group.chance())
    exchange.trace.step(Reason.RETRIED, retry.span, endpoint.name, what, wait_ns // 1_000_000)
    outcome = FAILURE if reason is not None or status >= 500 else SUCCESS
    attempt.over(exchange, outcome, reason or Reason.PROXIED, status)
    exchange.drop_link()
    _take_back(exchange)
    group.count_retry(endpoint)
    exchange.tried += (endpoint,)
    exchange.deadline_ns = NEVER
    _begin_try(exchange, retry, wait_ns)
    exchange.pause = exchange.downstream.service.loop.call_later(wait_ns / 1e9, _go_on, exchange)
    return True


def _obstacle(exchange: Exchange, retry: Retry) -> str:
    """Why the request cannot be sent a second time; "" when it can."""
    if not may_be_sent_again(retry, exchange.head.method, exchange.was_sent):
        return f"{exchange.head.method} is not idempotent"
    if exchange.was_sent and exchange.has_body and exchange.kept is None:
        return "its body is too large to be kept"
    return ""


def _take_back(exchange: Exchange) -> None:
    """As if the try had never been; what was counted stays."""
    if exchange.was_sent:
        exchange.backlog = list(exchange.kept or ())
    exchange.was_sent = exchange.is_repeated = False
    exchange.answer_part = b""
    exchange.answered_ns = 0
    exchange.tried_pools = ()
    exchange.pool = None


def _begin_try(exchange: Exchange, retry: Retry, wait_ns: int = 0) -> None:
    exchange.tries += 1
    exchange.try_ns = NEVER
    if retry.per_try_ns:
        exchange.try_ns = exchange.downstream.service.ticker.after(retry.per_try_ns + wait_ns)


def _go_on(exchange: Exchange) -> None:
    exchange.pause = None
    if exchange.is_ended or exchange.group is None:
        return
    try:
        choice = exchange.group.choose(exchange.tried, exchange.wish)
        if choice.endpoint is None:  # nobody else: the same ones again
            exchange.tried = ()
            choice = exchange.group.choose((), exchange.wish)
        if choice.endpoint is None:
            exchange.fail(choice.refusal or Reason.NO_ENDPOINT)
        else:
            if exchange.retry is not None:
                hedging.arm(exchange, exchange.retry)
            attempt.aim(exchange, choice.endpoint)
    except Exception as fault:
        exchange.surprised(fault)
