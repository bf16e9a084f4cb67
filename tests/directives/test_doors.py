"""Names and passwords, lists of addresses, and routes that have to say who may use them, with one real worker."""

from __future__ import annotations

import ipaddress
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.config import load_text, render_problems
from sentinel.core.access import Access
from sentinel.core.passwords import DECOY, LN_MAX, is_right, read_hash, write_hash
from sentinel.core.plan import AddressRule, IpAccess
from sentinel.core.reasons import Reason
from tests.directives.house import serving, written
from tests.directives.test_identities import asked, hashed, steps, why
from tests.workers.child import Client, Worker, wait_until
from tests.workers.origin import Origin, echo, scripted
from workers import passwords

SALT = b"0123456789abcdef"
ALICE, BOB = write_hash(b"correct horse", SALT), write_hash("pässword".encode(), SALT)
FINE, MISSING, WRONG, DENIED = (200, ""), (401, "credentials-missing"), (401, "password-wrong"), (403, "address-denied")
ROUTES = """
route "staff" { matches { path-prefix "/staff"; }; filters "staff"; upstream "origin"; }
route "kept" { matches { path-prefix "/kept"; }; filters "kept"; upstream "origin"; }
route "both" { matches { path-prefix "/both"; }; filters "staff" "keys"; respond 200; }
route "home" { matches { path-prefix "/home"; }; filters "home"; respond 200 body="home"; }
route "not-lab" { matches { path-prefix "/not-lab"; }; filters "not-lab" "home"; respond 200; }
route "first" { matches { path-prefix "/first"; }; filters "staff" "home"; respond 200; }
"""
FILTERS = f"""
basic "staff" {{
    user "alice" "{ALICE}" {{ claim "role" "operator"; }}
    user "bob" "{BOB}"
    pass-identity {{ header "x-user" "subject"; header "x-role" "claim:role"; header "x-by" "method"; }}
}}
basic "kept" {{ user "alice" "{ALICE}"; forward-credential true; }}
api-key "keys" {{ key "acme" "{hashed('a-key-that-nobody-guesses-at-all')}"; }}
ip-access "home" {{
    deny "10.66.0.0/16"; allow "10.0.0.0/8" "2001:db8::/32"; deny "192.0.2.66/32"; allow "192.0.2.0/24"
}}
ip-access "not-lab" {{ deny "10.1.0.0/16"; otherwise "allow"; }}
"""


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with scripted(echo) as one:
        yield one


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Worker]:
    directory = tmp_path_factory.mktemp("doors")
    proxied = 'trusted-proxies "127.0.0.0/8"'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "WAITING_MAX", 4)
        with serving(directory, origin=origin.port, routes=ROUTES, filters=FILTERS, listener=proxied) as one:
            yield one


def credential(name: str, password: str, encoding: str = "utf-8") -> str:
    return f"Authorization: Basic {b64encode(f'{name}:{password}'.encode(encoding)).decode()}"


RIGHT = credential("alice", "correct horse")


@pytest.mark.directive("basic", "basic/user")
@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (RIGHT, FINE),
        (credential("bob", "pässword"), FINE),
        (RIGHT.replace("Basic", "bASIC"), FINE),
        ("x: y", MISSING),
        (RIGHT.replace("Basic", "Bearer"), MISSING),
        (credential("alice", "correct horse "), WRONG),
        (credential("alice", "Correct horse"), WRONG),
        (credential("alice", ""), WRONG),
        (credential("Alice", "correct horse"), WRONG),
        (credential("mallory", "correct horse"), WRONG),
        (credential("bob", "pässword", "latin-1"), WRONG),
        (credential("alice", "x" * 2000), WRONG),
        ("Authorization: Basic !!!", WRONG),
        ("Authorization: Basic " + b64encode(b"alice").decode(), WRONG),
        (f"{RIGHT}\r\n{RIGHT}", WRONG),
    ],
)
def test_only_who_knows_the_password_is_let_in(worker: Worker, field: str, expected: tuple[int, str]) -> None:
    answer = asked(worker, "/staff", field)
    assert why(answer) == expected
    if expected[0] == 401:
        assert answer.fields["www-authenticate"] == 'Basic realm="staff", charset="UTF-8"'


@pytest.mark.directive("basic/user/claim", "basic/pass-identity/header", "basic/forward-credential")
def test_the_upstream_is_told_who_it_is_and_not_the_password(worker: Worker, origin: Origin) -> None:
    assert why(asked(worker, "/staff", RIGHT, "x-user: root", "x_role: root")) == FINE
    sent = origin.heads[-1]
    assert b"\r\nx-user: alice\r\nx-role: operator\r\nx-by: basic\r\n" in sent
    assert b"authorization" not in sent.lower() and b"root" not in sent
    assert why(asked(worker, "/kept", RIGHT)) == FINE
    assert RIGHT.partition(": ")[2].encode() in origin.heads[-1]


def test_filters_that_come_after_a_password_are_asked_too(worker: Worker) -> None:
    key = "x-api-key: a-key-that-nobody-guesses-at-all"
    wrong = credential("alice", "wrong")
    assert why(asked(worker, "/both", wrong, key)) == FINE
    assert why(asked(worker, "/both", wrong)) == WRONG
    said = steps(worker, asked(worker, "/both", wrong, key))
    assert any(one.startswith("`staff` lets nobody in") for one in said) and "`keys` knows who asks" in " ".join(said)


def test_others_are_served_while_a_password_is_verified_and_who_is_known_does_not_wait(worker: Worker) -> None:
    slow = [Client(worker.port) for _ in range(4)]
    for number, client in enumerate(slow):
        field = credential("alice", f"wrong {number}")
        client.send(f"GET /staff HTTP/1.1\r\nhost: h\r\n{field}\r\n\r\n")
    known = Client(worker.port)
    began = time.monotonic()
    assert known.get("/fixed").status == 200
    assert why(known.get("/staff", RIGHT)) == FINE, "she has been here before"
    quick_s = time.monotonic() - began
    assert [why(client.answer()) for client in slow] == [WRONG] * 4
    assert quick_s < time.monotonic() - began, "they did not wait for these"


def test_no_more_passwords_wait_than_may_and_who_leaves_is_forgotten(worker: Worker) -> None:
    clients = [Client(worker.port) for _ in range(12)]
    for number, client in enumerate(clients):
        client.send(f"GET /staff HTTP/1.1\r\nhost: h\r\n{credential('eve', f'guess {number}')}\r\n\r\n")
    clients.pop().close()
    found = {why(client.answer()) for client in clients}
    assert found == {WRONG, (503, "passwords-waiting")}
    wait_until(lambda: why(asked(worker, "/staff", credential("eve", "again"))) == WRONG, "there is room again")


def test_a_name_that_is_not_known_takes_as_long() -> None:
    def took(name: str) -> float:
        rule = load_text(written(Path("/nowhere"), 8080, filters=FILTERS)).plan
        assert rule is not None
        book = passwords.PasswordBook(rule.basics[0], b"s")
        shown = b64encode(f"{name}:wrong".encode()).decode()
        times = []
        for _ in range(3):
            began = time.thread_time()
            assert book.verify(shown).reason is Reason.PASSWORD_WRONG
            times.append(time.thread_time() - began)
        return min(times)

    known, unknown = took("alice"), took("nobody")
    assert 0.5 < known / unknown < 2


def test_hashes_are_read_back_and_cost_neither_too_little_nor_too_much() -> None:
    kept = read_hash(ALICE)
    assert kept is not None and is_right(b"correct horse", kept) and not is_right(b"incorrect", kept)
    assert not is_right(b"", DECOY)
    for wrong in ("", "correct horse", ALICE.replace("ln=15", "ln=13"), ALICE.replace("ln=15", f"ln={LN_MAX + 1}"),
                  ALICE.replace("p=1", "p=5"), ALICE.replace("r=8", "r=9"), ALICE[:-30], ALICE + "$"):  # fmt: skip
        assert read_hash(wrong) is None, wrong
    together = [threading.Thread(target=is_right, args=(b"x", kept)) for _ in range(2)]
    for one in together:
        one.start()
    for one in together:
        one.join()


# From where.


@pytest.mark.directive("ip-access", "ip-access/allow", "ip-access/deny", "ip-access/otherwise")
@pytest.mark.parametrize(
    ("path", "address", "expected"),
    [
        ("/home", "10.1.2.3", FINE), ("/home", "10.66.0.1", DENIED), ("/home", "192.0.2.66", DENIED),
        ("/home", "192.0.2.67", FINE), ("/home", "198.51.100.1", DENIED), ("/home", "2001:db8::1", FINE),
        ("/home", "2001:db9::1", DENIED), ("/home", "::ffff:10.1.2.3", FINE), ("/home", "::ffff:10.66.0.1", DENIED),
        ("/not-lab", "10.1.2.3", DENIED), ("/not-lab", "10.2.2.3", FINE), ("/not-lab", "198.51.100.1", DENIED),
        ("/first", "198.51.100.1", DENIED),
    ],
)  # fmt: skip
def test_the_first_line_that_has_the_address_decides(
    worker: Worker, path: str, address: str, expected: tuple[int, str]
) -> None:
    field = RIGHT if path == "/first" else "x: y"
    assert why(asked(worker, path, f"X-Forwarded-For: {address}", field)) == expected


def test_the_trace_says_which_line_it_was(worker: Worker) -> None:
    addresses = ("10.66.0.1", "198.51.100.1")
    said = [steps(worker, asked(worker, "/home", f"X-Forwarded-For: {one}"))[1] for one in addresses]
    assert said[0] == "`home`: clients may not come from this address, by its line 10.66.0.0/16"
    assert said[1] == "`home`: clients may not come from this address, since none of its lines has the address"


NETWORKS = st.sampled_from([
    "0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.2.3/32", "192.0.2.0/25", "::/0", "2001:db8::/32",
    "::1/128",
])  # fmt: skip
ADDRESSES = st.sampled_from([
    "10.1.2.3", "10.1.2.4", "10.200.0.1", "192.0.2.1", "192.0.2.200", "2001:db8::1", "::1", "::2",
])  # fmt: skip
LINES = st.lists(st.tuples(st.booleans(), st.lists(NETWORKS, max_size=3)))


@given(LINES, st.sampled_from(["allow", "deny"]), ADDRESSES)
def test_tables_find_what_reading_from_the_top_finds(
    lines: list[tuple[bool, list[str]]], otherwise: str, address: str
) -> None:
    rules = tuple(AddressRule(is_allowed, tuple(networks)) for is_allowed, networks in lines)
    access = Access(IpAccess("one", rules, "allow" if otherwise == "allow" else "deny"))
    found = ipaddress.ip_address(address)
    wanted = next(
        (is_allowed for is_allowed, networks in lines if any(found in ipaddress.ip_network(one) for one in networks)),
        otherwise == "allow",
    )
    for _ in range(2):  # looked up, and remembered
        assert (access.step(address)[0] is Reason.ADDRESS_ALLOWED) is wanted
    assert (access.step("unix:")[0] is Reason.ADDRESS_ALLOWED) is (otherwise == "allow")


# What has to be said.

CLOSED = "default-deny true"


@pytest.mark.directive("system/default-deny", "route/public")
def test_each_route_says_who_may_use_it_or_the_configuration_is_refused() -> None:
    def told(routes: str, route: str, system: str = CLOSED, filters: str = FILTERS) -> str:
        text = written(Path("/nowhere"), 8080, routes=routes, filters=filters, system=system, route=route)
        text = text.replace('route "fixed" {', 'route "fixed" { public true;') if system else text
        loaded = load_text(text)
        return render_problems(loaded.problems or [one for one in loaded.warnings if "public" in one.message])

    assert told("", "public true") == ""
    assert told("", 'filters "staff"') == ""
    said = told("", "")
    assert 'route "rest" does not say who may use it' in said and "say `public true`" in said
    assert 'route "rest" does not say' in told("", 'filters "home"'), "an address is nobody"
    assert "for everybody, and for known clients only" in told("", 'filters "staff"; public true')
    assert told("", "", system="") == "", "without the directive every route is open"
    assert "`public` has no effect" in told("", "public true", system="")


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        ('basic "b"', "needs `user`"),
        ('basic "b" { user "a" "password"; }', "not the hash of a password"),
        (f'basic "b" {{ user "a:b" "{ALICE}"; }}', "a name has no colon"),
        ('ip-access "a"', "lets nobody in"),
        ('ip-access "a" { deny "10.0.0.0/8"; }', "lets nobody in"),
        ('ip-access "a" { allow "10.0.0.0/8"; otherwise "allow"; }', "keeps nobody out"),
        ('ip-access "a" { allow "10.0.0.0/8"; deny "10.1.0.0/16"; }', "no client comes to this"),
        ('ip-access "a" { allow "10.0.0.1/8"; }', "not a network"),
    ],
)
def test_what_lets_nobody_in_or_everybody_is_refused(filters: str, said: str) -> None:
    loaded = load_text(written(Path("/nowhere"), 8080, filters=filters))
    assert said in render_problems(loaded.problems)
