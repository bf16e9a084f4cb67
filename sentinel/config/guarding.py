"""Guardrails, from checked blocks to the plan: what would find nothing, never act, or find itself is refused."""

from __future__ import annotations

from typing import Final

from sentinel.config.check import Block
from sentinel.config.problem import Problems
from sentinel.core import plan as p
from sentinel.core.guard.guards import KIND_MARK, Guard, Side

SIDES: Final[tuple[Side, ...]] = ("request", "response")
FINDERS_MAX: Final = 32
WORDS_COUNT_MAX: Final = 10_000


def compile_guardrail(block: Block, problems: Problems) -> p.Guardrail:
    """One guardrail; it means something only if no problem was reported."""
    detect = tuple(dict.fromkeys(one for one in block.one("detect").args if one is not None))
    patterns = tuple(p.OwnPattern(*_two(one), one.span) for one in block.all("pattern"))
    words = tuple(
        p.WordList(one.args[0] or "", tuple(word for word in one.args[1:] if word is not None), one.span)
        for one in block.all("words") if one.args
    )  # fmt: skip
    found = p.Guardrail(
        name=block.args[0] if block.args and block.args[0] else "", detect=detect, patterns=patterns, words=words,
        on=tuple(dict.fromkeys(one for one in block.one("on").args if one is not None)) if block.has("on") else SIDES,
        action=block.value("action"),
        replacement=block.value("replacement") or "", when_unreadable=block.value("when-unreadable"),
        max_text_bytes=block.value("max-text") or 1, span=block.span,
    )  # fmt: skip
    if not block.is_faulty:
        _check(block, found, problems)
    return found


def _two(block: Block) -> tuple[str, str]:
    name, text = (*block.args, None, None)[:2]
    return name or "", text or ""


def _check(block: Block, found: p.Guardrail, problems: Problems) -> None:
    if not found.kinds:
        message = f"guardrail \"{found.name}\" looks for nothing"
        problems.add(block.span, message, 'add `detect "email"`, or a `pattern`')
        return
    for one in (*block.all("pattern"), *block.all("words")):
        if found.kinds.count(one.args[0]) > 1:
            problems.add(one.span, f"`{one.args[0]}` is the name of another kind here", "give it another name")
    if len(found.kinds) > FINDERS_MAX or sum(len(one.words) for one in found.words) > WORDS_COUNT_MAX:
        problems.add(block.span, f"more than {FINDERS_MAX} kinds, or {WORDS_COUNT_MAX} words", "make two of it")
    if block.has("replacement") and found.action != "redact":
        span = block.one("replacement").span
        problems.add(span, "`replacement` has no effect where nothing is redacted", "remove it")
    if block.has("when-unreadable") and found.action == "observe":
        problems.add(
            block.one("when-unreadable").span, "`when-unreadable` has no effect where nothing is stopped", "remove it"
        )
    if found.action == "redact" and all(one.text for one in found.patterns):
        guard = Guard(found)
        again = next((one for one in guard.replacement.values() if guard.finds(one)), None)
        if again is not None:
            problems.add(
                block.one("replacement").span if block.has("replacement") else block.span,
                f"what is put in its place, `{again}`, would be found itself",
                f"say another `replacement`; `{KIND_MARK}` is the kind of what was found",
            )  # fmt: skip


def unread_guardrails(root: Block, guardrails: tuple[p.Guardrail, ...], problems: Problems) -> None:
    """Guardrails of routes on which nobody reads requests."""
    known = {one.name: one for one in guardrails}
    for route in root.one("routes").all("route"):
        filters = route.one("filters")
        is_forwarded = route.has("upstream") or route.has("split") or route.has("models")
        for name, span in zip(filters.args, filters.arg_spans, strict=True):
            if name not in known:
                continue
            if not route.has("inference"):
                problems.add(
                    span, f"`{name}` reads texts of language models, and the route does not say that it is for them",
                    "add `inference` to the route", [(known[name].span, "the guardrail")],
                )  # fmt: skip
            elif not is_forwarded and not route.is_faulty:
                problems.add(span, f"`{name}` has nothing to read where nothing is forwarded", "remove it")
