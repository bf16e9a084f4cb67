"""Directives of the journal: how much there is of it, what is not in it, and what is kept for longer."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from sentinel.config import load_text, render_problems
from sentinel.core.reasons import Reason
from sentinel.core.record import RecordEncoder, decode
from supervisor.control.retention import line_of
from tests.directives.house import plan_from, serving, written
from tests.system.fleet import Fleet, wait_until
from tests.system.test_reload import get
from tests.workers.child import Client


@pytest.mark.directive("system/journal/records")
def test_so_many_requests_can_be_explained_afterwards(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, 1, workers=1, system="journal { records 8; }", routes=FIXED).start()
    try:
        for _ in range(30):
            get(fleet.port, "/fixed")
        assert 8 <= len(fleet.ctl_json("why", "--last", "100")) <= 9
        fleet.write(system="journal { records 16; }")
        refused = fleet.ctl("reload", check=False)
        assert refused.returncode == 1 and "needs a restart" in refused.stderr and 'has "8"' in refused.stderr
        before = fleet.ctl_json("why", "--last", "100")
        fleet.write(system="journal { records 0; }")
        assert fleet.ctl_json("reload")["outcome"] == "serving"
        get(fleet.port, "/fixed")
        assert fleet.ctl_json("why", "--last", "100") == before, "and nothing is added"
        wait_until(lambda: fleet.access_log()[-1]["generation"] == 2, "the log goes on")
    finally:
        fleet.kill()


FIXED = 'route "fixed" { matches { path "/fixed"; }; respond 200; }'


@pytest.mark.directive("system/journal/redact")
@pytest.mark.parametrize("purity", ["", "1"])
def test_what_is_redacted_is_in_no_record(
    tmp_path: Path, purity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTINEL_PURE", purity)
    for name, redact in (("all", 'redact "client-ip" "host" "path";'), ("none", "")):
        with serving(tmp_path / name, system=f"journal {{ records 4096; {redact} }}") as worker:
            client = Client(worker.port)
            for path in ("/fixed", "/planted", "/planted", "/" + "planted" * 100):
                client.get(path)
            # The answer leaves before its record is written.
            wait_until(lambda region=worker.region: len(list(region.journal_read())) == 4, "all are recorded")
            octets = b"".join(worker.region.journal_read())
            records = [decode(one) for one in worker.region.journal_read()]
        is_redacted = bool(redact)
        assert (b"planted" in octets, b"127.0.0.1\0" in octets) == (not is_redacted, not is_redacted)
        assert [one.is_cut for one in records] == [False, False, False, not is_redacted]
        marks = [(one.client_ip, one.host, one.path) for one in records]
        if is_redacted:
            assert all(re.fullmatch("~[0-9a-f]{8}", text) for texts in marks for text in texts)
        assert marks[1] == marks[2] != marks[0] and {one[0] for one in marks} == {marks[0][0]}


@pytest.mark.parametrize(
    ("journal", "problem"),
    [
        ('records 0; file "x"', "nothing is recorded"), ('file "x" { keep route="rast"; }', 'did you mean `rest`?'),
        ('file "x" { keep reason="proxy"; }', "did you mean `proxied`?"), ('file "x" { keep status="6xx"; }', "5xx"),
        ('file "x" { keep sample="1"; }', "a share in percent"), ('redact "cookie"', "`client-ip`"),
    ],
)  # fmt: skip
def test_what_could_not_be_kept_is_refused(tmp_path: Path, journal: str, problem: str) -> None:
    loaded = load_text(written(tmp_path, 8080, system=f"journal {{ {journal}; }}"))
    assert loaded.plan is None and problem in render_problems(loaded.problems)


KINDS: list[dict[str, Any]] = [
    {"status": 200, "route": "rest", "reason": Reason.PROXIED}, {"status": 404, "route": "", "reason": Reason.NO_ROUTE},
    {"status": 429, "route": "rest", "reason": Reason.RATE_LIMITED},
    {"status": 502, "route": "api", "reason": Reason.CONNECT_FAILED},
]  # fmt: skip


def kept(directory: Path, block: str) -> list[int]:
    """The statuses of those records that this file would have."""
    plan = plan_from(written(directory, 8080, system=f'journal {{ file "decisions.jsonl" {{ {block} }}; }}'))
    assert plan.system.journal.file == "decisions.jsonl"
    lines = [line_of(plan.system.journal, record(f"id{at}", **kind)) for at, kind in enumerate(KINDS)]
    return [json.loads(line)["status"] for line in lines if line]


def record(request_id: str, *, status: int, route: str, reason: Reason) -> bytes:
    return RecordEncoder().encode(
        request_id=request_id, time_ns=1, duration_ns=1, generation=1, listener="web", client_ip="192.0.2.1",
        method="GET", host="a", path="/", query_length=0, route=route, upstream="", endpoint="", attempts=0,
        status=status, reason_number=reason.number, bytes_in=0, bytes_out=0, steps=[],
    )  # fmt: skip


@pytest.mark.directive(
    "system/journal/file/keep", "system/journal/file/keep@status", "system/journal/file/keep@route",
    "system/journal/file/keep@reason",
)  # fmt: skip
@pytest.mark.parametrize(
    ("block", "statuses"),
    [
        ("", [200, 404, 429, 502]), ('keep status="5xx";', [502]), ("keep status=404;", [404]),
        ('keep route="rest";', [200, 429]), ('keep reason="rate-limited";', [429]),
        ('keep route="rest" status="4xx";', [429]), ('keep status="5xx"; keep reason="no-route";', [404, 502]),
    ],
)  # fmt: skip
def test_records_are_kept_for_which_all_of_one_alternative_holds(
    tmp_path: Path, block: str, statuses: list[int]
) -> None:
    assert kept(tmp_path, block) == statuses


@pytest.mark.directive("system/journal/file/keep@sample")
def test_a_sample_is_chosen_by_request_id_and_nothing_else(tmp_path: Path) -> None:
    text = written(tmp_path, 8080, system='journal { file "x" { keep sample="10%"; keep status="5xx"; }; }')
    journal = plan_from(text).system.journal
    wide = dataclasses.replace(journal, keep=(dataclasses.replace(journal.keep[0], share=500),))
    ids = [f"0192f0c4a1b27c3d8e9fa0b1c2d3e{number:03x}" for number in range(2000)]
    good = [one for one in ids if line_of(journal, record(one, **KINDS[0]))]
    assert 140 < len(good) < 260, "a tenth of them, give or take four standard deviations"
    assert good == [one for one in ids if line_of(journal, record(one, **KINDS[2]))], "whatever else is in the record"
    assert all(line_of(wide, record(one, **KINDS[0])) for one in good), "a larger sample has all of a smaller one"
    assert all(line_of(journal, record(one, **KINDS[3])) for one in ids)


@pytest.mark.directive("system/journal/file")
def test_records_are_kept_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "decisions.jsonl"
    fleet = Fleet(tmp_path, 1, workers=1, system=f'journal {{ file "{path}"; }}', routes=FIXED).start()
    try:
        for _ in range(3):
            get(fleet.port, "/fixed")
        wait_until(lambda: path.exists() and path.read_text().count("\n") == 3, "three lines")
        one = json.loads(path.read_text().splitlines()[0])
        assert (one["route"], one["status"], one["steps"][0]["reason"]) == ("fixed", 200, "route-matched")
        assert fleet.ctl_json("why", one["request_id"])["steps"] == one["steps"]
        assert path.stat().st_mode & 0o777 & ~0o640 == 0
        fleet.write(system="")
        assert fleet.ctl_json("reload")["outcome"] == "serving"
        wait_until(lambda: not (fleet.run_dir / "journal.state").exists(), "it is given up")
        get(fleet.port, "/fixed")
        wait_until(lambda: len(fleet.access_log()) == 4, "the fourth request is over")
        assert path.read_text().count("\n") == 3
    finally:
        fleet.kill()
