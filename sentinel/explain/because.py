"""Why a request is taken by another route: because of a condition, a rule of precedence, or since one is gone.

Told for one example of a group: the explanation names what is true of that request.
"""

from __future__ import annotations

from collections.abc import Callable

from sentinel.core.candidates import Candidate, rule_between
from sentinel.core.request import Request
from sentinel.core.routes import RouteTable
from sentinel.explain.losers import obstacle


def why_rerouted(
    old: RouteTable, before: Request, former: Candidate | None, new: RouteTable, after: Request, now: Candidate | None
) -> str:
    """Why what took the request takes it no more; or, where nothing took it, what has changed for the one that does."""
    if former is not None:
        return _why_not(new, after, former.route.name, now)
    assert now is not None, "one of the two is there, or nothing differs"
    name = now.route.name
    those = [one for one in old.candidates_on(before.listener) if one.route.name == name]
    if not those:
        return f"route `{name}` is new here"
    loser = obstacle(max(those, key=_closeness(before)), before)
    return "" if loser is None else f"before, for route `{name}`, {loser.text}"


def _why_not(new: RouteTable, asked: Request, name: str, now: Candidate | None) -> str:
    """Why a route of the old configuration does not take the request in the new one."""
    those = [one for one in new.candidates_on(asked.listener) if one.route.name == name]
    if not those:
        is_known = any(one.route.name == name for one in new.candidates)
        return f"route `{name}` is {'not served on this listener' if is_known else 'gone'}"
    loser = obstacle(nearest := max(those, key=_closeness(asked)), asked)
    holding = next((one for one in those if obstacle(one, asked) is None), None)
    if holding is not None and now is not None:
        return f"route `{name}` matches still, but `{now.route.name}` {rule_between(now, holding)}"
    assert loser is not None, f"{nearest} holds, so it would have been found"
    return f"for route `{name}` {loser.text}"


def _closeness(request: Request) -> Callable[[Candidate], tuple[bool, bool, int]]:
    return lambda one: (one.host_holds(request), one.path_holds(request), -one.rank)
