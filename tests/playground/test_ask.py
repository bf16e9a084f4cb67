"""The function behind the playground: what is handed in, what comes back, and that nothing else is touched.

`transcripts/NAME.json` has question and answer; after a change that is meant, `SENTINEL_REWRITE=1 pytest …` writes
the answers anew, and the difference is read.
"""

from __future__ import annotations

import copy
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.cli.dry import document
from sentinel.config import load_text
from sentinel.playground import Misunderstood, ask
from sentinel.playground.ask import HEADERS_MAX, PROBLEMS_MAX, PROVED_CHARS_MAX, STAND_IN, TEXT_CHARS_MAX
from sentinel.playground.browser import answer
from supervisor.control.playing import TIME_S
from tests.system.fleet import ROOT
from workers.rehearsal import House, ask_in

TRANSCRIPTS = Path(__file__).parent / "transcripts"
GOVERNED = (ROOT / "deploy" / "examples" / "governed.kdl").read_text()


def asked(*texts: str, line: str | None = None, **more: Any) -> dict[str, Any]:
    """The answer to a question, after the way through JSON that it has outside."""
    settings = more.pop("settings", None)
    request = None if line is None else {"line": line, **more}
    question = {"configurations": [{"name": "a.kdl", "text": text} for text in texts], "request": request}
    answered: dict[str, Any] = json.loads(answer(json.dumps(question | {"settings": settings})))
    assert "error" not in answered, answered
    return answered


def decided(*texts: str, side: int = 0, **more: Any) -> dict[str, Any]:
    (decision,) = [asked(*texts, **more)["sides"][side]["decision"]]
    assert decision is not None
    return dict(decision)


def reasons(decision: dict[str, Any]) -> list[str]:
    return [child.get("reason", "") for child in decision["tree"]["children"]]


ORDER: dict[str, Any] = {
    "line": "POST http://api.example.com/v1/orders", "headers": ["x-tenant: a", "x-api-version: 2"],
}  # fmt: skip


@pytest.mark.parametrize("path", sorted(TRANSCRIPTS.glob("*.json")), ids=lambda path: path.stem)
def test_transcripts(path: Path) -> None:
    transcript = json.loads(path.read_text())
    found = json.loads(answer(json.dumps(transcript["question"])))
    if os.environ.get("SENTINEL_REWRITE"):
        path.write_text(json.dumps(transcript | {"answer": found}, indent=1, ensure_ascii=False) + "\n")
    assert found == transcript["answer"]


# Problems.


def test_a_problem_has_the_stretch_that_it_means() -> None:
    text = GOVERNED.replace('upstream "orders"\n', '/* é😀 */ upstream "ordes"\n')
    (problem,) = asked(text)["sides"][0]["problems"]
    line = text.split("\n")[problem["line"] - 1]
    assert line[problem["column"] - 1 : problem["end"] - 1] == '"ordes"'
    assert problem["remedy"] == "did you mean `orders`?"


@given(st.text(st.sampled_from('ab"{}();=\\/*-\n\r\t 1.é😀#r\u2028'), max_size=60))
def test_every_stretch_lies_on_its_line(text: str) -> None:
    """Whatever is typed: the editor can draw what it is told."""
    whole = f'schema-version "1.0"\n{text}'
    lines = whole.split("\n")
    side = asked(whole)["sides"][0]
    assert side["problems"] and side["desk"] is None
    for problem in side["problems"]:
        assert 1 <= problem["line"] <= len(lines)
        assert 1 <= problem["column"] <= problem["end"] <= len(lines[problem["line"] - 1]) + 2


def test_the_places_of_a_decision_have_their_stretches_too() -> None:
    side = asked(GOVERNED, **ORDER)["sides"][0]
    places = {child["place"] for child in side["decision"]["tree"]["children"] if child.get("place")}
    assert places == set(side["ends"])
    lines = GOVERNED.split("\n")
    written = set()
    for place, end in side["ends"].items():
        line, column = map(int, place.split(":")[1:])
        written.add(lines[line - 1][column - 1 : end - 1])
    assert {"matches", "rate-limit", "endpoint"} <= written


def test_a_route_that_nothing_reaches_is_told_while_the_text_is_short() -> None:
    text = GOVERNED.replace('    route "rest"', """    route "shadow" {
        matches { path "/healthz"; method "GET"; header "x" "1"; }
        priority -1
        respond 200
    }
    route "rest\"""")
    (warning,) = asked(text)["sides"][0]["warnings"]
    assert "shadow" in warning["message"]
    assert not asked(text + "// " + "x" * PROVED_CHARS_MAX)["sides"][0]["warnings"]


def test_many_problems_are_told_in_part_and_counted() -> None:
    side = asked('schema-version "1.0"\n' + "x\n" * (PROBLEMS_MAX + 100))["sides"][0]
    assert len(side["problems"]) == PROBLEMS_MAX
    assert side["problems_more"] >= 100


def test_nothing_of_the_machine_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, no variable, no certificate: whoever may ask the playground learns nothing by it."""
    (tmp_path / "secret").write_text("planted-in-a-file")
    (tmp_path / "more.kdl").write_text('routes { route "planted" { matches { path "/"; }; respond 200; }; }')
    monkeypatch.setenv("PLANTED", "planted-in-the-environment")
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []
    watching = [True]

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if watching[0] and event in ("open", "os.listdir", "os.scandir") and str(args[0]).startswith(str(tmp_path)):
            opened.append(f"{event} {args[0]}")

    sys.addaudithook(watch)
    text = GOVERNED.replace("system {", f"""
        include "{tmp_path}/*.kdl"
        include "{tmp_path}/more.kdl"
        include "more.kdl"
        admin {{ address "0.0.0.0:1"; token (env)"PLANTED"; }}
        system {{""", 1)  # fmt: skip
    tls = f'tls {{ certificate "{tmp_path}/secret"; key "{tmp_path}/secret"; }}'
    secret = f'admin {{ address "0.0.0.0:1"; token (file)"{tmp_path}/secret"; }}'
    told = asked(text, GOVERNED.replace("limits {", f"{tls}; limits {{", 1), **ORDER)
    told_file = asked(GOVERNED.replace("system {", f"{secret}\nsystem {{"))
    watching[0] = False
    assert not opened
    shown = json.dumps([told, told_file])
    assert "planted" not in shown
    assert "reads no files" in told["sides"][0]["problems"][0]["message"]
    assert any(STAND_IN in note for note in told["sides"][0]["assumed"])
    assert told["sides"][1]["desk"]["listeners"][0]["scheme"] == "https"
    assert "not read here" in told["sides"][1]["assumed"][0]
    assert "reads no files" in told_file["sides"][0]["problems"][0]["message"]


# Decisions.


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        ("POST http://api.example.com/v1/orders", ("x-tenant: a", "x-api-version: 2")),
        ("GET /healthz", ()), ("DELETE /nowhere", ()), ("GET /a/../../b", ()), ("GET /", ("content-length: x",)),
        ("GET /v1/orders/%2e%2e/x", ("host: API.example.com.",)), ("get /", ()),
    ],
)  # fmt: skip
def test_it_decides_what_a_dry_run_decides(line: str, headers: tuple[str, ...], tmp_path: Path) -> None:
    """The same request through sentinelctl's own way: one intake, one decision."""
    from sentinel.explain.assumed import Assumed
    from workers.rehearsal import choose_listener, read_question

    plan = load_text(GOVERNED, "a.kdl").plan
    assert plan is not None
    question = read_question(line, headers)
    listener, _ = choose_listener(plan, question, None)
    expected = document(House(plan).rehearse(listener, question, "127.0.0.1", Assumed(plan)))
    found = decided(GOVERNED, line=line, headers=list(headers))
    assert found["verdict"] == expected["verdict"]["kind"]
    assert found["status"] == expected["verdict"]["status"]
    assert json.loads(json.dumps(expected["explanation"])) == found["tree"]


def test_the_state_is_that_of_the_sliders() -> None:
    """Each of them changes what is decided."""
    usual = decided(GOVERNED, **ORDER)
    assert (usual["verdict"], usual["endpoint"]) == ("forward", "10.0.1.1:9001")

    ejected = {"upstream": "orders", "endpoint": "10.0.1.1:9001", "standing": "unhealthy"}
    assert decided(GOVERNED, **ORDER, settings={"endpoints": [ejected]})["endpoint"] == "10.0.1.2:9001"
    busy = {"upstream": "orders", "endpoint": "10.0.1.1:9001", "in_flight": 9}
    assert decided(GOVERNED, **ORDER, settings={"endpoints": [busy]})["endpoint"] == "10.0.1.2:9001"

    spent = decided(GOVERNED, **ORDER, settings={"remaining": {"per-tenant": 0}})
    assert (spent["status"], spent["reason"]) == (429, "rate-limited")
    assert dict(map(tuple, spent["answer"]))["retry-after"] == "1"
    some = decided(GOVERNED, **ORDER, settings={"remaining": {"per-tenant": 3}})
    assert any("2 of " in child["text"] for child in some["tree"]["children"])

    full = decided(GOVERNED, **ORDER, settings={"held": {"writes": 8}})
    assert full["reason"] == "concurrency-limited"

    upstreams = {decided(GOVERNED, **ORDER, settings={"chance": seed})["upstream"] for seed in range(40)}
    assert upstreams == {"orders", "orders-next"}
    next_seed = next(
        seed for seed in range(40) if decided(GOVERNED, **ORDER, settings={"chance": seed})["upstream"] == "orders-next"
    )
    opened = decided(GOVERNED, **ORDER, settings={"chance": next_seed, "open": ["orders-next"]})
    assert (opened["status"], opened["reason"]) == (503, "breaker-open")


def test_a_slider_of_another_configuration_is_left_aside_and_told() -> None:
    minimal = (ROOT / "deploy" / "examples" / "minimal.kdl").read_text()
    settings = {
        "endpoints": [{"upstream": "orders", "endpoint": "10.0.1.1:9001", "standing": "ejected"},
                      {"upstream": "app", "endpoint": "127.0.0.1:9001", "standing": "unhealthy"}],
        "open": ["orders-next"], "remaining": {"per-tenant": 0}, "held": {"writes": 8},
    }  # fmt: skip
    side = asked(minimal, line="GET /", settings=settings)["sides"][0]
    assert side["decision"]["verdict"] == "forward"
    assert len(side["assumed"]) == 5


def test_what_cannot_be_asked_is_told_and_the_configuration_is_judged_all_the_same() -> None:
    wrong: list[dict[str, Any]] = [
        {"line": "GET nowhere"}, {"line": "GET /", "client_ip": "x"}, {"line": "GET /", "headers": ["no colon"]},
        {"line": "GET /", "listener": "wbe"}, {"line": "GET /", "headers": ["a: b\r\nc: d"]},
    ]  # fmt: skip
    for more in wrong:
        side = asked(GOVERNED, **more)["sides"][0]
        assert side["fault"] and side["decision"] is None and side["desk"] is not None, more


def test_a_body_that_is_too_large_is_refused() -> None:
    found = decided(GOVERNED, line="POST /v1/orders", headers=["host: api.example.com"], body_bytes=(1 << 20) + 1)
    assert (found["status"], found["reason"]) == (413, "body-too-large")


def test_reasons_that_are_asked_for_are_told_and_unknown_ones_left_out() -> None:
    question = {"configurations": [{"text": ""}], "reasons": ["no-route", "no-such-reason"]}
    assert list(json.loads(answer(json.dumps(question)))["reasons"]) == ["no-route"]


# Two configurations.


def test_the_first_step_that_differs_is_found() -> None:
    other = GOVERNED.replace('header "x-api-version" "2"', 'header "x-api-version" "3"')
    found = asked(GOVERNED, other, **ORDER)
    left, right = [side["decision"]["tree"]["children"] for side in found["sides"]]
    rows, first = found["difference"]["rows"], found["difference"]["first"]
    for row in rows[:first]:
        assert row["is_same"] and left[row["left"]]["text"] == right[row["right"]]["text"]
    parting = rows[first]
    told = [side[at]["text"] for side, at in ((left, parting["left"]), (right, parting["right"])) if at is not None]
    assert any("x-api-version" in text or "orders-v2" in text for text in told)
    for side, children in (("left", left), ("right", right)):
        assert [row[side] for row in rows if row[side] is not None] == list(range(len(children))), "each step once"


def test_a_line_that_moved_is_no_difference() -> None:
    found = asked(GOVERNED, "// a line more\n" + GOVERNED, **ORDER)["difference"]
    assert found["is_same"] and found["first"] is None


def test_other_requests_that_are_treated_differently_are_found() -> None:
    other = GOVERNED.replace('path "/healthz"', 'path "/health"')
    found = asked(GOVERNED, other, **ORDER)
    assert found["difference"]["is_same"], "this request is not one of them"
    elsewhere = found["elsewhere"]
    assert 0 < elsewhere["differing"] < elsewhere["total"]
    examples = {example for group in elsewhere["groups"] for example in group["examples"]}
    assert any(example.endswith("/healthz") for example in examples)
    assert asked(GOVERNED, GOVERNED)["elsewhere"]["differing"] == 0
    assert asked(GOVERNED, GOVERNED + "// " + "x" * PROVED_CHARS_MAX)["elsewhere"] is None


def test_of_two_configurations_one_may_be_invalid() -> None:
    found = asked(GOVERNED, GOVERNED.replace("routes", "rotues"), **ORDER)
    assert found["difference"] is None
    assert found["sides"][0]["decision"] and found["sides"][1]["problems"]


# What is handed in may be anything.

HOSTILE: list[Any] = [
    None, 1, "x", [], {}, {"configurations": []}, {"configurations": "x"}, {"configurations": [1]},
    {"configurations": [{"text": 1}]}, {"configurations": [{"text": ""}] * 3},
    {"configurations": [{"text": "", "x": 1}]},
    {"configurations": [{"text": "", "name": "a\n"}]}, {"configurations": [{"text": "", "name": "n" * 201}]},
    {"configurations": [{"text": "x" * (TEXT_CHARS_MAX + 1)}]}, {"configurations": [{"text": ""}], "more": 1},
    {"configurations": [{"text": ""}], "request": []}, {"configurations": [{"text": ""}], "request": {}},
    {"configurations": [{"text": ""}], "request": {"line": "GET /", "headers": [""] * (HEADERS_MAX + 1)}},
    {"configurations": [{"text": ""}], "request": {"line": "GET /", "body_bytes": 1.5}},
    {"configurations": [{"text": ""}], "request": {"line": "GET /", "body_bytes": True}},
    {"configurations": [{"text": ""}], "request": {"line": "GET /", "body_bytes": 1 << 70}},
    {"configurations": [{"text": ""}], "settings": {"remaining": {"x": -1}}},
    {"configurations": [{"text": ""}], "settings": {"remaining": [1]}},
    {"configurations": [{"text": ""}],
     "settings": {"endpoints": [{"upstream": "a", "endpoint": "b", "standing": "x"}]}},
    {"configurations": [{"text": ""}], "settings": {"chance": "x"}},
    {"configurations": [{"text": ""}], "reasons": "x"}, {"configurations": [{"text": ""}], "reasons": [1]},
]


@pytest.mark.parametrize("question", HOSTILE, ids=lambda question: str(question)[:60])
def test_what_is_no_question_is_said(question: Any) -> None:
    with pytest.raises(Misunderstood):
        ask(question, lambda plan: ask_in(House(plan)))
    assert "not understood" in json.loads(answer(json.dumps(question)))["error"]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, '"\\ud800"', "\x00", "NaN"])
def test_what_is_no_json_is_said(text: str) -> None:
    assert json.loads(answer(text))["error"]


@pytest.mark.parametrize("more", [{"text": "// \ud800"}, {"line": "GET /\ud800"}, {"headers": ["x: \ud800"]}])
def test_half_a_character_is_not_understood(more: dict[str, Any]) -> None:
    """JSON can hold half of a pair, UTF-8 cannot."""
    question = {
        "configurations": [{"text": more.pop("text", GOVERNED)}], "request": {"line": "GET /"} | more,
    }  # fmt: skip
    assert "half a character" in json.loads(answer(json.dumps(question)))["error"]


BOMBS = {
    "deep": 'schema-version "1.0"\n' + "a {" * 80_000,
    "open string": 'schema-version "1.0"\na "' + "\\" * 250_000,
    "comments": 'schema-version "1.0"\n' + "/*" * 125_000,
    "slashdash": 'schema-version "1.0"\n' + "/- a {\n" * 35_000,
    "numbers": 'schema-version "1.0"\na ' + "1" * 250_000,
    "exponent": 'schema-version "1.0"\na 1e' + "9" * 35,
    "raw": 'schema-version "1.0"\na r' + "#" * 125_000 + '"',
    "properties": 'schema-version "1.0"\na ' + " ".join(f"k{n}=1" for n in range(30_000)),
    "arguments": 'schema-version "1.0"\na ' + "1 " * 120_000,
    "regex": GOVERNED.replace('path-prefix "/v1/orders"', 'path-regex "' + "(a?){1,100}" * 40 + '"', 1),
    "routes": 'schema-version "1.0"\nlisteners { listener "w" { address "127.0.0.1:1"; }; }\nroutes {\n'
    + "".join(f'route "r{n}" {{ matches {{ path "/{n}"; host "h{n}.example"; }}; respond 200; }}' for n in range(1700))
    + "}",
    "overlapping": 'schema-version "1.0"\nlisteners { listener "w" { address "127.0.0.1:1"; }; }\nroutes {\n'
    + "".join(
        f'route "r{n}" {{ matches {{ path-prefix "/"; any {{ header "a" "{n}"; header "b" "1"; }}; }}; respond 200; }}'
        for n in range(1200)
    ) + "}",
    "one line": 'schema-version "1.0"\n' + "zz " * 80_000,
    "lines": 'schema-version "1.0"\n' + "z\n" * 120_000,
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_answered_in_bounded_time(name: str) -> None:
    """Each takes a second or two where it takes long; the bound is what control gives, with room for a busy machine."""
    text = BOMBS[name][:TEXT_CHARS_MAX]
    began = time.process_time()
    answered = asked(text, line="GET http://h1.example/1")
    assert time.process_time() - began < TIME_S
    assert len(json.dumps(answered)) < 2 << 20


def mutated(value: Any, dice: random.Random) -> Any:
    """The same with one thing in it replaced."""
    found = copy.deepcopy(value)
    where = found
    while isinstance(where, dict | list) and where:
        key = dice.choice(list(where) if isinstance(where, dict) else range(len(where)))
        if dice.random() < 0.4 or not isinstance(where[key], dict | list) or not where[key]:
            where[key] = dice.choice([None, -1, 0, 1 << 80, "", "x" * 300, "\ud800", [], {}, [[]], True, 1.5, "GET"])
            return found
        where = where[key]
    return found


@given(st.integers(0, 1 << 32))
def test_a_question_with_something_wrong_in_it_is_answered_or_not_understood(seed: int) -> None:
    question = {
        "configurations": [{"name": "a", "text": GOVERNED}], "request": {"line": "GET /", "headers": ["a: b"],
        "client_ip": "::1", "listener": "web", "body_bytes": 3},
        "settings": {"endpoints": [{"upstream": "orders", "endpoint": "10.0.1.1:9001", "standing": "draining",
                                    "in_flight": 1}],
                     "open": ["x"], "remaining": {"per-tenant": 1}, "held": {"writes": 2}, "chance": 7},
    }  # fmt: skip
    told = json.loads(answer(json.dumps(mutated(question, random.Random(seed)))))
    assert set(told) in ({"error", "remedy"}, {"sides", "difference", "elsewhere", "reasons"})


# What the page has beside the function.


def test_the_examples_of_the_page_are_those_of_deploy_and_decide_something() -> None:
    folder = ROOT / "sentinel" / "playground" / "page" / "examples"
    listed = (folder.parent / "examples.js").read_text()
    for path in folder.iterdir():
        assert path.read_text() == (ROOT / "deploy" / "examples" / path.name).read_text(), f"copy {path.name} anew"
        assert f'"{path.name}"' in listed
        assert asked(path.read_text(), line="GET /")["sides"][0]["decision"], path.name


@pytest.mark.parametrize("name", [
    "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser", "srcdoc",
    'setAttribute("style"',
])  # fmt: skip
def test_the_page_has_no_way_from_text_to_markup(name: str) -> None:
    for path in (ROOT / "sentinel" / "playground" / "page").glob("*.js"):
        assert name not in path.read_text(), f"{path.name} uses {name}: make elements with `h` (dom.js)"


def test_the_page_loads_nothing_from_elsewhere() -> None:
    for path in (ROOT / "sentinel" / "playground" / "page").glob("*.*"):
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        for found in ("//cdn", 'src="http', 'href="http', "url(http", "@import", 'from "http'):
            assert found not in text, path.name
    page = (ROOT / "sentinel" / "playground" / "page" / "index.html").read_text()
    assert "style=" not in page and "onclick" not in page and "<style" not in page
    assert page.count("<script") == 1 and '<script type="module" src="main.js"></script>' in page
