"""The price book of a configuration: lines that stand in it, a file that it names, or both.

Intuition: a printed tariff with slips of paper glued in. The slip is read where both speak of the same, and who
wants to know what holds today reads one list.

Both forms are brought into one (sentinel.core.prices), so each rule is looked after once. What is wrong with a line is
told at that line; what is wrong with the file, at the place that names it, with where in the file it is.
"""

from __future__ import annotations

from typing import Any, Final

from sentinel.config.check import Block, beside
from sentinel.config.problem import Problems
from sentinel.config.source import Source, why
from sentinel.core.prices import PRICES_MAX, Entries, PriceBook, book_of, read_entries
from sentinel.core.span import Span

KINDS: Final = ("input", "output", "cached-input", "cache-write", "cache-write-long", "audio-input", "reasoning",
                "audio-output")  # fmt: skip


def read_book(block: Block, source: Source, problems: Problems) -> PriceBook | None:
    """The book of a `prices` block; None after problems were reported, or when it has none."""
    before = len(problems)
    currency = block.value("currency") if block.has("currency") else None
    places: dict[str, Span] = {}
    entries: Entries = []
    for at, line in enumerate(block.all("price")):
        if not line.is_faulty:
            entries.append((f"price {at + 1}", _entry(line)))
            places[f"price {at + 1}"] = line.span
    if block.has("file"):
        named, found = _file(block.one("file"), source, problems)
        entries += found
        if named and currency and named != currency:
            problems.add(
                block.one("currency").span, f"these prices are in {currency}, and those of the file in {named}",
                "a book has one currency", [(block.one("file").span, "the file")],
            )  # fmt: skip
        currency = currency or named
    elif not entries and not block.is_faulty:
        problems.add(block.span, "there are no prices in it", 'add `price "gpt-*" { input "2.50"; output "10"; }`')
    if currency is None and not block.has("file") and not block.is_faulty:
        problems.add(block.span, "these prices are in no currency", 'add `currency "USD"`')
    if len(entries) > PRICES_MAX:
        problems.add(block.span, f"more than {PRICES_MAX} prices", "leave out what nobody asks for")
        return None
    book, wrong = book_of(currency or "", entries, block.span)
    for one in wrong:
        where, _, field = one.path.partition(".")
        if where in places:
            problems.add(places[where], one.message.replace("_", "-"), "correct this line" if field else "remove one")
        else:
            _of_file(block.one("file"), f"{one.path}: {one.message}", problems)
    return book if len(problems) == before else None


def _entry(line: Block) -> dict[str, Any]:
    entry: dict[str, Any] = {"models": [one for one in line.args if one is not None]}
    entry |= {name: line.value(name) for name in ("from", "until") if line.has(name)}
    return entry | {name.replace("-", "_"): line.value(name) for name in KINDS if line.has(name)}


def _file(block: Block, source: Source, problems: Problems) -> tuple[str, Entries]:
    if not block.args or block.args[0] is None:
        return "", []
    path = beside(block.span.file, block.args[0])
    try:
        text = source.read(path).decode()
    except OSError as fault:
        problems.add(block.arg_spans[0], f"{path} cannot be read: {why(fault)}", "check path and permissions")
        return "", []
    except UnicodeDecodeError:
        problems.add(block.arg_spans[0], f"{path} is not UTF-8 text", "save the file as UTF-8")
        return "", []
    currency, entries, wrong = read_entries(text)
    for one in wrong:
        _of_file(block, f"{one.path}: {one.message}", problems)
    return currency, entries


def _of_file(block: Block, text: str, problems: Problems) -> None:
    span = block.arg_spans[0] if block.arg_spans else block.span
    problems.add(span, f"`{block.args[0] if block.args else ''}`: {text}", "correct it there, and check again")
