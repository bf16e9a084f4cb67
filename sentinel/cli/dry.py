"""`sentinelctl dry-run`: what would happen to this request, and why, without sending anything.

    --request, -H  →  octets  →  the codec  →  the intake  →  decide  →  explain

Intuition: a rehearsal on the real stage. The request is written out as a client would
write it, and then goes the way of a real one: the same parser and its limits, the same
reading of Host, path and forwarded addresses, the same decision. Only the world
is another: it charges nothing and connects to nobody. So what is refused here
is refused there, and for the same reason.

What a rehearsal cannot know is said in the explanation: which of several
endpoints is next, and whether the endpoint answers.

The exit status is 0 when the question was answered, whatever the verdict is; 1 when the
configuration is invalid.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from typing import Any, Final

import click

from sentinel.cli.offline import NO, YES, complain, load_readable, offline_verb, warn
from sentinel.cli.rehearsal import Misasked, Rehearsal, choose_listener, read_question, rehearse
from sentinel.config import render_problems
from sentinel.core.reasons import Reason
from sentinel.core.verdict import Forward, Reject, Verdict
from sentinel.explain import Node, render_lines
from sentinel.explain.words import address
from workers.forwarded import canonical_peer

STYLES: Final[dict[str, dict[str, bool]]] = {
    "request": {"bold": True}, "verdict": {"bold": True},
    "loser": {"dim": True}, "group": {"dim": True}, "note": {"dim": True},
}  # fmt: skip


@click.command("dry-run")
@click.option("-c", "--config", required=True, metavar="FILE", help="The configuration; `-` is standard input.")
@click.option("--request", required=True, metavar="TEXT", help='Method and URL: "GET https://example.com/a".')
@click.option("-H", "--header", "headers", multiple=True, metavar="TEXT", help="A header: 'name: value'. Repeatable.")
@click.option("--client-ip", default="127.0.0.1", metavar="IP", help="The address that connects (127.0.0.1).")
@click.option("--listener", "name", metavar="NAME", help="Where it arrives; else as scheme and port of the URL say.")
@offline_verb
def dry_run(
    config: str, request: str, headers: tuple[str, ...], client_ip: str, name: str | None, is_json: bool
) -> int:
    """Say what would happen to a request, and why, without sending anything.

    The request is read and decided by the code that serves live traffic. Ends with 0 whatever the verdict is, and with
    1 when the configuration is invalid.
    """
    peer = _checked_address(client_ip)
    loaded = load_readable(config)
    warn(loaded.warnings)
    if loaded.plan is None:
        click.echo(render_problems(loaded.problems), err=True)
        return NO
    if not loaded.plan.listeners:
        complain(f"{config}: there is no listener, so no request is served")
        return NO
    try:
        question = read_question(request, headers)
        listener, notes = choose_listener(loaded.plan, question, name)
    except Misasked as fault:
        raise click.UsageError(str(fault)) from fault
    rehearsal = rehearse(loaded.plan, listener, question, peer)
    tree = replace(rehearsal.tree, children=(*(Node("note", note) for note in notes), *rehearsal.tree.children))
    if is_json:
        click.echo(json.dumps(document(replace(rehearsal, tree=tree)), indent=2, ensure_ascii=False))
    else:
        _print(tree)
    return YES


# Printing.


def document(rehearsal: Rehearsal) -> dict[str, Any]:
    """The rehearsal for programs."""
    request = rehearsal.request
    names = ("method", "scheme", "host", "path", "query", "client_ip", "listener")
    steps = [
        {"reason": reason.word, "place": str(span) if span.line else "", "details": list(details)}
        for reason, span, details in rehearsal.steps
    ]
    return {
        "request": None if request is None else {name: getattr(request, name) for name in names},
        "verdict": _verdict_document(rehearsal.verdict),
        "steps": steps,
        "explanation": rehearsal.tree.to_dict(),
    }


def _verdict_document(verdict: Verdict) -> dict[str, Any]:
    """`status` is None where the upstream will say it."""
    route = verdict.route
    plain: dict[str, Any] = {
        "kind": type(verdict).__name__.lower(), "status": None, "reason": Reason.PROXIED.word,
        "route": None if route is None else route.name, "upstream": None, "endpoint": None,
    }  # fmt: skip
    if isinstance(verdict, Forward):
        endpoint = verdict.endpoint
        plain |= {"upstream": verdict.upstream.name, "endpoint": address(endpoint.host, endpoint.port)}
    elif isinstance(verdict, Reject):
        plain |= {"status": verdict.status, "reason": verdict.reason.word}
    elif verdict.route.respond is not None:
        plain |= {"status": verdict.route.respond.status, "reason": Reason.RESPONDED.word}
    return plain


def _print(tree: Node) -> None:
    for line in render_lines(tree):
        text = click.style(line.text, **STYLES.get(line.kind, {}))
        reason = click.style(f"  [{line.reason}]", fg="magenta") if line.reason else ""
        place = click.style(f"  {line.place}", fg="cyan") if line.place else ""
        click.echo(f"{line.branch}{text}{reason}{place}")


def _checked_address(text: str) -> str:
    try:
        return canonical_peer(str(ipaddress.ip_address(text)))
    except ValueError as fault:
        raise click.UsageError(f"--client-ip: `{text}` is no IP address") from fault


COMMANDS: list[click.Command] = [dry_run]
