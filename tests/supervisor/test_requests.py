"""What control may say, and that no octets whatever end the supervisor."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.requests import _fitting
from supervisor.terms import ADDRESSES_MAX, MESSAGE_BYTES_MAX, WORKERS_MAX
from tests.supervisor.theatre import S, Theatre, terms_of

OPS = ("status", "rollout", "promote", "rollback", "drain", "resume", "stop")


def answer(theatre: Theatre, data: bytes) -> dict[str, Any]:
    made: bytes = theatre.loop._requests.answer(data)
    assert len(made) <= MESSAGE_BYTES_MAX
    found: dict[str, Any] = msgspec.json.decode(made)
    assert isinstance(found["ok"], bool)
    assert found["ok"] or found["error"]
    return found


def message(**fields: object) -> bytes:
    return msgspec.json.encode({"id": 1, **fields})


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0", b"not json", b"null", b"[]", b"7", b"{", b'{"op":"status"}', b'{"id":1}',
        b'{"id":"1","op":"status"}',
        b'{"id":1,"op":7}', b'{"id":1.5,"op":"status"}', b'{"id":1,"op":"status"} and more', b'\xff\xfe',
        b'{"id":1,"op":"\xff"}', b'{"id":1,"op":"\\ud800"}', b"[" * 60_000,
        b'{"id":1,"op":"status","more":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        b'{"id":1,"op":"' + b"x" * 65_000 + b'"}', b'{"id":' + b"9" * 60_000 + b',"op":"status"}',
        message(op="status", padding="x" * 100_000)[: MESSAGE_BYTES_MAX + 1],
    ],
)  # fmt: skip
def test_what_is_no_message_is_answered_so(theatre: Theatre, data: bytes) -> None:
    found = answer(theatre, data)
    assert (found["id"], found["ok"]) == (0, False)
    assert found["error"].startswith("not a message: ")


def test_an_unknown_word_is_told_what_the_words_are(theatre: Theatre) -> None:
    found = answer(theatre, message(op="reboot"))
    assert found == {"id": 1, "ok": False, "error": f"`reboot` is not among {', '.join(OPS)}"}


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"workers": 0}, "$.workers"), ({"workers": WORKERS_MAX + 1}, "$.workers"), ({"workers": "2"}, "$.workers"),
        ({"workers": True}, "$.workers"), ({"workers": None}, "$.workers"), ({"plan_path": ""}, "$.plan_path"),
        ({"plan_path": "x" * 5000}, "$.plan_path"), ({"fingerprint": 7}, "$.fingerprint"),
        ({"addresses": "127.0.0.1:80"}, "$.addresses"), ({"addresses": [""]}, "$.addresses"),
        ({"addresses": ["127.0.0.1:80"] * (ADDRESSES_MAX + 1)}, "$.addresses"), ({"drain_deadline_ns": -1}, "$.drain"),
        ({"drain_deadline_ns": 2**70}, "$.drain"), ({"heartbeat_timeout_ns": 1.5}, "$.heartbeat"),
        ({"restarts_max": -1}, "$.restarts_max"), ({"canary_lanes": -1}, "$.canary_lanes"),
        ({"cpu_affinity": "yes"}, "$.cpu_affinity"), ({"probation": {}}, "$.probation"),
        ({"probation": None}, "$.probation"),
        ({"probation": terms_of("a")["probation"] | {"failure_share_max": 1001}}, "$.probation.failure_share_max"),
    ],
)  # fmt: skip
def test_terms_that_are_malformed_are_refused_by_the_name_of_the_field(
    theatre: Theatre, change: dict[str, object], where: str
) -> None:
    found = answer(theatre, message(op="rollout", **(terms_of("a") | change)))
    assert not found["ok"]
    assert found["error"].startswith("`rollout` is malformed: ")
    assert where in found["error"]
    assert theatre.fleet.latest() is None


@pytest.mark.parametrize("field", sorted(set(terms_of("a")) - {"cpu_affinity", "canary_lanes"}))
def test_every_field_of_the_terms_is_needed(theatre: Theatre, field: str) -> None:
    known = terms_of("a")
    del known[field]
    assert f"`{field}`" in answer(theatre, message(op="rollout", **known))["error"]


def test_fields_of_a_later_release_are_ignored(theatre: Theatre) -> None:
    assert answer(theatre, message(op="rollout", **terms_of("a"), colour="red"))["ok"]


@pytest.mark.parametrize("change", [{"status": -1}, {"status": 126}, {"status": "0"}, {"why": 7}])
def test_a_malformed_stop_stops_nothing(theatre: Theatre, change: dict[str, object]) -> None:
    assert answer(theatre, message(op="stop", **change))["error"].startswith("`stop` is malformed: ")
    assert theatre.fleet.mode.value == "serving"


def test_status_says_how_everything_is(theatre: Theatre) -> None:
    theatre.serve("a")
    found = theatre.ask("status")
    assert (found["generation"], found["mode"], found["region"]) == (1, "serving", "/staged")
    assert found["plan"] == {"path": "/plans/a", "fingerprint": "a"}
    assert found["control"] == {"pid": theatre.desk.pid, "restarts": 0}
    assert found["rollout"] == {"generation": 1, "state": "probation", "why": ""}
    assert [(one["lane"], one["generation"], one["state"]) for one in found["workers"]] == [
        (0, 1, "serving"), (1, 1, "serving")
    ]  # fmt: skip
    assert all(one["age_ms"] >= one["heartbeat_age_ms"] >= 0 for one in found["workers"])
    assert found["sockets"] == {"127.0.0.1:8080": {"sockets": 2, "waiting": 0}}
    assert (found["obituaries"], len(found["history"])) == ([], 1)


def test_status_of_a_service_that_serves_nothing_yet(theatre: Theatre) -> None:
    found = theatre.ask("status")
    assert (found["generation"], found["rollout"], found["plan"], found["workers"]) == (0, None, None, [])


def test_an_answer_that_would_be_too_long_leaves_out_what_is_least_missed() -> None:
    entry = {"last_words": "x" * 6_000}
    made = msgspec.json.decode(_fitting({"id": 3, "ok": True, "obituaries": [entry] * 20, "history": [entry] * 2}))
    assert made["ok"]
    assert 0 < len(made["obituaries"]) < 20
    assert len(made["history"]) == 2


def test_an_answer_that_cannot_be_made_to_fit_is_an_error_of_its_number() -> None:
    made = msgspec.json.decode(_fitting({"id": 3, "ok": True, "workers": "x" * 100_000}))
    assert (made["id"], made["ok"]) == (3, False)


def test_the_longest_status_there_can_be_fits(theatre: Theatre) -> None:
    theatre.casting = lambda actor: setattr(actor.words, "last", lambda: "y" * 4096)
    theatre.serve("a", restarts_max=1000, plan_path="/" + "p" * 1000)
    for _ in range(25):
        theatre.actor(0).die(-11)
        theatre.turn()
        theatre.wait_until(lambda: 0 in theatre.rota())
    for _ in range(25):
        theatre.rollout("b" * 1000, plan_path="/" + "p" * 4000, addresses=["no address" * 10])
        theatre.sockets.taken.add("no address" * 10)
        theatre.settle()
    assert answer(theatre, message(op="status"))["ok"]


# No octets, and no order of words, are a surprise.

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.fixed_dictionaries(
    {"id": VALUES | st.integers(0, 9), "op": VALUES | st.sampled_from(OPS)},
    optional={"status": VALUES, "why": VALUES, "canary_lanes": VALUES, "workers": VALUES, "addresses": VALUES},
)


@given(st.lists(st.binary(max_size=60) | st.tuples(WORDS, st.booleans()), min_size=1, max_size=8))
@settings(max_examples=100, deadline=None)
def test_whatever_control_says_is_answered_and_the_loop_goes_on(
    said: list[bytes | tuple[dict[str, object], bool]]
) -> None:
    with Theatre() as theatre:
        theatre.wait(1 * S // 4)
        for one in said:
            if isinstance(one, bytes):
                data = one
            else:
                words, is_complete = one
                try:
                    data = msgspec.json.encode((terms_of("a") if is_complete else {}) | words)
                except (OverflowError, UnicodeEncodeError):
                    continue
            answer(theatre, data)
            theatre.play()
