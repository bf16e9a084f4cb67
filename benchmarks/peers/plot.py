"""The result as a drawing: bars of user and kernel time, a dot for each round, a line at the goal.

SVG by hand, since a bar chart is a few rectangles, and a plotting library would be the
largest dependency of the whole project.
"""

from __future__ import annotations

from html import escape
from typing import Any, Final

WIDTH: Final = 860
LEFT: Final = 130
RIGHT: Final = 240
TOP: Final = 66
ROW: Final = 40
BAR: Final = 22
GOAL: Final = 1.5  # times the reference's cost
USER, KERNEL, INK = "#4c78a8", "#9ecae9", "#222"


def draw(document: dict[str, Any]) -> str:
    """CPU per request of each peer, cheapest first; the disqualified are named and have no bar."""
    peers = sorted(document["peers"], key=lambda peer: (bool(peer["disqualified"]), peer["median"]["cpu_us"]))
    laps = [lap["cpu_us"] for peer in peers if not peer["disqualified"] for lap in peer["rounds"]]
    scale = (WIDTH - LEFT - RIGHT) / max([*laps, _goal_us(document), 1.0])
    height = TOP + ROW * len(peers) + 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        f'font-family="sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(16, 24, "CPU microseconds per proxied request", size=16),
        _text(16, 44, _subtitle(document), size=11),
    ]
    for at, peer in enumerate(peers):
        parts += _row(peer, TOP + ROW * at, scale)
    parts += _goal(document, scale, TOP + ROW * len(peers))
    parts += _legend(height - 14)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _row(peer: dict[str, Any], y: int, scale: float) -> list[str]:
    middle = y + BAR // 2 + 5
    parts = [_text(LEFT - 10, middle, f"{peer['name']} {peer['manner']}".rstrip(), anchor="end")]
    if peer["disqualified"]:
        return [*parts, _text(LEFT + 4, middle, "disqualified: " + peer["disqualified"][0])]
    typical = peer["median"]
    user = typical["cpu_us"] * typical["user_us"] / (typical["user_us"] + typical["system_us"])
    parts.append(_box(LEFT, y, user * scale, USER))
    parts.append(_box(LEFT + user * scale, y, (typical["cpu_us"] - user) * scale, KERNEL))
    for lap in peer["rounds"]:
        x = LEFT + lap["cpu_us"] * scale
        parts.append(f'<circle cx="{x:.1f}" cy="{y + BAR / 2:.1f}" r="2.5" fill="{INK}" fill-opacity="0.55"/>')
    ratio = f" (× {peer['ratio']['median']:.2f})" if peer["ratio"] else ""
    words = f"{typical['cpu_us']:.1f} µs{ratio}, p99 {typical['p99_us'] / 1000:.1f} ms"
    parts.append(_text(WIDTH - RIGHT + 14, middle, words))
    return parts


def _goal(document: dict[str, Any], scale: float, bottom: int) -> list[str]:
    goal_us = _goal_us(document)
    if not goal_us:
        return []
    x = LEFT + goal_us * scale
    line = f'<path d="M{x:.1f} {TOP - 8}V{bottom}" stroke="{INK}" stroke-dasharray="4 3" fill="none"/>'
    return [line, _text(x + 4, bottom + 4, f"{GOAL} × {document['reference']}", size=11)]


def _goal_us(document: dict[str, Any]) -> float:
    """The goal of the project, if the reference is in the race; else 0."""
    for peer in document["peers"]:
        if document["mode"] == "passthrough" and peer["name"] == document["reference"] and not peer["disqualified"]:
            return float(GOAL * peer["median"]["cpu_us"])
    return 0.0


def _subtitle(document: dict[str, Any]) -> str:
    machine = document["machine"]
    return (
        f"{machine['cpu']}, Linux {machine['kernel']}, {document['connections']} connections, 1 KiB answers, "
        f"median of {document['rounds']} rounds, {machine['taken_at'][:10]}"
    )


def _legend(y: int) -> list[str]:
    return [
        _box(LEFT, y - 10, 12, USER, 12), _text(LEFT + 18, y, "user", size=11),
        _box(LEFT + 70, y - 10, 12, KERNEL, 12), _text(LEFT + 88, y, "kernel", size=11),
        f'<circle cx="{LEFT + 156}" cy="{y - 4}" r="2.5" fill="{INK}"/>', _text(LEFT + 164, y, "one round", size=11),
    ]  # fmt: skip


def _box(x: float, y: float, width: float, colour: str, height: int = BAR) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height}" fill="{colour}"/>'


def _text(x: float, y: float, words: str, *, size: int = 13, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(words)}</text>'
