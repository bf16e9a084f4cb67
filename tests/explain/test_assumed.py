"""A described fleet grows older as a real one does."""

from __future__ import annotations

from sentinel.config import load_text
from sentinel.core.balance.reports import Report
from sentinel.core.state import EndpointState, State
from sentinel.explain.assumed import Assumed, Scene

TEXT = """schema-version "1.0"
listeners { listener "web" { address "127.0.0.1:80"; }; }
routes { route "r" { matches { path-prefix "/"; }; inference; upstream "u"; }; }
upstreams { upstream "u" {
    endpoint "10.0.0.1:80"
    endpoint "10.0.0.2:80"
    balance "least-load"
    load-report { stale-after "5s"; }
}; }
"""
MS = 1_000_000


def test_a_report_is_believed_as_long_as_a_worker_believes_it() -> None:
    plan = load_text(TEXT).plan
    assert plan is not None
    report = Report(2, 70, 0)
    state = State(endpoints={("u", "10.0.0.1:80"): EndpointState(report=report)})
    world = Assumed(plan, state)

    def reports() -> list[Report | None]:
        upstream = plan.upstreams[0]
        return list(Scene(world, upstream, world._pieces.of("u")[1]).reports())

    world.pass_ns(5000 * MS)
    assert reports() == [report, None]
    world.pass_ns(MS)
    assert reports() == [None, None], "it is too old"
    world.assume(state)
    assert reports() == [report, None], "told anew"
