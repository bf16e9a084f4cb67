"""The reference says what the code does: metrics as scraped, log fields as written, signals as heard."""

from __future__ import annotations

import re
import signal

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from supervisor.control.metrics import exposition
from supervisor.loop import SIGNALS
from tests.docs.scrape import everything
from tests.system.fleet import ROOT
from workers.accesslog import Entry
from workers.bill import Line
from workers.guests import Line as GuestLine
from workers.passports import LOGGED_AS

REFERENCE = ROOT / "docs" / "reference"


def rows(page: str, columns: int) -> list[list[str]]:
    """The rows of all tables of a page that have so many columns, without their heads."""
    found = []
    for line in (REFERENCE / page).read_text().splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == columns and cells[0].startswith("`"):
            found.append(cells)
    return found


def test_the_metrics_are_those_of_a_scrape() -> None:
    text = exposition(everything(), "application/openmetrics-text; version=1.0.0")[0].decode()
    scraped = {}
    for family in text_string_to_metric_families(text):
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        scraped[f"{family.name}{suffix}"] = (family.type, labels)
    told = {
        name.strip("`"): (kind, {label for label in re.findall(r"`(\w+)`", labels)})
        for name, kind, labels, _ in rows("metrics.md", 4)
    }
    assert told == scraped


def test_the_fields_of_the_access_log_are_those_that_are_written_in_their_order() -> None:
    assert [cells[0].strip("`") for cells in rows("access-log.md", 3)] == [
        *Entry.__struct_fields__, *Line.__struct_fields__, LOGGED_AS, *GuestLine.__struct_fields__,
    ]  # fmt: skip


def test_every_signal_that_is_heard_is_told() -> None:
    told = set(re.findall(r"SIG[A-Z0-9]+", (REFERENCE / "signals.md").read_text()))
    assert {signal.Signals(number).name for number in SIGNALS} <= told
