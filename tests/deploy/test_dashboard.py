"""The dashboard asks for metrics that there are, by labels that they have."""

from __future__ import annotations

import json
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from supervisor.control.metrics import exposition
from tests.docs.scrape import everything
from tests.system.fleet import ROOT

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "sentinel.json").read_text())
EXPRESSIONS = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in DASHBOARD["panels"]
    for target in panel["targets"]
]


def samples() -> dict[str, set[str]]:
    """All sample names of a scrape in which everything occurs, with their labels."""
    text = exposition(everything(), "text/plain")[0].decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


SAMPLES = samples()
ADDED = {"instance", "job"}
"""Labels that Prometheus adds to whatever it scrapes."""


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_a_panel_asks_for_is_there(expression: str) -> None:
    asked = re.findall(r"((?:sentinel|gen_ai)_\w+)\{([^}]*)\}", expression)
    assert asked
    assert len(asked) == len(re.findall(r"(?:sentinel|gen_ai)_\w+\{", expression))
    for name, selectors in asked:
        assert name in SAMPLES
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selectors))
        assert labels <= SAMPLES[name] | ADDED
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        names = {label.strip() for label in grouped.split(",")}
        assert any(names <= SAMPLES[name] | ADDED for name, _ in asked)


def test_every_panel_says_what_it_shows() -> None:
    for panel in DASHBOARD["panels"]:
        assert panel["title"] and panel["description"].endswith(".")


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + row) for column in range(place["w"]) for row in range(place["h"])
        }  # fmt: skip
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
