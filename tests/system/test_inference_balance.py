"""Balancing over inference servers is the fleet's: tokens under way, reports and lists, over the death of workers."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.directives.test_budgets import CHAT
from tests.directives.test_inference_balance import Model, page_of
from tests.system.fleet import Fleet, wait_until
from tests.workers.child import Client
from tests.workers.origin import scripted

ROUTES = """
    route "tokens" { matches { path-prefix "/tokens"; }; inference; upstream "tokens"; }
    route "load" { matches { path-prefix "/load"; }; inference; upstream "load"; }
"""


@pytest.fixture(scope="module")
def models() -> Iterator[tuple[Model, ...]]:
    found = tuple(Model() for _ in range(4))
    with ExitStack() as stack:
        for one in found:
            one.origin = stack.enter_context(scripted(one.talk))
        yield found
        for one in found:
            one.hold.set()


@pytest.fixture(scope="module")
def fleet(models: tuple[Model, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    first, second, third, fourth = (one.name for one in models)
    upstreams = f"""
    upstream "tokens" {{ endpoint "{first}"; endpoint "{second}"; balance "least-tokens"; }}
    upstream "load" {{
        endpoint "{third}"; endpoint "{fourth}"
        balance "least-load"
        load-report {{ every "50ms"; stale-after "2s"; }}
        health-check {{ kind "inference"; interval "100ms"; warm-up 2; }}
    }}
"""
    directory = tmp_path_factory.mktemp("balance")
    running = Fleet(directory, models[0].origin.port, workers=2, routes=ROUTES, upstreams=upstreams).start()
    try:
        yield running
    finally:
        running.stop()


def asking(fleet: Fleet, path: str, cap: int) -> Client:
    document = {"model": "m", "max_tokens": cap, "messages": [{"role": "user", "content": "hello"}]}
    body = json.dumps(document).encode()
    head = f"POST /{path}{CHAT} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
    return Client(fleet.port).send(head.encode() + body)


def told(fleet: Fleet, upstream: str) -> dict[str, Any]:
    _, documents = fleet.api("GET", "/endpoints")
    return {one["endpoint"]: one for one in documents if one["upstream"] == upstream}


def rehearsed(fleet: Fleet, model: str) -> dict[str, Any]:
    asked = {"request": f"POST http://a.example/load{CHAT}", "state": [f"tokens model={model}"]}
    status, document = fleet.api("POST", "/dry-run", asked)
    assert status == 200, document
    found: dict[str, Any] = document
    return found


def test_tokens_under_way_are_seen_by_all_workers_and_die_with_their_own(
    fleet: Fleet, models: tuple[Model, ...]
) -> None:
    pair = models[:2]
    for one in pair:
        one.hold.clear()
    clients = [asking(fleet, "tokens", 1000 + at) for at in range(40)]
    wait_until(lambda: sum(one.asked for one in pair) == 40, "all are under way, at both workers")
    shares = [told(fleet, "tokens")[one.name]["tokens"] for one in pair]
    assert sum(shares) > 40_000 and abs(shares[0] - shares[1]) <= 3 * 1100, "a few were chosen at the same instant"
    workers = {one["slot"]: one["pid"] for one in fleet.ctl_json("workers") if one["state"] == "serving"}
    assert len(workers) == 2
    os.kill(next(iter(workers.values())), signal.SIGKILL)
    wait_until(lambda: sum(one["tokens"] for one in told(fleet, "tokens").values()) < 35_000, "its part is gone")
    left = sum(one["in_flight"] for one in told(fleet, "tokens").values())
    assert 0 <= sum(one["tokens"] for one in told(fleet, "tokens").values()) - left * 1000 <= left * 100
    for one in pair:
        one.hold.set()
    wait_until(lambda: sum(one["tokens"] for one in told(fleet, "tokens").values()) == 0, "nothing is under way")
    for client in clients:
        client.close()


def test_one_worker_reads_reports_and_lists_for_all_of_them(fleet: Fleet, models: tuple[Model, ...]) -> None:
    third, fourth = models[2:]
    third.page, fourth.page = page_of(9, 0.9), page_of(0, 0.1)
    wait_until(lambda: (told(fleet, "load")[third.name]["load"] or {}).get("waiting") == 9, "it was read")
    wait_until(lambda: told(fleet, "load")[fourth.name]["standing"] == "usable", "and is warm")
    assert told(fleet, "load")[third.name]["models"] == ["m"] and told(fleet, "tokens")[models[0].name]["load"] is None
    answers = Counter[int]()

    def ask() -> None:
        for _ in range(5):
            answers[asking(fleet, "load", 10).answer().status] += 1

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(20)
    assert answers == {200: 20} and (third.asked, fourth.asked) == (0, 20), "whichever worker they came to"
    found = rehearsed(fleet, "m")
    assert found["verdict"]["endpoint"] == fourth.name
    assert any(step["reason"] == "reports-compared" for step in found["steps"])
    assert rehearsed(fleet, "other")["verdict"]["reason"] == "model-missing"
    assert "waiting, cache" in " ".join(fleet.ctl("endpoints").stdout.split())
