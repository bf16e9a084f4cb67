"""Clients who are known by the certificate of their connection: in limits, to upstreams, in the log, and beforehand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sentinel.config import load_text, render_problems
from sentinel.core.reasons import Reason
from sentinel.explain.cases import run_case
from tests.directives.house import serving, written
from tests.directives.test_client_certificates import (
    ANNE,
    CLIENTS,
    connected,
    context_of,
    listener,
    papers,
    told,
)
from tests.directives.test_identities import hashed
from tests.workers.authority import Identity
from tests.workers.child import Answer, Worker, wait_until
from tests.workers.origin import Origin, echo, fields_of, scripted
from workers.rehearsal import House, ask_in

__all__ = ["papers"]

FILTERS = """
mtls "services" {
    subject "uri"
    pass-identity { header "x-service" "subject"; header "x-service-name" "claim:dns"; }
}
mtls "anybody"
api-key "keys" { key "kim" "KEY"; }
rate-limit "each" { rate "2/h"; key "identity"; }
"""
ROUTES = """
route "known" { matches { path-prefix "/known"; }; filters "services" "each"; upstream "origin"; }
route "either" { matches { path-prefix "/either"; }; filters "anybody" "keys"; upstream "origin"; }
"""
SECRET = "kims-secret-key-0123456789"
CARL = CLIENTS.issue("carl.test", subject="Carl")
DORA = CLIENTS.issue("dora.test", "spiffe://example.org/ns/web/dora")


def filters() -> str:
    return FILTERS.replace("KEY", hashed(SECRET))


@dataclass
class Stage:
    worker: Worker
    origin: Origin

    def ask(self, who: Identity | None, path: str, *lines: str) -> Answer:
        client = connected(self.worker, context_of(who))
        more = "".join(f"{line}\r\n" for line in lines)
        return client.send(f"GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n{more}\r\n").answer()

    def upstream_read(self) -> dict[str, str]:
        return fields_of(self.origin.heads[-1])


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, papers: Path) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("mtls")
    with (
        scripted(echo) as origin,
        serving(
            directory, origin=origin.port, listener=listener(papers, "optional"), filters=filters(), routes=ROUTES,
        ) as worker,
    ):  # fmt: skip
        yield Stage(worker, origin)


def said(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.fields.get("x-sentinel-reason", "")


NAMELESS = (401, Reason.CREDENTIALS_MISSING.word)


@pytest.mark.directive("mtls", "mtls/subject", "mtls/pass-identity/header")
def test_who_has_shown_a_certificate_is_known_and_nobody_can_say_so_himself(stage: Stage) -> None:
    answer = stage.ask(None, "/known", "X-Service: spiffe://example.org/ns/web/anne", "X_Service: eve")
    assert said(answer) == NAMELESS
    assert answer.fields["www-authenticate"] == 'Certificate realm="services"'
    forged = ("X-Service: eve", "x_service: eve", "X-SERVICE-NAME: eve")
    assert stage.ask(ANNE, "/known", *forged).status == 200
    fields = stage.upstream_read()
    assert fields["x-service"] == "spiffe://example.org/ns/web/anne" and fields["x-service-name"] == "anne.test"
    assert "eve" not in str(fields)
    wait_until(lambda: "spiffe://example.org/ns/web/anne" in told(stage.worker), "it is recorded")
    line = next(one for one in stage.worker.log(2) if one["status"] == 200)
    assert line["identity"] == "services:spiffe://example.org/ns/web/anne"
    assert line["client_certificate"] == "dns:anne.test"
    assert said(stage.ask(CARL, "/known")) == NAMELESS, "his certificate has no URI"
    wait_until(lambda: "its certificate has no `uri`" in told(stage.worker), "and said so")


def test_limits_are_of_each_client_by_his_certificate(stage: Stage) -> None:
    answers = [stage.ask(DORA, "/known").status for _ in range(3)]
    assert answers == [200, 200, 429]


def test_a_key_is_as_good_where_the_route_says_so(stage: Stage) -> None:
    assert said(stage.ask(None, "/either")) == NAMELESS
    assert stage.ask(None, "/either", f"x-api-key: {SECRET}").status == 200
    assert stage.ask(CARL, "/either").status == 200
    assert said(stage.ask(None, "/either", "x-api-key: wrong-wrong-wrong-wrong")) == (401, "key-unknown")


CASES = """tests {
    case "known" {
        state { identity "services" "spiffe://example.org/ns/web/anne" "dns" "anne.test"; }
        request "GET https://a.test/known"
        expect { step "authenticated"; upstream-header "x-service-name" "anne.test"; }
    }
    case "nobody" { request "GET https://a.test/known"; expect { status 401; reason "credentials-missing"; }; }
    case "counted" {
        state { identity "services" "spiffe://a"; limit "each" "services:spiffe://a"; }
        request "GET https://a.test/known"
        expect { reason "rate-limited"; }
    }
}"""


def test_who_asks_is_described_in_policy_tests(papers: Path) -> None:
    text = written(papers, 8443, listener=listener(papers, "optional"), filters=filters(), routes=ROUTES, top=CASES)
    loaded = load_text(text)
    assert loaded.plan is not None, render_problems(loaded.problems)
    assert loaded.plan.mtls[0].claims == ("dns",), "what is asked for anywhere, and no more"
    for case in loaded.cases:
        result = run_case(case, loaded.plan, ask_in(House(loaded.plan)))
        assert result.is_passed, result


@pytest.mark.parametrize(("terms", "parts", "message"), [
    ("", {}, "nobody would be let in"),
    ("optional", {"filters": 'mtls "m" { subject "common-name"; }'}, "one of name, subject, uri"),
    ("optional", {"filters": 'mtls "m" { pass-identity { header "x-a" "claim:tenant"; }; }'}, "tenant"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(papers: Path, terms: str, parts: dict[str, Any], message: str) -> None:
    text = {"filters": filters(), "routes": ROUTES} | parts
    if "filters" in parts:
        text["routes"] = 'route "r" { matches { path "/m"; }; filters "m"; respond 200; }'
    tls = listener(papers, *([terms] if terms else []))
    problems = load_text(written(papers, 8443, listener=tls, **text)).problems
    assert any(message in f"{problem.message} {problem.remedy}" for problem in problems), problems

