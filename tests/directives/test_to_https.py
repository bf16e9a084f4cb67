"""From HTTP to HTTPS: who is sent there, who is not, and who is told to come there by himself."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.config import load_text
from sentinel.core.plan import Plan
from sentinel.core.routes import compile_routes
from sentinel.explain.assumed import Assumed
from sentinel.explain.diff import compare
from sentinel.explain.generate import Generated
from sentinel.explain.render import render_text
from tests.directives.house import plan_from, serving, written
from tests.directives.test_listener_tls import CA, certificate, client
from tests.workers.child import Client, Worker
from tests.workers.origin import Conversation, scripted
from workers.rehearsal import House, Rehearsal, read_question

AGE = "strict-transport-security"


def sent_to(worker: Worker, target: str, host: str = "www.test", *fields: str, method: str = "GET") -> tuple[int, str]:
    lines = "".join(f"{field}\r\n" for field in fields)
    client = Client(worker.port).send(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")
    answer = client.answer(head_only=method == "HEAD")
    return answer.status, answer.fields.get("location", "")


@pytest.mark.directive(
    "listener/redirect-to-https/port", "listener/redirect-to-https/status", "listener/redirect-to-https/exempt"
)
def test_everybody_is_sent_to_the_same_place(tmp_path: Path) -> None:
    with serving(tmp_path / "a", listener="redirect-to-https") as worker:
        assert sent_to(worker, "/a/./b?x=1&y=%20") == (308, "https://www.test/a/b?x=1&y=%20")
        assert sent_to(worker, "/fixed", "WWW.Test:8080") == (308, "https://www.test/fixed"), "before any route"
        assert sent_to(worker, "/", "[::1]:80", method="HEAD") == (308, "https://[::1]/")
        assert sent_to(worker, "//evil.test/x") == (308, "https://www.test/evil.test/x")
        assert sent_to(worker, "http://www.test/abs") == (308, "https://www.test/abs")
        assert sent_to(worker, "/.well-known/acme-challenge/abc")[0] == 502, "the upstream's to answer"
        assert sent_to(worker, "/.well-known/acme-challenges")[0] == 308
        bare = Client(worker.port).send("GET /a HTTP/1.0\r\n\r\n").answer()
        assert (bare.status, bare.fields["x-sentinel-reason"]) == (400, "bad-host")
        line = worker.log(1)[0]
        assert (line["route"], line["reason"], line["status"]) == ("redirect-to-https:web", "responded", 308)
    text = 'redirect-to-https { port 8443; status 302; exempt "/fixed"; }'
    with serving(tmp_path / "b", listener=text) as worker:
        assert sent_to(worker, "/a") == (302, "https://www.test:8443/a")
        assert sent_to(worker, "/fixed") == (200, "")
        assert sent_to(worker, "/.well-known/acme-challenge/abc")[0] == 302


def test_a_proxy_that_has_taken_https_off_is_not_sent_round_in_a_circle(tmp_path: Path) -> None:
    text = 'trusted-proxies "127.0.0.0/8"\nredirect-to-https'
    with serving(tmp_path / "a", listener=text) as worker:
        assert sent_to(worker, "/fixed", "h", "x-forwarded-proto: https") == (200, "")
        assert sent_to(worker, "/fixed", "h", "x-forwarded-proto: http")[0] == 308
    with serving(tmp_path / "b", listener="redirect-to-https") as worker:
        assert sent_to(worker, "/fixed", "h", "x-forwarded-proto: https")[0] == 308, "whom nobody trusts"


def rehearsed(plan: Plan, request: str) -> Rehearsal:
    return House(plan).rehearse(plan.listeners[0], read_question(request), "192.0.2.1", Assumed(plan))


def test_a_dry_run_says_where_and_a_diff_says_that(tmp_path: Path) -> None:
    one, other = (plan_from(written(tmp_path, 8080, listener=text)) for text in ("", "redirect-to-https"))
    rehearsal = rehearsed(other, "GET http://www.test/a?b")
    assert ("location", "https://www.test/a?b") in rehearsal.answer
    assert "respond with 308" in render_text(rehearsal.tree())
    tables = compile_routes(one), compile_routes(other)
    report = compare(*tables, Generated(*tables).cases())
    assert any("redirect-to-https:web" in str(group) for group in report.groups)
    port = plan_from(written(tmp_path, 8080, listener="redirect-to-https { port 8443; }"))
    tables = compile_routes(other), compile_routes(port)
    report = compare(*tables, Generated(*tables).cases())
    assert any("https-port" in str(group) for group in report.groups), [str(one) for one in report.groups]


@pytest.mark.directive(
    "listener/hsts", "listener/hsts@max-age", "listener/hsts@include-subdomains", "listener/hsts@preload"
)
def test_browsers_are_told_to_come_by_https_in_every_answer(tmp_path: Path) -> None:
    def script(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(b"HTTP/1.1 200 OK\r\nstrict-transport-security: max-age=0\r\ncontent-length: 0\r\n\r\n")

    tls = f"tls {{ {certificate(tmp_path, 'c', CA.issue('a.test'))} }}"
    for index, (text, value) in enumerate([
        ("hsts", "max-age=31536000"), ('hsts max-age="1h"', "max-age=3600"), ('hsts max-age="0s"', "max-age=0"),
        ('hsts max-age="365d" include-subdomains=true preload=true', "max-age=31536000; includeSubDomains; preload"),
    ]):  # fmt: skip
        with scripted(script) as origin, serving(
            tmp_path / str(index), listener=f"{tls}\n{text}", origin=origin.port
        ) as worker:  # fmt: skip
            asked = client(worker, "a.test")
            for path in ("/fixed", "/"):
                answer = asked.get(path)
                assert [said for name, said in answer.field_list if name == AGE] == [value]
            refused = client(worker, "a.test").send("GET / HTTP/1.1\r\n\r\n").answer()
            assert (refused.status, refused.fields[AGE]) == (400, value)
            refused = client(worker, "a.test").send("GET  / HTTP/1.1\r\n\r\n").answer()
            assert (refused.status, refused.fields[AGE]) == (400, value)
    plan = plan_from(written(tmp_path, 8443, listener=f"{tls}\nhsts"))
    assert (AGE, "max-age=31536000") in rehearsed(plan, "GET https://a.test/fixed").answer


@pytest.mark.parametrize(("text", "message"), [
    ("TLS\nredirect-to-https", "sent round in a circle"), ("hsts", "browsers ignore `hsts`"),
    ("redirect-to-https { status 304; }", "does not send a client to the same place"),
    ("TLS\nhsts preload=true", "only with `include-subdomains=true`"),
    ('TLS\nhsts max-age="30d" include-subdomains=true preload=true', "`max-age` of a year"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, message: str) -> None:
    tls = f"tls {{ {certificate(tmp_path, 'c', CA.issue('a.test'))} }}"
    problems = load_text(written(tmp_path, 8443, listener=text.replace("TLS", tls))).problems
    assert any(message in problem.message for problem in problems), problems
