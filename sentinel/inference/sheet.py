"""What has been learnt of one answer so far.

Intuition: the slip of paper on which a waiter notes what a table has had. When the kitchen's bill comes, it holds;
when it never comes, the slip does.

Rules:
1. What providers report is cumulative: a later report replaces an earlier one, it is never added.
2. Text is counted in blocks of BLOCK_CHARS, cut where the text itself says, so that the count does not depend on
   how the octets came. Memory is bounded by a block for each choice, and choices are bounded.
3. Nothing here is asked of anybody: a counter of tokens is handed in, or tokens are not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, NamedTuple, final

from sentinel.inference.usage import Usage

BLOCK_CHARS: Final = 8 * 1024
"""Some 2,000 tokens. An answer of up to two blocks is not counted unless somebody asks; a cut costs a token at most."""
CHOICES_KEPT_MAX: Final = 128
"""What providers allow; what comes for further choices is added to the last one."""
WORD_CHARS_MAX: Final = 64
MESSAGE_CHARS_MAX: Final = 256
FIRST_HALVES: Final = (chr(0xD800), chr(0xDBFF))
"""Of a character beyond 16 bits, written as two; as numbers, since mypyc takes no half in a text."""

Count = Callable[[str], int]


@unique
class Doubt(Enum):
    """Why a reading may be less than what was there."""

    NOT_JSON = "not-json"
    WRONG_SHAPE = "wrong-shape"
    OVERSIZED = "oversized"
    UNKNOWN_ENCODING = "unknown-encoding"
    BAD_ENCODING = "bad-encoding"
    INFLATED_TOO_FAR = "inflated-too-far"
    CUT = "cut"


class Failure(NamedTuple):
    """What the upstream said went wrong, in its words: for a log, shortened."""

    kind: str
    message: str


class Produced(NamedTuple):
    """The text of one choice so far, calls of tools included. `tokens`: None unless a counter was handed in."""

    choice: int
    chars: int
    octets: int
    tokens: int | None


@final
@dataclass(slots=True, init=False)
class Reading:
    """What is known of an answer. `usage`: what was reported, None if nothing was.

    When only one side was reported, `usage` has that one, and `is_reported` is false of it.
    `doubts`: in the order in which they arose.
    """

    model: str | None
    usage: Usage | None
    is_input_reported: bool
    is_output_reported: bool
    finish_reasons: tuple[tuple[int, str], ...]
    failure: Failure | None
    produced: tuple[Produced, ...]
    has_begun: bool
    is_ended: bool
    doubts: tuple[Doubt, ...]

    def __init__(
        self, model: str | None, usage: Usage | None, is_input_reported: bool, is_output_reported: bool,
        finish_reasons: tuple[tuple[int, str], ...], failure: Failure | None, produced: tuple[Produced, ...],
        has_begun: bool, is_ended: bool, doubts: tuple[Doubt, ...],
    ) -> None:  # fmt: skip
        self.model = model
        self.usage = usage
        self.is_input_reported = is_input_reported
        self.is_output_reported = is_output_reported
        self.finish_reasons = finish_reasons
        self.failure = failure
        self.produced = produced
        self.has_begun = has_begun
        self.is_ended = is_ended
        self.doubts = doubts


class Tally:
    """The text of one choice: what is counted, and the last block of it, which is not yet."""

    __slots__ = ("_chars", "_count", "_octets", "_pending", "_pending_chars", "_tokens")

    def __init__(self, count: Count | None) -> None:
        self._count = count
        self._pending: list[str] = []
        self._pending_chars = 0
        self._chars = self._octets = self._tokens = 0

    def add(self, text: str) -> None:
        self._pending.append(text)
        self._pending_chars += len(text)
        if self._pending_chars > 2 * BLOCK_CHARS:
            self._settle()

    def _settle(self) -> None:
        """Count all but the last block; cut at a blank, where tokens seldom reach across."""
        if self._pending_chars <= BLOCK_CHARS:
            return
        text, start = "".join(self._pending), 0
        while len(text) - start > BLOCK_CHARS:
            end = text.rfind(" ", start + BLOCK_CHARS // 2, start + BLOCK_CHARS)
            end = start + BLOCK_CHARS if end < 0 else end
            if FIRST_HALVES[0] <= text[end - 1] <= FIRST_HALVES[1]:  # the two halves of a character stay together
                end -= 1
            chars, octets, tokens = self._measure(text[start:end])
            self._chars += chars
            self._octets += octets
            self._tokens += tokens
            start = end
        self._pending = [text[start:]]
        self._pending_chars = len(text) - start

    def _measure(self, text: str) -> tuple[int, int, int]:
        tokens = 0
        if text.isascii():
            octets = len(text)
        else:  # halves that came in two escapes become one character, and lone ones are replaced
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
            octets = len(text.encode())
        if self._count is not None and text:
            tokens = self._count(text)
        return len(text), octets, tokens

    def produced(self, choice: int) -> Produced:
        self._settle()
        if len(self._pending) > 1:
            self._pending = ["".join(self._pending)]
        chars, octets, tokens = self._measure(self._pending[0])
        counted = self._tokens + tokens if self._count else None
        return Produced(choice, self._chars + chars, self._octets + octets, counted)


class Sheet:
    """What adapters write into while they read an answer."""

    __slots__ = (
        "_count", "_doubts", "_finish_reasons", "_tallies", "counts", "failure", "has_begun", "has_input", "has_output",
        "is_ended", "model", "usage",
    )  # fmt: skip

    def __init__(self, count: Count | None = None) -> None:
        self._count = count
        self._doubts: dict[Doubt, None] = {}
        self._finish_reasons: dict[int, str] = {}
        self._tallies: dict[int, Tally] = {}
        self.counts: dict[str, int] = {}
        self.usage: Usage | None = None
        self.has_input = self.has_output = False
        self.model: str | None = None
        self.failure: Failure | None = None
        self.has_begun = self.is_ended = False

    def report(self, usage: Usage, *, has_input: bool = True, has_output: bool = True) -> None:
        self.has_input, self.has_output = has_input, has_output
        self.usage = usage if has_input and has_output else usage.counted()

    def say(self, text: str | None, choice: int = 0) -> None:
        """Text of a choice; the first one is the first token."""
        if text:
            self.has_begun = True
            self._tally(choice).add(text)

    def _tally(self, choice: int) -> Tally:
        found = self._tallies.get(choice)
        if found is None:
            if len(self._tallies) >= CHOICES_KEPT_MAX:
                return next(reversed(self._tallies.values()))
            found = self._tallies[choice] = Tally(self._count)
        return found

    def finish(self, reason: str | None, choice: int = 0) -> None:
        if reason and (choice in self._finish_reasons or len(self._finish_reasons) < CHOICES_KEPT_MAX):
            self._finish_reasons[choice] = reason[:WORD_CHARS_MAX]

    def fail(self, kind: str | None, message: str | None) -> None:
        """The first failure is the cause of those that follow."""
        if self.failure is None:
            self.failure = Failure((kind or "error")[:WORD_CHARS_MAX], (message or "")[:MESSAGE_CHARS_MAX])

    def doubt(self, doubt: Doubt) -> None:
        self._doubts[doubt] = None

    def doubts(self, doubt: Doubt) -> bool:
        return doubt in self._doubts

    @property
    def has_finished(self) -> bool:
        """Whether the answer came to an end of its own, good or bad."""
        return self.is_ended or bool(self._finish_reasons) or self.failure is not None

    def name(self, model: str | None) -> None:
        """The model that really answered, as far as the upstream says."""
        if model and self.model is None:
            self.model = model[:MESSAGE_CHARS_MAX]

    def reading(self, *, is_last: bool = False) -> Reading:
        """`is_last`: where the provider has said what it took, nobody asks how much text that was."""
        is_said = is_last and self.usage is not None and self.usage.is_reported
        return Reading(
            self.model, self.usage, self.has_input, self.has_output,
            tuple(sorted(self._finish_reasons.items())) if self._finish_reasons else (), self.failure,
            () if is_said else tuple([self._tallies[choice].produced(choice) for choice in sorted(self._tallies)]),
            self.has_begun, self.is_ended, tuple(self._doubts),
        )  # fmt: skip
