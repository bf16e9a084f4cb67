"""Where the texts of a request, an answer or an event are: all strings that are no words of the protocol.

Intuition: proofreading a form. The printed words are the printer's; everything that somebody has written is read,
also in a box that nobody has heard of.

Rules:
1. Read is what is not known to be something else, so that a member which a provider invents tomorrow is read too.
   Known are words of the protocol (SIGNS: short, without a blank, under a name of the list), what is no text (sound,
   images, signatures), and names of members.
2. What a tool is given or has returned as an object is anybody's: there every string counts, and every long number.
3. What a model made of its choices besides (`logprobs`) spells the text once more: it is left out where answers are
   watched.
4. A text that goes on over events has one `channel`: the names that lead to it, with `index` where there is one. What
   comes whole (also in an event, as `response.completed` or a call's object of arguments) has none.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from sentinel.inference.dialect import Dialect
from sentinel.inference.fault import InferenceFault
from sentinel.inference.look import Members

SIGNS: Final = frozenset({
    "annotations", "call_id", "code", "container_id", "conversation_id", "created_at", "detail", "done_reason",
    "effort", "encoding_format", "event_id",
    "finishReason", "finish_reason", "id", "item_id", "mediaType", "media_type",
    "mimeType", "mime_type", "model", "modelVersion", "model_version", "object", "phase", "previous_response_id",
    "responseId", "response_id", "role", "service_tier", "status", "stop_reason", "system_fingerprint",
    "tool_call_id", "tool_use_id", "type",
})  # fmt: skip
SIGN: Final = re.compile(r"[A-Za-z0-9_.:/+=-]{0,256}")
OPAQUE: Final = frozenset({
    "b64_json", "embedding", "encrypted_content", "file_data", "images", "obfuscation", "partial_image_b64",
    "signature", "stop_sequence", "thoughtSignature", "thought_signature",
})  # fmt: skip
"""What nobody here can read, or the client has said itself."""
UNBROKEN: Final = frozenset({
    "annotations", "citation", "citationMetadata", "citations", "codeExecutionResult", "content_filter_results",
    "executableCode", "fileData", "format", "groundingMetadata", "name", "safetyRatings", "urlContextMetadata",
})  # fmt: skip
"""Come whole, with all that is in them, also where what stands beside them goes on; and so do objects under FREE."""
SOUND: Final = "response.audio.delta"
DATA_URL: Final = re.compile(r"data:[^,]{0,256};base64,[A-Za-z0-9+/=%\r\n]*")
"""All of it, and in one piece: text behind such a beginning is text."""
ATTACHED: Final = "data"
"""Octets of an attachment, unless its type says that it is text."""
FREE: Final = frozenset({"input", "args", "arguments", "response", "parameters"})
"""Objects under these names are what a tool was given, or has returned."""
SPELT: Final = frozenset({"logprobs", "top_logprobs", "logprobsResult"})
JSON_TEXTS: Final = frozenset({"arguments", "partial_json"})
"""Strings that are JSON themselves."""
NUMBER_MIN: Final = 10**8
"""A number that is shorter identifies nobody."""
DEPTH_MAX: Final = 200

STREAMED: Final[dict[Dialect, frozenset[str]]] = {
    Dialect.OPENAI_CHAT: frozenset({"choices"}), Dialect.OPENAI_COMPLETIONS: frozenset({"choices"}),
    Dialect.OPENAI_RESPONSES: frozenset({"delta"}), Dialect.ANTHROPIC_MESSAGES: frozenset({"delta"}),
    Dialect.GEMINI_GENERATE: frozenset({"candidates"}), Dialect.OLLAMA_CHAT: frozenset({"message"}),
    Dialect.OLLAMA_GENERATE: frozenset({"response", "thinking"}),
}  # fmt: skip
"""Under which member of an event a text goes on in the next one."""
PLACES: Final = ("output_index", "item_id", "content_index", "summary_index", "index")
"""Members of an event that say which text it belongs to."""

Channel = tuple[str | int, ...]


class Text(NamedTuple):
    """One text, and where it stands: `holder[key]`. channel: () for one that is whole."""

    holder: Any
    key: Any
    value: str
    is_json: bool = False
    channel: Channel = ()

    def put(self, value: str) -> None:
        if value != self.value:
            self.holder[self.key] = value


class Reader:
    """Goes through one document. `attached_count`: what it has passed over because it is no text."""

    __slots__ = ("_streamed", "attached_count", "is_spelt")

    def __init__(self, streamed: frozenset[str] = frozenset()) -> None:
        self._streamed = streamed
        self.attached_count = 0
        self.is_spelt = False  # something was left out

    def texts(self, document: Members, *, is_answer: bool = False) -> list[Text]:
        """All texts, in their order; raises InferenceFault for what is nested too deeply."""
        if is_answer:
            self._leave_out_spelt(document)
        place: Channel = tuple([document[name] for name in PLACES if isinstance(document.get(name), str | int)])
        kind = document.get("type")
        start: Channel = (*place, kind) if isinstance(kind, str) else place
        found: list[Text] = []
        if kind == SOUND:
            self.attached_count += 1
            return found
        for name in document:
            channel = (*start, name) if name in self._streamed else None
            self._value(found, document, name, name, channel, is_free=False, depth=0)
        return found

    def _value(
        self, found: list[Text], holder: Any, key: Any, name: str, channel: Channel | None, *, is_free: bool, depth: int
    ) -> None:
        value = holder[key]
        if isinstance(value, str):
            is_sign_or_octets = not is_free and self._is_passed_over(holder, name, value, is_whole=channel is None)
            if not is_sign_or_octets:
                found.append(Text(holder, key, value, _is_json(holder, name), channel or ()))
        elif isinstance(value, dict | list):
            if depth > DEPTH_MAX:
                raise InferenceFault("$", "this is nested too deeply")
            if not is_free and name in OPAQUE:
                self.attached_count += len(value) if name == "images" else 0
            elif isinstance(value, dict):
                if channel is not None and isinstance(value.get("index"), int):
                    channel = (*channel, value["index"])
                if channel is not None and value.get("thought") is True:
                    channel = (*channel, "thought")
                for inner in value:
                    is_anybodys = is_free or (inner in FREE and isinstance(value[inner], dict | list))
                    is_whole = is_anybodys or inner in UNBROKEN
                    under = None if channel is None or is_whole else (*channel, inner)
                    self._value(found, value, inner, inner, under, is_free=is_anybodys, depth=depth + 1)
            else:
                for at in range(len(value)):
                    self._value(found, value, at, name, channel, is_free=is_free, depth=depth + 1)
        elif is_free and type(value) is int and abs(value) >= NUMBER_MIN:
            found.append(Text(holder, key, str(value)))

    def _is_passed_over(self, holder: Any, name: str, value: str, *, is_whole: bool) -> bool:
        if is_sign(name, value):
            return True
        is_attached = name in OPAQUE or (is_whole and DATA_URL.fullmatch(value) is not None)
        if name == ATTACHED and isinstance(holder, dict) and not _is_text(holder):
            is_attached = True
        self.attached_count += is_attached
        return is_attached

    def _leave_out_spelt(self, value: Any, depth: int = 0) -> None:
        if depth > DEPTH_MAX:
            raise InferenceFault("$", "this is nested too deeply")
        if isinstance(value, dict):
            for name in value:
                if name in SPELT and value[name]:
                    value[name] = [] if isinstance(value[name], list) else None
                    self.is_spelt = True
                elif isinstance(value[name], dict | list):
                    self._leave_out_spelt(value[name], depth + 1)
        else:
            for one in value:
                if isinstance(one, dict | list):
                    self._leave_out_spelt(one, depth + 1)


def is_sign(name: str, value: str) -> bool:
    """Whether it is a word of the protocol."""
    return name in SIGNS and SIGN.fullmatch(value) is not None


def _is_json(holder: Any, name: str) -> bool:
    kind = holder.get("type") if name == "delta" and isinstance(holder, dict) else None
    return name in JSON_TEXTS or (isinstance(kind, str) and kind.endswith("arguments.delta"))


def _is_text(holder: Members) -> bool:
    """Whether what is attached says that it is text."""
    kinds = [holder.get(name) for name in ("type", "media_type", "mimeType", "mime_type")]
    if holder.get("type") == "base64" or "format" in holder or "mimeType" in holder or "mime_type" in holder:
        return False
    return any(isinstance(kind, str) and kind.startswith("text") for kind in kinds)
