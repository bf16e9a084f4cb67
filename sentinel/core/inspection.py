"""What a guardrail has found in the texts of a request or an answer: kinds and numbers, and no word of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Inspection:
    """kind    what came of it
    clean     all texts were looked through, and nothing was found
    found     `told`: which kinds, and how often each
    unread    `told`: why it could not be read

    attached_count: parts beside the texts that were not read, since they are none (images, sound, files).
    """

    kind: Literal["clean", "found", "unread"]
    told: str = ""
    attached_count: int = 0


CLEAN: Final = Inspection("clean")


def unread(fault: str) -> Inspection:
    return Inspection("unread", fault)
