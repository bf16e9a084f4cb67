"""A comparison in words: how many, which way they part, why, and for example which.

    1,532 of 20,000 recorded requests are treated differently
      1,532  route `api` → `api-v2`
             because for route `api` the path is "/v2/a", not below "/v1"
             forward to `api` → forward to `api-v2`
             old.kdl:10:9 → new.kdl:12:9
             GET shop.example/v2/a
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from sentinel.explain.diff import Group, Report
from sentinel.explain.render import CONTROL

LISTED_MAX: Final = 40
"""Groups that are told of; the others are counted."""
MARGIN: Final = " " * 4

Kind = Literal["headline", "group", "detail", "note"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line; `kind` is for whoever wants to colour it."""

    kind: Kind
    text: str


def report_lines(report: Report, what: str) -> Iterator[Line]:
    """Tell of a report. `what`: what kind of requests they are, such as "recorded"."""
    for line in _lines(report, what):
        yield Line(line.kind, line.text.translate(CONTROL))


def report_text(report: Report, what: str) -> str:
    return "\n".join(line.text for line in report_lines(report, what))


def _lines(report: Report, what: str) -> Iterator[Line]:
    yield Line("headline", _headline(report, what))
    for group in report.groups[:LISTED_MAX]:
        yield from _group(group)
    left = report.groups[LISTED_MAX:]
    if left or report.ungrouped:
        count = sum(group.count for group in left) + report.ungrouped
        yield Line("note", f"{MARGIN}{count:,} more in {len(left)} or more other ways")
    if report.recorded:
        yield Line("note", f"{MARGIN}{report.recorded:,} were recorded without query and headers, on which "
                           f"{report.blind_routes:,} of {report.routes:,} routes depend")  # fmt: skip
    if report.unsure:
        yield Line("note", f"{MARGIN}{report.unsure:,} of these are not compared: without query and headers the old "
                           "configuration gives them another route than the one they took")  # fmt: skip
    if report.is_cut:
        yield Line("note", f"{MARGIN}the time was up before all were compared")


def _headline(report: Report, what: str) -> str:
    total = f"{report.compared:,} {what} request{'' if report.compared == 1 else 's'}"
    renamed = f"; {report.renamed:,} get the same answer by another name" if report.renamed else ""
    if not report.differing:
        return f"none of {total} is treated differently{renamed}"
    return f"{report.differing:,} of {total} {'is' if report.differing == 1 else 'are'} treated differently{renamed}"


def _group(group: Group) -> Iterator[Line]:
    count = f"{group.count:,}"
    yield Line("group", f"{count:>9}  {group.text}")
    details = [*group.changes]
    if group.because:
        details.append(f"because {group.because}")
    fates = f"{group.before} → {group.after}"
    if group.before != group.after and fates != group.text:
        details.append(fates)
    places = [place for place in group.places if place]
    if places:
        details.append(" → ".join(dict.fromkeys(places)))
    for text in details:
        yield Line("detail", f"{'':>9}  {text}")
    for text in group.examples:
        yield Line("note", f"{'':>9}  e.g. {text}")
