"""`sentinel dev` from the first line to Ctrl-C: what it says works, what is saved is served, nothing stays behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from sentinel.cli.dev import EXAMPLE
from sentinel.config import load
from tests.docs.shop import LAST_LINE, Shop, open_shop
from tests.system.fleet import ROOT, wait_until


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("dev"), EXAMPLE) as shop:
        yield shop


def test_everything_that_it_says_to_try_works(shop: Shop) -> None:
    tries = re.findall(r"^    (?!#)(\S.*)$", shop.printed().split(LAST_LINE)[0], re.MULTILINE)
    assert len(tries) >= 5
    for command in tries:
        done = shop.run(command)
        assert done.returncode == 0 and done.stdout, (command, done.stderr)


def test_the_sdks_work_through_the_gateway(shop: Shop) -> None:
    base = shop.with_ports("http://127.0.0.1:8080/api")
    messages: Any = [{"role": "user", "content": "Hello"}]
    with openai.OpenAI(api_key="none", base_url=f"{base}/v1", max_retries=0) as client:
        whole = client.chat.completions.create(model="mock", messages=messages)
        parts = list(client.chat.completions.create(model="mock", messages=messages, stream=True))
        assert whole.choices[0].message.content == "".join(one.choices[0].delta.content or "" for one in parts)
        with pytest.raises(openai.RateLimitError):
            client.responses.create(model="mock-error=429", input="Hello")
    with (
        anthropic.Anthropic(api_key="none", base_url=base, max_retries=0) as claude,
        claude.messages.stream(model="mock", max_tokens=5, messages=messages) as stream,
    ):
        assert stream.get_final_message().usage.output_tokens == 5


def test_a_saved_file_is_reloaded(shop: Shop) -> None:
    before = shop.generation()
    shop.write(EXAMPLE.replace("Hello from", "Greetings from"))
    wait_until(lambda: shop.generation() > before, "the saved file is reloaded")
    assert shop.run("curl -sS http://127.0.0.1:8080/hello").stdout == "Greetings from Sentinel.\n"


def test_a_mistake_that_is_saved_is_told_and_what_served_serves_on(shop: Shop) -> None:
    before = shop.generation()
    shop.write(EXAMPLE.replace("respond", "respnd"))
    shop.wait_printed("did you mean `respond`?")
    assert shop.run("curl -sSf http://127.0.0.1:8080/hello").returncode == 0
    assert shop.generation() == before


def test_a_second_one_in_the_same_place_says_so_and_touches_nothing(shop: Shop) -> None:
    text = shop.config.read_text()
    second = subprocess.run(
        [sys.executable, "-m", "sentinel", "dev"],
        cwd=shop.directory, env=shop.environment, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert second.returncode == 1
    assert "already running" in second.stderr
    assert shop.config.read_text() == text
    assert shop.generation()


def test_ports_in_use_are_replaced_and_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        shop = Shop(tmp_path, EXAMPLE.replace(":8080", f":{port}"))
        try:
            printed = shop.wait_printed(LAST_LINE)
            plan = load(str(shop.config)).plan
            assert plan is not None
            assert f"127.0.0.1:{port} is in use" in printed
            assert plan.listeners[0].port != port
            assert f"gateway         http://{plan.listeners[0].address}" in printed
        finally:
            shop.end()


def test_a_broken_configuration_ends_it_with_all_problems(tmp_path: Path) -> None:
    config = tmp_path / "own.kdl"
    config.write_text(EXAMPLE.replace("respond", "respnd").replace("upstream ", "upstrem "))
    done = subprocess.run(
        [sys.executable, "-m", "sentinel", "dev", "-c", str(config)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "`respnd`" in done.stderr and "`upstrem`" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_nothing_stays_behind(tmp_path: Path, number: signal.Signals) -> None:
    with open_shop(tmp_path, EXAMPLE.replace('"10s"', '"100ms"')) as shop:
        born = _family(shop.process.pid)
        assert len(born) >= 4, "mock, supervisor, control and workers"
        os.kill(shop.process.pid, number)
        shop.process.wait(30)
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in born), "all processes have ended")


def _family(pid: int) -> list[int]:
    """All descendants of a process."""
    children: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        children += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return children + [one for child in children for one in _family(child)]
