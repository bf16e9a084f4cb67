"""Tokens that somebody else has signed: read sceptically, verified once, and looked at again each time.

Intuition: a border post. The passport's seal is compared with the list on the wall once, which takes a while; a
traveller who comes by each day is known. But each time the officer looks at the date, for passports end while one
knows their owners; and when the list changes, nobody is known any more.

    read the head → algorithm allowed? → which keys? → signature → issuer, audience → | remembered | → dates → claims

Rules:
1. The head of a token is its sender's word. It chooses among the keys of the set that fits the algorithms of the
   configuration, and nothing else: keys and addresses in it (`jwk`, `jku`, `x5c`, `x5u`) are not looked at, `crit` and
   `b64` are refused, and what is encrypted is no token of ours (RFC 8725).
2. Signatures are verified by joserfc; here is nothing that computes one.
3. What was verified is remembered under a hash with a secret of this process, so many at most, until the keys change.
   Dates are compared each time, and what is not remembered is what was refused: it costs its sender as much as us.
4. Keys are those of the configuration, or were fetched by one worker for all (workers.keyrings) and lie in a file. A
   set that cannot be read leaves the last good one where it is.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import time
import warnings
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from sentinel.core.gates import keys_file
from sentinel.core.identity import CLAIM_CHARS_MAX, Finding, Identity, recognised
from sentinel.core.jwks import JWKS_BYTES_MAX, PublicKey, candidates, read_jwks
from sentinel.core.plan import Jwt
from sentinel.core.reasons import Reason

TOKEN_CHARS_MAX: Final = 16 * 1024
"""Longer than any token that fits a usual head of 32 KiB with the rest."""
HEAD_CHARS_MAX: Final = 2048
PARTS: Final = 3
REMEMBERED_MAX: Final = 8192
SUBJECT_CHARS_MAX: Final = 256
DATE_MAX: Final = 1 << 53
LOOK_NS: Final = 1_000_000_000
"""How often the file of fetched keys is looked at."""
WANTED: Final = ".wanted"
"""Of the file beside it that says that other keys are needed (workers.keyrings)."""

Verify = Callable[[str, PublicKey, str], bytes | None]
"""A token, a key, an algorithm: what is signed; None when it is not."""


class Refused(Exception):
    """Nobody is known by this token."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail)
        self.finding = Finding(reason, None, detail)


class Verified(NamedTuple):
    """What is remembered of a token whose signature was good."""

    finding: Finding
    until_s: float
    from_s: float


class TokenBook:
    """The tokens of one filter. run_dir "": keys that are fetched are nowhere."""

    def __init__(self, rule: Jwt, secret: bytes, run_dir: str, verify: Verify | None = None) -> None:
        self.rule = rule
        self.keys: tuple[PublicKey, ...] = ()
        self.is_wanted = False
        """Whether somebody showed a token of a key that is not there: fetch them again soon."""
        self._secret = secret
        self._verify = verify or _verifier()
        self.path = keys_file(run_dir, rule) if rule.keys_from is not None and run_dir else ""
        self._known: dict[bytes, Verified] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._looked_ns = 0
        if rule.keys_from is None:
            self.keys, _ = read_jwks(rule.keys_json)

    def identify(self, token: str, now_s: float = 0) -> Finding:
        """Who shows this token. now_s 0: the present time."""
        now_s = now_s or time.time()
        if self.path:
            self._look()
        mark = blake2b(token.encode("latin-1", "replace"), digest_size=24, key=self._secret).digest()
        known = self._known.get(mark)
        try:
            if known is None:
                known = self._read(token)
                if len(self._known) >= REMEMBERED_MAX:
                    self._known.clear()
                self._known[mark] = known
            leeway_s = self.rule.leeway_ns / 1e9
            if now_s >= known.until_s + leeway_s:
                return Finding(Reason.TOKEN_EXPIRED)
            if now_s < known.from_s - leeway_s:
                return Finding(Reason.TOKEN_EARLY)
            return known.finding
        except Refused as refused:
            return refused.finding

    def _look(self) -> None:
        """Take the keys that were fetched last, if there are others."""
        now_ns = time.monotonic_ns()
        if self._looked_ns and now_ns - self._looked_ns < LOOK_NS:
            return
        self._looked_ns = now_ns
        try:
            seen = os.stat(self.path)
            stamp = seen.st_ino, seen.st_mtime_ns, seen.st_size
            if stamp == self._stamp:
                return
            with open(self.path, "rb") as file:
                keys, fault = read_jwks(file.read(JWKS_BYTES_MAX + 1))
        except OSError:
            return
        self._stamp = stamp
        if not fault and keys != self.keys:
            self.keys, self.is_wanted = keys, False
            self._known.clear()

    def _read(self, token: str) -> Verified:
        """All of it that does not change with time; raises Refused."""
        head = self._head(token)
        algorithm, kid = head.get("alg"), head.get("kid")
        if algorithm not in self.rule.algorithms:
            raise Refused(Reason.TOKEN_ALGORITHM_REFUSED)
        if not self.keys:
            self.is_wanted = True
            raise Refused(Reason.KEYS_UNAVAILABLE)
        if kid is not None and not isinstance(kid, str):
            raise Refused(Reason.TOKEN_MALFORMED, "its `kid` is no text")
        found = candidates(self.keys, kid, algorithm)
        if not found:
            self.is_wanted = True
            raise Refused(Reason.TOKEN_KEY_UNKNOWN)
        payload = next(filter(None, (self._verify(token, key, algorithm) for key in found)), None)
        if payload is None:
            raise Refused(Reason.TOKEN_FORGED)
        return self._claims(_object(payload, "what it says"))

    def _head(self, token: str) -> dict[str, Any]:
        if len(token) > TOKEN_CHARS_MAX:
            raise Refused(Reason.TOKEN_MALFORMED, "it is too long")
        parts = token.split(".")
        if len(parts) != PARTS or len(parts[0]) > HEAD_CHARS_MAX:
            raise Refused(Reason.TOKEN_MALFORMED, "it is no JWT that is signed")
        try:
            octets = base64.b64decode(parts[0] + "=" * (-len(parts[0]) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise Refused(Reason.TOKEN_MALFORMED, "it is no JWT that is signed") from None
        head = _object(octets, "its head")
        if "crit" in head or "b64" in head or "enc" in head or "zip" in head:
            raise Refused(Reason.TOKEN_MALFORMED, "its head asks for something that is not known here")
        return head

    def _claims(self, said: dict[str, Any]) -> Verified:
        rule = self.rule
        if said.get("iss") != rule.issuer:
            raise Refused(Reason.TOKEN_WRONG_ISSUER)
        audience = said.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if not any(isinstance(one, str) and one in rule.audiences for one in audiences):
            raise Refused(Reason.TOKEN_WRONG_AUDIENCE)
        until_s = _date(said, "exp", None)
        from_s = _date(said, "nbf", 0.0)
        subject = said.get(rule.subject_claim)
        if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_CHARS_MAX:
            raise Refused(Reason.TOKEN_MALFORMED, f"its `{rule.subject_claim}` is no text, or too long")
        claims = tuple((name, _text(said, name)) for name in rule.claims if name in said)
        return Verified(recognised(Identity(rule.name, "jwt", subject, claims)), until_s, from_s)


def _object(octets: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(octets)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused(Reason.TOKEN_MALFORMED, f"{what} is no JSON object")
    return found


def _date(said: dict[str, Any], name: str, default: float | None) -> float:
    value = said.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= DATE_MAX:
        raise Refused(Reason.TOKEN_MALFORMED, f"its `{name}` is no date")
    return float(value)


def _text(said: dict[str, Any], name: str) -> str:
    """A claim as text: as it is, or as JSON in its shortest form."""
    value = said[name]
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
    if len(text) > CLAIM_CHARS_MAX:
        raise Refused(Reason.TOKEN_MALFORMED, f"its `{name}` is too long")
    return text


def _verifier() -> Verify:
    """By joserfc, which is loaded where there are tokens; without it (in a browser) no signature is good."""
    try:
        from joserfc import jws
        from joserfc.errors import JoseError, SecurityWarning
        from joserfc.jwk import ECKey, OKPKey, RSAKey
    except ImportError:
        return lambda token, key, algorithm: None
    warnings.filterwarnings("ignore", category=SecurityWarning)  # of algorithms that the operator has chosen
    kinds: dict[str, Any] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
    made: dict[int, tuple[PublicKey, Any]] = {}  # by identity: a set of keys lives as long as it is used

    def verify(token: str, key: PublicKey, algorithm: str) -> bytes | None:
        try:
            _, known = made.get(id(key), (None, None))
            if known is None:
                if len(made) >= REMEMBERED_MAX:
                    made.clear()
                known = kinds[key.kind].import_key(dict(key.members))
                made[id(key)] = key, known
            return bytes(jws.deserialize_compact(token, known, algorithms=[algorithm]).payload)
        except (JoseError, ValueError, TypeError):  # not signed so; or the key is no point of its curve
            return None

    return verify


def want(path: str) -> None:
    """Ask the leader to fetch soon."""
    with contextlib.suppress(OSError), open(path + WANTED, "ab"):
        pass
