"""Upstreams and endpoints as the fleet remembers them: by names that outlive a reload.

`api` is an upstream, `api/10.0.0.7:8080` one of its endpoints, whatever generation speaks
of it. Shared memory gives each name a number, and the plan carries the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sentinel.core.plan import Plan


def place_names(plan: Plan) -> list[str]:
    """The names, in the order in which `with_places` takes their numbers: endpoints beside each other."""
    return list(_names(plan))


def _names(plan: Plan) -> Iterator[str]:
    for upstream in plan.upstreams:
        yield upstream.name
        for endpoint in upstream.endpoints:
            yield f"{upstream.name}/{endpoint.name}"


def with_places(plan: Plan, numbers: list[int]) -> Plan:
    """The plan with the numbers of its places."""
    left = iter(numbers)
    upstreams = []
    for upstream in plan.upstreams:
        place = next(left)
        endpoints = tuple(replace(endpoint, place=next(left)) for endpoint in upstream.endpoints)
        upstreams.append(replace(upstream, place=place, endpoints=endpoints))
    return replace(plan, upstreams=tuple(upstreams))
