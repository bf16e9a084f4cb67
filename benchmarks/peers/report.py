"""A result in words and in columns; the JSON document is the result itself."""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def table(document: Document) -> str:
    """The document as text for a terminal."""
    lines = (_idle if document["mode"] == "idle" else _passthrough)(document)
    lines += [f"skipped: {skipped['name']}: {skipped['why']}" for skipped in document["skipped"]]
    machine = document["machine"]
    optimised = "" if machine["python_optimised"] else " (built without optimisations)"
    lines.append("")
    lines.append(
        f"{machine['cpu']}, {machine['cpus']} CPUs{' (virtual)' if machine['virtual'] else ''}, "
        f"Linux {machine['kernel']}"
    )
    compiled = "; Sentinel compiled" if machine.get("sentinel_compiled") else ""
    lines.append(f"Python {machine['python']}{optimised}{compiled}; {machine['wrk']}; upstream: {machine['upstream']}")
    lines.append(f"method: {document['method']}")
    return "\n".join(lines)


def _passthrough(document: Document) -> list[str]:
    reference = document["reference"]
    lines = [
        f"{'peer':<26}{'CPU µs/request':>15}{'user':>7}{'kernel':>7}  {'× ' + reference:<20}"
        f"{'requests/s':>11}{'p50 ms':>8}{'p99 ms':>8}{'RSS MiB':>9}{'logged':>8}  version"
    ]
    for peer in document["peers"]:
        typical = peer["median"]
        logged = [lap["logged"] for lap in peer["rounds"]]
        title = f"{peer['name']} {peer['manner']}"
        lines.append(
            f"{title:<26}{typical['cpu_us']:>15.2f}{typical['user_us']:>7.1f}{typical['system_us']:>7.1f}"
            f"  {_ratio(peer['ratio']):<20}{typical['requests_per_s']:>11,.0f}{typical['p50_us'] / 1000:>8.2f}"
            f"{typical['p99_us'] / 1000:>8.2f}{typical['rss_kib'] / 1024:>9.1f}"
            f"{'-' if None in logged else f'{min(logged):.0%}':>8}  {peer['version']}"
        )
        lines += [f"    DISQUALIFIED: {why}" for why in peer["disqualified"]]
    return lines


def _ratio(ratio: dict[str, Any] | None) -> str:
    if ratio is None:
        return "-"
    return f"{ratio['median']:.2f} ({min(ratio['rounds']):.2f}-{max(ratio['rounds']):.2f})"


def _idle(document: Document) -> list[str]:
    lines = [f"{'peer':<16}{'connections':>12}{'RSS MiB':>9}{'KiB each':>10}  version"]
    for peer in document["peers"]:
        lines.append(f"{peer['name']:<16}{0:>12,}{peer['base_rss_kib'] / 1024:>9.1f}{'':>10}  {peer['version']}")
        lines += [
            f"{'':<16}{step['connections']:>12,}{step['rss_kib'] / 1024:>9.1f}{step['kib_each']:>10.2f}"
            for step in peer["steps"]
        ]
        lines += [f"    DISQUALIFIED: {why}" for why in peer["disqualified"]]
    return lines
