"""Which upstream a request is for, by the model that it names.

Intuition: the letter boxes in a hall. Names are written on them, some with a star for whatever comes after, and the
postman takes the first on which he finds the name. What he finds on no box he brings back, or leaves with the
caretaker.

    model "gpt-4o" "gpt-4o-*" { upstream "openai"; }        the first line that takes the name, as they are written
    model "fast" { upstream "local"; send-as "llama-3.1-8b"; }    an alias: the provider is asked for another name

Rules:
1. The order in the file is the precedence, and the only one: who writes `*` first has written all the others in vain
   (and is told so when the configuration is checked).
2. Names are compared as they are written. What is not plain is not guessed: `GPT-4o` is another name than `gpt-4o`.
3. A look-up costs one search for whole names, and one comparison for each pattern that stands before it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from sentinel.core.allowances import Purse
from sentinel.core.appraisal import FREE, Appraisal
from sentinel.core.conditions import decoded
from sentinel.core.globs import Glob
from sentinel.core.limits import Field
from sentinel.core.plan import Model, Models, Plan, Respond, Upstream
from sentinel.core.providers import merged
from sentinel.core.reasons import Reason
from sentinel.core.trace import Step
from sentinel.core.wishes import Wisher

SHOWN_MAX: Final = 64
"""Characters of a name in a step: clients invent names, and a record is small."""
LIST_PATH: Final = "/models"
"""Where OpenAI's and Anthropic's interfaces tell which models there are, after whatever stands before it."""


class Target:
    """One line of `models`, with what a request that goes there needs; made with the route table."""

    __slots__ = ("chain", "fallback", "index", "line", "provider", "purse", "upstream", "wisher")

    def __init__(self, index: int, line: Model, upstream: Upstream, purse: Purse) -> None:
        self.index = index
        self.line = line
        self.upstream = upstream
        self.provider = merged(line.provider, upstream.provider)
        self.wisher = Wisher.of(upstream)
        self.purse = purse
        self.fallback = line.fallback
        self.chain: tuple[tuple[str, Target], ...] = ()  # whom it falls back on, and by which name; set by `Directory`

    def sent(self, asked: str) -> str:
        """The name under which the provider knows what the client asked for."""
        return self.line.sent or asked

    def step(self, asked: str) -> Step:
        return Reason.MODEL_ROUTED, self.line.span, (shown(asked), self.upstream.name, shown(self.sent(asked)))


@dataclass(frozen=True, slots=True)
class Errand:
    """With what a request is sent on: the name that its client said, the one that the provider knows, the line."""

    asked: str
    sent: str
    target: Target
    first: Target
    """The line that took the name; what it falls back on holds to the end."""
    fallen: int = 0
    """How many of its substitutes have been asked, this one included."""
    appraisal: Appraisal = FREE
    fields: tuple[Field, ...] = ()
    """What was told before the model was known (limits), for whoever is asked next."""

    @property
    def following(self) -> tuple[str, Target] | None:
        """Whom to ask when this one fails."""
        chain = self.first.chain
        return chain[self.fallen] if self.fallen < len(chain) else None

    @property
    def is_for_ours(self) -> bool:
        """Whether it takes the place of a model that is asked with the gateway's own credential."""
        provider = self.first.provider
        return self.fallen > 0 and provider is not None and provider.credential is not None

    def fallen_back(self) -> Errand:
        """The errand to the next one."""
        following = self.following
        assert following is not None, "whoever falls back has looked"
        name, target = following
        return replace(self, sent=target.sent(name), target=target, fallen=self.fallen + 1)

    def step(self, what: str) -> Step:
        """What is told when this one failed so, and the next one is asked. (Which one failed, the steps before say.)"""
        assert self.following is not None and self.first.fallback is not None
        name, target = self.following
        return Reason.FELL_BACK, self.first.fallback.span, (what, shown(target.sent(name)), target.upstream.name)


def said_models(plan: Plan) -> frozenset[str]:
    """The models that a configuration names whole: those that clients ask for, what providers are sent, and prices."""
    lines = [line for route in plan.routes if route.models is not None for line in route.models.lines]
    names = {name for line in lines for name in (*line.patterns, line.sent)}
    names.update(name for line in lines if line.fallback is not None for name in line.fallback.models)
    found = {name for name in names if Glob(name).is_exact}
    if plan.prices is not None:
        found.update(price.glob.pattern for price in plan.prices.prices if price.glob.is_exact)
    return frozenset(found - {""})


class Directory:
    """The lines of a route's `models`, to be asked."""

    __slots__ = ("_entries", "_exact", "_globs", "_listing", "models", "targets")

    def __init__(self, models: Models, upstreams: dict[str, Upstream], purse_of: Callable[[Model], Purse]) -> None:
        self.models = models
        self.targets = tuple(
            Target(index, line, upstreams[line.upstream], purse_of(line)) for index, line in enumerate(models.lines)
        )
        globs = [(Glob(pattern), target) for target in self.targets for pattern in target.line.patterns]
        self._exact: dict[str, Target] = {}
        for glob, target in globs:
            if glob.is_exact:
                self._exact.setdefault(glob.pattern, target)
        self._globs = tuple((glob, target) for glob, target in globs if not glob.is_exact)
        for target in self.targets:
            if target.fallback is not None:
                found = [(name, self.find(name)) for name in target.fallback.models]
                target.chain = tuple([(name, one) for name, one in found if one is not None])
        entries = _entries(models) if models.is_listed else {}
        self._listing = _answer(models, _listing(entries)) if models.is_listed else None
        self._entries = {name: _answer(models, entry) for name, entry in entries.items()}

    def answers(self, path: str) -> Respond | None:
        """What the gateway itself says to who asks which models there are, or of one of them what it is."""
        if self._listing is None:
            return None
        if path.endswith(LIST_PATH):
            return self._listing
        _, is_there, name = path.partition(LIST_PATH + "/")
        return self._entries.get(decoded(name)) if is_there else None

    def find(self, name: str) -> Target | None:
        """The first line that takes the name."""
        exact = self._exact.get(name)
        for glob, target in self._globs:
            if exact is not None and target.index > exact.index:
                break
            if glob.matches(name):
                return target
        return exact


def _entries(models: Models) -> dict[str, dict[str, object]]:
    """Which models there are, for the SDKs of OpenAI and Anthropic alike: whole names, since a pattern is no model."""
    owners = {name: line.upstream for line in reversed(models.lines) for name in line.patterns}
    return {
        name: {
            "id": name, "object": "model", "type": "model", "display_name": name, "created": 0,
            "created_at": "1970-01-01T00:00:00Z", "owned_by": owners[name],
        }
        for line in models.lines for name in line.patterns if Glob(name).is_exact
    }  # fmt: skip


def _listing(entries: dict[str, dict[str, object]]) -> dict[str, object]:
    names = list(entries)
    edges = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
    return {"object": "list", "data": list(entries.values()), "has_more": False, **edges}


def _answer(models: Models, document: dict[str, object]) -> Respond:
    body = json.dumps(document, ensure_ascii=False)
    return Respond(200, body, (("content-type", "application/json"),), models.span)


def shown(name: str) -> str:
    return name if len(name) <= SHOWN_MAX else f"{name[: SHOWN_MAX - 1]}…"
