"""Who finds what: personal data and secrets by their shape, words of a list, patterns of an operator.

Intuition: sniffer dogs, each trained on one smell. A dog says where it smells something, and (since texts also come
bit by bit) from where on it cannot say yet: there the next bit may make a find of it.

    finder.spans(text)      where something is
    finder.open_from(text)  from where on more text may change that; its length: from nowhere
    finder.chars_max        of one find, so that what is undecided is never longer

Rules:
1. Whether something is found is a question to at most `chars_max` characters, and one before and after them. So a
   text that comes in pieces, of which the undecided end is kept, leads to the same finds as the whole.
2. Everything costs time in proportion to the text: repeats are bounded, and nothing in an expression here can match the
   same text in two ways. Operators' patterns have an engine of their own (core.regex).
   An expression begins with the characters that may begin a find, and looks back only then: the engine skips the rest.
3. Numbers that have a check digit are only found if it is right. Blanks and dashes may stand between the digits.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Final, Protocol

from sentinel.core.regex.search import Search

Span = tuple[int, int]


class Finder(Protocol):
    kind: str
    chars_max: int

    def spans(self, text: str) -> Sequence[Span]: ...

    def open_from(self, text: str) -> int: ...


def run_from(text: str, is_part: Callable[[str], bool], most: int) -> int:
    """Where the run of such characters begins with which the text ends, or the last `most` of it."""
    at, least = len(text), max(0, len(text) - most)
    while at > least and is_part(text[at - 1]):
        at -= 1
    return at


class Shape:
    """What one expression finds. `parts`: all characters that a find may consist of; `begins`: those that begin it."""

    __slots__ = ("_begins", "_found", "_is_part", "_is_right", "chars_max", "kind")

    def __init__(
        self, kind: str, found: str, parts: str, begins: str, chars_max: int, is_right: Callable[[str], bool] = bool
    ) -> None:
        self.kind = kind
        self.chars_max = chars_max
        self._found = re.compile(found, re.ASCII)
        self._is_part = frozenset(parts).__contains__
        self._begins = frozenset(begins)
        self._is_right = is_right

    def spans(self, text: str) -> list[Span]:
        return [one.span() for one in self._found.finditer(text) if self._is_right(one.group())]

    def open_from(self, text: str) -> int:
        start = run_from(text, self._is_part, self.chars_max + 1)
        while start < len(text) and text[start] not in self._begins:
            start += 1
        return start


DIGITS: Final = "0123456789"
LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
BETWEEN: Final = " -./\u00a0\u2010\u2011\u2012\u2013\u2007\u202f\u200b"
"""What people and models put between the digits of a number."""

CARD_DIGITS_MIN: Final = 13
CARD_DIGITS_MAX: Final = 19
GAP_MAX: Final = 3
DIGIT_RUNS: Final = re.compile(
    rf"\d(?:[{re.escape(BETWEEN)}]{{0,{GAP_MAX}}}+\d){{{CARD_DIGITS_MIN - 1},}}+"
)  # fmt: skip
"""Digits of any script."""
DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)


class Cards:
    """Numbers of payment cards: 13 to 19 digits that begin as one does, and pass Luhn's check."""

    kind = "credit-card"
    chars_max = CARD_DIGITS_MAX + (CARD_DIGITS_MAX - 1) * GAP_MAX

    def spans(self, text: str) -> list[Span]:
        return [span for run in DIGIT_RUNS.finditer(text) for span in self._in_run(text, run.start(), run.end())]

    def _in_run(self, text: str, start: int, end: int) -> Iterator[Span]:
        places = [at for at in range(start, end) if text[at].isdecimal()]
        digits = [int(text[at]) for at in places]
        # sums[p][n]: of the first n digits, with those doubled whose number has the parity p.
        sums: tuple[list[int], list[int]] = ([0], [0])
        for at, digit in enumerate(digits):
            for parity in (0, 1):
                sums[parity].append(sums[parity][-1] + (DOUBLED[digit] if at % 2 == parity else digit))
        past = 0
        for first, place in enumerate(places):
            is_begun = first > 0 and places[first - 1] == place - 1  # in the middle of a number
            if first < past or is_begun or not 2 <= digits[first] <= 6:
                continue
            for last in range(min(first + CARD_DIGITS_MAX, len(places)), first + CARD_DIGITS_MIN - 1, -1):
                if last < len(places) and places[last] == places[last - 1] + 1:
                    continue
                those = sums[last % 2]
                if (those[last] - those[first]) % 10 == 0:
                    yield place, places[last - 1] + 1
                    past = last
                    break

    def open_from(self, text: str) -> int:
        start = run_from(text, _is_of_number, self.chars_max + 1 + GAP_MAX)
        while start < len(text) and not text[start].isdecimal():
            start += 1
        return start


def _is_of_number(character: str) -> bool:
    return character.isdecimal() or character in BETWEEN


LOCAL: Final = frozenset(LETTERS + DIGITS + ".!#$%&'*+/=?^_`{|}~-")
LOCAL_MAX: Final = 64
DOMAIN: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,62})\.){1,8}(?:[A-Za-z]{2,24}|xn--[a-z0-9-]{2,58})")
ADDRESS: Final = LOCAL | frozenset("@")


class Emails:
    """Addresses of electronic mail, found from their `@` outwards."""

    kind = "email"
    chars_max = LOCAL_MAX + 1 + 8 * 64 + 62

    def spans(self, text: str) -> list[Span]:
        found: list[Span] = []
        at = text.find("@")
        while at >= 0:
            start = run_from(text[max(0, at - LOCAL_MAX) : at], LOCAL.__contains__, LOCAL_MAX) + max(0, at - LOCAL_MAX)
            domain = DOMAIN.match(text, at + 1) if start < at else None
            if domain is not None:
                found.append((start, domain.end()))
            at = text.find("@", at + 1)
        return found

    def open_from(self, text: str) -> int:
        return run_from(text, ADDRESS.__contains__, self.chars_max + 1)


IBAN_CHARS: Final = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28,
    "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20,
    "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
"""How long they are, by country (ISO 13616)."""
IBAN_BEGIN: Final = re.compile(r"[0-9]{2}(?<=[A-Za-z]{2}..)(?<![A-Za-z0-9]....)")
IBAN_BEGIN_CHARS: Final = 2
"""Before the digits, from which it is found."""
IBAN_REST: Final = re.compile(r"(?:[ -]?[A-Za-z0-9]){11,30}")
IBAN_OPEN: Final = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z](?:[A-Za-z](?:[0-9](?:[0-9](?:[ -]?[A-Za-z0-9]){0,30}[ -]?)?)?)?\Z"
)


class Ibans:
    """International bank account numbers: of the length of their country, with the right remainder by 97."""

    kind = "iban"
    chars_max = 34 + 33

    def spans(self, text: str) -> list[Span]:
        found: list[Span] = []
        for begin in IBAN_BEGIN.finditer(text):
            start = begin.start() - IBAN_BEGIN_CHARS
            size = IBAN_CHARS.get(text[start : begin.start()].upper(), 0)
            rest = IBAN_REST.match(text, begin.end()) if size else None
            if rest is None:
                continue
            places = [at for at in range(start, rest.end()) if text[at] not in " -"]
            if len(places) < size:
                continue
            end = places[size - 1] + 1
            is_over = end == len(text) or not (text[end].isascii() and text[end].isalnum())
            if is_over and _is_iban("".join([text[at] for at in places[:size]])):
                found.append((start, end))
        return found

    def open_from(self, text: str) -> int:
        least = max(0, len(text) - self.chars_max - 2)
        found = IBAN_OPEN.search(text, least)
        return len(text) if found is None else found.start()


def _is_iban(text: str) -> bool:
    digits = "".join([str(int(character, 36)) for character in text[4:] + text[:4]])
    return int(digits) % 97 == 1


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return len(text) > 2


class Ipv6Addresses:
    """IPv6 addresses; `::` alone is none."""

    kind = "ipv6"
    chars_max = 45
    _found = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f:.]{3,46}+(?![\w:])", re.ASCII)
    _is_part = frozenset(DIGITS + "abcdefABCDEF:.").__contains__

    def spans(self, text: str) -> list[Span]:
        if ":" not in text:
            return []
        found = []
        for one in self._found.finditer(text):
            said = one.group().rstrip(".")
            if not said.endswith("::"):
                said = said.rstrip(":")
            if _is_ipv6(said):
                found.append((one.start(), one.start() + len(said)))
        return found

    def open_from(self, text: str) -> int:
        return run_from(text, self._is_part, self.chars_max + 3)


SECRET_BEGIN: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:AKIA|ASIA|AIza|sk-|[rs]k_(?:live|test)_|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|hf_|npm_|eyJ)"
)
SECRET_BEGINS: Final = ("sk", "eyJ", "gh", "AKIA", "ASIA", "AIza", "rk_", "glpat", "xox", "hf_", "npm_")
"""One of these is in each of them."""
SECRET: Final = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"A[KS]IA[A-Z0-9]{16}(?![A-Za-z0-9])"
    r"|AIza[A-Za-z0-9_-]{35}"
    r"|(?:sk-|glpat-)[A-Za-z0-9_-]{20,500}"
    r"|[rs]k_(?:live|test)_[A-Za-z0-9]{10,500}"
    r"|gh[pousr]_[A-Za-z0-9]{36,500}"
    r"|github_pat_[A-Za-z0-9_]{22,500}"
    r"|xox[abeoprs]-[A-Za-z0-9-]{10,500}"
    r"|(?:hf|npm)_[A-Za-z0-9]{30,500}"
    r"|eyJ[A-Za-z0-9_-]{8,1000}+\.[A-Za-z0-9_-]{2,4000}+\.[A-Za-z0-9_-]{16,1000}"
    r")"
)
SECRET_PREFIX_MAX: Final = 11


class Secrets:
    """Keys that tell by their beginning whose they are (clouds, models, forges, chats), and JSON web tokens."""

    kind = "secret"
    chars_max = 6100
    _is_part = frozenset(LETTERS + DIGITS + "_.-").__contains__

    def spans(self, text: str) -> list[Span]:
        if not any([begin in text for begin in SECRET_BEGINS]):
            return []
        return [one.span() for one in SECRET.finditer(text)]

    def open_from(self, text: str) -> int:
        start = run_from(text, self._is_part, self.chars_max + 2)
        # The word that the text ends with: from where in it a key begins, or may be about to begin.
        begin = SECRET_BEGIN.search(text, start)
        least = max(start, len(text) - SECRET_PREFIX_MAX)
        return least if begin is None else min(begin.start(), least)


WORD: Final = re.compile(r"\w+")
WORDS_MAX: Final = 8
"""Of a phrase."""
PHRASE_CHARS_MAX: Final = 120
WORD_GAP: Final = 3
"""Characters between the words of a phrase."""


class Words:
    """Words and phrases of a list: whole words, whatever their case."""

    __slots__ = ("_beginnings", "_counts", "_phrases", "chars_max", "kind")

    def __init__(self, kind: str, phrases: Sequence[str]) -> None:
        self.kind = kind
        split = [tuple(WORD.findall(phrase.casefold())) for phrase in phrases]
        self._phrases = frozenset(split)
        self._counts = sorted({len(words) for words in split}, reverse=True)
        self._beginnings = frozenset(words[:count] for words in split for count in range(1, len(words)))
        # `casefold` may make more of a character ("ß"), never fewer.
        self.chars_max = max([sum(map(len, words)) + WORD_GAP * (len(words) - 1) for words in split], default=1)

    def spans(self, text: str) -> list[Span]:
        words = list(WORD.finditer(text))
        folded = [one.group().casefold() for one in words]
        found: list[Span] = []
        for at in range(len(words)):
            for count in self._counts:
                if at + count <= len(words) and tuple(folded[at : at + count]) in self._phrases:
                    those = words[at : at + count]
                    if _are_near(those):
                        found.append((words[at].start(), those[-1].end()))
                        break
        return found

    def open_from(self, text: str) -> int:
        least = max(0, len(text) - self.chars_max - WORD_GAP - 1)
        words = list(WORD.finditer(text, least))[-WORDS_MAX:]
        if not words:
            return len(text)
        is_within = words[-1].end() == len(text)
        whole = words[:-1] if is_within else words
        folded = [one.group().casefold() for one in whole]
        for at in range(len(whole)):
            those = words[at:]
            if _are_near(those) and tuple(folded[at:]) in self._beginnings and len(text) - those[-1].end() <= WORD_GAP:
                return whole[at].start()
        return words[-1].start() if is_within else len(text)


def _are_near(words: Sequence[re.Match[str]]) -> bool:
    return all(after.start() - before.end() <= WORD_GAP for before, after in pairwise(words))


class Own:
    """An operator's pattern."""

    __slots__ = ("_search", "chars_max", "kind", "open_from", "spans")

    def __init__(self, kind: str, pattern: str) -> None:
        self.kind = kind
        search = Search(pattern)
        self.chars_max = search.chars_max
        self.spans, self.open_from = search.spans, search.open_from


PHONE: Final = (
    r"[+(0-9](?<![\w+].)(?:(?<=\+)[ (]{0,2}[1-9](?:[ ().\-/]{0,2}[0-9]){6,14}"
    r"|(?:(?<=\()[0-9]{3}\) ?|(?<=[0-9])[0-9]{2}[-. ])[0-9]{3}[-. ][0-9]{4})(?![0-9])"
)
SSN: Final = (
    r"[0-8](?<![\d-].)(?!(?<=0)00|(?<=6)66)[0-9]{2}([- ])(?!00)[0-9]{2}\1(?!0000)[0-9]{4}(?![0-9-])"
)  # fmt: skip
IPV4: Final = r"[0-9](?<![\w.].)[0-9]{0,2}(?:\.[0-9]{1,3}){3}(?!\w|\.[0-9])"


def _is_ipv4(text: str) -> bool:
    return all(int(octet) < 256 and (octet[0] != "0" or octet == "0") for octet in text.split("."))


def built_in() -> dict[str, Callable[[], Finder]]:
    """What is known by its shape, by the names that operators write."""
    return {
        "credit-card": Cards, "email": Emails, "iban": Ibans,
        "ipv4": lambda: Shape("ipv4", IPV4, DIGITS + ".", DIGITS, 17, _is_ipv4),
        "ipv6": Ipv6Addresses,
        "phone": lambda: Shape("phone", PHONE, DIGITS + " ().-/+", DIGITS + "(+", 48),
        "secret": Secrets,
        "us-ssn": lambda: Shape("us-ssn", SSN, DIGITS + "- ", DIGITS, 12),
    }  # fmt: skip
