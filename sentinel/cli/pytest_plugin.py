"""The pytest plugin: policy tests of KDL files as tests of pytest, and policies asked from tests in Python.

    pytest --sentinel deploy/sentinel.kdl                     each `case` of the file is a test

    def test_strangers_are_refused(sentinel_policy):
        policy = sentinel_policy("deploy/sentinel.kdl")
        policy.assume("limit per-client 192.0.2.7 remaining=0")
        assert policy.request("GET /v1/x", client_ip="192.0.2.7").status == 429

It is loaded by every pytest of an environment in which Sentinel is installed (entry point `pytest11`), so it does
nothing without being asked, and imports nothing of Sentinel before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from sentinel.config import Loaded
    from sentinel.core.cases import Case
    from sentinel.explain.cases import CaseResult, Outcome


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sentinel", "policy tests of Sentinel")
    group.addoption("--sentinel", action="store_true", help="Collect the policy tests (`tests`) of KDL files.")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.suffix != ".kdl" or not parent.config.getoption("--sentinel"):
        return None
    collector: pytest.Collector = PolicyFile.from_parent(parent, path=file_path)
    return collector


class PolicyFile(pytest.File):
    """One configuration. A file that is included by others, and is none itself, has no tests of its own."""

    def collect(self) -> Iterator[pytest.Item]:
        from sentinel.config import load, render_problems

        text = self.path.read_text(encoding="utf-8", errors="replace")
        if "schema-version" not in text:
            return
        loaded = load(str(self.path))
        if loaded.plan is None:
            if loaded.document:
                yield InvalidItem.from_parent(self, name="valid", problems=render_problems(loaded.problems))
            return
        for case in loaded.cases:
            yield PolicyItem.from_parent(self, name=case.name, loaded=loaded, case=case)


class InvalidItem(pytest.Item):
    """A configuration that cannot be tested: that is one failure, and not an error of the collection."""

    def __init__(self, *, problems: str, **more: Any) -> None:
        super().__init__(**more)
        self._problems = problems

    def runtest(self) -> None:
        raise PolicyFailed(f"the configuration has problems\n{self._problems}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        return _shown(self, excinfo)


class PolicyItem(pytest.Item):
    """One case."""

    def __init__(self, *, loaded: Loaded, case: Case, **more: Any) -> None:
        super().__init__(**more)
        self._loaded = loaded
        self._case = case

    def runtest(self) -> None:
        from sentinel.explain.cases import run_case
        from workers.rehearsal import House, ask_in

        assert self._loaded.plan is not None, "only valid configurations have cases"
        result = run_case(self._case, self._loaded.plan, ask_in(House(self._loaded.plan)))
        if not result.is_passed:
            raise PolicyFailed(_told(result, frozenset(self._loaded.plan.secrets)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        return _shown(self, excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        return Path(self._case.span.file), self._case.span.line - 1, self._case.name


class PolicyFailed(Exception):
    """A case does not hold; the text is the report."""


def _shown(item: pytest.Item, excinfo: pytest.ExceptionInfo[BaseException]) -> Any:
    """The report, without our own frames: they are not what failed."""
    if isinstance(excinfo.value, PolicyFailed):
        return str(excinfo.value)
    return pytest.Item.repr_failure(item, excinfo)


def _told(result: CaseResult, secrets: frozenset[str]) -> str:
    from sentinel.config import hide
    from sentinel.explain import render_text
    from sentinel.explain.cases import failed_text

    lines: list[str] = []
    for failed in result.failed:
        lines += failed_text(failed)
        if not failed.fault:
            lines.append(render_text(failed.tree))
    return str(hide("\n".join(lines), secrets))


# Policies in Python.


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request. status: None where the upstream says it. headers: what the gateway writes."""

    route: str
    verdict: str
    status: int | None
    reason: str
    upstream: str
    endpoint: str
    steps: tuple[str, ...]
    headers: Mapping[str, str]
    upstream_headers: Mapping[str, str]
    trace: str


class Policy:
    """A configuration with a fleet that is assumed: what requests take from limits stays taken."""

    def __init__(self, path: str) -> None:
        from sentinel.config import load, render_problems
        from sentinel.core.state import NOTHING_KNOWN
        from sentinel.explain.assumed import Assumed
        from workers.rehearsal import House, ask_in

        loaded = load(path)
        if loaded.plan is None:
            raise ValueError(render_problems(loaded.problems))
        self._plan = loaded.plan
        self._ask = ask_in(House(loaded.plan))
        self._world = Assumed(loaded.plan)
        self._state = NOTHING_KNOWN

    def assume(self, *lines: str) -> Policy:
        """From now on it is so: lines as in `state`, for example "endpoint 10.0.0.7:80 ejected"."""
        from sentinel.config import render_problems
        from sentinel.config.states import read_state

        state = read_state(lines, self._plan, self._state)
        if isinstance(state, tuple):
            raise ValueError(render_problems(state))
        self._state = state
        self._world.assume(state)
        return self

    def wait(self, seconds: float) -> Policy:
        """So much time passes."""
        self._world.pass_ns(round(seconds * 1e9))
        return self

    def request(
        self, request: str, *, headers: Mapping[str, str] | None = None, client_ip: str = "127.0.0.1",
        listener: str = "", body_bytes: int = -1,
    ) -> Answer:  # fmt: skip
        """What would come of this request: a method and a URL, or a path."""
        from sentinel.explain.cases import Query

        lines = tuple(f"{name}: {value}" for name, value in (headers or {}).items())
        return _answer(self._ask(Query(request, lines, client_ip, listener, body_bytes), self._world))


def _answer(outcome: Outcome) -> Answer:
    from sentinel.explain import render_text

    return Answer(
        outcome.route, outcome.verdict, outcome.status, outcome.reason, outcome.upstream, outcome.endpoint,
        tuple(reason.word for reason, _, _ in outcome.steps), dict(outcome.answer), dict(outcome.sent),
        render_text(outcome.tree()),
    )  # fmt: skip


@pytest.fixture
def sentinel_policy() -> Callable[[str], Policy]:
    """Make a policy of a configuration's path."""
    return Policy
