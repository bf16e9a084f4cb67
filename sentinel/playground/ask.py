"""The function behind the playground: JSON in, JSON out, and nothing else touched.

    {configurations: [{name, text}], request, settings, reasons}
        → sides: problems, what can be set, the decision with its tree
        → difference: which steps of two decisions are the same, and the first that is not
        → elsewhere: which other requests the two configurations treat differently (explain.diff)
        → reasons: what the words mean that are in the trees, or were asked for

Intuition: a counter with a window. Whoever stands before it (control for a page that it serves, or the
page itself with a Python in the browser) hands in one sheet and is handed back one sheet; nobody
behind the window goes out to look at anything.

Rules:
1. The configuration is read by sentinel.config, the request by whoever reads live traffic's (`OpenHouse` is handed in),
   and the decision is `decide`'s. There is no second one of anything here.
2. Nothing of the machine is read: no file, no variable of the environment, no certificate. Where a configuration
   asks for one, a stand-in is assumed and told, or it is a problem at its place.
3. Whatever is handed in, the answer comes in bounded time: texts are bounded, and what reads them is linear.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final

from sentinel.config.check import Block
from sentinel.config.load import Loaded, load_text
from sentinel.config.problem import Problem, Problems
from sentinel.config.source import Source
from sentinel.config.states import STANDINGS
from sentinel.core.plan import Certificate, Plan
from sentinel.core.reasons import BY_WORD
from sentinel.core.routes import compile_routes
from sentinel.explain.assumed import Assumed
from sentinel.explain.cases import Ask, Query, Unasked
from sentinel.explain.diff import compare
from sentinel.explain.generate import Generated
from sentinel.explain.tree import Node
from sentinel.playground.places import Ends
from sentinel.playground.settings import Settings, desk, state_of

SIDES_MAX: Final = 2
TEXT_CHARS_MAX: Final = 128 * 1024
"""Of one configuration: about a thousand routes. Texts that are made to be slow take some seconds at this length."""
PROVED_CHARS_MAX: Final = 16 * 1024
"""Of a longer one nothing is proved (which routes nothing reaches), and no requests are made: that compares routes with
each other."""
GENERATED_MAX: Final = 400
GROUPS_MAX: Final = 40
REQUEST_CHARS_MAX: Final = 64 * 1024
HEADERS_MAX: Final = 1000
SETTINGS_MAX: Final = 1000
NAME_CHARS_MAX: Final = 200
NUMBER_MAX: Final = 1 << 60
PROBLEMS_MAX: Final = 200
"""More are not told; whoever mends two hundred asks again anyway."""
STAND_IN: Final = "stand-in"

SURROGATE: Final = re.compile("[\ud800-\udfff]").search

OpenHouse = Callable[[Plan], Ask]
"""Makes who answers requests with this plan, reading them as live traffic is read (workers.rehearsal)."""


class Misunderstood(Exception):
    """What was handed in is not a question; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Text:
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """What was handed in, once it is understood."""

    texts: tuple[Text, ...]
    query: Query | None
    settings: Settings
    words: frozenset[str] = frozenset()


class Desk:
    """A source of configurations with nothing in it (config.source); what it was asked for is noted."""

    def __init__(self) -> None:
        self.assumed: list[str] = []

    def read(self, path: str) -> bytes:
        raise OSError("the playground reads no files; paste what is in it")

    def glob(self, pattern: str) -> list[str]:
        return []

    def environ(self, name: str) -> str | None:
        self._note(f'"{STAND_IN}" stands in for the environment variable {name}')
        return STAND_IN

    def tls_files(self, source: Source, problems: Problems, warnings: Problems, now_s: float) -> Desk:
        return self

    def certificate(self, chain: Block, key: Block) -> Certificate:
        """Somebody's, at which nobody looks."""
        self.authorities(chain)
        return Certificate(chain_pem="", key_pem="", span=chain.span)

    def authorities(self, ca: Block) -> str:
        self._note("certificates and keys are not read here; `sentinelctl check` does")
        return ""

    def revoked(self, crl: Block, ca_pem: str) -> str:
        return self.authorities(crl)

    def _note(self, note: str) -> None:
        if note not in self.assumed and len(self.assumed) < SETTINGS_MAX:
            self.assumed.append(note)


def ask(document: object, open_house: OpenHouse) -> dict[str, Any]:
    """Answer one question; raises Misunderstood."""
    question = _question(document)
    sides = [_Side(text, question, open_house) for text in question.texts]
    trees = [side.tree for side in sides]
    words = {node.reason for tree in trees if tree is not None for node in _walk(tree) if node.reason}
    words |= question.words
    return {
        "sides": [side.document for side in sides],
        "difference": _difference(trees[0], trees[1]) if len(trees) > 1 and trees[0] and trees[1] else None,
        "elsewhere": _elsewhere(question.texts, [side.plan for side in sides]),
        "reasons": meanings(words),
    }


def meanings(words: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What the reference says of reasons."""
    known = ((word, BY_WORD[word].value) for word in sorted(words) if word in BY_WORD)
    return {
        word: {"text": one.text, "remedy": one.remedy, "status": one.status, "culprit": one.culprit}
        for word, one in known
    }


# One configuration.


class _Side:
    """What is to be said of one configuration."""

    def __init__(self, text: Text, question: Question, open_house: OpenHouse) -> None:
        source = Desk()
        is_proving = len(text.text) <= PROVED_CHARS_MAX
        loaded = load_text(text.text, text.name, source, is_proving=is_proving, tls_files=source.tls_files)
        self.tree: Node | None = None
        self.plan = loaded.plan
        ends = Ends(text.name, text.text)
        self.document: dict[str, Any] = {
            "name": text.name,
            "problems": [_problem(one, ends) for one in loaded.problems[:PROBLEMS_MAX]],
            "problems_more": max(0, len(loaded.problems) - PROBLEMS_MAX),
            "warnings": [_problem(one, ends) for one in loaded.warnings[:PROBLEMS_MAX]],
            "assumed": list(source.assumed),
            "desk": None if loaded.plan is None else desk(loaded.plan),
            "decision": None,
            "fault": "",
            "ends": {},
        }
        if loaded.plan is not None and question.query is not None:
            self._decide(loaded, loaded.plan, question.query, question.settings, open_house)
            if self.tree is not None:
                self.document["ends"] = ends.among({node.place for node in _walk(self.tree) if node.place})

    def _decide(self, loaded: Loaded, plan: Plan, query: Query, settings: Settings, open_house: OpenHouse) -> None:
        state, notes = state_of(settings, plan)
        self.document["assumed"] += notes
        try:
            outcome = open_house(plan)(query, Assumed(plan, state))
        except Unasked as fault:
            self.document["fault"] = str(fault)
            return
        self.tree = outcome.tree()
        self.document["decision"] = {
            "verdict": outcome.verdict, "status": outcome.status, "reason": outcome.reason, "route": outcome.route,
            "upstream": outcome.upstream, "endpoint": outcome.endpoint,
            "answer": [list(one) for one in outcome.answer], "sent": [list(one) for one in outcome.sent],
            "tree": self.tree.to_dict(),
        }  # fmt: skip


def _problem(problem: Problem, ends: Ends) -> dict[str, Any]:
    span = problem.span
    return {
        "message": problem.message, "remedy": problem.remedy, "file": span.file, "line": span.line,
        "column": span.column, "end": ends.of(span),
        "also": [{"line": one.line, "column": one.column, "text": text} for one, text in problem.also],
    }  # fmt: skip


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from _walk(child)


# Two configurations.


def _difference(left: Node, right: Node) -> dict[str, Any]:
    """The steps of two decisions, laid side by side: what is the same, and the first place where they part.

    Places are not compared: a line that moved is no other decision.
    """
    sides = left.children, right.children
    keys = [[(one.kind, one.reason, one.text) for one in side] for side in sides]
    rows: list[dict[str, Any]] = []
    matcher = SequenceMatcher(None, keys[0], keys[1], autojunk=False)
    for tag, start, end, other_start, other_end in matcher.get_opcodes():
        for nth in range(max(end - start, other_end - other_start)):
            a = start + nth if start + nth < end else None
            b = other_start + nth if other_start + nth < other_end else None
            rows.append({"left": a, "right": b, "is_same": tag == "equal"})
    first = next((at for at, row in enumerate(rows) if not row["is_same"]), None)
    return {"rows": rows, "first": first, "is_same": first is None}


def _elsewhere(texts: Sequence[Text], plans: Sequence[Plan | None]) -> dict[str, Any] | None:
    """Requests that nobody sent, made from the conditions of both: which of them are treated differently, and why."""
    known = [plan for plan in plans if plan is not None]
    if len(known) < SIDES_MAX or any(len(text.text) > PROVED_CHARS_MAX for text in texts):
        return None
    old, new = [compile_routes(plan) for plan in known]
    generated = Generated(old, new)
    report = compare(old, new, generated.cases(GENERATED_MAX))
    groups = [group.to_dict() for group in report.groups[:GROUPS_MAX]]
    return {
        "total": report.total, "differing": report.differing, "renamed": report.renamed, "groups": groups,
        "groups_more": len(report.groups) - len(groups), "left_off": generated.left_off,
    }  # fmt: skip


# Reading what was handed in. By hand, since in a browser there is nothing else that checks it.


def _question(document: object) -> Question:
    whole = _members(document, "the question", {"configurations", "request", "settings", "reasons"})
    texts = tuple(_text(one) for one in _items(whole.get("configurations"), "`configurations`", SIDES_MAX))
    if not texts:
        raise Misunderstood("`configurations` is a list of one or two")
    words = _items(whole.get("reasons", []), "`reasons`", SETTINGS_MAX)
    return Question(
        texts, _query(whole.get("request")), _settings(whole.get("settings")),
        frozenset(_string(one, "a reason", NAME_CHARS_MAX) for one in words),
    )  # fmt: skip


def _text(document: object) -> Text:
    members = _members(document, "a configuration", {"name", "text"})
    name = _string(members.get("name", "sentinel.kdl"), "`name`", NAME_CHARS_MAX)
    if not name or any(not one.isprintable() for one in name):
        raise Misunderstood("`name` is the name of a file")
    return Text(name, _string(members.get("text"), "`text`", TEXT_CHARS_MAX))


def _query(document: object) -> Query | None:
    if document is None:
        return None
    members = _members(document, "`request`", {"line", "headers", "client_ip", "listener", "body_bytes"})
    headers = _items(members.get("headers", []), "`headers`", HEADERS_MAX)
    return Query(
        _string(members.get("line"), "`line`", REQUEST_CHARS_MAX),
        tuple(_string(one, "a header", REQUEST_CHARS_MAX) for one in headers),
        _string(members.get("client_ip", "127.0.0.1"), "`client_ip`", NAME_CHARS_MAX),
        _string(members.get("listener", ""), "`listener`", NAME_CHARS_MAX),
        _number(members.get("body_bytes", -1), "`body_bytes`", -1),
    )


def _settings(document: object) -> Settings:
    if document is None:
        return Settings()
    members = _members(document, "`settings`", {"endpoints", "open", "remaining", "held", "chance"})
    endpoints = {}
    for one in _items(members.get("endpoints", []), "`endpoints`", SETTINGS_MAX):
        of = _members(one, "an endpoint", {"upstream", "endpoint", "standing", "in_flight"})
        standing = _string(of.get("standing", "usable"), "`standing`", NAME_CHARS_MAX)
        if standing not in STANDINGS:
            raise Misunderstood(f"`standing` is one of {', '.join(STANDINGS)}")
        upstream, endpoint = [_string(of.get(one), f"`{one}`", NAME_CHARS_MAX) for one in ("upstream", "endpoint")]
        endpoints[upstream, endpoint] = standing, _number(of.get("in_flight", 0), "`in_flight`", 0)
    chance = members.get("chance")
    breakers = _items(members.get("open", []), "`open`", SETTINGS_MAX)
    return Settings(
        endpoints, frozenset(_string(one, "an upstream", NAME_CHARS_MAX) for one in breakers),
        _counts(members.get("remaining"), "`remaining`"), _counts(members.get("held"), "`held`"),
        None if chance is None else _number(chance, "`chance`", 0),
    )  # fmt: skip


def _counts(document: object, what: str) -> dict[str, int]:
    if document is None:
        return {}
    if not isinstance(document, Mapping) or len(document) > SETTINGS_MAX:
        raise Misunderstood(f"{what} is an object of at most {SETTINGS_MAX} numbers")
    return {_string(name, what, NAME_CHARS_MAX): _number(one, what, 0) for name, one in document.items()}


def _members(document: object, what: str, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        raise Misunderstood(f"{what} is a JSON object")
    unknown = sorted(str(name) for name in set(document) - known)
    if unknown:
        raise Misunderstood(f"{what} has no `{unknown[0][:NAME_CHARS_MAX]}`; it has {', '.join(sorted(known))}")
    return document


def _items(document: object, what: str, most: int) -> Sequence[object]:
    if not isinstance(document, list) or len(document) > most:
        raise Misunderstood(f"{what} is a list of at most {most}")
    return document


def _string(document: object, what: str, most: int) -> str:
    if not isinstance(document, str) or len(document) > most:
        raise Misunderstood(f"{what} is a text of at most {most} characters")
    if SURROGATE(document):
        raise Misunderstood(f"{what} holds half a character, which JSON can write and no text has")
    return document


def _number(document: object, what: str, least: int) -> int:
    if not isinstance(document, int) or isinstance(document, bool) or not least <= document <= NUMBER_MAX:
        raise Misunderstood(f"{what} is a whole number from {least}")
    return document
