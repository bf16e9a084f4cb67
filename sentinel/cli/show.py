"""How the documents of a running fleet look to people: tables and a tree.

Pure presentation: a document in, lines out. Unknown or missing parts are shown as
a dash and never as a fault, since control may be of another release. What an
operator or a client wrote is printed as text, never as markup, and never reaches
the terminal as control characters (`printable`).
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from sentinel.core.prices import money
from sentinel.core.reasons import BY_WORD

Document = Mapping[str, Any]

GOOD, BAD, MEDIUM = "green", "red", "yellow"
COLOURS = {
    "serving": GOOD, "current": GOOD, "ready": GOOD, "canary": MEDIUM, "probation": MEDIUM, "starting": MEDIUM,
    "draining": MEDIUM, "drained": MEDIUM, "booting": MEDIUM, "refused": BAD, "rolled-back": BAD, "stopping": BAD,
}  # fmt: skip
KINDS = {"request": "bold", "verdict": "bold", "loser": "dim", "group": "dim", "note": "dim"}
DASH = "-"
CLASSES = ("2xx", "3xx", "4xx", "5xx")


def printable(document: Any) -> Any:
    """The same document without anything that a terminal would obey; line ends stay."""
    if isinstance(document, str):
        if document.isprintable():
            return document
        return "".join(one if one.isprintable() or one == "\n" else f"\\x{ord(one):02x}" for one in document)
    if isinstance(document, dict):
        return {printable(key): printable(value) for key, value in document.items()}
    if isinstance(document, list):
        return [printable(item) for item in document]
    return document


def status(document: Document) -> None:
    console = _console()
    rollout = document.get("rollout") or {}
    line = Text.assemble(
        "mode ", _state(document.get("mode")), "  generation ", str(document.get("generation") or DASH),
    )  # fmt: skip
    if rollout:
        line.append("  rollout ").append(str(rollout.get("generation", ""))).append(" ")
        line.append_text(_state(rollout.get("state")))
        if rollout.get("why"):
            line.append(f": {rollout['why']}")
    console.print(line, soft_wrap=True)
    control = document.get("control") or {}
    parts = [f"{key} {control[key]}" for key in ("pid", "restarts", "release", "admin_address") if key in control]
    console.print(Text("control " + "  ".join(parts)), soft_wrap=True)
    last = control.get("last_reload") or {}
    if last.get("outcome") in ("refused", "rolled-back", "invalid", "internal"):
        text = Text.assemble("last reload ", _state(last["outcome"]), f": {last.get('why', '')}")
        console.print(text, soft_wrap=True)
    for name, age_s in (document.get("keys") or {}).items():
        told = "were never fetched" if age_s is None else f"were fetched {duration(age_s * 1000)} ago"
        console.print(Text(f"keys of {name} {told}", style=MEDIUM if age_s is None else ""), soft_wrap=True)
    workers(document.get("workers") or [])
    for obituary in (document.get("obituaries") or [])[-5:]:
        console.print(Text(f"died: {_flat(obituary)}"), soft_wrap=True)


def workers(documents: Iterable[Document]) -> None:
    columns = ("slot", "pid", "generation", "lane", "state", "age", "heartbeat", "connections", "requests")
    table = _table(columns, right=set(columns) - {"state"})
    for worker in documents:
        table.add_row(
            _text(worker.get("slot")), _text(worker.get("pid")), _text(worker.get("generation")),
            _text(worker.get("lane")), _state(worker.get("state")),
            duration(worker.get("age_ms")), duration(worker.get("heartbeat_age_ms")),
            _text(worker.get("open_connections")), _text(worker.get("open_requests")),
        )  # fmt: skip
    _console().print(table)


def generations(documents: Iterable[Document]) -> None:
    table = _table(("generation", "state", "why", "fingerprint"), right={"generation"})
    for entry in documents:
        table.add_row(
            _text(entry.get("generation")), _state(entry.get("state")), _text(entry.get("why") or ""),
            _text(str(entry.get("fingerprint") or "")[:12]),
        )  # fmt: skip
    _console().print(table)


def config(document: Document) -> None:
    click.echo(f"fingerprint {document.get('fingerprint', DASH)}")
    for source in document.get("sources") or ():
        click.echo(f"source {source}")
    book = (document.get("plan") or {}).get("prices")
    if book:
        click.echo(f"prices {book.get('version', DASH)} in {book.get('currency', DASH)}")
    click.echo(json.dumps(document.get("plan"), indent=2))


def _load(report: Document | None) -> Text:
    if not report:
        return Text(DASH)
    words = f"{report.get('waiting')} waiting, cache {float(report.get('cache_used') or 0):.0%}"
    return Text(words + " (stale)", style=BAD) if report.get("is_stale") else Text(words)


def _models(names: list[str] | None) -> Text:
    return _text(DASH if names is None else ", ".join(names) or "none")


EXTRA: Final[dict[str, Callable[[Any], Text]]] = {"load": _load, "models": _models}
"""Columns that are shown where there is something to show."""


def endpoints(documents: Iterable[Document]) -> None:
    columns = ("upstream", "endpoint", "standing", "health", "in flight", "requests", "failures", "mean ms", "priority")
    shown = list(documents)
    more = [name for name in ("load", "models") if any(one.get(name) is not None for one in shown)]
    table = _table((*columns, *more), right={"in flight", "requests", "failures", "mean ms", "priority"})
    for one in shown:
        word, left = str(one.get("standing") or DASH), one.get("ejected_ms_left")
        if left and word == "ejected":
            word += f" for {duration(left)}"
        table.add_row(
            _text(one.get("upstream")), _text(one.get("endpoint")), Text(word, style=GOOD if word == "usable" else BAD),
            _text(f"{one.get('health', DASH)} ({one.get('finding', DASH)})"), _text(one.get("in_flight")),
            _text(one.get("requests")), _text(one.get("failures")), _text(one.get("latency_ms_mean")),
            _text(one.get("priority")), *[EXTRA[name](one.get(name)) for name in more],
        )  # fmt: skip
    _console().print(table)


def breakers(documents: Iterable[Document]) -> None:
    columns = ("upstream", "endpoint", "state", "for", "in a row", "calls", "failed", "slow", "opened")
    table = _table(columns, right=set(columns) - {"upstream", "endpoint", "state"})
    for one in documents:
        word, window, left = str(one.get("state") or DASH), one.get("window") or {}, one.get("ms_left")
        rest = duration(left) if left else Text("closed by hand" if left is None else DASH)
        table.add_row(
            _text(one.get("upstream")), _text(one.get("endpoint") or "(all)"),
            Text(word, style=GOOD if word == "closed" else BAD), rest, _text(one.get("consecutive_failures")),
            _text(window.get("calls")), _text(window.get("failures")), _text(window.get("slow")),
            _text(one.get("opened")),
        )  # fmt: skip
    _console().print(table)


def limits(document: Document) -> None:
    table = _table(("limit", "rate", "burst", "cost", "key", "on limit", "routes"), right={"burst", "cost"})
    for one in document.get("limits") or ():
        table.add_row(
            _text(one.get("name")), _text(f"{one.get('count')}/{duration(one.get('period_ms'))}"),
            _text(one.get("burst")), _text(one.get("cost")), _text(" ".join(one.get("key") or ()) or "all"),
            _text(one.get("on_limit")), _text(", ".join(one.get("routes") or ()) or DASH),
        )  # fmt: skip
    console, sizes = _console(), document.get("table") or {}
    console.print(table)
    live, size = sizes.get("live", DASH), sizes.get("size", DASH)
    console.print(Text(f"{live} keys are limited now; the table has {size} places"))
    if document.get("tokens"):
        table = _table(("token limit", "tokens", "burst", "requests", "key", "on limit", "routes"), right={"burst"})
        for one in document["tokens"]:
            many = one.get("requests")
            requests = f"{many}/{duration(one.get('requests_period_ms'))}" if many else DASH
            table.add_row(
                _text(one.get("name")), _text(f"{one.get('tokens')}/{duration(one.get('period_ms'))}"),
                _text(one.get("burst")), _text(requests), _text(" ".join(one.get("key") or ()) or "all"),
                _text(one.get("on_limit")), _text(", ".join(one.get("routes") or ()) or DASH),
            )  # fmt: skip
        console.print(table)
    ceilings, leases = document.get("concurrency") or (), document.get("leases") or {}
    if ceilings:
        table = _table(("concurrency limit", "max", "key", "on limit", "routes"), right={"max"})
        for one in ceilings:
            table.add_row(
                _text(one.get("name")), _text(one.get("max")), _text(" ".join(one.get("key") or ()) or "all"),
                _text(one.get("on_limit")), _text(", ".join(one.get("routes") or ()) or DASH),
            )  # fmt: skip
        console.print(table)
    keys, held, size = (leases.get(name, DASH) for name in ("keys", "held", "size"))
    console.print(Text(f"{held} leases are held under {keys} keys; the table has {size} places"))


def budgets(document: Document) -> None:
    columns = ("budget", "key", "window", "spent", "open", "amount", "left", "requests")
    table = _table(columns, right=set(columns[3:]))
    found = document.get("budgets") or ()
    for one in found:
        left = one.get("left")
        table.add_row(
            _text(one.get("budget")), _text(_key(one)), _text(f"{one.get('start', DASH)} to {one.get('end', DASH)}"),
            _text(_amount(one, "settled")), _text(_amount(one, "open")), _text(_amount(one, "amount")),
            Text(DASH if left is None else _amount(one, "left"), style=BAD if left == 0 else "default"),
            _text(one.get("requests")),
        )  # fmt: skip
    console, sizes = _console(), document.get("table") or {}
    console.print(table)
    _tell_rest(console, document, len(found))
    console.print(Text(f"{sizes.get('used', DASH)} of {sizes.get('size', DASH)} places of the table were used"))


def usage(document: Document) -> None:
    columns = ("budget", "key", "spent", "requests", "windows", "from", "to")
    table = _table(columns, right={"spent", "requests", "windows"})
    found = document.get("usage") or ()
    for one in found:
        key = "all" if document.get("by") == "budget" else _key(one)
        table.add_row(
            _text(one.get("budget")), _text(key), _text(_amount(one, "settled")), _text(one.get("requests")),
            _text(one.get("windows")), _text(one.get("start")), _text(one.get("end")),
        )  # fmt: skip
    console = _console()
    console.print(table)
    _tell_rest(console, document, len(found))
    for total in document.get("totals") or ():
        unit = f" {total['unit']}" if total.get("unit") == "tokens" else ""
        spent, requests = _amount(total, "settled"), total.get("requests", DASH)
        console.print(Text(f"{spent}{unit} in {requests} requests, in windows since {document.get('since', DASH)}"))
    book = document.get("prices")
    if book:
        console.print(Text(f"price book {book.get('version', DASH)}, in {book.get('currency', DASH)}, is used now"))
    if document.get("is_durable") is False:
        console.print(Text("there is no `state-dir`: only what shared memory knows is shown", style=MEDIUM))


def usage_csv(document: Document) -> None:
    """One line for each; the key is one field, as JSON: it may have any number of parts."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("budget", "unit", "key", "settled", "requests", "windows", "start", "end"))
    for one in document.get("usage") or ():
        key = json.dumps(one.get("key"), ensure_ascii=False) if document.get("by") != "budget" else ""
        numbers = (one.get(name) for name in ("requests", "windows", "start", "end"))
        settled = one.get("settled")
        if one.get("unit") != "tokens" and isinstance(settled, int):
            settled = money(settled)
        writer.writerow((_cell(one.get("budget")), one.get("unit"), key, settled, *numbers))


def _cell(value: object) -> str:
    """What a spreadsheet would take for a formula gets a quote before it."""
    text = str(value)
    return "'" + text if text[:1] in ("=", "+", "-", "@") else text


def _amount(document: Document, name: str) -> str:
    """An amount of a budget: tokens as they are, money with its currency."""
    amount, unit = document.get(name), document.get("unit", "tokens")
    if not isinstance(amount, int):
        return DASH
    return str(amount) if unit == "tokens" else f"{money(amount)} {unit}"


def _key(document: Document) -> str:
    return " ".join(str(part) if part else '""' for part in document.get("key") or ()) or "all"


def _tell_rest(console: Console, document: Document, shown: int) -> None:
    count = document.get("count")
    if isinstance(count, int) and count > shown:
        console.print(Text(f"{count - shown} more are not shown: see --last", style=MEDIUM))


def bucket(document: Document) -> None:
    style = BAD if document.get("is_limited") else GOOD
    if "held" in document:
        _console().print(Text(f"{document.get('held')} of {document.get('max')} under way", style=style))
        return
    line = Text(f"{document.get('remaining', DASH)} of {document.get('burst', DASH)} left", style=style)
    line.append("  full in ", style="default").append_text(duration(document.get("full_in_ms")))
    _console().print(line)


def change(document: Document) -> None:
    """What an operator changed, from what to what."""
    console = _console()
    console.print(Text(f"{document.get('what', DASH)}: {document.get('before')} -> {document.get('after')}"))
    if document.get("warning"):
        console.print(Text(f"warning: {document['warning']}", style=MEDIUM), soft_wrap=True)


def mode(document: Document) -> None:
    _console().print(Text.assemble("mode ", _state(document.get("mode"))))


def metrics(document: Document) -> None:
    console = _console()
    columns = ("route", "requests", *CLASSES, "p50 ms", "p99 ms", "bytes in", "bytes out")
    table = _table(columns, right=set(columns) - {"route"})
    reasons = _table(("route", "reason", "requests"), right={"requests"})
    for name, route in (document.get("routes") or {}).items():
        if not route.get("requests"):
            continue
        classes = route.get("classes") or {}
        table.add_row(
            _text(name), _text(route["requests"]), *(_text(classes.get(word, 0)) for word in CLASSES),
            _text(route.get("duration_ms_p50")), _text(route.get("duration_ms_p99")),
            _text(route.get("bytes_in")), _text(route.get("bytes_out")),
        )  # fmt: skip
        for word, count in (route.get("reasons") or {}).items():
            reasons.add_row(_text(name), _text(word), _text(count))
    console.print(table)
    console.print(reasons)
    for name, count in (document.get("counters") or {}).items():
        if count:
            console.print(Text(f"{name} {count}"))
    if document.get("region_up") is False:
        console.print(Text("shared memory cannot be read: requests are not shown", style=BAD))


def requests(documents: Iterable[Document]) -> None:
    table = _table(
        ("time", "request id", "status", "reason", "route", "ms", "method", "host and path"), right={"status", "ms"}
    )
    for record in documents:
        table.add_row(
            _text(record.get("time")), _text(record.get("request_id")), _status(record.get("status")),
            _text(record.get("reason")), _text(record.get("route")), _text(record.get("duration_ms")),
            _text(record.get("method")), _text(f"{record.get('host', '')}{record.get('path', '')}"),
        )  # fmt: skip
    _console().print(table)


def request_line(document: Document) -> str:
    """One request in one line, for those that come one after the other."""
    milliseconds = document.get("duration_ms")
    took = f"{milliseconds:.1f} ms" if isinstance(milliseconds, int | float) else DASH
    where = f"{document.get('host', '')}{document.get('path', '')}"
    return (
        f"{document.get('time', DASH)} {document.get('status', DASH)} {document.get('reason', DASH)} "
        f"{document.get('route') or DASH} {took} {document.get('method') or DASH} {where or DASH} "
        f"{document.get('request_id', DASH)}"
    )


def lost_line(document: Document) -> str:
    return f"({document.get('lost', DASH)} requests were not told: they came faster than they could be)"


def why(document: Document) -> None:
    """The explanation of a decision as a tree: each statement with its reason and its place."""
    explanation = document.get("explanation") or {}
    tree = Tree(_statement(explanation))
    _grow(tree, explanation)
    _console().print(tree, soft_wrap=True)


def _grow(tree: Tree, node: Document) -> None:
    for child in node.get("children") or ():
        branch = tree.add(_statement(child))
        reason = BY_WORD.get(str(child.get("reason")))
        if child.get("kind") == "verdict" and reason is not None and reason.value.culprit not in ("none", "operator"):
            branch.add(Text(f"remedy: {reason.value.remedy}"))
        _grow(branch, child)


def _statement(node: Document) -> Text:
    text = Text(str(node.get("text", DASH)), style=KINDS.get(str(node.get("kind")), "default"))
    if node.get("reason"):
        text.append(f"  [{node['reason']}]", style="magenta")
    if node.get("place"):
        text.append(f"  {node['place']}", style="cyan")
    return text


def outcome(document: Document, *, is_good: bool) -> None:
    """How a reload, a promotion or a rollback ended; what is bad goes to standard error."""
    console = _console(is_error=not is_good)
    for warning in document.get("warnings") or ():
        console.print(Text(f"warning: {warning}", style=MEDIUM), soft_wrap=True)
    if document.get("text"):
        click.echo(str(document["text"]).rstrip("\n"), err=not is_good)
    line = Text(str(document.get("outcome", DASH)), style=GOOD if is_good else BAD)
    if document.get("generation"):
        line.append(f" generation {document['generation']}", style="default")
    if document.get("why"):
        line.append(f": {document['why']}", style="default")
    console.print(line, soft_wrap=True)


def duration(milliseconds: object) -> Text:
    if not isinstance(milliseconds, int | float):
        return Text(DASH)
    seconds = milliseconds / 1000
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return Text(f"{seconds / size:.0f}{unit}")
    return Text(f"{seconds:.1f}s")


def _console(*, is_error: bool = False) -> Console:
    # A pipe has no width, and a cut table is worse than a long line.
    console = Console(stderr=is_error, highlight=False)
    return console if console.is_terminal else Console(stderr=is_error, highlight=False, width=240)


def _table(columns: Iterable[str], right: set[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def _text(value: object) -> Text:
    """What stands in a cell: one line, whatever is in it. Keys and paths are what clients sent."""
    if isinstance(value, float):
        return Text(f"{value:.1f}")
    return Text(DASH if value is None else str(value).replace("\n", "\\x0a"))


def _state(value: object) -> Text:
    word = _text(value or DASH).plain
    return Text(word.lower(), style=COLOURS.get(word.lower(), "default"))


def _status(value: object) -> Text:
    number = value if isinstance(value, int) else 0
    return Text(str(value or DASH), style=BAD if number >= 500 else MEDIUM if number >= 400 else GOOD)


def _flat(value: object) -> str:
    if isinstance(value, Mapping):
        return "  ".join(f"{key} {item}" for key, item in value.items() if item not in (None, ""))
    return str(value)
