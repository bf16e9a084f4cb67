"""Trials: the policy tests that a configuration must pass after its check, before anybody serves it.

Intuition: the trial run before the opening. The house was inspected and is sound (the check); now somebody
walks through it as the guests will.

Where it says `require-tests`, they run here, in the thread that compiles, bounded by
config.cases.REQUESTS_MAX. A test that fails is reported like a problem of the file, at the place of the
expectation, with the decision that was made instead; the reload ends as with any other problem, and what
serves serves on.
"""

from __future__ import annotations

from dataclasses import dataclass

from sentinel.config import Loaded, Problem, hide
from sentinel.explain import render_text
from sentinel.explain.cases import CaseResult, failed_text, run_case, wanted_text
from sentinel.explain.tree import node_of
from workers.rehearsal import House, ask_in


@dataclass(frozen=True, slots=True)
class FailedTests:
    """What did not pass: for programs, and as the text that `sentinelctl test` would print."""

    problems: tuple[Problem, ...]
    text: str
    why: str


def failed_tests(loaded: Loaded) -> FailedTests | None:
    """Run the policy tests of a valid configuration; None when all pass."""
    assert loaded.plan is not None, "only what is valid can be tested"
    ask, secrets = ask_in(House(loaded.plan)), frozenset(loaded.plan.secrets)
    results = [run_case(case, loaded.plan, ask) for case in loaded.cases]
    failed = [result for result in results if not result.is_passed]
    if not failed:
        return None
    why = f"{len(failed)} of {len(results)} policy tests fail"
    problems = tuple(problem for result in failed for problem in _problems(result, secrets))
    return FailedTests(problems, "\n".join(_text(result, secrets) for result in failed), why)


def _problems(result: CaseResult, secrets: frozenset[str]) -> list[Problem]:
    """Each expectation that does not hold, at its place."""
    found = []
    name = f'policy test "{result.case.name}" fails'
    for failed in result.failed:
        if failed.fault:
            found.append(Problem(failed.request.span, f"{name}: it cannot be asked: {failed.fault}"))
        for one in failed.failures:
            text = f"{name}: expected {wanted_text(one.wanted)}, found {one.found}"
            found.append(Problem(one.wanted.span, hide(text, secrets), "mend the configuration, or the test"))
    return found


def _text(result: CaseResult, secrets: frozenset[str]) -> str:
    lines = [f"FAILED {result.case.name}  {result.case.span}"]
    for failed in result.failed:
        lines += failed_text(failed)
        if not failed.fault:
            lines.append(render_text(node_of(hide(failed.tree.to_dict(), secrets))))
    return str(hide("\n".join(lines), secrets))
