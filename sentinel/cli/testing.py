"""`sentinelctl test`: run the policy tests that stand in configurations.

Intuition: the examiner's report. What passed is one line at the end; what failed is told so that nobody has to
ask again: the place, what was wanted and what was found, and the whole decision that led there.

Standard output has the report (or JSON), `--junit` a file for machines that collect tests. The exit status is 1 when
a test failed, when a configuration is invalid, or when less is covered than `--fail-under` asks for; when there
is no test at all it is 1 too: whoever asks for tests believes that there are some.

Values that came from `(env)` or `(file)` are hidden in all of it: reports are kept, and sent about.
"""

from __future__ import annotations

import json
import time
import xml.etree.ElementTree as xml
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from sentinel.cli.dry import print_tree
from sentinel.cli.files import Unreadable, write_new
from sentinel.cli.offline import NO, UNREADABLE, YES, complain, load_readable, offline_verb, problem_document, warn
from sentinel.config import Loaded, hide, render_problems
from sentinel.config.kinds import Unfit, percent
from sentinel.explain.cases import CaseResult, Failed, failed_text, run_case, wanted_text
from sentinel.explain.coverage import Coverage, Point
from sentinel.explain.tree import node_of
from workers.rehearsal import House, ask_in


@dataclass(frozen=True, slots=True)
class Tested:
    """One file's tests, run. `points`: what coverage counts; touched of all."""

    path: str
    loaded: Loaded
    results: tuple[tuple[CaseResult, float], ...] = ()
    touched: int = 0
    points: int = 0
    untouched: tuple[Point, ...] = ()
    left_out: int = 0

    @property
    def secrets(self) -> frozenset[str]:
        return frozenset(self.loaded.plan.secrets) if self.loaded.plan is not None else frozenset()

    def hidden(self, text: str) -> str:
        return str(hide(text, self.secrets))


def run_tests(path: str, loaded: Loaded, *, name: str = "", is_measured: bool = False) -> Tested:
    """Run the cases whose name contains this."""
    if loaded.plan is None:
        return Tested(path, loaded)
    house = House(loaded.plan)
    ask, coverage = ask_in(house), Coverage(house.table) if is_measured else None
    results = []
    chosen = [case for case in loaded.cases if name.lower() in case.name.lower()]
    for case in chosen:
        started = time.perf_counter()
        result = run_case(case, loaded.plan, ask, coverage.see if coverage is not None else None)
        results.append((result, time.perf_counter() - started))
    left_out = len(loaded.cases) - len(chosen)
    if coverage is None:
        return Tested(path, loaded, tuple(results), left_out=left_out)
    return Tested(path, loaded, tuple(results), *coverage.counts(), tuple(coverage.untouched()), left_out)


@click.command("test")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option("-k", "name", default="", metavar="TEXT", help="Run only cases whose name contains this.")
@click.option("--junit", metavar="FILE", help="Write a report in JUnit's XML form.")
@click.option("--coverage", "is_measured", is_flag=True, help="Tell what of the configuration no test touches.")
@click.option("--fail-under", "least", metavar="PERCENT", help="With 1 when less is covered, e.g. 90%.")
@offline_verb
def test(
    files: tuple[str, ...], name: str, junit: str | None, is_measured: bool, least: str | None, is_json: bool
) -> int:
    """Run the policy tests of configurations (`tests { case … }`).

    Each FILE is a main file; tests may stand in files that it includes. Nothing is sent: requests are read and decided
    by the code that serves live traffic, against the state that each case assumes.
    """
    share = None if least is None else _share(least)
    status = YES
    tested: list[Tested] = []
    for path in files:
        try:
            loaded = load_readable(path)
        except Unreadable as fault:
            complain(str(fault))
            status = UNREADABLE
            continue
        warn(loaded.warnings)
        one = run_tests(path, loaded, name=name, is_measured=is_measured or share is not None)
        tested.append(one)
        status = max(status, YES if _is_good(one, share) else NO)
        if not is_json:
            _print(one, share)
    if is_json:
        click.echo(json.dumps([_document(one) for one in tested], indent=2, ensure_ascii=False))
    if junit is not None:
        write_new(junit, _junit(tested))
    return status


COMMANDS: list[click.Command] = [test]


def _is_good(one: Tested, share: int | None) -> bool:
    if one.loaded.plan is None or not one.results:
        return False
    is_covered = share is None or one.touched * 1000 >= share * one.points
    return is_covered and all(result.is_passed for result, _ in one.results)


def _share(text: str) -> int:
    try:
        return percent(text if text.endswith("%") else f"{text}%")
    except Unfit as fault:
        raise click.UsageError(f"--fail-under: {fault.message}, {fault.remedy}") from fault


# For people.


def _print(one: Tested, share: int | None) -> None:
    if one.loaded.plan is None:
        click.echo(render_problems(one.loaded.problems))
        return
    if not one.results:
        complain(f"{one.path}: there is no policy test" + (" of that name" if one.left_out else ""))
        return
    for result, _ in one.results:
        if not result.is_passed:
            _print_failed(one, result)
    passed = sum(result.is_passed for result, _ in one.results)
    requests = sum(result.requests for result, _ in one.results)
    failed = len(one.results) - passed
    told = [f"{passed} passed"] + ([f"{failed} failed"] if failed else [])
    told += [f"{one.left_out} left out"] if one.left_out else []
    seconds = sum(took for _, took in one.results)
    style: dict[str, Any] = {"fg": "red" if failed else "green"}
    click.echo(click.style(f"{one.path}: {', '.join(told)} ({requests} requests, {seconds:.2f} s)", **style))
    if one.points:
        _print_coverage(one, share)


def _print_failed(one: Tested, result: CaseResult) -> None:
    click.echo(click.style(f"FAILED {one.hidden(result.case.name)}", fg="red", bold=True) + f"  {result.case.span}")
    for failed in result.failed:
        for line in failed_text(failed):
            sign = line.strip()[:2]
            click.echo(click.style(one.hidden(line), fg={"- ": "red", "+ ": "green"}.get(sign)))
        if not failed.fault:
            print_tree(node_of(hide(failed.tree.to_dict(), one.secrets)))
    click.echo()


def _print_coverage(one: Tested, share: int | None) -> None:
    wanted = f", and {share / 10:g} % are wanted" if share is not None else ""
    click.echo(f"coverage: {one.touched} of {one.points} ({_percent(one):.1f} %){wanted}")
    for point in one.untouched:
        click.echo(f"    {point.span}: {one.hidden(str(point))}")


def _percent(one: Tested) -> float:
    return 100 * one.touched / one.points if one.points else 100.0


# For programs.


def _document(one: Tested) -> dict[str, Any]:
    cases = [
        {
            "name": result.case.name, "place": str(result.case.span), "passed": result.is_passed,
            "requests": result.requests, "failures": [_failed_document(failed) for failed in result.failed],
        }
        for result, _ in one.results
    ]  # fmt: skip
    document: dict[str, Any] = {
        "file": one.path, "problems": [problem_document(problem) for problem in one.loaded.problems],
        "passed": sum(result.is_passed for result, _ in one.results),
        "failed": sum(not result.is_passed for result, _ in one.results), "left_out": one.left_out, "cases": cases,
    }  # fmt: skip
    if one.points:
        document["coverage"] = {
            "touched": one.touched, "points": one.points,
            "untouched": [
                {"kind": point.kind, "text": point.text, "side": point.side, "place": str(point.span)}
                for point in one.untouched
            ],
        }  # fmt: skip
    shown: dict[str, Any] = hide(document, one.secrets)
    return shown


def _failed_document(failed: Failed) -> dict[str, Any]:
    return {
        "request": failed.request.request, "place": str(failed.request.span), "number": failed.nth,
        "fault": failed.fault,
        "expected": [
            {"wanted": wanted_text(one.wanted), "found": one.found, "place": str(one.wanted.span), "again": one.again}
            for one in failed.failures
        ],
        "explanation": failed.tree.to_dict(),
    }  # fmt: skip


def _junit(tested: Iterable[Tested]) -> str:
    """One suite a file, one test a case; a configuration that is invalid is a suite with an error."""
    root = xml.Element("testsuites", name="sentinel policy tests")
    for one in tested:
        suite = xml.SubElement(root, "testsuite", name=one.path)
        for result, took in one.results:
            element = xml.SubElement(
                suite, "testcase", name=_plain(one.hidden(result.case.name)), classname=one.path,
                file=result.case.span.file, line=str(result.case.span.line), time=f"{took:.6f}",
            )  # fmt: skip
            if not result.is_passed:
                lines = [line for failed in result.failed for line in failed_text(failed)]
                text = _plain(one.hidden("\n".join(lines)))
                xml.SubElement(element, "failure", message=text.splitlines()[0]).text = text
        if one.loaded.problems:
            element = xml.SubElement(suite, "testcase", name="the configuration is valid", classname=one.path)
            text = _plain(render_problems(one.loaded.problems))
            xml.SubElement(element, "error", message=text.splitlines()[0]).text = text
        _count(suite)
    return xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _count(suite: xml.Element) -> None:
    cases: Sequence[xml.Element] = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for what in ("failure", "error"):
        suite.set(f"{what}s", str(sum(case.find(what) is not None for case in cases)))


def _plain(text: str) -> str:
    """XML 1.0 has no way to write most control characters."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\N{REPLACEMENT CHARACTER}" for one in text)
