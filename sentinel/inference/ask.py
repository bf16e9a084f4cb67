"""What a client asks of a model: what has to be known before the request is sent on.

Intuition: a caterer reads an order for what it will cost him: how many guests, how many courses, who pays.
He does not taste the wine list.

`Ask` is the value; `Basket` collects what counts as input while an adapter walks through a body. (Values have their
`__init__` written out, as `usage` says.)
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum, unique
from typing import Any, Final, final

from sentinel.inference.dialect import MODEL_CHARS_MAX, Dialect
from sentinel.inference.fault import InferenceFault
from sentinel.inference.look import Members, text

CHOICES_MAX: Final = 4096
"""Answers to one request; providers allow 128 at most, so more is a mistake or an attack."""
UPWARDS: Final = re.compile(r"(?:^|[/\\])\.\.?(?:$|[/\\])")
"""In a name: some providers have it in their path, and whoever stands before them may resolve dots, escaped or not."""


@unique
class Detail(Enum):
    """How closely an image is looked at; it decides what the image costs."""

    LOW = "low"
    HIGH = "high"
    AUTO = "auto"


@final
@dataclass(slots=True, init=False)
class Input:
    """What counts as input. `token_ids_count`: tokens that the client sent as numbers, so that they are exact."""

    texts: tuple[str, ...]
    token_ids_count: int
    messages_count: int
    names_count: int
    images: tuple[Detail, ...]
    audio_count: int
    files_count: int

    def __init__(
        self, texts: tuple[str, ...] = (), token_ids_count: int = 0, messages_count: int = 0, names_count: int = 0,
        images: tuple[Detail, ...] = (), audio_count: int = 0, files_count: int = 0,
    ) -> None:  # fmt: skip
        self.texts = texts
        self.token_ids_count = token_ids_count
        self.messages_count = messages_count
        self.names_count = names_count
        self.images = images
        self.audio_count = audio_count
        self.files_count = files_count


@final
@dataclass(slots=True, init=False)
class Ask:
    """`output_cap`: tokens of one choice, None if the client sets none.

    `wants_usage`: the client gets usage whatever the gateway does; `has_stream_options`: it set the options among
    which it could have asked (sentinel/inference/insist.py). `has_hidden_input`: the provider adds
    something that it keeps (an earlier answer, a cached context), so the input is at least what is here.
    """

    dialect: Dialect
    model: str
    input: Input
    is_stream: bool
    output_cap: int | None
    choices_count: int
    has_tools: bool
    wants_usage: bool
    has_stream_options: bool
    has_hidden_input: bool

    def __init__(
        self, dialect: Dialect, model: str, input: Input, is_stream: bool = False, output_cap: int | None = None,
        choices_count: int = 1, has_tools: bool = False, wants_usage: bool = True, has_stream_options: bool = False,
        has_hidden_input: bool = False,
    ) -> None:  # fmt: skip
        self.dialect = dialect
        self.model = model
        self.input = input
        self.is_stream = is_stream
        self.output_cap = output_cap
        self.choices_count = choices_count
        self.has_tools = has_tools
        self.wants_usage = wants_usage
        self.has_stream_options = has_stream_options
        self.has_hidden_input = has_hidden_input


class Basket:
    """What was found in a body so far."""

    __slots__ = (
        "audio_count", "files_count", "images", "messages_count", "names_count", "texts", "token_ids_count",
    )  # fmt: skip

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.images: list[Detail] = []
        self.token_ids_count = self.messages_count = self.names_count = self.audio_count = self.files_count = 0

    def message(self, message: Any) -> bool:
        """Take a message that is a role and a text, as most are; False, and nothing taken, for any other."""
        if type(message) is not dict or len(message) != 2:
            return False
        role, content = message.get("role"), message.get("content")
        if type(role) is not str or type(content) is not str:
            return False
        self.messages_count += 1
        self.texts += [text for text in (role, content) if text]
        return True

    def text(self, holder: Members, name: str, path: str) -> None:
        if found := text(holder, name, path):
            self.texts.append(found)

    def json(self, value: Any) -> None:
        """What a provider shows its model in some form of its own: counted as the JSON that it came as."""
        if value:
            try:
                self.texts.append(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
            except RecursionError:
                raise InferenceFault("$", "this is nested too deeply") from None

    def media(self, kind: str) -> None:
        """A part that is no text, by its media type."""
        if kind.startswith("image/"):
            self.images.append(Detail.AUTO)
        elif kind.startswith("audio/"):
            self.audio_count += 1
        else:
            self.files_count += 1

    def packed(self) -> Input:
        return Input(
            tuple(self.texts), self.token_ids_count, self.messages_count, self.names_count, tuple(self.images),
            self.audio_count, self.files_count,
        )  # fmt: skip


def model_of(holder: Members, path_model: str | None) -> str:
    """The model: of the path where it is there, otherwise of the body."""
    model = path_model or text(holder, "model", "$")
    if not model:
        raise InferenceFault("$.model", "the model is missing")
    if len(model) > MODEL_CHARS_MAX:
        raise InferenceFault("$.model", "the name is too long")
    if "." in model and UPWARDS.search(model) is not None:
        raise InferenceFault("$.model", "the name is a way up a path")
    return model


def choices_of(count: int | None, path: str) -> int:
    if count is None:
        return 1
    if not 0 < count <= CHOICES_MAX:
        raise InferenceFault(path, f"between 1 and {CHOICES_MAX} is expected")
    return count
