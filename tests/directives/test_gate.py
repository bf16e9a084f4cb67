"""The reload gate, on a real fleet: what changes too much of yesterday's traffic does not serve by mistake."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.fleet import Fleet, running_origin, wait_until
from tests.system.test_reload import get

ROUTES = """\
route "a" {{ matches {{ path-prefix "/a"; }}; respond {a}; }}
    route "b" {{ matches {{ path-prefix "/b"; }}; respond {b}; }}"""


def routes(a: int = 200, b: int = 200) -> str:
    return ROUTES.format(a=a, b=b)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with running_origin() as origin:
        gate = 'reload-gate "20%" recent=40 min-requests=10'
        fleet = Fleet(tmp_path, origin, workers=1, system=gate, routes=routes()).start()
        try:
            yield fleet
        finally:
            fleet.kill()


def ask(fleet: Fleet, path: str, count: int) -> None:
    before = len(fleet.api("GET", "/requests?last=1000")[1])
    for _ in range(count):
        get(fleet.port, path)
    wait_until(lambda: len(fleet.api("GET", "/requests?last=1000")[1]) >= before + count, "the requests are recorded")


@pytest.mark.directive("system/reload-gate", "system/reload-gate@recent", "system/reload-gate@min-requests")
def test_a_reload_that_changes_too_much_is_refused_and_may_be_forced(fleet: Fleet) -> None:
    ask(fleet, "/a", 5)
    fleet.write(routes=routes(a=201))
    assert fleet.ctl_json("reload")["outcome"] == "serving", "5 requests prove nothing: min-requests"

    ask(fleet, "/a", 20)
    fleet.write(routes=routes(a=202))
    refused = fleet.ctl("reload", check=False)
    assert refused.returncode == 1
    assert "25 of 25 recorded requests would be treated differently; the reload gate allows 20%" in refused.stderr
    assert "status: 201 → 202" in refused.stderr and "e.g. GET 127.0.0.1/a" in refused.stderr
    assert get(fleet.port, "/a")[0] == 201
    assert "last reload refused" in fleet.ctl("status").stdout

    # SIGHUP obeys the gate as well, and says so in the log.
    assert fleet.process is not None
    fleet.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the reload gate allows" in fleet.last_words(), "the refusal is in the log")
    assert get(fleet.port, "/a")[0] == 201

    # An edit cannot take away the gate that is to judge it.
    fleet.write(system="")
    assert fleet.ctl("reload", check=False).returncode == 1
    fleet.write(system='reload-gate "20%" recent=40 min-requests=10')

    # Look first: what differs, nothing is changed, and exit 1.
    looked = fleet.ctl("reload", "--diff", "--dry", check=False)
    assert looked.returncode == 1 and "recorded requests are treated differently" in looked.stdout
    unsure = fleet.ctl("reload", "--diff", check=False)
    assert unsure.returncode == 1 and "nothing was changed" in unsure.stderr

    forced = fleet.ctl_json("reload", "--force")
    assert forced["outcome"] == "serving" and "passed by force" in forced["warnings"][0]
    assert get(fleet.port, "/a")[0] == 202
    audit = [json.loads(line) for line in (fleet.run_dir / "audit.log").read_text().splitlines()]
    assert audit[-1]["action"] == "reload --force"

    # Only the newest are looked at (`recent`): forty requests of another route, and /a may change again.
    ask(fleet, "/b", 40)
    fleet.write(routes=routes(a=203))
    assert fleet.ctl_json("reload")["outcome"] == "serving"
    assert get(fleet.port, "/a")[0] == 203


def test_a_diff_of_the_journal_knows_what_it_does_not_know(fleet: Fleet, tmp_path: Path) -> None:
    ask(fleet, "/b", 12)
    old, new = tmp_path / "old.kdl", tmp_path / "new.kdl"
    old.write_text(fleet.config.read_text())
    with_header = '\nroute "h" { matches { path-prefix "/b"; header "x-h"; }; respond 418; }'
    new.write_text(fleet.config.read_text().replace(routes(), routes(b=204) + with_header))
    done = fleet.ctl("diff", str(old), str(new), "--recent", "50", "--no-generate", "--json", check=False)
    assert done.returncode == 1
    report = json.loads(done.stdout)["recorded"]
    assert (report["total"], report["differing"], report["recorded"]) == (12, 12, 12)
    assert report["groups"][0]["text"] == "answer differs"
    # With the roles exchanged, the old one has a route that depends on a header.
    told = fleet.ctl("diff", str(new), str(old), "--recent", "50", "--no-generate", check=False)
    assert "12 were recorded without query and headers, on which 1 of 4 routes depend" in told.stdout


def test_what_was_looked_at_is_what_is_served(fleet: Fleet) -> None:
    shown = fleet.api("POST", "/diff", {})[1]
    assert not shown["differs"] and not shown["recorded"]["total"] and shown["generated"]["total"]
    fleet.write(routes=routes(a=218))
    status, outcome = fleet.api("POST", "/reload", {"content": shown["content"]})
    assert status == 409 and "have changed since" in outcome["why"]
    status, outcome = fleet.api("POST", "/reload", {"content": fleet.api("POST", "/diff", {})[1]["content"]})
    assert (status, outcome["outcome"]) == (200, "serving")
