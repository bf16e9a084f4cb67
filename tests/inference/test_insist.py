"""Asking for usage inserts a few octets; all else stays as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.inference.adapters import read_request
from sentinel.inference.dialect import Call, Dialect
from sentinel.inference.insist import asking_for_usage
from sentinel.inference.look import decode_request


def edited(body: bytes, dialect: Dialect = Dialect.OPENAI_CHAT) -> bytes | None:
    return asking_for_usage(read_request(Call(dialect), body), body)


ADDED = b'"stream_options":{"include_usage":true}'


@pytest.mark.parametrize(("body", "expected"), [
    (b'{"model":"m","stream":true}', b"{" + ADDED + b',"model":"m","stream":true}'),
    (b' \n{ "stream" : true, "model": "m"}\n', b" \n{" + ADDED + b', "stream" : true, "model": "m"}\n'),
    (b'{"model":"m","stream_options":{},"stream":true}',
     b'{"model":"m","stream_options":{"include_usage":true},"stream":true}'),
    (b'{"model":"m","stream":true,"stream_options": { "x" : [1,{"include_usage":1}] } }',
     b'{"model":"m","stream":true,"stream_options": {"include_usage":true, "x" : [1,{"include_usage":1}] } }'),
    (b'{"model":"m","stream":true,"stream_options":{"include_usage" : false , "x":1}}',
     b'{"model":"m","stream":true,"stream_options":{"include_usage" : true , "x":1}}'),
    (b'{"model":"m","stream":true,"stream_options":{"include_usage":null}}',
     b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'),
    (b'{"model":"m","stream_options":null,"stream":true}',
     b'{"model":"m","stream_options":{"include_usage":true},"stream":true}'),
    (b'{"messages":[{"content":"\\"stream_options\\":{","stream_options":{"include_usage":1}}],"model":"m",'
     b'"stream_options":{"a":"}"},"stream":true}',
     b'{"messages":[{"content":"\\"stream_options\\":{","stream_options":{"include_usage":1}}],"model":"m",'
     b'"stream_options":{"include_usage":true,"a":"}"},"stream":true}'),
    (b'{"model":"m","stream":true,"stream\\u005foptions":{"x":1}}',
     b'{"model":"m","stream":true,"stream\\u005foptions":{"include_usage":true,"x":1}}'),
    (b'{"model":"m","stream":true,"stream_options":{"include\\u005fusage":false}}',
     b'{"model":"m","stream":true,"stream_options":{"include\\u005fusage":true}}'),
])  # fmt: skip
def test_it_is_inserted_where_it_belongs(body: bytes, expected: bytes) -> None:
    assert edited(body) == expected


@pytest.mark.parametrize("body", [
    b'{"model":"m"}', b'{"model":"m","stream":false}',
    b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}',
])  # fmt: skip
def test_it_is_left_alone_where_it_need_not_or_cannot_be(body: bytes) -> None:
    assert edited(body) is None


def test_other_dialects_have_no_such_option() -> None:
    assert edited(b'{"model":"m","stream":true}', Dialect.OPENAI_RESPONSES) is None
    assert edited(b'{"model":"m","stream":true}', Dialect.ANTHROPIC_MESSAGES) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5) | st.sampled_from(["stream_options", '"{']),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["stream_options", "include_usage", "a", ",", "{"]), inner, max_size=3),
    max_leaves=12,
)
OPTIONS = st.none() | st.dictionaries(st.sampled_from(["include_obfuscation", "x", "{"]), VALUES, max_size=3)
BODIES = st.fixed_dictionaries(
    {"model": st.just("m"), "stream": st.just(True)},
    optional={"a": VALUES, "metadata": VALUES, "stream_options": OPTIONS, "user": VALUES},
)


@given(BODIES, st.permutations(["model", "stream", "a", "metadata", "stream_options", "user"]), st.booleans())
def test_everything_else_means_what_it_meant(body: dict[str, Any], order: list[str], is_wide: bool) -> None:
    written = {name: body[name] for name in order if name in body}
    octets = json.dumps(written, indent=1 if is_wide else None).encode()
    found = edited(octets)
    assert found is not None
    wanted = dict(body)
    wanted["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    assert decode_request(found) == wanted
