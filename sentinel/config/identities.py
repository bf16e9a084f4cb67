"""Who may ask, as operators write it: from the blocks of authenticators to their part of the plan.

Intuition: the list at the gate, read before the gate opens. A key that two clients share, a badge that somebody is to
wear and nobody is given, a limit for each member where no member is ever known: whoever wrote it would believe that it
holds.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from sentinel.config.check import Block, beside, meant
from sentinel.config.kinds import FRAMING
from sentinel.config.problem import Problems
from sentinel.config.source import Source, why
from sentinel.core import plan as p
from sentinel.core.gates import Authenticator, gates_of
from sentinel.core.jwks import read_jwks
from sentinel.core.secured import PARTS
from sentinel.core.span import Span

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
LINES_COMPARED_MAX: Final = 200
"""With so many networks each is compared, to find one that nobody comes to: long lists are machines' work."""
DASHES_MAX: Final = 6
"""Of a header's name: each may be sent as `_`, and all spellings are left off."""
OWN: Final = FRAMING | {"authorization", "cookie", "proxy-authorization", "accept-encoding"}
"""Fields that say something else."""
AUTHENTICATORS: Final = ("api-key", "jwt", "mtls", "basic")
"""Directives of filters that find out who asks."""
WHICH: Final = ", ".join(f"`{one}`" for one in AUTHENTICATORS)
CLAIMING: Final = ("key", "tenant", "header")
"""Directives whose arguments name claims."""
WHO: Final = ("identity", "claim")
"""Parts of keys that need somebody who finds it out."""


def compile_api_key(block: Block, problems: Problems) -> p.ApiKey:
    keys = tuple(_issued(one) for one in block.all("key"))
    seen: dict[str, Span] = {}
    for one in block.all("key"):
        for digest, span in zip(one.args[1:], one.arg_spans[1:], strict=True):
            if digest is not None and digest in seen:
                problems.add(
                    span, "this key is given out twice", "give each client a key of his own",
                    [(seen[digest], "the other one")],
                )  # fmt: skip
            seen.setdefault(digest, span)
    return p.ApiKey(
        name=block.args[0] if block.args and block.args[0] else "", keys=keys,
        read_from=tuple(dict.fromkeys(one for one in block.one("read-from").args if one)),
        is_forwarded=bool(block.value("forward-credential")), passed_on=_passed_on(block, problems), span=block.span,
    )  # fmt: skip


def compile_jwt(block: Block, upstreams: Collection[str], source: Source, problems: Problems) -> p.Jwt:
    keys = block.one("keys")
    said = [name for name in ("file", "upstream") if keys.has(name)]
    text, fetched = "", None
    if not block.has("keys") and not block.is_faulty:
        remedy = 'add `keys { upstream "login"; }`, or `keys { file "keys.json"; }`'
        problems.add(block.span, "nobody knows the issuer's keys", remedy)
    elif block.has("keys") and len(said) != 1 and not keys.is_faulty:
        problems.add(keys.span, "keys come from a `file` or from an `upstream`", "name one of the two")
    elif said == ["file"]:
        text = _keys_json(keys, source, problems)
        for name in ("path", "every", "timeout"):
            if keys.has(name):
                problems.add(keys.one(name).span, f"`{name}` has no effect where nothing is fetched", "remove it")
    elif said == ["upstream"]:
        name = keys.value("upstream")
        if name is not None and name not in upstreams:
            remedy = meant(name, sorted(upstreams)) or f'add `upstream "{name}" {{ … }}` to `upstreams`'
            problems.add(keys.one("upstream").arg_spans[0], f"there is no upstream `{name}`", remedy)
        path, every_ns, timeout_ns = (keys.value(one) for one in ("path", "every", "timeout"))
        fetched = p.KeysFrom(name or "", path or "/", every_ns or 1, timeout_ns or 1)
    return p.Jwt(
        name=block.args[0] if block.args and block.args[0] else "", issuer=block.value("issuer") or "",
        audiences=_listed(block, "audience"), algorithms=_listed(block, "algorithms"), keys_json=text,
        keys_from=fetched, leeway_ns=block.value("leeway") or 0, subject_claim=block.value("subject") or "sub",
        read_from=_listed(block, "read-from"), is_forwarded=bool(block.value("forward-credential")),
        passed_on=_passed_on(block, problems), span=block.span,
    )  # fmt: skip


def compile_mtls(block: Block, problems: Problems) -> p.Mtls:
    part: Any = block.value("subject") or "name"
    name = block.args[0] if block.args and block.args[0] else ""
    return p.Mtls(name=name, part=part, passed_on=_passed_on(block, problems), span=block.span)


def compile_basic(block: Block, problems: Problems) -> p.Basic:
    users = tuple(
        p.User(
            one.args[0] if one.args and one.args[0] else "",
            one.args[1] if len(one.args) > 1 and one.args[1] else "", _claims(one), one.span,
        )
        for one in block.all("user")
    )  # fmt: skip
    return p.Basic(
        name=block.args[0] if block.args and block.args[0] else "", users=users,
        is_forwarded=bool(block.value("forward-credential")), passed_on=_passed_on(block, problems), span=block.span,
    )  # fmt: skip


def compile_ip_access(block: Block, problems: Problems) -> p.IpAccess:
    name, otherwise = block.args[0] if block.args and block.args[0] else "", block.value("otherwise") or "deny"
    rules = []
    seen: list[tuple[Network, Span]] = []
    for child in block.children:
        word = child.directive.name
        if word not in ("allow", "deny"):
            continue
        rules.append(p.AddressRule(word == "allow", tuple(one for one in child.args if one), child.span))
        for text, span in zip(child.args, child.arg_spans, strict=True):
            if text is None:
                continue
            network = ipaddress.ip_network(text)
            before = next((where for one, where in seen[:LINES_COMPARED_MAX] if _covers(one, network)), None)
            if before is not None:
                problems.add(
                    span, f"no client comes to this: a line before has all of {text}", "move it up, or remove it",
                    [(before, "the one before")],
                )  # fmt: skip
            seen.append((network, span))
    if not any(one.is_allowed for one in rules) and otherwise == "deny" and not block.is_faulty:
        remedy = 'add `allow "10.0.0.0/8"`, or say `otherwise "allow"`'
        problems.add(block.span, f'ip-access "{name}" lets nobody in', remedy)
    if rules and all(one.is_allowed for one in rules) and otherwise == "allow":
        problems.add(block.span, f'ip-access "{name}" keeps nobody out', "remove it, or its `otherwise`")
    return p.IpAccess(name, tuple(rules), "allow" if otherwise == "allow" else "deny", block.span)


def _covers(wide: Network, narrow: Network) -> bool:
    return wide.version == narrow.version and narrow.subnet_of(wide)  # type: ignore[arg-type]


def check_doors(root: Block, plan: p.Plan, problems: Problems, warnings: Problems) -> None:
    """With `default-deny` each route says who may use it."""
    is_closed, gates = root.one("system").value("default-deny"), gates_of(plan)
    for block in root.one("routes").all("route"):
        name = block.args[0] if block.args and block.args[0] else ""
        is_public, is_guarded = block.value("public"), any(one in gates for one in block.one("filters").args)
        if is_public and is_guarded:
            problems.add(
                block.one("public").span, f'route "{name}" is for everybody, and for known clients only',
                "remove `public`, or the filter that finds out who asks",
            )  # fmt: skip
        elif is_closed and not is_public and not is_guarded and not block.is_faulty:
            problems.add(
                block.span, f'route "{name}" does not say who may use it, and `default-deny` wants that of each',
                f"name one of {WHICH} in its `filters`, or say `public true`",
                [(root.one("system").one("default-deny").span, "the `default-deny`")],
            )  # fmt: skip
        elif is_public and not is_closed:
            warnings.add(
                block.one("public").span, "`public` has no effect: all routes are, without `default-deny`",
                "say `default-deny true` in `system`, or remove it",
            )  # fmt: skip


Claiming = TypeVar("Claiming", p.Jwt, p.Mtls)


def with_claims(
    root: Block, found: tuple[Claiming, ...], known: Collection[str] | None = None
) -> tuple[Claiming, ...]:
    """Each with the claims that the configuration uses anywhere (of those `known`): those are read, and no others."""
    used = {part[6:] for block in _walk(root) for part in block.args if isinstance(part, str) and part[:6] == "claim:"}
    claims = tuple(sorted(used if known is None else used.intersection(known)))
    return tuple(replace(one, claims=claims) for one in found)


def check_certificates(root: Block, plan: p.Plan, problems: Problems) -> None:
    """Who is known by a certificate must be able to show one: where none is asked for nobody is let in."""
    gates = gates_of(plan)
    listeners = root.one("listeners").all("listener")
    asked = {one.args[0] for one in listeners if one.args and one.one("tls").has("client-certificates")}
    for route in plan.routes:
        found = [gates[name] for name in route.filters if name in gates]
        served = set(route.listeners) or {one.name for one in plan.listeners}
        if found and all(isinstance(one, p.Mtls) for one in found) and asked.isdisjoint(served):
            problems.add(
                route.span, f"route \"{route.name}\" knows clients by their certificates, and no listener that serves "
                "it asks for any: nobody would be let in", "add `client-certificates` to the `tls` of a listener",
                [(found[0].span, "the filter")],
            )  # fmt: skip


def _walk(block: Block) -> Iterator[Block]:
    for child in block.children:
        if child.directive.name in CLAIMING:
            yield child
        if child.directive.name != "tests":
            yield from _walk(child)


def _listed(block: Block, name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one for one in block.one(name).args if one))


def _keys_json(keys: Block, source: Source, problems: Problems) -> str:
    """The set in the file, if a worker can use it."""
    named = keys.one("file")
    if not named.args or named.args[0] is None:
        return ""
    path = beside(named.span.file, named.args[0])
    try:
        octets = source.read(path)
    except OSError as fault:
        problems.add(named.arg_spans[0], f"{path} cannot be read: {why(fault)}", "check path and permissions")
        return ""
    _, wrong = read_jwks(octets)
    if wrong:
        problems.add(
            named.arg_spans[0], f"{path} is no set of keys that verify tokens: {wrong}",
            "it is what the issuer serves at its `jwks_uri`",
        )  # fmt: skip
        return ""
    return octets.decode("utf-8", "replace")


def _issued(block: Block) -> p.IssuedKey:
    name, *digests = block.args or ("",)
    return p.IssuedKey(name or "", tuple(one for one in digests if one), _claims(block), block.span)


def _claims(block: Block) -> tuple[tuple[str, str], ...]:
    found = [one.args for one in block.all("claim") if len(one.args) == 2 and None not in one.args]
    return tuple((name, value) for name, value in found)


def _passed_on(block: Block, problems: Problems) -> tuple[tuple[str, str], ...]:
    found = []
    for one in block.one("pass-identity").all("header"):
        name, part = (*one.args, None, None)[:2]
        if name is None or part is None:
            continue
        if name in OWN:
            problems.add(one.arg_spans[0], f"`{name}` says something else", 'take a name like "x-user"')
        elif name.count("-") + name.count("_") > DASHES_MAX:
            problems.add(one.arg_spans[0], f"a name has at most {DASHES_MAX} dashes here", "take a shorter one")
        found.append((name, part))
    return tuple(found)


def claims_of(one: Authenticator) -> frozenset[str] | None:
    """The claims that it may find; None: any."""
    if isinstance(one, p.Jwt):
        return None
    if isinstance(one, p.Mtls):
        return frozenset(PARTS)
    known = one.keys if isinstance(one, p.ApiKey) else one.users
    return frozenset(name for someone in known for name, _ in someone.claims)


Keyed = p.RateLimit | p.ConcurrencyLimit | p.TokenBudget | p.TokenLimit


def check_who(root: Block, plan: p.Plan, problems: Problems) -> None:
    """Whoever asks for an identity must be behind somebody who finds it out, and who knows the claims."""
    gates = gates_of(plan)
    for one in gates.values():
        known = claims_of(one)
        for name, part in one.passed_on:
            if known is not None and part.startswith("claim:") and part[6:] not in known:
                _unclaimed(part[6:], one.span, [one], problems, f" for `{name}`")
    blocks = {block.args[0]: block for block in root.one("filters").children if block.args}
    lines = [line for route in plan.routes if route.models is not None for line in route.models.lines]
    # Behind those that were written are those that stand for something else, and ask for nobody (config.to_https).
    for route, block in zip(plan.routes, root.one("routes").all("route"), strict=False):
        found = [gates[name] for name in route.filters if name in gates]
        named = (*route.filters, *(name for line in lines if route.models and line in route.models.lines
                                   for name in line.filters))  # fmt: skip
        asked: list[tuple[str, Span]] = []
        for name in named:
            limit = blocks.get(name)
            if limit is not None and limit.directive.child("key") is not None and name not in gates:
                asked += _who_of(limit.one("key"))
        asked += _who_of(block.one("split").one("key")) if block.has("split") else []
        for upstream in root.one("upstreams").all("upstream"):
            if upstream.args and upstream.args[0] in route.upstream_names:
                asked += _who_of(upstream.one("balance").one("key"))
        if block.has("inference"):
            asked += _who_of(block.one("inference").one("tenant"))
        _known_to(route, found, asked, problems)


def _known_to(
    route: p.Route, found: Sequence[Authenticator], asked: Sequence[tuple[str, Span]], problems: Problems
) -> None:
    for part, span in dict.fromkeys(asked):
        if not found:
            problems.add(
                span, f"route \"{route.name}\" finds out nobody's identity, so `{part}` would be the same for all",
                f"name an authenticator ({WHICH}) in its `filters`, or key by something else",
                [(route.span, "the route")],
            )  # fmt: skip
        elif part.startswith("claim:"):
            known = [claims_of(one) for one in found]
            if all(one is not None and part[6:] not in one for one in known):
                _unclaimed(part[6:], span, found, problems, f" (route \"{route.name}\")")


def _unclaimed(name: str, span: Span, found: Sequence[Authenticator], problems: Problems, where: str) -> None:
    names = sorted({claim for one in found for claim in claims_of(one) or ()})
    remedy = meant(name, names) or f'give clients one: `claim "{name}" "…"`'
    gates = ", ".join(f"`{one.name}`" for one in found)
    problems.add(span, f"nobody that {gates} lets in has a claim `{name}`{where}", remedy)


def _who_of(block: Block) -> Iterator[tuple[str, Span]]:
    """Parts of a key that are of who asks."""
    for part, span in zip(block.args, block.arg_spans, strict=True):
        if isinstance(part, str) and part.partition(":")[0] in WHO:
            yield part, span
