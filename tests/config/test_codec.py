"""Plans as octets: the same plan is the same octets, and a worker reads back what was checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sentinel.config import encode_plan, fingerprint, load_text, redacted
from sentinel.core import plan as p
from workers.planload import PlanFault, load_plan

TEXT = """\
schema-version "1.0"
system { workers 3; access-log "/var/log/x" buffer="2MiB"; }
listeners { listener "web" { address "[::1]:8080"; trusted-proxies "10.0.0.0/8"; paths { double-slash "keep"; }; }; }
routes {
    route "a" { matches { host "*.a.example"; not { any { method "PUT"; query "q" regex="1+"; }; }; }; upstream "u"; }
    route "b" { matches { path "/caf\\u{e9}"; }; respond 200 body="\\u{1F600}" { header "x" "y"; }; }
}
upstreams { upstream "u" { endpoint "unix:/tmp/x.sock"; endpoint "host.example:80" weight=7; }; }
"""


def plan_of(text: str) -> p.Plan:
    plan = load_text(text, "main.kdl").plan
    assert plan is not None
    return plan


def stored(directory: Path, content: bytes) -> str:
    path = directory / "a.plan"
    path.write_bytes(content)
    return str(path)


def test_a_worker_reads_back_what_was_checked(tmp_path: Path) -> None:
    plan = plan_of(TEXT)
    content = encode_plan(plan)
    assert load_plan(stored(tmp_path, content), fingerprint(content)) == plan


def test_equal_plans_are_equal_octets_and_others_are_not() -> None:
    assert encode_plan(plan_of(TEXT)) == encode_plan(plan_of(TEXT))
    assert encode_plan(plan_of(TEXT)) != encode_plan(plan_of(TEXT.replace("workers 3", "workers 4")))


def test_another_version_and_a_changed_file_are_refused(tmp_path: Path) -> None:
    content = encode_plan(plan_of(TEXT))
    with pytest.raises(PlanFault, match="fingerprint"):
        load_plan(stored(tmp_path, content + b" "), fingerprint(content))
    with pytest.raises(PlanFault, match="cannot be read"):
        load_plan(str(tmp_path / "none"), "")
    newer = encode_plan(dataclasses.replace(plan_of(TEXT), version=p.PLAN_VERSION + 1))
    with pytest.raises(PlanFault, match="version"):
        load_plan(stored(tmp_path, newer), fingerprint(newer))
    for broken in (b"", b"{}", b'{"version":1}', content[: len(content) // 2]):
        with pytest.raises(PlanFault):
            load_plan(stored(tmp_path, broken), fingerprint(broken))


def test_what_a_request_has_to_show_is_not_shown() -> None:
    plan = plan_of(
        'schema-version "1.0"\nlisteners { listener "web" { address "127.0.0.1:8080"; }; }\n'
        'routes { route "r" { matches { header "Authorization" "Bearer xyzzy"; header "x-a" "seen"; '
        'any { not { header "x-api-key" regex="plugh.*"; }; header "cookie"; }; }; respond 200; }; }'
    )
    shown = str(redacted(plan))
    assert "xyzzy" not in shown and "plugh" not in shown and "seen" in shown and "x-api-key" in shown
    assert "xyzzy" in str(plan), "what decides knows it"


def test_what_nobody_wrote_is_what_the_plan_assumes() -> None:
    """The table's defaults and the plan's are written down twice; they must be the same."""
    plan = plan_of(
        'schema-version "1.0"\nlisteners { listener "web" { address "127.0.0.1:8080"; }; }\n'
        'routes { route "r" { matches { path "/"; }; upstream "u"; }; }\n'
        'upstreams { upstream "u" { endpoint "127.0.0.1:1"; }; }'
    )
    compared = [
        (plan.system, p.System()),
        (plan.admin, p.Admin()),
        (plan.listeners[0], p.Listener("web", "127.0.0.1", 8080)),
        (plan.routes[0], p.Route("r", plan.routes[0].matches, 0, upstream="u")),
        (plan.upstreams[0], p.Upstream("u", plan.upstreams[0].endpoints)),
        (plan.upstreams[0].endpoints[0], p.Endpoint("127.0.0.1", 1)),
    ]
    for found, assumed in compared:
        for field in dataclasses.fields(assumed):  # type: ignore[arg-type]
            if not field.name.endswith("span") and field.name != "series":
                assert getattr(found, field.name) == getattr(assumed, field.name), field.name
