"""Reloads as an operator sees them: every way to end has its word, its status, and its effect."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.supervisor.control.stage import Stage
from tests.system.fleet import wait_until

NEW = 'route "new" {{ matches {{ path "/{0}"; }}; respond 200 body="{0}"; }}'


def series(stage: Stage) -> list[str]:
    return stage.region.series_names()


def test_a_good_configuration_serves(stage: Stage) -> None:
    stage.serving()
    stage.write(routes=NEW.format("a"))
    answer = stage.post("reload")
    assert answer.status == 200
    assert answer.document["outcome"] == "serving"
    assert answer.document["generation"] == 2
    assert answer.document["fingerprint"] == stage.supervisor.ops("rollout")[1]["fingerprint"]


def test_probation_is_serving_too(stage: Stage) -> None:
    stage.serving()
    stage.supervisor.ends = "probation"
    assert stage.post("reload").document["outcome"] == "serving"


def test_all_problems_are_told_with_their_places_and_nothing_is_rolled_out(stage: Stage) -> None:
    stage.serving()
    stage.write(routes='route "x" { matches { pathprefix "/"; }; upstream "orgin"; }')
    answer = stage.post("reload")
    assert (answer.status, answer.document["outcome"]) == (422, "invalid")
    assert len(answer.document["problems"]) >= 2, "all of them"
    for problem in answer.document["problems"]:
        assert problem["file"] == str(stage.config) and problem["line"] > 0 and problem["column"] > 0
        assert problem["message"]
    assert f"{stage.config}:" in answer.document["text"]
    assert len(stage.supervisor.ops("rollout")) == 1


def test_what_needs_a_restart_is_refused_at_its_place(stage: Stage) -> None:
    stage.serving()
    stage.write(address="127.0.0.1:1", run_dir="/somewhere/else")
    answer = stage.post("reload")
    assert answer.status == 422
    messages = [problem["message"] for problem in answer.document["problems"]]
    assert len(messages) == 2 and all("restart" in message for message in messages), messages
    lines = stage.config.read_text().splitlines()
    assert {lines[problem["line"] - 1].split()[0] for problem in answer.document["problems"]} == {"run-dir", "admin"}


def test_a_refused_generation_is_the_answer_no(stage: Stage) -> None:
    stage.serving()
    stage.supervisor.ends, stage.supervisor.why = "refused", "worker 0 did not become ready"
    answer = stage.post("reload")
    assert (answer.status, answer.document["outcome"]) == (409, "refused")
    assert answer.document["why"] == "worker 0 did not become ready"


def test_a_supervisor_that_says_no_is_quoted(stage: Stage) -> None:
    stage.serving()
    stage.supervisor.refusal = "the fleet is stopping"
    answer = stage.post("reload")
    assert (answer.status, answer.document["why"]) == (409, "the fleet is stopping")


def test_the_same_content_is_a_reload_unless_asked_otherwise(stage: Stage) -> None:
    stage.serving()
    assert stage.post("reload").document["outcome"] == "serving"
    assert stage.post("reload", if_changed=True).document["outcome"] == "unchanged"
    assert len(stage.supervisor.ops("rollout")) == 2


def test_a_dry_reload_changes_nothing(stage: Stage) -> None:
    stage.serving()
    served = stage.supervisor.ops("rollout")[0]["fingerprint"]
    assert stage.post("reload", dry=True).document["fingerprint"] == served
    stage.write(routes=NEW.format("dry"))
    before = series(stage)
    assert stage.post("reload", dry=True).document["outcome"] == "valid"
    assert len(stage.supervisor.ops("rollout")) == 1
    assert series(stage) == before


def test_a_reload_need_not_be_waited_for(stage: Stage) -> None:
    stage.serving()
    stage.supervisor.ends = ""
    answer = stage.post("reload", wait=False)
    assert (answer.status, answer.document["outcome"], answer.document["generation"]) == (202, "accepted", 2)


def test_a_canary_waits_for_promotion_or_rollback(stage: Stage) -> None:
    stage.serving()
    answer = stage.post("reload", canary=1)
    assert (answer.status, answer.document["outcome"]) == (200, "canary")
    assert stage.supervisor.ops("rollout")[1]["canary_lanes"] == 1
    assert stage.post("promote").document["outcome"] == "serving"


def test_rollback_serves_the_former_content(stage: Stage) -> None:
    stage.serving()
    first = stage.get("config").document["fingerprint"]
    stage.write(routes=NEW.format("b"))
    assert stage.post("reload").status == 200
    assert stage.get("config").document["fingerprint"] != first
    answer = stage.post("rollback")
    assert (answer.status, answer.document["generation"]) == (200, 3)
    assert stage.get("config").document["fingerprint"] == first


def test_options_that_do_not_exist_are_refused(stage: Stage) -> None:
    stage.serving()
    for options in ({"canray": 1}, {"canary": -1}, {"canary": "all"}, {"wait": 1}):
        assert stage.post("reload", **options).status == 400
    assert stage.post("promote", force=True).status == 400
    assert len(stage.supervisor.ops("rollout")) == 1


def test_reloads_take_turns_and_the_api_stays_alive(stage: Stage) -> None:
    stage.serving()
    stage.supervisor.hold.clear()
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(stage.post("reload").document)) for _ in range(18)]
    for thread in threads:
        thread.start()
    wait_until(lambda: any(answer["outcome"] == "busy" for answer in answers), "the queue is full")
    assert stage.tcp("GET", "/health/live")[0] == 200
    assert len(stage.supervisor.ops("rollout")) == 2, "one is under way, the others wait"
    stage.supervisor.hold.set()
    for thread in threads:
        thread.join()
    serving = sorted(answer["generation"] for answer in answers if answer["outcome"] == "serving")
    assert serving == list(range(2, 2 + len(serving))) and len(serving) >= 16


def test_comparisons_take_turns_and_few_may_wait(stage: Stage) -> None:
    stage.serving()
    stage.write(routes="".join(f'route "r{n}" {{ matches {{ path "/{n}"; }}; respond 200; }}\n' for n in range(300)))
    answers: list[Any] = []
    threads = [threading.Thread(target=lambda: answers.append(stage.post("diff"))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status for answer in answers} == {200, 503}
    good = [answer.document for answer in answers if answer.status == 200]
    assert all(document["differs"] and document["generated"]["differing"] >= 300 for document in good)
    assert len(stage.supervisor.ops("rollout")) == 1, "nothing was changed"


def test_a_gate_refuses_what_it_cannot_judge_and_lets_through_what_nobody_asked_for(stage: Stage) -> None:
    stage.write(system='reload-gate "0%" min-requests=1')
    stage.serving()
    stage.write(system='reload-gate "0%" min-requests=1', routes=NEW.format("a"))
    assert stage.post("reload").document["outcome"] == "serving", "no request is recorded"
    path = stage.supervisor.plan
    assert path is not None
    with open(path["path"], "ab") as file:  # what runs cannot be read any more: to reload is the remedy
        file.write(b" ")
    stage.write(routes=NEW.format("b"))
    assert stage.post("reload").document["outcome"] == "serving"


def test_routes_keep_their_series_for_the_life_of_the_instance(stage: Stage) -> None:
    stage.serving()
    assert series(stage) == ["(none)", "(other)", "rest"]
    stage.write(routes='route "a" { matches { path "/a"; }; respond 200; }')
    stage.post("reload")
    stage.write()
    stage.post("reload")
    assert series(stage) == ["(none)", "(other)", "rest", "a"] or series(stage) == ["(none)", "(other)", "a", "rest"]
    numbers = {route["name"]: route["series"] for route in stage.get("config").document["plan"]["routes"]}
    assert numbers == {"rest": 2}


def test_routes_beyond_the_table_are_counted_as_other_and_said(stage: Stage) -> None:
    stage.serving()
    stage.write(routes="\n".join(f'route "r{n}" {{ matches {{ path "/{n}"; }}; respond 200; }}' for n in range(20)))
    answer = stage.post("reload")
    assert answer.document["outcome"] == "serving"
    assert "(other)" in answer.document["warnings"][0]
    assert len(series(stage)) == 16


TESTED = """\
    route "old" {{ matches {{ path "/old"; }}; respond {status}; }}
}}
tests {{
    case "old addresses are gone" {{ request "/old"; expect {{ status 410; }}; }}
    case "the rest" {{ request "/"; expect {{ status 404; }}; }}
}}
routes {{
"""


@pytest.mark.directive("system/require-tests")
def test_a_reload_whose_policy_tests_fail_is_refused_and_says_why(stage: Stage) -> None:
    gate = "require-tests true"
    stage.write(system=gate, routes=TESTED.format(status=410))
    stage.serving()
    stage.write(system=gate, routes=TESTED.format(status=302))
    answer = stage.post("reload")
    assert (answer.status, answer.document["outcome"]) == (422, "invalid")
    assert answer.document["why"] == "1 of 2 policy tests fail"
    (problem,) = answer.document["problems"]
    assert problem["line"] == stage.config.read_text().splitlines().index(
        '    case "old addresses are gone" { request "/old"; expect { status 410; }; }'
    ) + 1
    assert "expected status 410, found 302" in problem["message"]
    assert "FAILED old addresses are gone" in answer.document["text"], "as `sentinelctl test` tells it"
    assert "route `old` matches" in answer.document["text"], "with the decision"
    assert len(stage.supervisor.ops("rollout")) == 1, "nothing was rolled out"
    assert stage.post("reload", dry=True).status == 422

    stage.write(routes=TESTED.format(status=302))
    assert stage.post("reload").document["outcome"] == "serving", "without the gate nobody asks"


def test_a_gate_without_any_test_is_a_problem(stage: Stage) -> None:
    stage.serving()
    stage.write(system="require-tests true")
    answer = stage.post("reload")
    assert answer.status == 422 and "there are none" in answer.document["problems"][0]["message"]
