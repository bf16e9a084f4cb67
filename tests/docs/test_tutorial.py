"""The tutorial, walked through from the first line to the last as a reader would."""

from __future__ import annotations

from pathlib import Path

from sentinel.cli.client import Client
from sentinel.cli.dev import EXAMPLE
from sentinel.config import load_text, render_problems
from tests.docs.pages import blocks
from tests.docs.shop import Shop, open_shop
from tests.system.fleet import ROOT, wait_until

PAGE = ROOT / "docs" / "tutorial" / "first-gateway.md"


def test_every_step_works(tmp_path: Path) -> None:
    with open_shop(tmp_path, EXAMPLE) as shop:
        for block in blocks(PAGE):
            if block.language == "kdl":
                save(shop, block.text)
                continue
            for command in block.commands:
                if command.startswith("make "):
                    continue  # it runs already
                done = shop.run(command)
                assert done.returncode == 0 and done.stdout, f"{block.place}: {command}\n{done.stderr}"


def save(shop: Shop, text: str) -> None:
    """Save the configuration, and wait until it serves."""
    loaded = load_text(text)
    assert not loaded.problems, render_problems(loaded.problems)
    before = shop.generation()
    shop.write(text + "\n")
    wait_until(lambda: shop.generation() > before and is_settled(shop), "what was saved serves")


def is_settled(shop: Shop) -> bool:
    document = Client(str(shop.directory / "run" / "control.sock")).get("status").document
    return document["rollout"]["state"] in ("probation", "current")


def test_what_it_says_about_answers_is_so(tmp_path: Path) -> None:
    with open_shop(tmp_path, EXAMPLE) as shop:
        assert "x-request-id: " in shop.run("curl -is http://127.0.0.1:8080/hello").stdout
        spoofed = shop.run("curl -s -H 'x-forwarded-for: 10.0.0.1' http://127.0.0.1:8080/api/echo").stdout
        assert '"x-forwarded-for": "127.0.0.1"' in spoofed and "10.0.0.1" not in spoofed
        refused = shop.run("curl -is --path-as-is http://127.0.0.1:8080/api/..%2fsecret").stdout
        assert "x-sentinel-reason: bad-path" in refused
        assert shop.run("curl -is -X DELETE http://127.0.0.1:8080/api/users/7").stdout.startswith("HTTP/1.1 404")
        (changed,) = blocks(PAGE, "kdl")
        save(shop, changed.text)
        told = shop.run("curl -is -X DELETE http://127.0.0.1:8080/api/users/7").stdout
        assert told.startswith("HTTP/1.1 405") and "allow: GET, POST" in told
