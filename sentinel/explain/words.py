"""Steps and failed conditions in words: short, in the reader's terms, naming both sides.

`header x-tenant is "b", not "a"` tells more than `condition 3 failed`. Values
that a client sent are quoted and bounded; fields that carry secrets are never shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sentinel.core.balance.reports import said
from sentinel.core.conditions import SECRET_FIELDS, compile_condition, field_values, query_values
from sentinel.core.gates import TOKEN_REFUSALS
from sentinel.core.plan import Condition
from sentinel.core.reasons import BY_NUMBER, Reason
from sentinel.core.request import Request

SHOWN_MAX: Final = 80  # characters of one value
VALUES_MAX: Final = 6  # alternatives that are listed


GUARDED: Final = {
    Reason.GUARDRAIL_PASSED: "", Reason.GUARDRAIL_SKIPPED: "", Reason.GUARDRAIL_UNREADABLE: "",
    Reason.ANSWER_UNREADABLE: "", Reason.GUARDRAIL_OBSERVED: "only observes, and finds in",
    Reason.GUARDRAIL_REDACTED: "replaces in", Reason.GUARDRAIL_BLOCKED: "stops", Reason.ANSWER_BLOCKED: "stops",
}  # fmt: skip
"""What a guardrail does."""
REACHED: Final = {
    "1": " over a new connection", "2": " over a kept connection", "3": " over a kept connection, then a new one",
}  # fmt: skip
"""See workers.attempt."""
HANDSHAKE_FAULTS: Final = frozenset({
    Reason.TLS_UNTRUSTED, Reason.TLS_WRONG_NAME, Reason.TLS_EXPIRED, Reason.TLS_WRONG_PIN, Reason.TLS_NOT_SPOKEN,
    Reason.TLS_REFUSED, Reason.TLS_TIMEOUT,
})  # fmt: skip

STOPPED_AT_GATES: Final = frozenset({
    Reason.CREDENTIALS_MISSING, Reason.KEY_UNKNOWN, Reason.KEYS_UNAVAILABLE, Reason.PASSWORD_WRONG,
    Reason.PASSWORDS_WAITING, *TOKEN_REFUSALS,
})  # fmt: skip
"""Why an authenticator finds nobody."""


DOUBTS: Final = {
    "not-json": "something in it was no JSON", "wrong-shape": "something in it had another shape",
    "oversized": "some of it was too large to be read", "unknown-encoding": "its encoding is not known",
    "bad-encoding": "it was not encoded as it said", "inflated-too-far": "it swells too far when it is inflated",
    "cut": "it broke off",
}  # fmt: skip
"""Why a reading may be less than what was there (sentinel.inference.sheet, Doubt)."""


def step_text(reason: Reason, details: Sequence[Any]) -> str:
    """Say what a step concluded, with its details where we know their order.

    Details are what the trace holds, or what a record gives back of it: all strings, and marks for keys.
    """
    match reason:
        case Reason.ROUTE_MATCHED if len(details) == 1:
            return f"route `{details[0]}` matches"
        case Reason.AUTHENTICATED if len(details) >= 3:
            return _identity_text(*map(str, details))
        case _ if reason in STOPPED_AT_GATES and len(details) in (1, 2):
            why = f" ({details[1]})" if len(details) == 2 else ""
            return f"`{details[0]}` lets nobody in: {reason.value.text}{why}"
        case Reason.ADDRESS_ALLOWED | Reason.ADDRESS_DENIED if len(details) in (1, 2):
            line = f"by its line {details[1]}" if len(details) == 2 else "since none of its lines has the address"
            return f"`{details[0]}`: {reason.value.text}, {line}"
        case Reason.CONDITION_FAILED if len(details) == 3:
            return f"route `{details[0]}`: its condition `{details[2]}` does not hold"
        case Reason.CONDITION_FAILED if len(details) == 1:
            return f"{details[0]} more that were better ranked, each for a condition that does not hold"
        case Reason.ENDPOINT_CHOSEN if len(details) == 3:
            return f"upstream `{details[0]}`: endpoint {address(str(details[1]), int(details[2]))}"
        case Reason.RESPONDED if len(details) == 1:
            return f"the route answers {details[0]} by itself"
        case Reason.SPLIT_CHOSEN if len(details) == 3:
            upstream, weight, total = details
            return f"split: for `{upstream}`, which has {weight} of {total}"
        case Reason.WITHIN_LIMIT if len(details) == 4:
            name, left, burst, key = details
            return f"rate limit `{name}` admits it, {left} of {burst} left{_bucket(key)}"
        case Reason.RATE_LIMITED if len(details) == 3:
            return f"rate limit `{details[0]}` is used up for another {details[1]} s{_bucket(details[2])}"
        case Reason.LIMITS_FULL if len(details) == 2:
            return f"rate limit `{details[0]}`: shared memory has no room for another key{_bucket(details[1])}"
        case Reason.DELAYED if len(details) == 2:
            return f"rate limit `{details[0]}` is used up: the request waited {details[1]} ms for its turn"
        case Reason.WITHIN_CONCURRENCY if len(details) == 4:
            name, held, most, key = details
            return f"concurrency limit `{name}` has room: {held} of {most} under way with this one{_bucket(key)}"
        case Reason.CONCURRENCY_LIMITED | Reason.CONCURRENCY_EXCEEDED if len(details) == 4:
            name, held, most, key = details
            only = ", and it only observes" if reason is Reason.CONCURRENCY_EXCEEDED else ""
            return f"concurrency limit `{name}` has no room: {held} of {most} are under way{only}{_bucket(key)}"
        case Reason.LEASES_FULL if len(details) == 4:
            return f"concurrency limit `{details[0]}`: shared memory has no room for another key{_bucket(details[3])}"
        case Reason.ENDPOINT_PASSED_OVER if len(details) == 2:
            return f"endpoint {details[0]} is passed over: {details[1]}"
        case Reason.PANIC if len(details) == 1:
            return f"too few endpoints of `{details[0]}` are usable, so health is not looked at"
        case Reason.PRIORITY_LOWERED if len(details) == 2:
            return f"the first endpoints of `{details[0]}` do not suffice: those of priority {details[1]} are used"
        case Reason.STICKY_FOLLOWED if len(details) == 1:
            return f"the client's cookie `{details[0]}` names this endpoint"
        case Reason.STICKY_IGNORED if len(details) == 2:
            return f"the client's cookie `{details[0]}` is ignored: {details[1]}"
        case Reason.LOAD_COMPARED if len(details) == 2:
            return f"endpoint number {details[0]} has least to do: {details[1]} in flight"
        case Reason.LOAD_COMPARED if len(details) > 2:
            return f"endpoint number {details[0]} has least to do; in flight, in their order: {_listed(details[1:])}"
        case Reason.TOKENS_COMPARED if len(details) == 3:
            return f"endpoint number {details[0]} has fewest tokens under way for its weight: {details[2]}"
        case Reason.TOKENS_COMPARED if len(details) > 3:
            told = _listed(details[2:])
            return f"endpoint number {details[0]} has fewest tokens under way for its weight; in their order: {told}"
        case Reason.PREFIX_FOLLOWED if len(details) == 3:
            name, tokens, most = details
            return f"the prompt's beginning belongs to {name}: {tokens} tokens under way, of {most} at most"
        case Reason.PREFIX_PASSED_BY if len(details) == 3:
            name, tokens, most = details
            return f"the prompt's beginning belongs to {name}, which has {tokens} tokens under way, more than {most}"
        case Reason.REPORTS_COMPARED if len(details) == 2:
            return f"endpoint number {details[0]} has the least load for its weight: {said(str(details[1]))}"
        case Reason.REPORTS_COMPARED if len(details) > 2:
            loads = _listed([said(str(one)) for one in details[1:]])
            return f"endpoint number {details[0]} has the least load for its weight; in their order: {loads}"
        case Reason.ATTEMPTED if len(details) == 7:
            return _attempt_text(*map(str, details))
        case Reason.OVER_TLS if len(details) == 3:
            return f"over TLS, as `{details[0]}`: {_trust_text(*map(str, details[1:]))}"
        case Reason.CLIENT_SECURED if len(details) == 6:
            version, cipher, name, how, whom, fingerprint = map(str, details)
            asked = f", as `{quoted(name)[1:-1]}`" if name else ", without a name"
            shown = f"; its certificate is that of {quoted(whom)} (SHA-256 {fingerprint}…)" if fingerprint else ""
            return f"{version} with {cipher}{asked}{', by a session that was resumed' if how else ''}{shown}"
        case Reason.CLIENT_SECURED if len(details) == 2:
            whom = f", with the certificate of {quoted(str(details[1]))}" if details[1] else ""
            return f"{details[0]}, since an earlier request{whom}"
        case Reason.TLS_SECURED if len(details) == 6:
            version, cipher, whom, issuer, until, proof = map(str, details)
            by = f", issued by {quoted(issuer)}, valid until {until}" if issuer else ""
            return f"{version} with {cipher}: {proof} as {quoted(whom)}{by}"
        case Reason.TLS_SECURED if len(details) == 1:
            return f"{details[0]}, since an earlier request"
        case _ if reason in HANDSHAKE_FAULTS and len(details) == 2:
            return f"{details[0]}: {reason.value.text}: {details[1]}"
        case Reason.TRIED_ANOTHER if len(details) == 3:
            return f"{details[0]} failed ({details[1]}), so {details[2]} was tried"
        case Reason.RETRIED if len(details) == 3:
            return f"{details[0]} failed ({details[1]}); tried again after {details[2]} ms"
        case Reason.RETRY_DENIED if len(details) == 3:
            return f"{details[0]} failed ({details[1]}), and is not tried again: {details[2]}"
        case Reason.HEDGED if len(details) == 3:
            return f"{details[0]} had not begun to answer after {details[1]} ms: sent to {details[2]} as well"
        case Reason.HEDGE_DENIED if len(details) == 2:
            return f"{details[0]} is slow, and the request is not sent to another one: {details[1]}"
        case Reason.HEDGE_WON | Reason.HEDGE_LOST if len(details) == 2:
            return f"{details[0]} answered first, and {details[1]} was cut"
        case Reason.HEDGE_FAILED if len(details) == 3:
            return f"{details[0]} failed ({details[1]}), and {details[2]} went on"
        case Reason.SHADOWED if len(details) == 2:
            return f"a copy goes to `{details[0]}`, as of {int(details[1]) / 10:g}% of the requests"
        case Reason.BREAKER_OPEN | Reason.NONE_USABLE | Reason.UPSTREAM_FULL if len(details) == 1:
            return f"{reason.value.text} (upstream `{details[0]}`)"
        case Reason.WITHIN_BUDGET | Reason.BUDGET_EXCEEDED if len(details) == 4:
            only = ", and it only observes" if reason is Reason.BUDGET_EXCEEDED else ""
            return f"token budget `{details[0]}`: {details[1]} of {details[2]} with {details[3]} put aside now{only}"
        case Reason.BUDGET_OVERDRAWN | Reason.BUDGET_OUTGROWN if len(details) == 1:
            what = "goes on" if reason is Reason.BUDGET_OVERDRAWN else "is ended"
            return f"the stream took more than was put aside of `{details[0]}`, which has no more: it {what}"
        case Reason.BUDGET_EXHAUSTED if len(details) == 4:
            return f"token budget `{details[0]}`: {details[1]} of {details[2]} are used, and {details[3]} are asked for"
        case Reason.LARGER_THAN_BUDGET if len(details) == 3:
            return f"token budget `{details[0]}` has {details[2]} in all, and {details[1]} are asked for"
        case Reason.TOKENS_REPORTED | Reason.TOKENS_COUNTED if len(details) in (3, 4):
            how = "reported" if reason is Reason.TOKENS_REPORTED else "counted here"
            doubts = [DOUBTS.get(one, one) for one in str(details[3]).split(", ")] if len(details) == 4 else []
            how = "; ".join([how, *doubts])
            return f"model {quoted(str(details[0]))} took {details[1]} tokens and made {details[2]} ({how})"
        case Reason.BUDGET_WARNED if len(details) == 4:
            name, used, amount, percent = details
            return f"token budget `{name}`: {used} of {amount} are used, and its `warn-at` {percent} is passed"
        case Reason.WITHIN_TOKEN_LIMIT if len(details) == 4:
            name, unit, remaining, burst = details
            return f"token limit `{name}` admits it, {remaining} of {burst} {unit} left"
        case Reason.TOKEN_LIMITED if len(details) == 5:
            name, unit, wait_s, amount, key = details
            return f"token limit `{name}` has no {amount} {unit} for another {wait_s} s{_bucket(key)}"
        case Reason.LARGER_THAN_TOKEN_LIMIT if len(details) == 4:
            name, unit, amount, burst = details
            return f"token limit `{name}` never has more than {burst} {unit}, and {amount} are asked for"
        case Reason.TOKEN_LIMIT_EXCEEDED if len(details) == 3:
            return f"token limit `{details[0]}` has no {details[2]} {details[1]} left, and only observes"
        case Reason.PRICED if len(details) == 2:
            return f"it cost {details[0]} (price book {details[1]})"
        case Reason.UNPRICED if len(details) == 2:
            model = quoted(str(details[0]))
            return f"token budget `{details[1]}` is of money, and model {model} has no price: it passes uncounted"
        case Reason.UNPRICED if len(details) == 1:
            return f"the price book has no price for model {quoted(str(details[0]))}"
        case Reason.NO_PRICE if len(details) == 2:
            return f"token budget `{details[1]}` is of money, and model {quoted(str(details[0]))} has no price"
        case Reason.FELL_BACK if len(details) == 3:
            return f"the model failed ({details[0]}), so {quoted(str(details[1]))} of upstream `{details[2]}` is asked"
        case Reason.DIALECT_MISMATCH if len(details) == 3:
            return f"the request is in the dialect `{details[0]}`, and upstream `{details[1]}` speaks `{details[2]}`"
        case Reason.MODEL_ROUTED if len(details) == 3:
            asked, upstream, sent = map(str, details)
            other = f", which is asked for {quoted(sent)}" if sent != asked else ""
            return f"model {quoted(asked)} is for upstream `{upstream}`{other}"
        case Reason.MODEL_UNKNOWN if len(details) == 1 and not details[0]:
            return "the request names no model, and the route has no upstream of its own"
        case Reason.MODEL_UNKNOWN if len(details) == 1:
            return f"no line of `models` takes the model {quoted(str(details[0]))}"
        case Reason.MODEL_DEFAULTED if len(details) == 1:
            return f"no line of `models` takes the model {quoted(str(details[0]))}: it goes to the route's own upstream"
        case Reason.GUARDRAIL_WATCHES if len(details) == 1:
            return f"guardrail `{details[0]}` will look through the answer"
        case _ if reason in GUARDED and len(details) >= 3:
            return _guarded(reason, *map(str, details[:4]))
        case Reason.TRANSLATED if len(details) == 3:
            without = f", without {details[2]}" if details[2] else ""
            return f"the request is in {details[0]}, and is said in {details[1]}{without}"
        case Reason.UNTRANSLATABLE if len(details) == 3:
            return f"the request is in {details[0]}, and cannot be said in {details[1]}: {details[2]}"
        case Reason.ANSWER_UNTRANSLATABLE if len(details) == 1:
            return f"{reason.value.text}: {details[0]}"
        case Reason.WOULD_BE_LIMITED if len(details) == 2:
            return f"rate limit `{details[0]}` is used up, and only observes{_bucket(details[1])}"
        case Reason.NO_ENDPOINT if len(details) == 1:
            return f"upstream `{details[0]}` has no endpoint that may be tried"
        case _:
            known = [str(part) for part in details if not isinstance(part, bytes)]
            return reason.value.text + (f" ({', '.join(known)})" if known else "")


def _guarded(reason: Reason, name: str, side: str, told: str, attached: str = "0") -> str:
    """What a guardrail has found, and where."""
    where = "the request" if side == "request" else "the answer"
    unread = f"; {attached} parts that are no text were not read" if attached not in ("", "0") else ""
    match reason:
        case Reason.GUARDRAIL_PASSED:
            return f"guardrail `{name}` finds nothing in {where}{unread}"
        case Reason.GUARDRAIL_SKIPPED:
            return f"guardrail `{name}` cannot read {where}, which goes on as it is: {told}"
        case Reason.GUARDRAIL_UNREADABLE | Reason.ANSWER_UNREADABLE:
            return f"guardrail `{name}` cannot read {where}: {told}"
    return f"guardrail `{name}` {GUARDED[reason]} {where}: {told}{unread}"


def _identity_text(source: str, method: str, subject: str, *claims: str) -> str:
    """Who asks, as far as the plan wants to know."""
    more = f", with {', '.join(quoted(one) for one in claims)}" if claims else ""
    return f"`{source}` knows who asks, by {method}: {quoted(subject)}{more}"


def _bucket(key: Any) -> str:
    """Which bucket it was; that of a key that was never written down is nobody's affair."""
    return f" (bucket {key})" if isinstance(key, str) else ""


def _attempt_text(
    endpoint: str, reached: str, began_us: str, answered_us: str, lasted_us: str, number: str, status: str
) -> str:
    """What came of one try; a record may hold anything where we expect numbers."""
    ended = BY_NUMBER.get(int(number)) if number.isdecimal() else None
    if ended is None or ended in (Reason.PROXIED, Reason.UPGRADED):
        end = f"answered {status} after {_ms(answered_us)} ms, complete after {_ms(lasted_us)} ms"
    else:
        answer = f", answered {status} after {_ms(answered_us)} ms" if status not in ("", "0") else ""
        end = f"ended by {ended.word} after {_ms(lasted_us)} ms{answer}"
    return f"attempt at {endpoint}{REACHED.get(reached, '')}, begun after {_ms(began_us)} ms: {end}"


def _trust_text(trusted: str, pinned: str) -> str:
    """Whom the endpoint must prove to be."""
    by = {"system": "an authority that the system trusts", "ca": "an authority of `ca`"}.get(trusted)
    proofs = [f"{by} must vouch for it"] if by else []
    proofs += ["its key must be one of `pin`"] if pinned else []
    return ", and ".join(proofs) or "whoever answers is believed"


def _ms(us: str) -> str:
    return f"{int(us) / 1000:.3f}" if us.isdecimal() else us


def _listed(parts: Iterable[Any]) -> str:
    return ", ".join(str(part) for part in parts)


def address(host: str, port: int) -> str:
    """Write an endpoint as an operator would."""
    if host.startswith("unix:"):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def failure_text(condition: Condition, request: Request) -> str:
    """Say why a condition does not hold for the request."""
    match condition.kind:
        case "method":
            return f"the method is {quoted(request.method)}, not {_either(condition.values)}"
        case "header":
            return _field_failure(f"header `{condition.name}`", _seen(condition, request), condition.values, "")
        case "header-regex":
            return _field_failure(f"header `{condition.name}`", _seen(condition, request), condition.values, "pattern ")
        case "query":
            return _field_failure(f"query `{condition.name}`", _seen(condition, request), condition.values, "")
        case "query-regex":
            return _field_failure(f"query `{condition.name}`", _seen(condition, request), condition.values, "pattern ")
        case "host":
            return f"the host is {quoted(request.host)}, not {_either(condition.values)}"
        case "path" | "path-prefix" | "path-regex":
            return path_failure(condition.kind, request.path, condition.values)
        case "not":
            holding = [part for part in condition.parts if compile_condition(part)(request)]
            return f"`not`: {' and '.join(condition_text(part) for part in holding)} holds"
        case "any":
            return "`any`: " + "; ".join(failure_text(part, request) for part in condition.parts)
        case "all":
            failing = [part for part in condition.parts if not compile_condition(part)(request)]
            return f"`all`: {failure_text(failing[0], request)}"


def unmet_text(condition: Condition, method: str) -> str:
    """Say which condition did not hold for a request of which only the method is known."""
    if condition.kind == "method":
        return f"the method is {quoted(method)}, not {_either(condition.values)}"
    if condition.parts:
        return f"`{condition_text(condition)}` does not hold"
    if not condition.values:
        return f"{condition.kind} `{condition.name}` is absent"
    if condition.name in SECRET_FIELDS:
        return f"{condition.kind} `{condition.name}` is none of the {len(condition.values)} wanted values"
    what, _, is_pattern = condition.kind.partition("-")
    return f"{what} `{condition.name}` {'does not match' if is_pattern else 'is not'} {_either(condition.values)}"


def condition_text(condition: Condition) -> str:
    """Name a condition, as it is written in the configuration."""
    if condition.parts:
        return f"{condition.kind} {{ {'; '.join(condition_text(part) for part in condition.parts)} }}"
    name = [quoted(condition.name)] if condition.name else []
    values = ["(not shown)"] if condition.name in SECRET_FIELDS else map(quoted, condition.values)
    return " ".join([condition.kind, *name, *values])


def path_failure(kind: str, path: str, values: Iterable[str]) -> str:
    """Say why a path is not one of those wanted; `kind` as in plan.Condition."""
    wanted = _either(values)
    match kind:
        case "path-prefix":
            return f"the path {quoted(path)} is not below {wanted}"
        case "path-regex":
            return f"the path {quoted(path)} does not match the pattern {wanted}"
        case _:
            return f"the path is {quoted(path)}, not {wanted}"


def quoted(text: str) -> str:
    """Quote a value, and bound it."""
    shown = text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "…"
    return f'"{shown}"'


def _seen(condition: Condition, request: Request) -> list[str] | None:
    """Return the values that were compared; None when they are secret."""
    if condition.kind.startswith("header"):
        values = field_values(request, condition.name)
        return None if values and condition.name in SECRET_FIELDS else values
    return query_values(request, condition.name)


def _field_failure(what: str, seen: list[str] | None, wanted: Sequence[str], kind: str) -> str:
    if seen is None:
        return f"{what} (its value is not shown) is none of the {len(wanted)} wanted values"
    if not seen:
        return f"{what} is absent"
    return f"{what} is {quoted(seen[0])}, not {kind}{_either(wanted)}"


def _either(values: Iterable[str]) -> str:
    listed = [quoted(value) for value in values]
    more = f" or {len(listed) - VALUES_MAX} others" if len(listed) > VALUES_MAX else ""
    return " or ".join(listed[:VALUES_MAX]) + more
