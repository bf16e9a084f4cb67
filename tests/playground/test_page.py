"""The page in a browser, with control behind it and with nobody: what a person does, and what is seen then."""

from __future__ import annotations

import itertools
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinel.core.reasons import Reason
from shm.region import Role
from tests.playground.chromium import Browser
from tests.supervisor.control.stage import Stage
from tests.supervisor.control.test_api import write_record
from tests.system.fleet import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

STARTING_S = 120.0  # of Python in a browser on a busy machine; alone it takes two
EDITOR, OTHER = "#editors > :nth-child(1) textarea.text", "#editors > :nth-child(2) textarea.text"
VERDICT = ".k-verdict .said"
PAGE = ROOT / "sentinel" / "playground" / "page"


@pytest.fixture(scope="module", params=["served", "static"])
def opened(request: pytest.FixtureRequest, browser: Browser) -> tuple[Browser, str]:
    """The page, once: Python starts anew with every loading of the static one."""
    url = request.getfixturevalue(request.param)
    load(browser, url)
    return browser, url


@pytest.fixture
def page(opened: tuple[Browser, str]) -> Iterator[Browser]:
    """The page as it is in the beginning; whatever a test did, nothing was complained of, nobody else spoken to."""
    browser, url = opened
    browser.click("#brand")
    browser.wait("!document.body.matches('.asking, .comparing')", "an answer")
    browser.wait(f"document.querySelector('{VERDICT}')?.innerText.startsWith('forward to 10.0.1.1')", "the first one")
    yield browser
    behaved(browser, url)


def load(browser: Browser, url: str) -> None:
    browser.complaints.clear()
    browser.requests.clear()
    browser.open("about:blank")
    browser.send("Storage.clearDataForOrigin", origin="/".join(url.split("/")[:3]), storageTypes="all")
    browser.open(url)
    browser.wait("document.querySelector('.headline')", "the first decision", STARTING_S)


def behaved(browser: Browser, url: str) -> None:
    assert not browser.complaints
    origin = "/".join(url.split("/")[:3])
    strangers = [one for one in browser.requests if not one.startswith((origin, "about:", "data:", f"blob:{origin}"))]
    assert not strangers, "the page speaks with nobody but its own server"


def replace(browser: Browser, before: str, after: str, editor: str = EDITOR) -> None:
    """Select a part of the text and type something else."""
    found = browser.evaluate(
        f"(e => {{ const at = e.value.indexOf({json.dumps(before)}); e.focus();"
        f"e.setSelectionRange(at, at + {len(before)}); return at; }})(document.querySelector('{editor}'))"
    )
    assert found >= 0, f"{before!r} is not in the editor"
    browser.send("Input.insertText", text=after)


def selected(browser: Browser) -> str:
    return str(browser.evaluate("(e => e.value.slice(e.selectionStart, e.selectionEnd))(document.activeElement)"))


def where(browser: Browser, selector: str) -> list[tuple[int, int]]:
    """Where elements stand on the screen, to the pixel."""
    script = "e => { const r = e.getBoundingClientRect(); return [Math.round(r.x), Math.round(r.y)]; }"
    found = browser.evaluate(f"[...document.querySelectorAll({json.dumps(selector)})].map({script})")
    return [(x, y) for x, y in found]


# With control, and with nobody.


def test_a_problem_is_underlined_where_it_is_and_listed_with_its_remedy(page: Browser) -> None:
    replace(page, 'upstream "orders"\n', 'upstream "ordes"\n')
    page.wait("document.querySelector('.problem')", "the list of problems")
    assert page.texts(".layer .m-error") == ['"ordes"']
    under, text = (
        page.evaluate(f"(r => [r.x, r.y, r.width, r.height])({what}.getBoundingClientRect())")
        for what in ("document.querySelector('.m-error')", f"document.querySelector('{EDITOR}')")
    )
    assert text[0] <= under[0] and under[0] + under[2] <= text[0] + text[2] and under[2] > 20
    assert "did you mean orders?" in page.text(".problem").replace("`", "")
    assert page.text(".state") == "1 problem"
    assert "decides nothing" in page.text("#decision")

    page.click(".problem")
    assert selected(page) == '"ordes"'

    page.send("Input.insertText", text='"orders"')
    page.wait("document.querySelector('.headline')", "the decision, when it is mended")
    assert not page.texts(".layer .m-error") and page.text(".state") == "valid"


def test_a_request_is_decided_and_every_step_leads_to_its_place(page: Browser) -> None:
    assert page.text(".headline .big") == "Forwarded"
    page.fill("#r-url", "http://api.example.com/nowhere")
    page.wait(f"document.querySelector('{VERDICT}')?.innerText.includes('404')", "the verdict of the other route")
    assert page.text(".headline .big") == "Answered 404"
    assert page.text("#spoken").startswith("respond with 404"), "who hears the page is told"

    fold = page.evaluate("document.querySelector('.fold').getAttribute('aria-expanded')")
    assert fold == "false" and not page.texts(".node.lost:not(.fold)")
    page.click(".fold .statement")
    lost = page.texts(".node.lost:not(.fold) .said")
    assert len(lost) == 3 and "orders-v2" in lost[0]

    page.click(".node.lost:not(.fold) .place")
    assert selected(page) == "path-prefix"
    page.click(".node.lost:not(.fold) .reason")
    assert "a better ranked route was passed over" in page.text(".meaning")


def test_the_tree_is_walked_with_the_keyboard(page: Browser) -> None:
    page.fill("#r-url", "/nowhere")
    page.wait("document.querySelector('.fold')", "something to unfold")
    here = "document.activeElement.closest('.node')?.querySelector('.said').innerText ?? document.activeElement.tagName"
    page.evaluate("document.querySelector('[role=tree] [tabindex=\"0\"]').focus()")
    assert str(page.evaluate(here)).startswith("POST")
    page.press("ArrowDown")
    page.press("ArrowDown")
    assert "passed over" in page.evaluate(here)
    page.press("ArrowRight")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
    page.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-level')") == "3"
    page.press("ArrowLeft")
    assert page.evaluate("document.activeElement.getAttribute('aria-level')") == "2"
    page.press("End")
    assert "respond with 404" in page.evaluate(here)
    page.press("ArrowRight")
    assert page.evaluate("document.activeElement.className") == "chip reason"
    page.press("Enter")
    assert page.texts(".k-verdict .meaning")
    assert page.evaluate("document.querySelectorAll('[role=tree] .node[tabindex=\"0\"]').length") == 1


def test_tab_indents_in_the_editor_and_escape_leads_out_of_it(page: Browser) -> None:
    page.evaluate(f"(e => {{ e.focus(); e.setSelectionRange(0, 0); }})(document.querySelector('{EDITOR}'))")
    page.press("Tab")
    assert page.evaluate(f"document.querySelector('{EDITOR}').value.slice(0, 6)") == "    //"
    page.press("Tab", 8)
    assert page.evaluate(f"document.querySelector('{EDITOR}').value.slice(0, 2)") == "//"
    page.press("Escape")
    page.press("Tab")
    assert page.evaluate(f"document.activeElement !== document.querySelector('{EDITOR}')")


def test_two_configurations_stand_side_by_side_and_the_first_step_that_differs_is_marked(page: Browser) -> None:
    page.click("#compare")
    page.wait("document.querySelector('.same')", "two that are the same")
    replace(page, 'header "x-api-version" "2"', 'header "x-api-version" "1"', OTHER)
    page.wait("document.querySelector('.parting')", "the first difference")
    assert page.text(".parting") == "first step that differs"
    first = page.texts(".node.first .said")
    assert any("orders-v2" in text for text in first)
    tops = [y for _, y in where(page, ".node.first")]
    ((_, sign),) = where(page, ".parting")
    assert len(set(tops)) == 1 and sign < tops[0], "one line, and the sign above it"
    roots = where(page, ".k-request")
    assert roots[0][1] == roots[1][1] and roots[0][0] < roots[1][0]

    assert "are treated differently" in page.text(".elsewhere h3")
    replace(page, 'header "x-api-version" "1"', 'header "x-api-version" "2"', OTHER)
    page.wait("document.querySelector('.same')", "the same again")
    assert page.text(".elsewhere h3").startswith("None of")

    replace(page, 'path "/healthz"', 'path "/health"', OTHER)
    page.wait("document.querySelector('.elsewhere button.chip')", "a request that would show it")
    assert page.texts(".same"), "ours does not"
    page.click(".elsewhere button.chip")
    page.wait("document.querySelector('.parting')", "that one, asked")
    page.click("#compare")
    page.wait("document.querySelector('.headline')", "one decision")


def test_sliders_change_the_decision(page: Browser) -> None:
    page.choose('#desk input[type="range"]', "0")
    page.wait("document.querySelector('.headline .big').innerText.includes('429')", "a limit that is used up")
    assert "is used up" in page.text(".k-step[data-tone=warn] .said"), "the step that ended it is seen to have done so"
    page.click("#reset")
    page.wait("document.querySelector('.headline .big').innerText === 'Forwarded'", "the state as on the first day")
    assert "10.0.1.1:9001" in page.text(VERDICT)
    page.choose(".endpoint select", "unhealthy")
    page.wait(f"document.querySelector('{VERDICT}').innerText.includes('10.0.1.2:9001')", "the other endpoint")


EVIL = "<img src=x onerror=window.hurt=1>"


def test_what_others_wrote_is_text_wherever_it_appears(page: Browser) -> None:
    replace(page, '"x-api-version" "2"', f'"x-api-version" "{EVIL}2"')
    page.fill("#r-method", "POST")
    page.fill("#r-url", f"/v1/orders/{EVIL.replace(' ', '/')}?{EVIL.replace(' ', '&')}")
    page.fill("#r-headers", f"host: api.example.com\nx-api-version: {EVIL}")
    page.wait(f"document.querySelector('.tree')?.innerText.includes('{EVIL}2')", "it, in the tree")
    page.click("#compare")
    page.wait("document.querySelector('.board')", "both trees")
    page.click("#compare")
    replace(page, 'route "orders"', f'route "{EVIL}"')
    page.wait("document.querySelector('.problem')", "a problem that tells of it")
    assert not page.evaluate("Boolean(window.hurt) || document.querySelectorAll('main img, main script').length > 0")


def test_a_curl_command_fills_the_form(page: Browser) -> None:
    url = "'http://api.example.com/v1/orders?a=b'"
    page.fill("#r-url", f"curl -X PUT {url} -H 'x-tenant: it'\\''s' -d '{{\"a\":1}}' --compressed")
    page.press("Tab")
    page.wait("document.getElementById('r-method').value === 'PUT'", "the form")
    assert page.evaluate("document.getElementById('r-headers').value").split("\n")[0] == "x-tenant: it's"
    assert page.evaluate("document.getElementById('r-body').value") == "7"
    page.wait("document.querySelector('.k-request .said').innerText.startsWith('PUT http://api')", "the decision")


def test_a_link_holds_everything_on_the_page(page: Browser) -> None:
    replace(page, 'body="nothing here', 'body="shared ümläut')
    page.fill("#r-url", "/shared?x=1")
    page.wait("document.querySelector('.k-request .said').innerText.includes('/shared')", "the decision")
    page.click("#share")
    page.wait("location.hash.startsWith('#p1=')", "the fragment")
    url = page.evaluate("location.href")
    page.click("#brand")
    page.wait("!document.querySelector('.k-request .said').innerText.includes('/shared')", "another one")
    page.evaluate(f"location.hash = {json.dumps(url.partition('#')[2])}")
    page.wait("document.querySelector('.k-request .said').innerText.includes('/shared')", "the shared decision")
    assert "shared ümläut" in page.evaluate(f"document.querySelector('{EDITOR}').value")


FRAGMENTS = ("#p1=", "#p1=AAAA", "#p1=!!!", "#p1=" + "A" * 70_000, "#p1=q1YqSS0uUbJSKkotLs0pUaoFAA")


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=len)
def test_a_fragment_that_is_none_of_ours_is_left_aside(browser: Browser, served: str, fragment: str) -> None:
    load(browser, served)
    browser.evaluate(f"location.hash = {json.dumps(fragment)}")
    browser.wait("location.hash.length > 3", "the fragment")
    assert browser.text(".headline .big") == "Forwarded"
    behaved(browser, served)


SIZES = ((1440, 900), (1100, 800), (800, 1200), (390, 844))


def test_it_fits_its_window(browser: Browser, served: str, tmp_path: Path) -> None:
    """Nothing runs out of the window, and what is seen is neither blank nor the other scheme's."""
    load(browser, served)
    browser.click("#compare")
    browser.wait("document.querySelector('.board')", "the widest there is")
    for scheme, (width, height) in itertools.product(("light", "dark"), SIZES):
        browser.look(width, height, scheme)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width, (width, scheme)
        octets = browser.screenshot(tmp_path / f"{width}-{scheme}.png")
        assert struct.unpack(">II", octets[16:24]) == (width, height)
        red = browser.evaluate("Number(/\\d+/.exec(getComputedStyle(document.body).backgroundColor)[0])")
        assert (red < 60) == (scheme == "dark")
    browser.look(1440, 900, "light")
    behaved(browser, served)


# Only with control.


@pytest.fixture
def live(browser: Browser, served: str) -> Iterator[Browser]:
    load(browser, served)
    yield browser
    behaved(browser, served)


def test_a_recorded_request_is_opened_and_replayed(live: Browser, stage: Stage) -> None:
    slot = stage.region.claim_slot(pid=1, birth_ns=1, role=Role.WORKER, generation=1, lane=0)
    write_record(stage, slot, "live-1", path=f"/live/{EVIL.replace(' ', '/')}")
    write_record(stage, slot, "live-2", status=502)
    live.click("#tab-live")
    live.wait("document.querySelectorAll('.record').length >= 2", "both records")
    assert live.evaluate("document.querySelector('.record').dataset.id") == "live-2", "the newest first"
    live.click('.record[data-id="live-1"]')
    live.wait("document.querySelector('.recorded')", "its tree")
    assert "A recorded request" in live.text("#decision")
    live.click(".k-verdict .reason")
    assert live.text(".k-verdict .meaning p") == Reason.RESPONDED.value.text.replace("`", "")
    assert not live.evaluate("Boolean(window.hurt) || document.querySelectorAll('main img').length > 0")
    live.click(".recorded .main")
    live.wait("document.querySelector('.headline')", "the replay")
    assert str(live.evaluate("document.getElementById('r-url').value")).startswith("/live/<img")
    live.click("#tab-live")
    live.choose(".filters input", "5xx")
    live.wait("document.querySelectorAll('.record').length === 1", "the filter")
    live.click("#tab-ask")


# Colours.


def palette(selector: str) -> dict[str, tuple[float, float, float]]:
    css = (PAGE / "style.css").read_text()
    block = css[css.index(selector) :]
    block = block[: block.index("}")]
    return {
        name: tuple(int(value[at : at + 2], 16) / 255 for at in (0, 2, 4))  # type: ignore[misc]
        for name, value in re.findall(r"--([\w-]+): #([0-9a-f]{6});", block)
    }


def luminance(colour: tuple[float, float, float]) -> float:
    linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


PAIRS = [
    *((ink, ground) for ink in ("ink", "soft", "faint") for ground in ("page", "card", "sunk")),
    *((f"k-{name}", "sunk") for name in ("node", "string", "number", "prop", "secret", "comment")),
    *((tone, f"{tone}-soft") for tone in ("good", "calm", "warn", "bad", "differs")),
    *(("card", tone) for tone in ("good", "calm", "warn", "bad", "brand", "ink")),
    ("brand-ink", "brand-soft"), ("brand-ink", "card"),
]  # fmt: skip


@pytest.mark.parametrize("scheme", [":root {", ':root[data-theme="dark"] {'])
def test_text_stands_out_from_its_ground(scheme: str) -> None:
    """WCAG AA: 4.5 to 1."""
    colours = palette(scheme)
    weak = {}
    for ink, ground in PAIRS:
        bright, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
        if (ratio := (bright + 0.05) / (dark + 0.05)) < 4.5:
            weak[ink, ground] = round(ratio, 2)
    assert not weak


def test_both_ways_to_the_dark_scheme_have_the_same_colours() -> None:
    assert palette(':root[data-theme="dark"] {') == palette(':root[data-theme="auto"]')
