"""The channel between supervisor and control: order, borders, silence and death."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from supervisor.control.channel import MESSAGE_BYTES_MAX, UNSENT_MAX, Channel, ChannelFault, SupervisorRefusal

Scenario = Callable[[Channel, socket.socket, list[dict[str, Any]]], Awaitable[None]]


def play(scenario: Scenario) -> None:
    """Run a scenario with a channel and the raw other end of it."""

    async def stage() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        events: list[dict[str, Any]] = []
        channel = Channel(ours, events.append)
        channel.open()
        try:
            await scenario(channel, theirs, events)
        finally:
            channel.close()
            theirs.close()

    asyncio.run(stage())


async def hear(theirs: socket.socket) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(await asyncio.get_running_loop().sock_recv(theirs, MESSAGE_BYTES_MAX))
    return message


def say(theirs: socket.socket, **message: Any) -> None:
    theirs.send(json.dumps(message).encode())


def test_answers_find_their_questions_in_any_order() -> None:
    async def scenario(channel: Channel, theirs: socket.socket, events: list[dict[str, Any]]) -> None:
        first = asyncio.ensure_future(channel.ask("status"))
        second = asyncio.ensure_future(channel.ask("drain", deadline=5))
        one, two = await hear(theirs), await hear(theirs)
        assert (one["op"], two["op"], two["deadline"]) == ("status", "drain", 5)
        say(theirs, id=two["id"], ok=True, mode="draining")
        say(theirs, id=one["id"], ok=True, mode="serving")
        assert (await first)["mode"] == "serving"
        assert (await second)["mode"] == "draining"

    play(scenario)


def test_an_event_that_was_sent_before_an_answer_is_known_before_it() -> None:
    async def scenario(channel: Channel, theirs: socket.socket, events: list[dict[str, Any]]) -> None:
        question = asyncio.ensure_future(channel.ask("rollout"))
        number = (await hear(theirs))["id"]
        say(theirs, event="rollout", generation=1, state="refused")
        say(theirs, id=number, ok=True, generation=1)
        await question
        assert events == [{"event": "rollout", "generation": 1, "state": "refused"}]

    play(scenario)


def test_a_refusal_carries_the_words_of_the_supervisor() -> None:
    async def scenario(channel: Channel, theirs: socket.socket, events: list[dict[str, Any]]) -> None:
        question = asyncio.ensure_future(channel.ask("promote"))
        say(theirs, id=(await hear(theirs))["id"], ok=False, error="there is no canary")
        with pytest.raises(SupervisorRefusal, match="there is no canary"):
            await question

    play(scenario)


def test_silence_is_a_fault_and_a_late_answer_a_surprise() -> None:
    async def scenario(channel: Channel, theirs: socket.socket, events: list[dict[str, Any]]) -> None:
        with pytest.raises(ChannelFault, match="did not answer `status`"):
            await channel.ask("status", timeout_s=0.01)
        say(theirs, id=(await hear(theirs))["id"], ok=True)
        say(theirs, event="after")
        while not events:
            await asyncio.sleep(0)
        assert channel.surprise_count == 1

    play(scenario)


def test_the_end_of_the_supervisor_is_told_to_all_who_wait() -> None:
    async def scenario(channel: Channel, theirs: socket.socket, events: list[dict[str, Any]]) -> None:
        question = asyncio.ensure_future(channel.ask("status"))
        await hear(theirs)
        theirs.close()
        with pytest.raises(ChannelFault, match="the supervisor is gone"):
            await question
        await channel.closed.wait()
        with pytest.raises(ChannelFault, match="the supervisor is gone"):
            await channel.ask("status")

    play(scenario)


@pytest.mark.parametrize("junk", [b"\xff\xfe", b"[]", b"7", b"{", b"[" * 5000, b'{"id":99,"ok":true}', b"x" * 70_000])
def test_junk_is_counted_and_survived(junk: bytes) -> None:
    async def scenario(channel: Channel, theirs: socket.socket, events: list[dict[str, Any]]) -> None:
        theirs.send(junk)
        say(theirs, event="after")
        while not events:
            await asyncio.sleep(0)
        assert channel.surprise_count == 1

    play(scenario)


def test_a_message_too_long_is_refused_before_it_is_sent() -> None:
    async def scenario(channel: Channel, theirs: socket.socket, events: list[dict[str, Any]]) -> None:
        with pytest.raises(ChannelFault, match="longer than the channel carries"):
            await channel.ask("rollout", addresses=["x" * MESSAGE_BYTES_MAX])

    play(scenario)


def test_a_supervisor_that_does_not_read_is_waited_for_within_bounds() -> None:
    async def scenario(channel: Channel, theirs: socket.socket, events: list[dict[str, Any]]) -> None:
        questions = [asyncio.ensure_future(channel.ask("drain", filler="x" * 60_000)) for _ in range(UNSENT_MAX + 50)]
        await asyncio.sleep(0)
        overflown = [question for question in questions if question.done()]
        assert overflown, "what does not fit is refused at once"
        with pytest.raises(ChannelFault, match="does not read"):
            await overflown[0]
        for question in questions:
            if not question.done():
                say(theirs, id=(await hear(theirs))["id"], ok=True)
        results = await asyncio.gather(*questions, return_exceptions=True)
        assert sum(isinstance(result, dict) for result in results) == len(questions) - len(overflown)

    play(scenario)
