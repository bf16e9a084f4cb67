"""Lines of `models`: the first that takes the name, whichever way it is looked up."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sentinel.config import load_text
from sentinel.core.allowances import Purse
from sentinel.core.globs import Glob
from sentinel.core.models import Directory, said_models, shown
from sentinel.core.plan import Inference, Model, Models
from sentinel.core.reasons import Reason
from tests.core.build import UPSTREAM

PATTERNS = st.text("ab*", min_size=1, max_size=4)
LINES = st.lists(st.lists(PATTERNS, min_size=1, max_size=3).map(tuple), min_size=1, max_size=6)


def directory(*lines: tuple[str, ...], is_listed: bool = False) -> Directory:
    models = Models(tuple(Model(patterns, "api") for patterns in lines), is_listed=is_listed)
    return Directory(models, {"api": UPSTREAM}, lambda _: Purse(Inference(), ()))


@given(LINES, st.text("ab", max_size=5))
def test_the_first_line_that_takes_the_name_is_found(lines: list[tuple[str, ...]], name: str) -> None:
    found = directory(*lines).find(name)
    taking = [at for at, line in enumerate(lines) if any(Glob(pattern).matches(name) for pattern in line)]
    assert (None if found is None else found.index) == (taking[0] if taking else None)


def test_only_whole_names_are_listed_once() -> None:
    lines = ("b", "a*"), ("a", "b", "meta/llama 3\u00e9")
    found = directory(*lines, is_listed=True)
    listing = found.answers("/any/v1/models")
    assert listing is not None
    told = json.loads(listing.body)
    assert [one["id"] for one in told["data"]] == ["b", "a", "meta/llama 3\u00e9"]
    assert (told["first_id"], told["last_id"], told["has_more"]) == ("b", "meta/llama 3\u00e9", False)
    for index, name in enumerate(("b", "a", "meta%2Fllama%203%C3%A9")):
        one = found.answers(f"/v1/models/{name}")
        assert one is not None and json.loads(one.body) == told["data"][index]
    assert found.answers("/v1/models/meta/llama 3\u00e9") is not None
    for path in ("/v1/models/", "/v1/models/c", "/v1/models/a*", "/v1/files/a", "/v1/models/a/permissions"):
        assert found.answers(path) is None, path
    assert directory(*lines).answers("/v1/models") is None and directory(*lines).answers("/v1/models/b") is None


def test_long_names_are_cut_in_what_is_told() -> None:
    reason, _, details = directory(("*",)).targets[0].step("x" * 300)
    assert reason is Reason.MODEL_ROUTED and len(details[0]) == 64 and shown("x" * 64) == "x" * 64


def test_the_models_that_a_configuration_names_are_its_whole_names() -> None:
    text = """schema-version "1.0"
    listeners { listener "web" { address "127.0.0.1:80"; }; }
    routes { route "llm" {
        matches { path-prefix "/"; }
        inference
        models {
            model "fast" "quick-*" { upstream "one"; send-as "llama"; fallback "gpt-4o"; }
            model "gpt-*" { upstream "one"; }
        }
    }; }
    prices { currency "USD"; price "priced" { input "1"; output "2"; }; price "claude-*" { input "1"; output "2"; }; }
    upstreams { upstream "one" { endpoint "127.0.0.1:81"; }; }
    """
    plan = load_text(text).plan
    assert plan is not None and said_models(plan) == {"fast", "llama", "gpt-4o", "priced"}
