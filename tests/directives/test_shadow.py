"""Shadows, as three sides meet them: the client and its upstream, who notice nothing, and whoever gets the copies."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sentinel.core.reasons import BY_NUMBER
from sentinel.core.record import decode
from shm.counters import Counter
from tests.directives.house import serving
from tests.directives.patients import Patient, listed, patients
from tests.directives.test_hedge import full_queue, sent
from tests.directives.test_limits import PROXIED
from tests.directives.test_retry import flights
from tests.workers.child import Client, Worker, wait_until
from tests.workers.origin import Conversation, Origin, closed_port, echo, fields_of, scripted
from workers.shadowing import BYTES_MAX, SHADOWS_MAX

KIB, MIB = 1024, 1024 * 1024
OUTCOMES = {
    "answered": Counter.SHADOWS_ANSWERED, "failed": Counter.SHADOWS_FAILED, "refused": Counter.SHADOWS_REFUSED,
    "abandoned": Counter.SHADOWS_ABANDONED, "dropped": Counter.SHADOWS_DROPPED,
}  # fmt: skip


def shadowed(real: Origin, *copies: int, share: str = "", policy: str = "", **parts: str) -> dict[str, str]:
    """Parts of a configuration whose requests go to `origin`, and copies of them to upstreams at these ports."""
    share = share and f' share="{share}"'
    names = [f"copy{number}" for number in range(len(copies))]
    more = "".join(
        f'}}\nupstream "{name}" {{\nendpoint "127.0.0.1:{port}"\n{policy}\n'
        for name, port in zip(names, copies, strict=True)
    )
    route = "\n".join(f'shadow "{name}"{share}' for name in names)
    return {"endpoints": f'endpoint "127.0.0.1:{real.port}"', "upstream": more, "route": route} | parts


def outcomes(worker: Worker) -> dict[str, int]:
    return {word: count for word, counter in OUTCOMES.items() if (count := worker.counter(counter))}


def become(worker: Worker, **expected: int) -> None:
    """Wait until copies have come to this, and nothing is under way."""
    try:
        wait_until(lambda: outcomes(worker) == expected and flights(worker) == 0, f"{expected}")
    except AssertionError:
        assert outcomes(worker) == expected, worker.stderr()
        raise


def silent(gate: threading.Event) -> Callable[[Conversation], None]:
    """Reads each request, and answers when it may."""

    def talk(conversation: Conversation) -> None:
        while True:
            conversation.body(conversation.head())
            gate.wait(20)
            conversation.answer(b"late")

    return talk


@contextlib.contextmanager
def gates() -> Iterator[threading.Event]:
    gate = threading.Event()
    try:
        yield gate
    finally:
        gate.set()


@pytest.mark.directive("route/shadow")
@pytest.mark.parametrize(("method", "body"), [("GET", b""), ("POST", b"some body"), ("PUT", b"x" * (200 * KIB))])
def test_a_copy_is_the_same_request_and_says_that_it_is_a_copy(tmp_path: Path, method: str, body: bytes) -> None:
    with scripted(echo) as real, scripted(echo) as copy, serving(
        tmp_path, **PROXIED, **shadowed(real, copy.port)
    ) as worker:  # fmt: skip
        for _ in range(3):
            answer = sent(worker, method, body, "X-Forwarded-For: 192.0.2.7", "X-Mine: yes").answer()
            assert (answer.status, answer.body) == (200, body or b"ok")
        become(worker, answered=3)
        marks = [head.partition(b"x-sentinel-shadow: rest\r\n") for head in copy.heads]
        assert sorted(before + after for before, _, after in marks) == sorted(real.heads)
        assert all(mark for _, mark, _ in marks)
        assert b"192.0.2.7" in copy.heads[0]
        assert copy.connections <= 3, "links are kept as everywhere"


def test_links_to_shadows_are_used_again(tmp_path: Path) -> None:
    with scripted(echo) as real, scripted(echo) as copy, serving(tmp_path, **shadowed(real, copy.port)) as worker:
        for count in range(1, 6):
            assert Client(worker.port).get("/").status == 200
            become(worker, answered=count)
        assert copy.connections == 1


def test_a_stranger_cannot_say_that_a_request_is_a_copy(tmp_path: Path) -> None:
    with scripted(echo) as real, scripted(echo) as copy, serving(tmp_path, **shadowed(real, copy.port)) as worker:
        assert Client(worker.port).get("/", "X-Sentinel-Shadow: yes", "x_sentinel_shadow: yes").status == 200
        become(worker, answered=1)
        assert b"shadow" not in real.heads[0].lower()
        assert fields_of(copy.heads[0])["x-sentinel-shadow"] == "rest"
        assert copy.heads[0].lower().count(b"shadow") == 1


def test_a_trusted_gateway_before_us_may_say_that_its_request_is_a_copy_and_ours_says_so_once(tmp_path: Path) -> None:
    with scripted(echo) as real, scripted(echo) as copy, serving(
        tmp_path, **PROXIED, **shadowed(real, copy.port)
    ) as worker:  # fmt: skip
        assert Client(worker.port).get("/", "X-Sentinel-Shadow: before").status == 200
        become(worker, answered=1)
        assert fields_of(real.heads[0])["x-sentinel-shadow"] == "before"
        assert fields_of(copy.heads[0])["x-sentinel-shadow"] == "rest"
        assert copy.heads[0].lower().count(b"shadow") == 1


@pytest.mark.directive("route/shadow@share")
@pytest.mark.parametrize(
    ("share", "least", "most"), [("", 200, 200), ("100%", 200, 200), ("50%", 60, 140), ("5%", 1, 40)]
)
def test_so_many_requests_are_copied(tmp_path: Path, share: str, least: int, most: int) -> None:
    """By chance; that one of these fails has a chance below one in ten thousand."""
    with scripted(echo) as real, scripted(echo) as copy, serving(
        tmp_path, **shadowed(real, copy.port, share=share)
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        assert {client.get("/").status for _ in range(200)} == {200}
        wait_until(lambda: flights(worker) == 0, "all are over")
        assert least <= outcomes(worker)["answered"] <= most


def test_several_upstreams_get_copies_and_the_trace_tells_it(tmp_path: Path) -> None:
    with scripted(echo) as real, scripted(echo) as one, scripted(echo) as other, serving(
        tmp_path, **shadowed(real, one.port, other.port)
    ) as worker:  # fmt: skip
        assert Client(worker.port).get("/").status == 200
        become(worker, answered=2)
        assert len(one.heads) == len(other.heads) == 1
        record = decode(next(iter(worker.region.journal_read(worker.slot))))
        steps = [(BY_NUMBER[step.reason_number].word, step.details) for step in record.steps]
        assert steps[-3:-1] == [("shadowed", ("copy0", "1000")), ("shadowed", ("copy1", "1000"))]


def status(code: int) -> Callable[[Conversation], None]:
    def talk(conversation: Conversation) -> None:
        while True:
            conversation.body(conversation.head())
            conversation.answer(b"ill", f"HTTP/1.1 {code} X")

    return talk


def saying(octets: bytes) -> Callable[[Conversation], None]:
    def talk(conversation: Conversation) -> None:
        conversation.body(conversation.head())
        conversation.send(octets)

    return talk


@pytest.mark.parametrize(("script", "outcome"), [
    (status(404), "answered"), (status(500), "failed"), (saying(b""), "failed"), (saying(b"what?\r\n\r\n"), "failed"),
    (saying(b"HTTP/1.1 200 OK\r\n\r\nuntil the end"), "answered"),
    (saying(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"), "failed"),
    (saying(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nlong"), "answered"),
    (saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nz\r\n"), "failed"),
    (saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "answered"),
    (saying(b"HTTP/1.1 103 Hint\r\n\r\nHTTP/1.1 204 No\r\n\r\n"), "answered"),
    (saying(b"HTTP/1.1 103 Hint\r\n\r\n" * 20), "failed"),
    (saying(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"), "failed"),
    (saying(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n" + b"x" * (2 * MIB)), "answered"),
])  # fmt: skip
def test_whatever_a_shadow_answers_the_client_is_served(
    tmp_path: Path, script: Callable[[Conversation], None], outcome: str
) -> None:
    with scripted(echo) as real, scripted(script) as copy, serving(tmp_path, **shadowed(real, copy.port)) as worker:
        client = Client(worker.port)
        assert [client.get("/").body for _ in range(3)] == [b"ok"] * 3
        become(worker, **{outcome: 3})
        assert [line["reason"] for line in worker.log(3)] == ["proxied"] * 3


@pytest.mark.parametrize("phase", ["refuses", "connecting", "silent", "stalled"])
def test_a_dead_shadow_costs_itself_only(tmp_path: Path, phase: str) -> None:
    def stalled(conversation: Conversation) -> None:
        conversation.head()
        conversation.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nstall")
        conversation.rest()

    timeouts = 'timeouts { connect "100ms"; first-byte "100ms"; idle "100ms"; }'
    with contextlib.ExitStack() as stack:
        gate, real = stack.enter_context(gates()), stack.enter_context(scripted(echo))
        port = {
            "refuses": closed_port, "connecting": lambda: stack.enter_context(full_queue()),
            "silent": lambda: stack.enter_context(scripted(silent(gate))).port,
            "stalled": lambda: stack.enter_context(scripted(stalled)).port,
        }[phase]()  # fmt: skip
        worker = stack.enter_context(serving(tmp_path, **shadowed(real, port, policy=timeouts)))
        client = Client(worker.port)
        assert [client.get("/").status for _ in range(5)] == [200] * 5
        become(worker, failed=5)
        assert (worker.counter(Counter.UPSTREAM_CONNECT_FAILURES) == 5) is (phase in ("refuses", "connecting"))


def test_breakers_and_ceilings_of_the_other_upstream_hold(tmp_path: Path) -> None:
    with scripted(echo) as real, gates() as gate, scripted(silent(gate)) as copy, serving(
        tmp_path, **shadowed(real, copy.port, policy="limits { max-requests 2; max-pending 10; }")
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        assert [client.get("/").status for _ in range(5)] == [200] * 5
        wait_until(lambda: len(copy.heads) == 2, "two are under way")
        assert outcomes(worker) == {"refused": 3}, "a shadow waits for nobody"
        gate.set()
        become(worker, answered=2, refused=3)
    with scripted(echo) as real, serving(
        tmp_path / "breaker", **shadowed(real, closed_port(), policy='circuit-breaker { failures 1; open-for "1h"; }')
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        assert client.get("/").status == 200
        become(worker, failed=1)
        assert [client.get("/").status for _ in range(4)] == [200] * 4
        become(worker, failed=1, refused=4)


def test_only_so_many_are_under_way(tmp_path: Path) -> None:
    with scripted(echo) as real, gates() as gate, scripted(silent(gate)) as copy, serving(
        tmp_path, **shadowed(real, copy.port)
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        assert {client.get("/").status for _ in range(SHADOWS_MAX + 5)} == {200}
        assert outcomes(worker) == {"dropped": 5}
        gate.set()
        become(worker, answered=SHADOWS_MAX, dropped=5)


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_long_body_is_copied_as_it_comes(tmp_path: Path, is_chunked: bool) -> None:
    bodies: list[bytes] = []

    def keep(conversation: Conversation) -> None:
        bodies.append(conversation.body(conversation.head()))
        conversation.answer()

    piece = bytes(range(256)) * 512  # 128 KiB
    with scripted(keep) as real, scripted(keep) as copy, serving(tmp_path, **shadowed(real, copy.port)) as worker:
        client = Client(worker.port)
        framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {len(piece) * 40}"
        client.send(f"POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n")
        for _ in range(40):
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        if is_chunked:
            client.send(b"0\r\n\r\n")
        assert client.answer().status == 200
        wait_until(lambda: sum(outcomes(worker).values()) == 1, "the copy is over")
        assert bodies[0] == piece * 40
        if outcomes(worker) == {"answered": 1}:  # on a busy machine it may have fallen behind
            wait_until(lambda: len(bodies) == 2, "the copy")
            assert bodies[1] == bodies[0]
        else:
            assert outcomes(worker) == {"abandoned": 1}
        wait_until(lambda: flights(worker) == 0, "nothing stays in flight")


@pytest.mark.parametrize("is_connected", [False, True])
def test_a_shadow_that_does_not_read_is_abandoned_and_the_client_never_paused(
    tmp_path: Path, is_connected: bool
) -> None:
    def deaf(conversation: Conversation) -> None:
        gate.wait(20)

    def drain(conversation: Conversation) -> None:
        conversation.head()
        left = size - len(conversation.buffer)
        while left > 0:
            left -= len(conversation.connection.recv(1 << 20))
        conversation.answer(b"all")

    size = (20 if is_connected else 2) * MIB  # more than all buffers of the kernel and BYTES_MAX together
    assert size > BYTES_MAX
    with contextlib.ExitStack() as stack:
        gate, real = stack.enter_context(gates()), stack.enter_context(scripted(drain))
        port = stack.enter_context(scripted(deaf)).port if is_connected else stack.enter_context(full_queue())
        worker = stack.enter_context(serving(tmp_path, **shadowed(real, port)))
        client = Client(worker.port)
        client.send(f"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n")
        client.send(bytes(size))
        assert client.answer().body == b"all"
        become(worker, abandoned=1)


def test_a_client_that_leaves_in_the_middle_takes_its_shadow_with_it(tmp_path: Path) -> None:
    with scripted(echo) as real, scripted(echo) as copy, serving(tmp_path, **shadowed(real, copy.port)) as worker:
        client = Client(worker.port).send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf")
        wait_until(lambda: copy.heads, "the copy has begun")
        client.close()
        become(worker, abandoned=1)


def test_a_shadow_goes_on_when_its_client_has_gone(tmp_path: Path) -> None:
    with gates() as gate, scripted(silent(gate)) as real, scripted(silent(gate)) as copy, serving(
        tmp_path, **shadowed(real, copy.port)
    ) as worker:  # fmt: skip
        client = Client(worker.port).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        wait_until(lambda: copy.heads and real.heads, "both are asked")
        client.close()
        worker.log(1)
        assert outcomes(worker) == {}
        gate.set()
        become(worker, answered=1)


def test_refused_and_upgraded_requests_are_not_copied(tmp_path: Path) -> None:
    with scripted(echo) as real, scripted(echo) as copy, serving(
        tmp_path, **shadowed(real, copy.port), filters='rate-limit "one" { rate "1/h"; key "header:x"; }',
        routes='route "limited" { matches { path "/l"; }; upstream "origin"; shadow "copy0"; filters "one"; }',
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        assert [client.get("/l").status for _ in range(3)] == [200, 429, 429]
        assert client.get("/fixed").status == 200
        assert Client(worker.port).get("/", "Connection: upgrade", "Upgrade: other").status == 200
        become(worker, answered=1)
        assert len(copy.heads) == 1


def test_a_request_that_fails_is_copied_once_however_often_it_is_tried(tmp_path: Path) -> None:
    with scripted(echo) as copy, scripted(status(503)) as real, serving(
        tmp_path, **shadowed(real, copy.port, route='shadow "copy0"; retry { attempts 3; on "503"; backoff "0s"; }')
    ) as worker:  # fmt: skip
        assert Client(worker.port).get("/").status == 503
        assert len(real.heads) == 3
        become(worker, answered=1)


@pytest.mark.parametrize("comes_in_time", [True, False])
def test_a_worker_that_drains_waits_for_its_shadows_until_the_deadline(tmp_path: Path, comes_in_time: bool) -> None:
    with scripted(echo) as real, gates() as gate, scripted(silent(gate)) as copy, serving(
        tmp_path, **shadowed(real, copy.port)
    ) as worker:  # fmt: skip
        client = Client(worker.port)
        assert client.get("/").status == 200
        client.close()
        wait_until(lambda: copy.heads, "the copy is under way")
        worker.drain(20 if comes_in_time else 0.2)
        if comes_in_time:
            assert worker.poll() is None
            gate.set()
        assert worker.wait() == 0
        assert outcomes(worker) == ({"answered": 1} if comes_in_time else {"abandoned": 1})
        assert flights(worker) == 0


@pytest.mark.parametrize("seed", range(3))
def test_whatever_shadows_and_clients_do_every_permit_is_given_back(tmp_path: Path, seed: int) -> None:
    dice, lock = random.Random(seed), threading.Lock()

    def draw(most: int) -> int:
        with lock:
            return dice.randrange(most)

    def talk(conversation: Conversation) -> None:
        while True:
            head = conversation.head()
            if draw(8) == 0:
                conversation.reset()
                return
            conversation.body(head)
            threading.Event().wait(draw(30) / 1000)
            match draw(8):
                case 0:
                    conversation.send(b"what?\r\n\r\n")
                    return
                case 1:
                    conversation.answer(b"ill", "HTTP/1.1 503 X")
                case 2:
                    conversation.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nha")
                    return
                case 3:
                    conversation.rest()
                    return
                case _:
                    conversation.answer(b"x" * draw(3000))

    def ask(worker: Worker) -> None:
        client = Client(worker.port)
        for _ in range(30):
            size = draw(3) * draw(100_000)
            client.send(f"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {size + 1}\r\n\r\n".encode() + bytes(size))
            if draw(6) == 0:
                client.close()
                client = Client(worker.port)
                continue
            client.send(b"x")
            served.append(client.answer().status)

    served: list[int] = []
    policy = 'timeouts { first-byte "200ms"; }\nlimits { max-requests 20; }'
    with scripted(echo) as real, scripted(talk) as copy, serving(
        tmp_path, **shadowed(real, copy.port, closed_port(), share="80%", policy=policy)
    ) as worker:  # fmt: skip
        threads = [threading.Thread(target=ask, args=(worker,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(served) == {200}
        wait_until(lambda: flights(worker) == 0, "every permit is given back")
        found = outcomes(worker)
        assert found["answered"] > 10
        assert found["failed"] > 10
        assert worker.counter(Counter.SURPRISES) == 0, worker.stderr()


def test_a_patient_serves_as_shadow_and_as_upstream_at_once(tmp_path: Path) -> None:
    """To itself: a warning, and it works."""
    with patients("a") as (one,), serving(tmp_path, endpoints=listed(one), route='shadow "origin"') as worker:
        assert isinstance(one, Patient)
        assert Client(worker.port).get("/").body == b"a"
        become(worker, answered=1)
        assert one.asked == 2
