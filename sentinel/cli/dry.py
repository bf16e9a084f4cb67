"""`sentinelctl dry-run`: what would happen to this request, and why, without sending anything.

    --request, -H, --body ┐                                            ┌ the state that is assumed (--state)
    --curl, --har, --jsonl├→ octets → the codec → the intake → decide ─┤
    --like REQUEST_ID     ┘                                            └ the state of the running fleet (--live)

Intuition: a rehearsal on the real stage. The request is written out as a client would
write it, and then goes the way of a real one: the same parser and its limits, the same
reading of Host, path and forwarded addresses, the same decision. Only the world
is another: it charges nothing and connects to nobody. So what is refused here
is refused there, and for the same reason.

What a rehearsal cannot know is said in the explanation: whether the endpoint answers, and, against
a running fleet, whose turn it is in the worker that would have served it.

The exit status is 0 when the question was answered, whatever the verdict is; 1 when the
configuration is invalid, or the fleet says no.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import click

from sentinel.cli.client import Client, Unreachable, find_socket
from sentinel.cli.curl import read_body, read_curl
from sentinel.cli.files import Unreadable
from sentinel.cli.offline import NO, YES, complain, load_readable, offline_verb, warn
from sentinel.cli.traffic import Asked, BadTraffic, read_traffic
from sentinel.config import Loaded, render_problems
from sentinel.config.kinds import Unfit, duration, moment
from sentinel.config.states import read_state
from sentinel.core.plan import Plan
from sentinel.core.state import State
from sentinel.explain import Node, render_lines
from sentinel.explain.arrival import call_of, identity_lines
from sentinel.explain.assumed import Assumed
from sentinel.explain.tree import node_of
from workers.rehearsal import House, Misasked, Question, checked_address, choose_listener, document, read_question

STYLES: Final[dict[str, dict[str, bool]]] = {
    "request": {"bold": True}, "verdict": {"bold": True},
    "loser": {"dim": True}, "group": {"dim": True}, "note": {"dim": True},
}  # fmt: skip
PEER: Final = "127.0.0.1"
LIVE_BODY_BYTES_MAX: Final = 1 << 20
REQUESTS_MAX: Final = 10_000
"""Of one file. Each is explained; who wants to compare more wants `diff`."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One request with what would come of it, for programs and for people."""

    document: dict[str, Any]
    tree: Node


@click.command("dry-run")
@click.option("-c", "--config", metavar="FILE", help="The configuration; `-` is standard input.")
@click.option("--live", "is_live", is_flag=True, help="Ask the running fleet: its configuration and its state.")
@click.option("--socket", "socket_path", metavar="PATH", help="The fleet's control.sock (or $SENTINEL_SOCKET).")
@click.option("--request", metavar="TEXT", help='Method and URL: "GET https://example.com/a".')
@click.option("-H", "--header", "headers", multiple=True, metavar="TEXT", help="A header: 'name: value'. Repeatable.")
@click.option("--body", metavar="TEXT", help="Its body, or @FILE: its length, and what it asks a language model for.")
@click.option("--curl", metavar="COMMAND", help="Take the request from a curl command line.")
@click.option("--har", "--jsonl", "traffic", metavar="FILE",
              help="Take requests from a HAR file, JSON lines or an access log.")  # fmt: skip
@click.option("--like", metavar="REQUEST_ID", help="Take it from the fleet's journal, by its x-request-id.")
@click.option("--client-ip", metavar="IP", help="The address that connects (127.0.0.1).")
@click.option("--listener", "name", metavar="NAME", help="Where it arrives; else as scheme and port of the URL say.")
@click.option("--state", "lines", multiple=True, metavar="TEXT",
              help="Assume this of the fleet: 'endpoint 10.0.0.7:80 ejected'. Repeatable.")  # fmt: skip
@click.option("--at", metavar="TIME", help="Assume this time of day: for windows of budgets, prices, cookies (now).")
@click.option("--sequence", "every", metavar="DURATION",
              help="Requests come one after the other, so much time apart, and use up what limits allow.")  # fmt: skip
@offline_verb
def dry_run(is_json: bool, **options: Any) -> int:
    """Say what would happen to a request, and why, without sending anything.

    The request is read and decided by the code that serves live traffic, against a state that is assumed (--state;
    without it a fleet at rest), or against that of the running fleet (--live). Ends with 0 whatever the verdict is,
    and with 1 when the configuration is invalid.
    """
    try:
        status, answers = _answers(**options)
        documents, number = [], -1
        for number, answer in enumerate(answers):
            if is_json:
                documents.append(answer.document)
            else:
                if number:
                    click.echo()
                print_tree(answer.tree)
        if number < 0 and not status:
            raise Misasked(f"{options['traffic']}: there is no request in it")
    except (Misasked, BadTraffic) as fault:
        raise click.UsageError(str(fault)) from fault
    except Unreachable as fault:
        raise Unreadable(str(fault)) from fault
    if is_json and not status:
        shown: Any = documents if options["traffic"] else documents[0]
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    return status


def _answers(
    config: str | None, is_live: bool, socket_path: str | None, client_ip: str | None, name: str | None,
    lines: tuple[str, ...], at: str | None, every: str | None, **source: Any,
) -> tuple[int, Iterable[Answered]]:  # fmt: skip
    """The status, and the answers as they are asked for."""
    if config is not None and is_live:
        raise Misasked("--live asks for the configuration that runs; leave -c out, or --live")
    if config is None and not is_live and source["like"] is None:
        raise Misasked("say -c FILE, or --live for the fleet that runs")
    peer = None if client_ip is None else checked_address(client_ip)
    asked: Iterable[Asked] = _asked(socket_path, source)
    if source["like"] is not None:
        asked, lines = _with_call(next(iter(asked)), lines)
    if config is None:
        if every is not None or at is not None:
            raise Misasked("--sequence and --at assume something, and --live asks for what is; give -c FILE")
        return YES, _live(Client(find_socket(socket_path)), asked, peer, name, lines)
    loaded = load_readable(config)
    warn(loaded.warnings)
    state = _state(loaded, lines, at)
    if state is None or loaded.plan is None:
        return NO, ()
    if not loaded.plan.listeners:
        complain(f"{config}: there is no listener, so no request is served")
        return NO, ()
    return YES, _rehearsed(loaded.plan, asked, peer, name, state, None if every is None else _duration(every))


# Where requests come from.


def _asked(socket_path: str | None, source: dict[str, Any]) -> Iterator[Asked]:
    """The requests of the one source that is named."""
    named = [one for one in ("request", "curl", "traffic", "like") if source[one] is not None]
    if len(named) != 1:
        raise Misasked("give one of --request, --curl, --har, --jsonl and --like")
    if named != ["request"] and (source["headers"] or source["body"] is not None):
        raise Misasked("-H and --body belong to --request")
    if source["request"] is not None:
        return iter([Asked(read_question(source["request"], source["headers"], body=_body(source["body"])))])
    if source["curl"] is not None:
        return iter([Asked(read_curl(source["curl"]))])
    if source["traffic"] is not None:
        return read_traffic(source["traffic"], REQUESTS_MAX)
    return iter([_recorded(Client(find_socket(socket_path)), source["like"])])


def _body(body: str | None) -> bytes | None:
    if body is None:
        return None
    return read_body(body[1:]) if body.startswith("@") else body.encode("utf-8", "surrogateescape")


def _recorded(client: Client, request_id: str) -> Asked:
    """A request of the fleet's journal, as far as it was recorded."""
    answer = client.get("why", request_id)
    if answer.status != 200:
        raise Misasked(f"--like: {answer.error}")
    record = answer.document
    if not record["method"]:
        raise Misasked(f"--like: of the request `{request_id}` nothing was read, so there is nothing to ask again")
    body_bytes = record["bytes_in"] or -1
    question = read_question(f"{record['method']} {record['path']}", (), body_bytes)
    note = f"request {request_id} of the journal"
    question = replace(question, host=record["host"])
    steps = [(step["reason"], tuple(step["details"])) for step in record["steps"]]
    return Asked(
        question, record["client_ip"], record["listener"], note, is_partial=True, call=call_of(steps),
        who=identity_lines(steps),
    )  # fmt: skip


def _with_call(asked: Asked, lines: tuple[str, ...]) -> tuple[list[Asked], tuple[str, ...]]:
    """A recorded request, and what is known of it as lines of state, unless one says otherwise: who asked, and what a
    language model was asked for."""
    if asked.who and not any(line.split()[:1] == ["identity"] for line in lines):
        lines = (*lines, *asked.who)
    said = asked.call.line
    if not said or any(line.split()[:1] == ["tokens"] for line in lines):
        return [asked], lines
    return [replace(asked, place=f"{asked.place}, which asked for: {said}")], (*lines, said)


# Who answers.


def _rehearsed(
    plan: Plan, requests: Iterable[Asked], peer: str | None, name: str | None, state: State, every_ns: int | None
) -> Iterator[Answered]:
    """Rehearse here: each request as if it were the only one, or one after the other."""
    house = House(plan)
    world = Assumed(plan, state)
    for number, asked in enumerate(requests):
        if every_ns is None:
            world = Assumed(plan, state)
        elif number:
            world.pass_ns(every_ns)
        listener, notes = choose_listener(plan, asked.question, name or asked.listener or None)
        rehearsal = house.rehearse(listener, asked.question, peer or asked.client_ip or PEER, world)
        notes = [*_place(asked), *notes]
        yield Answered(document(rehearsal, notes), rehearsal.tree(notes))


def _live(
    client: Client, requests: Iterable[Asked], peer: str | None, name: str | None, lines: tuple[str, ...]
) -> Iterator[Answered]:
    """Let control rehearse, which sees what the fleet remembers."""
    for asked in requests:
        question = asked.question
        url = f"{question.scheme}://{question.host}{question.target}" if question.scheme else question.target
        headers = list(question.headers)
        if question.host and not question.scheme:
            headers.append(f"host: {question.host}")
        answer = client.post(
            "dry-run", request=f"{question.method} {url}", headers=headers, body_bytes=question.body_bytes,
            client_ip=peer or asked.client_ip or PEER, listener=name or asked.listener, state=list(lines),
            body=_sent(question),
        )  # fmt: skip
        if answer.status >= 500:
            raise Unreachable(answer.error)
        if answer.status != 200:
            raise Misasked(f"{answer.error}; {answer.remedy}" if answer.remedy else answer.error)
        tree = node_of(answer.document["explanation"])
        notes = tuple(Node("note", note) for note in _place(asked))
        tree = replace(tree, children=(*notes, *tree.children))
        yield Answered(answer.document | {"explanation": tree.to_dict()}, tree)


def _sent(question: Question) -> str | None:
    """A body as control reads it."""
    if question.body is None:
        return None
    if len(question.body) > LIVE_BODY_BYTES_MAX:
        raise Misasked(f"a body of more than {LIVE_BODY_BYTES_MAX >> 20} MiB is not sent to the fleet; give -c FILE")
    return base64.b64encode(question.body).decode()


def _place(asked: Asked) -> list[str]:
    """Where a request comes from, and what is not known of it."""
    if not asked.place:
        return []
    return [f"{asked.place}: recorded without headers and query" if asked.is_partial else asked.place]


def _state(loaded: Loaded, lines: tuple[str, ...], at: str | None) -> State | None:
    """What is assumed; None after problems were told."""
    if loaded.plan is None:
        click.echo(render_problems(loaded.problems), err=True)
        return None
    try:
        now_s = int(time.time()) if at is None else moment(at)
    except Unfit as fault:
        raise Misasked(f"--at: {fault.message}, {fault.remedy}") from fault
    state = read_state(lines, loaded.plan, State(now_s=now_s))
    if isinstance(state, tuple):
        click.echo(render_problems(state), err=True)
        return None
    return state


def print_tree(tree: Node) -> None:
    """Draw an explanation, with colours where they can be seen."""
    for line in render_lines(tree):
        text = click.style(line.text, **STYLES.get(line.kind, {}))
        reason = click.style(f"  [{line.reason}]", fg="magenta") if line.reason else ""
        place = click.style(f"  {line.place}", fg="cyan") if line.place else ""
        click.echo(f"{line.branch}{text}{reason}{place}")


def _duration(text: str) -> int:
    try:
        read: int = duration("0s").read(text)
    except Unfit as fault:
        raise Misasked(f"--sequence: {fault.message}, {fault.remedy}") from fault
    return read


COMMANDS: list[click.Command] = [dry_run]
