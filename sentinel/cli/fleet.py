"""The verbs of sentinelctl that talk to a running fleet.

Every verb asks control over its Unix socket, prints for people (tables, a tree)
or with `--json` for programs, and ends with one of three numbers:

    0  done          1  the answer is no (invalid, refused, not found)
    2  wrong usage, or the fleet cannot be asked: nothing is known

What a verb prints for programs is the document of the admin API, unchanged, so
there is one reference for both (docs/reference/admin-api.md).
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from sentinel.cli import show
from sentinel.cli.client import Answer, Client, Unreachable, find_socket

YES, NO, UNKNOWN = 0, 1, 2
LINES_DEFAULT = 10

Verb = Callable[..., Any]


def fleet_verb(function: Verb) -> Verb:
    """Give a verb `--socket` and `--json`, a client instead of the path, and one way to fail."""

    @click.option("--socket", "socket_path", metavar="PATH", help="The fleet's control.sock (or $SENTINEL_SOCKET).")
    @click.option("--json", "is_json", is_flag=True, help="Print the document of the admin API.")
    @functools.wraps(function)
    def wrapped(socket_path: str | None, **arguments: Any) -> Any:
        try:
            return function(Client(find_socket(socket_path)), **arguments)
        except Unreachable as fault:
            _fail(UNKNOWN, str(fault))

    return wrapped


@click.command()
@fleet_verb
def status(client: Client, is_json: bool) -> None:
    """Show mode, generation, rollout and workers."""
    document = _get(client.get("status"))
    _print(document, is_json, show.status)


@click.command()
@click.option("--canary", metavar="N", type=click.IntRange(min=1), help="Let only N lanes serve the new generation.")
@click.option("--dry", is_flag=True, help="Let the fleet check the files, and change nothing.")
@click.option("--if-changed", is_flag=True, help="Do nothing when the same content runs already.")
@click.option("--wait/--no-wait", default=True, help="Wait until the generation serves (default).")
@click.option("--diff", "is_diff", is_flag=True, help="Show which requests would be treated differently, and ask.")
@click.option("--recent", metavar="N", type=click.IntRange(1, 20_000), default=1000,
              help="With --diff: compare the last N recorded requests (1000).")  # fmt: skip
@click.option("--yes", is_flag=True, help="With --diff: do not ask.")
@click.option("--force", is_flag=True, help="Pass the `reload-gate` of the configuration; it is in the audit log.")
@fleet_verb
def reload(
    client: Client, is_json: bool, canary: int | None, dry: bool, if_changed: bool, wait: bool,
    is_diff: bool, recent: int, yes: bool, force: bool,
) -> None:  # fmt: skip
    """Read the configuration again and roll it out without losing a request.

    Ends when the new generation serves; with 1 when the configuration has problems (all are printed) or the
    generation was refused, and then the former one goes on serving. With --diff --dry nothing is changed, and it ends
    with 1 when a request would be treated differently.
    """
    content = _looked_at(client, is_json, recent, dry, yes) if is_diff else ""
    answer = client.post(
        "reload", canary=canary or 0, dry=dry, if_changed=if_changed, wait=wait, force=force, content=content
    )
    _end_rollout(answer, is_json)


def _looked_at(client: Client, is_json: bool, recent: int, is_dry: bool, is_agreed: bool) -> str:
    """Show what a reload would change, and ask; returns the content that was agreed to, or ends the command."""
    if is_json and not (is_dry or is_agreed):
        raise click.UsageError("--json asks nobody: say --yes, or --dry to see the diff only")
    answer = client.post("diff", recent=recent)
    if answer.status != 200:
        _end_rollout(answer, is_json)
    document = answer.document
    if is_dry and is_json:
        click.echo(json.dumps(document, indent=2))
    elif not is_json:
        click.echo(show.printable(document["text"]))
        for line in document["settings"]:
            click.echo(f"besides: {show.printable(line)}")
    if is_dry:
        sys.exit(NO if document["differs"] else YES)
    if document["differs"] and not is_agreed:
        try:
            click.confirm("reload?", abort=True)
        except click.Abort:
            _fail(NO, "nothing was changed")
    return str(document["content"])


@click.command()
@fleet_verb
def promote(client: Client, is_json: bool) -> None:
    """Let the canary serve on all lanes."""
    _end_rollout(client.post("promote"), is_json)


@click.command()
@fleet_verb
def rollback(client: Client, is_json: bool) -> None:
    """Serve the former content again, under a new number; or end a canary."""
    _end_rollout(client.post("rollback"), is_json)


@click.command()
@click.option("--wait/--no-wait", default=True, help="Wait until nothing is in flight (default).")
@fleet_verb
def drain(client: Client, is_json: bool, wait: bool) -> None:
    """Take no new work, and finish what runs. The processes stay; `resume` serves again."""
    _print(_get(client.post("drain", wait=wait)), is_json, show.mode)


@click.command()
@fleet_verb
def resume(client: Client, is_json: bool) -> None:
    """Serve again after a drain."""
    _print(_get(client.post("resume")), is_json, show.mode)


@click.command()
@fleet_verb
def workers(client: Client, is_json: bool) -> None:
    """List the workers: slot, pid, generation, state, and what they hold."""
    _print(_get(client.get("workers")), is_json, show.workers)


@click.command()
@fleet_verb
def generations(client: Client, is_json: bool) -> None:
    """List the last generations and how each ended."""
    _print(_get(client.get("generations")), is_json, show.generations)


@click.command()
@fleet_verb
def config(client: Client, is_json: bool) -> None:
    """Show the plan that runs, secrets redacted, and the files it was made from."""
    _print(_get(client.get("config")), is_json, show.config)


@click.command()
@click.option("--openmetrics", is_flag=True, help="Print what Prometheus scrapes.")
@fleet_verb
def metrics(client: Client, is_json: bool, openmetrics: bool) -> None:
    """Show requests, reasons and latency by route, summed over the fleet."""
    if openmetrics:
        click.echo(client.text("/metrics"), nl=False)
        return
    _print(_get(client.get("metrics")), is_json, show.metrics)


@click.command()
@click.argument("request_id", required=False)
@click.option("--last", metavar="N", type=click.IntRange(1, 1000), help="List the last N requests instead.")
@click.option("--status", "status_filter", metavar="STATUS", help="List only this status or class: 404, 5xx.")
@click.option("--route", metavar="NAME", help="List only requests of this route.")
@click.option("--reason", metavar="WORD", help="List only requests that ended for this reason.")
@fleet_verb
def why(
    client: Client, is_json: bool, request_id: str | None,
    last: int | None, status_filter: str | None, route: str | None, reason: str | None,
) -> None:  # fmt: skip
    """Explain one request by its `x-request-id`, or list the recorded ones.

    The explanation is the decision that was made, step by step, each with its reason and its place in the
    configuration.
    """
    filters = {"last": last, "status": status_filter, "route": route, "reason": reason}
    is_listing = any(value is not None for value in filters.values())
    if request_id is not None and is_listing:
        raise click.UsageError("give a request's id, or filters to list requests, not both")
    if request_id is None:
        _print(_get(client.get("requests", **filters)), is_json, show.requests)
        return
    _print(_get(client.get("why", request_id)), is_json, show.why)


@click.command()
@click.option("--last", metavar="N", type=click.IntRange(0, 1000), help="Begin with the last N requests (10).")
@click.option("--follow", is_flag=True, help="Go on with those that come, until Ctrl-C.")
@click.option("--count", metavar="N", type=click.IntRange(min=1), help="End after N requests; with --follow.")
@click.option("--status", "status_filter", metavar="STATUS", help="Only this status or class: 404, 5xx.")
@click.option("--route", metavar="NAME", help="Only requests of this route.")
@click.option("--reason", metavar="WORD", help="Only requests that ended for this reason.")
@fleet_verb
def trace(
    client: Client, is_json: bool, last: int | None, follow: bool, count: int | None,
    status_filter: str | None, route: str | None, reason: str | None,
) -> None:  # fmt: skip
    """Print requests as they were decided, a line each, the newest last; with --json as JSON lines.

    What cannot be told as fast as it comes is not told; how much that was, is. `why ID` explains one of them.
    """
    if count is not None and not follow:
        raise click.UsageError("--count ends what --follow began")
    filters = {"status": status_filter, "route": route, "reason": reason}
    if last or (last is None and not follow):
        for document in reversed(_get(client.get("requests", last=last or LINES_DEFAULT, **filters))):
            _line(document, is_json, show.request_line)
    if not follow:
        return
    for event, document in client.events("requests", "events", **filters):
        _line(document, is_json, show.request_line if event == "request" else show.lost_line)
        if count is not None and event == "request":
            count -= 1
            if count == 0:
                return
    _fail(UNKNOWN, f"{client.path}: the control process ended; ask again in a moment")


def _line(document: Any, is_json: bool, line: Callable[[Any], str]) -> None:
    click.echo(json.dumps(document) if is_json else line(show.printable(document)))
    sys.stdout.flush()


@click.command()
@click.argument("change", nargs=-1, metavar="[set UPSTREAM ADDRESS STATE]")
@fleet_verb
def endpoints(client: Client, is_json: bool, change: tuple[str, ...]) -> None:
    """List the endpoints with their health, or set one: ready, drain (sticky clients only), or maintenance.

    What is set outlives reloads, and is in the audit log.
    """
    if not change:
        _print(_get(client.get("endpoints")), is_json, show.endpoints)
        return
    upstream, endpoint, state = _words(change, "set", "UPSTREAM ADDRESS STATE")
    _print(_get(client.post("endpoints", upstream=upstream, endpoint=endpoint, state=state)), is_json, show.change)


@click.command()
@click.argument("change", nargs=-1, metavar="[open|close UPSTREAM[/ADDRESS]]")
@fleet_verb
def breakers(client: Client, is_json: bool, change: tuple[str, ...]) -> None:
    """List the circuit breakers, or set one: open it until it is closed by hand, or close it.

    To close one forgets what it has counted. The change is in the audit log.
    """
    if not change:
        _print(_get(client.get("breakers")), is_json, show.breakers)
        return
    action = change[0]
    if action not in ("open", "close"):
        raise click.UsageError(f"breakers open or close, not `{action}`")
    (name,) = _words(change, action, "UPSTREAM[/ADDRESS]")
    upstream, _, endpoint = name.partition("/")
    state = "open" if action == "open" else "closed"
    _print(_get(client.post("breakers", upstream=upstream, endpoint=endpoint, state=state)), is_json, show.change)


@click.command()
@click.argument("change", nargs=-1, metavar="[show|reset LIMIT VALUE...]")
@fleet_verb
def limits(client: Client, is_json: bool, change: tuple[str, ...]) -> None:
    """List the limits, show one bucket of a limit (or what is held under a key), or make it full again.

    A bucket is named by a value for each part of the limit's key, in the order in which the list shows them. What is
    reset is in the audit log.
    """
    if not change:
        _print(_get(client.get("limits")), is_json, show.limits)
        return
    action, name, values = change[0], change[1:2], change[2:]
    if action not in ("show", "reset") or not name:
        raise click.UsageError("give `show LIMIT VALUE...` or `reset LIMIT VALUE...`")
    if action == "show":
        _print(_get(client.get("limits", name[0], key=list(values))), is_json, show.bucket)
    else:
        _print(_get(client.post("limits", "reset", limit=name[0], key=list(values))), is_json, show.change)


@click.command()
@click.argument("budget", required=False)
@click.option("--last", metavar="N", type=click.IntRange(1, 10_000), help="List at most N windows (100).")
@fleet_verb
def budgets(client: Client, is_json: bool, budget: str | None, last: int | None) -> None:
    """List the windows of budgets that are open: what is spent, reserved, and left; of BUDGET, or of all."""
    _print(_get(client.get("budgets", budget=budget, last=last)), is_json, show.budgets)


@click.command()
@click.argument("budget", required=False)
@click.option("--by", type=click.Choice(["budget", "key", "model", "tenant", "tenant,model"]),
              help="One line for each budget (default), for each key, for each model or tenant, or for each model of "
              "each tenant, of budgets whose `key` has that.")  # fmt: skip
@click.option("--since", metavar="DURATION",
              help="Windows that ended after so long ago, or are open: 90m, 24h (default), 35d at most.")  # fmt: skip
@click.option("--last", metavar="N", type=click.IntRange(1, 10_000), help="List at most N that spent most (100).")
@click.option("--csv", "is_csv", is_flag=True, help="Print comma-separated values.")
@fleet_verb
def usage(
    client: Client, is_json: bool, budget: str | None, by: str | None, since: str | None, last: int | None, is_csv: bool
) -> None:  # fmt: skip
    """Show who spent how much of budgets, of BUDGET or of all, from the durable ledger.

    Windows count whole: who asks for the last hour is told of the day that is open.
    """
    if is_csv and is_json:
        raise click.UsageError("give --csv or --json, not both")
    document = _get(client.get("usage", budget=budget, by=by, since=since, last=last))
    _print(document, is_json, show.usage_csv if is_csv else show.usage)


def _words(given: tuple[str, ...], first: str, form: str) -> tuple[str, ...]:
    if given[0] != first or len(given) != 1 + len(form.split()):
        raise click.UsageError(f"give `{first} {form}`")
    return given[1:]


COMMANDS: list[click.Command] = [
    status, reload, promote, rollback, drain, resume, workers, generations, config, metrics, why, trace, endpoints,
    breakers, limits, budgets, usage,
]  # fmt: skip


def _get(answer: Answer) -> Any:
    """The document of a good answer; ends the command otherwise."""
    if answer.status == 200:
        return answer.document
    # 503 and 504 say that nothing is known; the rest is a clear no.
    text = answer.error if not answer.remedy else f"{answer.error}\n  {answer.remedy}"
    _fail(UNKNOWN if answer.status >= 500 else NO, text)


def _end_rollout(answer: Answer, is_json: bool) -> None:
    """Print how a rollout ended, and end with its number."""
    document = answer.document
    if not isinstance(document, dict) or "outcome" not in document:
        _get(answer)
    is_good = answer.status < 300
    if is_json:
        click.echo(json.dumps(document, indent=2))
    else:
        show.outcome(show.printable(document), is_good=is_good)
    if not is_good:
        sys.exit(UNKNOWN if answer.status >= 500 else NO)


def _print(document: Any, is_json: bool, table: Callable[[Any], None]) -> None:
    if is_json:
        click.echo(json.dumps(document, indent=2))
    else:
        table(show.printable(document))


def _fail(number: int, text: str) -> NoReturn:
    click.echo(f"sentinelctl: {show.printable(text)}", err=True)
    sys.exit(number)
