"""Tokens: good ones and forged ones, keys that come, change and do not come, with one real worker for all of it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from sentinel.config import load_text, render_problems
from sentinel.core.jwks import read_jwks
from sentinel.core.reasons import Reason
from shm.counters import Counter
from tests.directives.house import serving, written
from tests.directives.test_identities import asked, hashed, steps, talk, why
from tests.workers.authority import Authority
from tests.workers.child import Worker, wait_until
from tests.workers.origin import Conversation, Origin, scripted
from workers import identities, keyrings, tokens

ISSUER, AUDIENCE = "https://login.example.com", "api"
RSA, OTHER, SMALL = RSAKey.generate_key(2048), RSAKey.generate_key(2048), RSAKey.generate_key(1024)
EC, ED = ECKey.generate_key("P-256"), OKPKey.generate_key("Ed25519")
FINE, MISSING = (200, ""), (401, "credentials-missing")


def public(key: Any, kid: str = "", **more: str) -> dict[str, Any]:
    named = {"kid": kid} if kid else {}
    return {**key.as_dict(private=False), **named, **more}


def jwks(*keys: dict[str, Any]) -> str:
    return json.dumps({"keys": [{name: value for name, value in key.items() if value is not None} for key in keys]})


def claims(**more: Any) -> dict[str, Any]:
    now_s = int(time.time())
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": now_s + 600, "nbf": now_s - 5, "tenant": "acme"}
    return {name: value for name, value in (said | more).items() if value is not None}


def token(
    said: dict[str, Any] | None = None, key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa", **head: Any
) -> str:
    header = {"alg": algorithm, "typ": "JWT", **({} if kid is None else {"kid": kid}), **head}
    payload = json.dumps(claims() if said is None else said).encode()
    return str(jws.serialize_compact(header, payload, key, algorithms=[algorithm]))


def coded(value: Any) -> str:
    octets = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def pem() -> bytes:
    return RSA.as_pem(private=False)


KNOWN = jwks(
    public(RSA, "rsa"), public(EC, "ec", alg="ES256"), public(ED, "ed"), public(SMALL, "small"),
    {"kty": "oct", "kid": "oct", "k": coded(b"0123456789abcdef0123456789abcdef"), "use": "sig"},
    public(OTHER, "encrypts", use="enc"), public(OTHER, "ps", alg="PS256"),
)  # fmt: skip
GATE = f'issuer "{ISSUER}"; audience "{AUDIENCE}" "other-api"'
ROUTES = """
route "open" { matches { path-prefix "/t"; }; filters "tokens"; upstream "origin"; }
route "both" { matches { path-prefix "/both"; }; filters "keys" "tokens"; upstream "origin"; }
route "query" { matches { path-prefix "/query"; }; filters "queries"; upstream "origin"; }
route "strict" { matches { path-prefix "/strict"; }; filters "strict"; upstream "origin"; }
route "tenant" { matches { path-prefix "/tenant"; }; filters "tokens" "per-tenant"; respond 200; }
"""
FILTERS = f"""
jwt "tokens" {{
    {GATE}; algorithms "RS256" "ES256" "EdDSA"; keys {{ file "keys.json"; }}
    pass-identity {{ header "x-user" "subject"; header "x-tenant" "claim:tenant"; header "x-roles" "claim:roles"; }}
}}
jwt "queries" {{
    {GATE}; algorithms "RS256"; keys {{ file "keys.json"; }}; read-from "query:t"; forward-credential true
}}
jwt "strict" {{
    issuer "{ISSUER}"; audience "{AUDIENCE}"; algorithms "RS256"; keys {{ file "keys.json"; }}
    leeway "0s"; subject "client_id"; pass-identity {{ header "x-client" "subject"; }}
}}
api-key "keys" {{ key "acme" "{hashed('a-key-that-nobody-guesses-at-all')}"; read-from "bearer"; }}
rate-limit "per-tenant" {{ rate "1/h"; burst 1; key "claim:tenant"; }}
"""


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with scripted(talk) as one:
        yield one


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory, origin: Origin) -> Iterator[Worker]:
    directory = tmp_path_factory.mktemp("tokens")
    (directory / "keys.json").write_text(KNOWN)
    filters = FILTERS.replace('"keys.json"', f'"{directory}/keys.json"')
    with serving(directory, origin=origin.port, routes=ROUTES, filters=filters) as one:
        yield one


def shown(worker: Worker, text: str, path: str = "/t") -> tuple[int, str]:
    return why(asked(worker, path, f"Authorization: Bearer {text}"))


@pytest.mark.directive("jwt", "jwt/algorithms", "jwt/keys/file")
def test_who_shows_a_signed_token_is_let_in_and_told_of(worker: Worker, origin: Origin) -> None:
    said = claims(roles=["a", "b"], email="alice@example.com")
    for text in (token(said), token(said, EC, "ES256", "ec"), token(said, ED, "EdDSA", "ed"), token(said, kid=None)):
        assert shown(worker, text) == FINE
        sent = origin.heads[-1]
        assert b"\r\nx-user: alice\r\nx-tenant: acme\r\nx-roles: [\"a\",\"b\"]\r\n" in sent
        assert text.encode() not in sent and b"authorization" not in sent.lower()
    answer = asked(worker, "/t", f"Authorization: bearer {token(said)}")
    assert answer.status == 200
    told = '`tokens` knows who asks, by jwt: "alice", with "roles=["a","b"]", "tenant=acme"'
    assert told in steps(worker, answer), "the claims that the configuration uses, and no others"


def changed(at: int, text: str) -> str:
    parts = token().split(".")
    parts[at] = text
    return ".".join(parts)


def signed_by_head(**more: Any) -> str:
    """A token whose head brings the key that verifies it."""
    return token(key=OTHER, **more)


HEAD = {"alg": "RS256", "typ": "JWT", "kid": "rsa"}
NONE = f"{coded({'alg': 'none'})}.{coded(claims())}."
FORGED: list[tuple[Callable[[], str], Reason]] = [
    # RFC 8725 2.1, 3.1: weak signatures and confusion of algorithms.
    (lambda: NONE, Reason.TOKEN_ALGORITHM_REFUSED),
    (lambda: NONE.replace(coded({"alg": "none"}), coded({"alg": "nOnE"})), Reason.TOKEN_ALGORITHM_REFUSED),
    (lambda: f"{coded({})}.{coded(claims())}.", Reason.TOKEN_ALGORITHM_REFUSED),
    (lambda: f"{coded({'alg': ['RS256']})}.{coded(claims())}.x", Reason.TOKEN_ALGORITHM_REFUSED),
    (lambda: token(key=OctKey.import_key(pem()), algorithm="HS256"), Reason.TOKEN_ALGORITHM_REFUSED),
    (lambda: token(key=OctKey.import_key(b"0123456789abcdef0123456789abcdef"), algorithm="HS256", kid="oct"),
     Reason.TOKEN_ALGORITHM_REFUSED),
    (lambda: token(algorithm="PS256"), Reason.TOKEN_ALGORITHM_REFUSED),
    (lambda: token(key=EC, algorithm="ES256", kid="rsa"), Reason.TOKEN_KEY_UNKNOWN),
    (lambda: token(kid="ec"), Reason.TOKEN_KEY_UNKNOWN),
    (lambda: token(key=SMALL, kid="small"), Reason.TOKEN_KEY_UNKNOWN),
    (lambda: token(key=OTHER, kid="encrypts"), Reason.TOKEN_KEY_UNKNOWN),
    (lambda: token(key=OTHER, kid="ps"), Reason.TOKEN_KEY_UNKNOWN),
    # Signatures.
    (lambda: token(key=OTHER), Reason.TOKEN_FORGED),
    (lambda: token(key=OTHER, kid=None), Reason.TOKEN_FORGED),
    (lambda: changed(1, coded(claims(sub="root"))), Reason.TOKEN_FORGED),
    (lambda: changed(2, ""), Reason.TOKEN_FORGED),
    (lambda: changed(2, "AAAA"), Reason.TOKEN_FORGED),
    (lambda: token()[:-2], Reason.TOKEN_FORGED),
    (lambda: changed(0, coded(HEAD | {"x": 1})), Reason.TOKEN_FORGED),
    # 2.10, 3.10: what the sender says about keys.
    (lambda: signed_by_head(jwk=public(OTHER)), Reason.TOKEN_FORGED),
    (lambda: signed_by_head(jku="https://evil.example/keys"), Reason.TOKEN_FORGED),
    (lambda: token(key=OTHER, kid="../../etc/passwd"), Reason.TOKEN_KEY_UNKNOWN),
    (lambda: token(key=OTHER, kid="rsa' OR 1=1 --"), Reason.TOKEN_KEY_UNKNOWN),
    (lambda: changed(0, coded(HEAD | {"kid": 7})), Reason.TOKEN_MALFORMED),
    (lambda: changed(0, coded(HEAD | {"crit": ["b64"], "b64": False})), Reason.TOKEN_MALFORMED),
    (lambda: changed(0, coded(HEAD | {"zip": "DEF"})), Reason.TOKEN_MALFORMED),
    # 3.8, 3.9: whose it is, for whom, and when.
    (lambda: token(claims(iss="https://login.example.com/")), Reason.TOKEN_WRONG_ISSUER),
    (lambda: token(claims(iss=None)), Reason.TOKEN_WRONG_ISSUER),
    (lambda: token(claims(iss=[ISSUER])), Reason.TOKEN_WRONG_ISSUER),
    (lambda: token(claims(aud="apis")), Reason.TOKEN_WRONG_AUDIENCE),
    (lambda: token(claims(aud=None)), Reason.TOKEN_WRONG_AUDIENCE),
    (lambda: token(claims(aud=["x", 7])), Reason.TOKEN_WRONG_AUDIENCE),
    (lambda: token(claims(aud={"api": 1})), Reason.TOKEN_WRONG_AUDIENCE),
    (lambda: token(claims(exp=int(time.time()) - 31)), Reason.TOKEN_EXPIRED),
    (lambda: token(claims(nbf=int(time.time()) + 60)), Reason.TOKEN_EARLY),
    (lambda: token(claims(exp=None)), Reason.TOKEN_MALFORMED),
    (lambda: token(claims(exp="never")), Reason.TOKEN_MALFORMED),
    (lambda: token(claims(exp=True)), Reason.TOKEN_MALFORMED),
    (lambda: token(claims(exp=1e300)), Reason.TOKEN_MALFORMED),
    (lambda: token(claims(nbf="now")), Reason.TOKEN_MALFORMED),
    (lambda: token(claims(sub=None)), Reason.TOKEN_MALFORMED),
    (lambda: token(claims(sub="")), Reason.TOKEN_MALFORMED),
    (lambda: token(claims(sub=7)), Reason.TOKEN_MALFORMED),
    (lambda: token(claims(sub="x" * 257)), Reason.TOKEN_MALFORMED),
    (lambda: token(claims(tenant="x" * 1025)), Reason.TOKEN_MALFORMED),
    # What is no token.
    (lambda: "opaque-token", Reason.TOKEN_MALFORMED),
    (lambda: "a.b.c", Reason.TOKEN_MALFORMED),
    (lambda: "..", Reason.TOKEN_MALFORMED),
    (lambda: token() + ".x", Reason.TOKEN_MALFORMED),
    (lambda: "x." + token(), Reason.TOKEN_MALFORMED),
    (lambda: f"{coded([1])}.{coded(claims())}.x", Reason.TOKEN_MALFORMED),
    (lambda: f"{coded(b'[' * 1500)}.{coded(claims())}.x", Reason.TOKEN_MALFORMED),
    (lambda: f"{coded(HEAD)}.{'x' * 17_000}.x", Reason.TOKEN_MALFORMED),
    (lambda: token().replace(".", "=.", 1), Reason.TOKEN_FORGED),
]  # fmt: skip


@pytest.mark.directive("jwt/issuer", "jwt/audience")
def test_what_is_forged_or_for_others_is_refused_for_its_reason(worker: Worker) -> None:
    found = [(number, *shown(worker, make())) for number, (make, _) in enumerate(FORGED)]
    assert found == [(number, 401, reason.word) for number, (_, reason) in enumerate(FORGED)]
    assert shown(worker, token(claims(aud=["x", "other-api"]))) == FINE


def test_a_refusal_says_what_rfc_6750_has_for_it(worker: Worker) -> None:
    answer = asked(worker, "/t", f"Authorization: Bearer {token(claims(exp=1))}")
    assert answer.fields["www-authenticate"] == (
        'Bearer realm="tokens", error="invalid_token", '
        'error_description="the token was valid until a moment that has passed"'
    )
    assert asked(worker, "/t").fields["www-authenticate"] == 'Bearer realm="tokens"'
    both = asked(worker, "/both", f"Authorization: Bearer {token(claims(exp=1))}")
    assert why(both) == (401, "token-expired"), "it says more than that it is no key"
    assert why(asked(worker, "/both", "Authorization: Bearer sk-nobodys")) == (401, "key-unknown")
    assert shown(worker, token(), "/both") == shown(worker, "a-key-that-nobody-guesses-at-all", "/both") == FINE
    said = steps(worker, asked(worker, "/t", f"Authorization: Bearer {token(claims(exp=None))}"))
    assert any(one.endswith("(its `exp` is no date)") for one in said)


@pytest.mark.directive("jwt/leeway", "jwt/subject", "jwt/pass-identity/header")
def test_leeway_and_the_claim_that_says_who(worker: Worker, origin: Origin) -> None:
    now_s = int(time.time())
    assert shown(worker, token(claims(exp=now_s - 5))) == FINE, "30 s unless it says otherwise"
    assert shown(worker, token(claims(exp=now_s - 5, client_id="c")), "/strict") == (401, "token-expired")
    assert shown(worker, token(claims(nbf=now_s + 100, client_id="c")), "/strict") == (401, "token-early")
    assert shown(worker, token(claims(client_id="ü\r\nx-user: root")), "/strict") == FINE
    assert b"\r\nx-client: %C3%BC%0D%0Ax-user: root\r\n" in origin.heads[-1]
    assert shown(worker, token(), "/strict") == (401, "token-malformed")


@pytest.mark.directive("jwt/read-from", "jwt/forward-credential")
def test_where_the_token_is(worker: Worker, origin: Origin) -> None:
    text = token()
    assert why(asked(worker, f"/query?t={text}")) == FINE
    assert text.encode() in origin.heads[-1]
    assert shown(worker, text, "/query") == MISSING
    assert why(asked(worker, f"/query?t={text}&t={text}")) == (401, "token-malformed")


def test_a_token_that_is_remembered_still_ends(worker: Worker) -> None:
    text = token(claims(exp=int(time.time()) + 2, client_id="c"))
    assert shown(worker, text, "/strict") == FINE
    wait_until(lambda: shown(worker, text, "/strict") == (401, "token-expired"), "its end comes", 10)


def test_limits_count_claims(worker: Worker) -> None:
    codes = [shown(worker, token(claims(sub=who, tenant=tenant)), "/tenant")[0]
             for who, tenant in (("a", "one"), ("b", "one"), ("c", "two"))]  # fmt: skip
    assert codes == [200, 429, 200]


# Keys that are fetched.


class Issuer:
    """Serves a set of keys that a test may change, or nothing that is one."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.body = jwks(*keys)
        self.status = "200 OK"
        self.count = 0

    def __call__(self, conversation: Conversation) -> None:
        conversation.head()
        self.count += 1
        conversation.answer(self.body.encode(), f"HTTP/1.1 {self.status}\r\ncontent-type: application/json")


@contextmanager
def fetching(
    directory: Path, port: int, *, scheme: str = "", extra: str = "", keys: str = 'every "200ms"'
) -> Iterator[Worker]:
    """A worker whose keys come from this port."""
    top = f'upstreams {{ upstream "login" {{ endpoint "{scheme}127.0.0.1:{port}"\n{extra}\n}}; }}'
    keyring = f'keys {{ upstream "login"; path "/keys"; {keys}; }}'
    filters = f'jwt "tokens" {{ {GATE}; algorithms "RS256"; {keyring}; }}'
    routes = 'route "t" { matches { path-prefix "/t"; }; filters "tokens"; respond 200; }'
    directory.mkdir(exist_ok=True)
    parts = {"filters": filters, "routes": routes, "top": top, "system": f'run-dir "{directory}"'}
    with serving(directory, **parts) as one:
        yield one


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that are forked by a test look more often than others."""
    monkeypatch.setattr(keyrings, "EAGER_S", 0.5)
    monkeypatch.setattr(keyrings, "LOOK_S", 0.02)
    monkeypatch.setattr(tokens, "LOOK_NS", 20_000_000)
    monkeypatch.setattr(identities, "WANT_NS", 20_000_000)


def fetched(worker: Worker) -> int:
    return worker.counter(Counter.JWKS_FETCHES)


@pytest.mark.directive("jwt/keys/upstream", "jwt/keys/path", "jwt/keys/every")
def test_keys_are_fetched_changed_and_kept_while_nobody_answers(tmp_path: Path) -> None:
    issuer = Issuer(public(RSA, "rsa"))
    with scripted(issuer) as server:
        with fetching(tmp_path, server.port) as worker:
            old, new = token(), token(key=OTHER, kid="new")
            wait_until(lambda: shown(worker, old) == FINE, "the keys have come")
            assert server.heads[0].startswith(b"GET /keys HTTP/1.1\r\n")
            assert shown(worker, new) == (401, "token-key-unknown")
            issuer.body = jwks(public(RSA, "rsa"), public(OTHER, "new"))
            wait_until(lambda: shown(worker, new) == FINE, "a key has been added")
            issuer.body = jwks(public(OTHER, "new"))
            wait_until(lambda: shown(worker, old) == (401, "token-key-unknown"), "and another one taken away")
            for bad in ("no JSON", "{}", '{"keys": []}', jwks({"kty": "oct", "k": "c2VjcmV0"}), " " * 300_000):
                failed = worker.counter(Counter.JWKS_FAILURES)
                issuer.body = bad
                wait_until(lambda failed=failed: worker.counter(Counter.JWKS_FAILURES) > failed, "it is told", 15)
                assert shown(worker, new) == FINE, "the last good ones stay"
                issuer.body = jwks(public(OTHER, "new"))
                done = fetched(worker)
                wait_until(lambda done=done: fetched(worker) > done, "it is well again", 15)
            issuer.status = "503 Service Unavailable"
            failed = worker.counter(Counter.JWKS_FAILURES)
            wait_until(lambda: worker.counter(Counter.JWKS_FAILURES) > failed, "it is told", 15)
            assert shown(worker, new) == FINE
            assert "keys of `tokens` cannot be fetched" in worker.stderr()
        issuer.status = "200 OK"
    with fetching(tmp_path, 1) as worker:
        assert shown(worker, token(key=OTHER, kid="new")) == FINE, "another worker begins with the last good ones"


@pytest.mark.directive("jwt/keys/timeout")
def test_without_keys_nobody_comes_in(tmp_path: Path) -> None:
    def silent(conversation: Conversation) -> None:
        conversation.head()
        conversation.rest()

    with scripted(silent) as server, fetching(tmp_path, server.port, keys='timeout "50ms"') as worker:
        assert shown(worker, token()) == (503, "keys-unavailable")
        wait_until(lambda: worker.counter(Counter.JWKS_FAILURES), "it did not answer in time")
        assert "it did not answer in time" in worker.stderr()
        assert shown(worker, token(key=OctKey.import_key(pem()), algorithm="HS256"))[1] == "token-algorithm-refused"


def test_keys_come_over_tls_from_whom_they_should(tmp_path: Path) -> None:
    house = Authority("house authority")
    (tmp_path / "ca.pem").write_text(house.pem)
    trusting = f'tls {{ ca "{tmp_path}/ca.pem"; server-name "login.example.com"; }}'
    issuer = Issuer(public(RSA, "rsa"))
    ours, others = (one.issue("login.example.com").context() for one in (house, Authority()))
    over = {"scheme": "https://", "extra": trusting}
    with scripted(issuer, tls=ours) as server, fetching(tmp_path / "good", server.port, **over) as worker:
        wait_until(lambda: shown(worker, token()) == FINE, "the keys have come")
        assert "login.example.com" in server.names
    with scripted(issuer, tls=others) as server, fetching(tmp_path / "bad", server.port, **over) as worker:
        wait_until(lambda: worker.counter(Counter.JWKS_FAILURES), "somebody else answers")
        assert shown(worker, token()) == (503, "keys-unavailable")


def test_a_token_of_a_new_key_has_the_keys_fetched_soon_but_not_again_and_again(tmp_path: Path) -> None:
    issuer = Issuer(public(RSA, "rsa"))
    with scripted(issuer) as server, fetching(tmp_path, server.port, keys='every "1h"') as worker:
        wait_until(lambda: shown(worker, token()) == FINE, "the keys have come")
        issuer.body = jwks(public(RSA, "rsa"), public(OTHER, "new"))
        new = token(key=OTHER, kid="new")
        assert shown(worker, new) == (401, "token-key-unknown")
        wait_until(lambda: shown(worker, new) == FINE, "they are fetched again, long before their time")
        for number in range(50):
            shown(worker, token(key=OTHER, kid=f"made-up-{number}"))
        assert issuer.count <= 4, "at the beginning, for the new key, and hardly more for those that were made up"


# Reading sets, and what cannot be meant.


def test_a_set_of_keys_is_read_sceptically() -> None:
    keys, fault = read_jwks(KNOWN)
    assert [key.kid for key in keys] == ["rsa", "ec", "ed", "ps"] and not fault
    keys, fault = read_jwks(jwks(RSA.as_dict(private=True)))
    assert "d" not in keys[0].members, "what signs is left out"
    for text, said in (
        ("[", "no JSON"), ("[" * 100_000, "no JSON"), ("[]", "no list"), ('{"keys": {}}', "no list"),
        (json.dumps({"keys": [{}] * 101}), "more than 100"), ('{"keys": [7, null, {"kty": []}]}', "none of its keys"),
        (jwks(public(RSA, "a", n="***")), "none of its keys"), (jwks(public(EC, "a", crv="P-192")), "none of its keys"),
        (" " * 300_000, "longer than"),
    ):  # fmt: skip
        assert said in read_jwks(text)[1], text[:40]


def gate(keys: str) -> str:
    return f'jwt "one" {{ {GATE}; algorithms "RS256"; {keys}; }}'


@pytest.mark.parametrize(
    ("filters", "said"),
    [
        (f'jwt "one" {{ {GATE}; algorithms "RS256"; }}', "nobody knows the issuer's keys"),
        (gate("keys"), "keys come from a `file` or from an `upstream`"),
        (gate('keys { file "a"; upstream "origin"; }'), "keys come from a `file` or from an `upstream`"),
        (gate('keys { file "/nowhere/keys.json"; }'), "/nowhere/keys.json cannot be read"),
        (gate('keys { file "/dev/null"; }'), "is no set of keys that verify tokens: it is no JSON"),
        (gate('keys { file "/dev/null"; every "1m"; }'), "`every` has no effect"),
        (gate('keys { upstream "orign"; }'), "did you mean `origin`?"),
        (gate("keys").replace('"RS256"', '"HS256"'), "one of `ES256`"),
        (gate("keys").replace('"RS256"', '"none"'), "one of `ES256`"),
        (gate("keys").replace(f'issuer "{ISSUER}"; ', ""), "needs `issuer`"),
    ],
)
def test_what_cannot_verify_anything_is_refused(filters: str, said: str) -> None:
    loaded = load_text(written(Path("/nowhere"), 8080, filters=filters))
    assert said in render_problems(loaded.problems)


def test_an_upstream_of_keys_is_used() -> None:
    parts = {"filters": gate('keys { upstream "login"; }'), "route": 'filters "one"'}
    top = 'upstreams { upstream "login" { endpoint "https://login.example.com"; }; }'
    loaded = load_text(written(Path("/nowhere"), 8080, top=top, **parts))
    assert loaded.plan is not None and not [one for one in loaded.warnings if "login" in one.message]
    (rule,) = loaded.plan.jwts
    assert rule.keys_from is not None and rule.keys_from.path == "/.well-known/jwks.json"
    assert rule.keys_json == ""
