"""Copies of the layout for C and for people: `_native/layout.h` and `LAYOUT.md`.

Run by a developer (`python -m shm.layout --write`, or `--check`), never by a
process of the fleet. Both texts depend on shm.layout alone, so that they come
out byte-identical everywhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from shm import layout
from shm.counters import Counter
from shm.layout import (
    BOUNDS_NS,
    BUCKETS,
    CELL,
    HEADER,
    LABEL,
    LIMIT,
    NAME,
    PLACE,
    RECORDS,
    ROSTER,
    SERIES,
    SHIFT,
    SLOT,
    SPENDING,
    TALLIES_MAX,
    TALLY,
    TITLE,
    TOLL,
    WORD,
    Geometry,
    Record,
    guards_of,
)  # fmt: skip

HERE: Final = Path(__file__).resolve().parent
C_HEADER: Final = HERE / "_native" / "layout.h"
DRAWING: Final = HERE / "LAYOUT.md"
USAGE: Final = "usage: python -m shm.layout --write | --check"
INSIDE: Final = 76
"""Width of the boxes' inside: the drawing fits a terminal of 80 columns."""
EXAMPLE: Final = Geometry(
    slots_max=64, series_max=1024, journal_records=4096, limits_max=65_536, places_max=256, leases_max=16_384,
    budgets_max=4096,
)  # fmt: skip
C_NAMES: Final = {
    HEADER: "HEADER", SLOT: "SLOT", NAME: "NAME", CELL: "CELL", SERIES: "SERIES", LIMIT: "LIMIT", PLACE: "PLACE",
    TOLL: "TOLL", ROSTER: "ROSTER", LABEL: "LABEL", TALLY: "TALLY", SPENDING: "SPENDING", TITLE: "TITLE",
    SHIFT: "SHIFT",
}  # fmt: skip


def main(arguments: list[str]) -> int:
    if arguments not in (["--write"], ["--check"]):
        print(USAGE)
        return 2
    wanted = {C_HEADER: c_header(), DRAWING: drawing()}
    if arguments == ["--write"]:
        for path, text in wanted.items():
            path.write_text(text, encoding="utf-8")
        return 0
    stale = [path.name for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
    if stale:
        print(f"{', '.join(stale)}: not what shm/layout.py says; run `python -m shm.layout --write`")
    return 1 if stale else 0


def c_header() -> str:
    """The header for C: places in words, since the kernel sees the region as an array of them."""
    lines = [
        "/* Written by `python -m shm.layout --write`; change shm/layout.py instead. */",
        "#ifndef SENTINEL_LAYOUT_H",
        "#define SENTINEL_LAYOUT_H",
        "",
    ]
    for record in RECORDS:
        lines.append(f"/* {record.name}: places in words */")
        lines.append(_define(f"{C_NAMES[record]}_WORDS", record.size // WORD))
        lines += [_define(f"{C_NAMES[record]}_{field.name.upper()}", at // WORD) for at, field in record.places()]
        lines.append("")
    lines.append("/* numbers */")
    numbers = ("CLASSES", "BUCKETS", "REASONS_MAX", "COUNTERS_MAX", "LIVES", "LIFE_WORDS", "STAGE_BITS", "LENGTH_BITS",
               "RELAYED_REASON",
               "JOURNAL_RECORD_BYTES", "SLOTS_LIMIT", "SERIES_LIMIT", "JOURNAL_LIMIT", "LIMITS_LIMIT", "LEASES_LIMIT",
               "BUDGETS_LIMIT", "LIMITS_MIN",
               "LIMIT_WINDOW", "LIMIT_STRIPE", "LIMIT_GUARDS_MIN", "LIMIT_KEYS_MAX", "LIMIT_KEY_BYTES_MAX",
               "LIMIT_TERM_WORDS", "LIMIT_CLOSED", "LIMIT_OBSERVE", "LIMIT_GRACE_NS", "LIMIT_ATTEMPTS_MAX",
               "LIMIT_SPINS", "LIMIT_SPIN_DOUBLINGS", "TICKET_BITS", "OFFSET_BITS", "BUDGET_TERM_WORDS",
               "BUDGET_INDEX_BITS", "PLACES_LIMIT",
               "SUBWINDOWS", "WINDOW_BITS", "STAMP_BITS", "PLACE_TERM_WORDS", "BURDEN_MAX", "BUDGET_MAX",
               "BUDGET_PAID_MS",
               "LEADER_SLOT_BITS", "LEADER_GENERATION_BITS")  # fmt: skip
    lines += [_define(name, getattr(layout, name)) for name in numbers]
    # Beyond an int: said to be words, or a shift of them would be undefined.
    words = ("LIMIT_TIME_MAX_NS", "LIMIT_TERM_MAX_NS", "LIMIT_VOID", "LIMIT_BUSY", "BUDGET_AMOUNT_MAX",
             "BUDGET_UNCOUNTED")  # fmt: skip
    lines += [f"#define {name} UINT64_C({getattr(layout, name)})" for name in words]
    lines += ["", "/* counters that the tables of limits, leases and budgets count themselves: shm.counters.Counter */"]
    lines += [_define(f"COUNTER_{counter.name}", counter) for counter in Counter 
              if counter.name.startswith(("LIMITS_", "LEASES_", "BUDGETS_"))]  # fmt: skip
    masks = [
        sum(1 << reason % 64 for reason in layout.FAILING_REASONS if reason // 64 == word)
        for word in range(layout.REASONS_MAX // 64)
    ]
    lines += ["", "/* reasons that are failures, a bit each */",
              f"#define FAILING_REASONS {{{', '.join(f'{mask:#x}ull' for mask in masks)}}}"]  # fmt: skip
    bounds = ", ".join(f"{bound}ull" for bound in BOUNDS_NS)
    lines += ["", "/* upper bounds of the histogram's buckets, inclusive, in ns */",
              f"#define BOUNDS_NS {{{bounds}}}", "", "#endif", ""]  # fmt: skip
    return "\n".join(lines)


def _define(name: str, value: int) -> str:
    return f"#define {name} {value}"


def drawing() -> str:
    parts = [PREFACE.format(version=layout.VERSION, crc=layout.LAYOUT_CRC), _map(EXAMPLE)]
    for record, preface in ((HEADER, HEADER_TEXT), (SLOT, SLOT_TEXT), (NAME, NAME_TEXT),
                            (CELL, CELL_TEXT), (SERIES, SERIES_TEXT), (LIMIT, LIMIT_TEXT),
                            (SPENDING, SPENDING_TEXT), (TITLE, TITLE_TEXT), (PLACE, PLACE_TEXT),
                            (TOLL, TOLL_TEXT), (ROSTER, ROSTER_TEXT), (LABEL, LABEL_TEXT),
                            (TALLY, TALLY_TEXT)):  # fmt: skip
        parts += [f"\n## {record.name.capitalize()}\n\n{preface}\n", _boxes(record)]
    limits = " ".join(f"{bound // 1000}" for bound in BOUNDS_NS)
    parts.append(f"\nThe {BUCKETS} buckets end at (microseconds, inclusive): {limits}, and without bound.\n")
    return "\n".join(parts)


def _map(geometry: Geometry) -> str:
    rows = [
        (0, "header", "one page; identity, published generation, counts"),
        (geometry.slots_offset, "slots", f"{geometry.slots_max} x {SLOT.size}: who lives here, orders, heartbeats"),
        (geometry.names_offset, "series names", f"{geometry.series_max} x {NAME.size}, append only"),
        (geometry.rings_offset, "journal rings", f"{geometry.slots_max} x {geometry.journal_records} x {CELL.size}"),
        (geometry.counters_offset, "counters", f"{geometry.slots_max} x {geometry.series_max} x {SERIES.size}"),
        (geometry.limits_offset, "limits", f"{geometry.limits_max} x {LIMIT.size}: one bucket a key"),
        (geometry.shifts_offset, "shifts", f"{geometry.limits_max} x {SHIFT.size}: what was given back of them"),
        (geometry.guards_offset, "guards", f"{geometry.guards_max} x {WORD}: who inserts where"),
        (geometry.leases_offset, "leases", f"{geometry.leases_max} x {LIMIT.size}: who holds something"),
        (geometry.lease_guards_offset, "guards", f"{guards_of(geometry.leases_max)} x {WORD}: who inserts there"),
        (geometry.holdings_offset, "holdings", f"{geometry.slots_max} x {geometry.leases_max} x {WORD}: held there"),
        (geometry.budgets_offset, "budgets", f"{geometry.budgets_max} x {LIMIT.size}: windows of budgets"),
        (geometry.budget_guards_offset, "guards", f"{guards_of(geometry.budgets_max)} x {WORD}: who inserts there"),
        (geometry.titles_offset, "titles", f"{geometry.budgets_max} x {TITLE.size}: their keys"),
        (geometry.spendings_offset, "spent", f"{geometry.slots_max} x {geometry.budgets_max} x {SPENDING.size}"),
        (geometry.places_offset, "places", f"{geometry.places_max} x {PLACE.size}: upstreams and endpoints"),
        (geometry.flights_offset, "in flight", f"{geometry.slots_max} x {2 * geometry.places_max} x {WORD}, + tokens"),
        (geometry.tolls_offset, "tolls", f"{geometry.slots_max} x {geometry.places_max} x {TOLL.size}"),
        (geometry.rosters_offset, "rosters", f"{geometry.places_max} x {ROSTER.size}: which models there are"),
        (geometry.labels_offset, "labels", f"{TALLIES_MAX} x {LABEL.size}: whose calls of language models"),
        (geometry.tallies_offset, "tallies", f"{geometry.slots_max} x {TALLIES_MAX} x {TALLY.size}: what they took"),
    ]
    lines = ["```", f"{'offset':>12}  (a region of {geometry.slots_max} slots and {geometry.series_max} series)"]
    rule = " " * 14 + "+" + "-" * (INSIDE - 12) + "+"
    for offset, name, text in rows:
        lines += [rule, f"{offset:>12}  | {name + ': ' + text:<{INSIDE - 14}} |"]
    lines += [rule, f"{geometry.size_bytes:>12}  (the end; pages never touched cost nothing)", "```"]
    return "\n".join(lines)


def _boxes(record: Record) -> str:
    rule = "+" + "-" * INSIDE + "+"
    lines, line_before = ["```"], -1
    for offset, field in record.places():
        line = offset // layout.LINE
        if line != line_before:
            lines.append(rule)
        line_before = line
        count = f"[{field.words}]" if field.words > 1 else ""
        head = f"{offset:>5}  {field.name + count:<20} {field.writer:<11}"
        for number, part in enumerate(_wrapped(field.text, INSIDE - len(head) - 3)):
            lines.append(f"| {(head if not number else ' ' * len(head))} {part:<{INSIDE - len(head) - 3}} |")
    lines += [rule, f"  {record.size} octets; a rule begins a cache line", "```"]
    return "\n".join(lines)


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


PREFACE: Final = """\
# The layout of shared memory

Written by `python -m shm.layout --write`; change `shm/layout.py` instead.
Version {version}, CRC {crc:#010x}. All words are 64 bits, in native order.

Each word has one writer, but for the table of limits and its guards, which all
workers change by compare-and-swap. Readers take no lock: a word is whole, and
what is larger than a word is published by one that is written last (release)
and read first and again at the end (acquire).
"""
HEADER_TEXT: Final = """\
Who attaches checks the magic, the version, both checksums and the size before
anything else is believed; what does not agree is refused."""
SLOT_TEXT: Final = """\
A process's place. Counters, lives and journal belong to the slot and not to the
process: the next one goes on where the last one stopped, so that nothing is
folded or copied when a process dies, no sum can go down, and no crash of the
supervisor between two stores can count twice or lose."""
NAME_TEXT: Final = """\
A series is a stable name (a route's) with a number. Numbers are given by control
alone, in order, and never taken back. 0 is `(none)`, 1 is `(other)`."""
CELL_TEXT: Final = """\
A ring of these per slot. The writer sets the word to 0, copies, then sets the
word: who reads the same word before and after the copy has an untorn record."""
LIMIT_TEXT: Final = """\
A bucket, in open addressing: a key lives within a window from its home on. How
it is claimed, charged and given away is told in `shm/limits.py`. A guard is one
word for each stripe of homes: 0, or the ticket of whoever inserts there (slot
<< 46 | count), with bit 63 and the entry's place << 56 once it is decided. A lease is the same
entry in a table of its own, with a word of each slot besides: what that one holds
(`shm/leases.py`)."""
SPENDING_TEXT: Final = """\
One of these per slot and budget: what that slot spends and has reserved (`shm/budgets.py`). Sums over all slots,
and what was carried over, are the fleet's. Its name stands in the budget's title."""
TITLE_TEXT: Final = "Which key a budget's entry is, for people and for the durable ledger."
PLACE_TEXT: Final = """\
An upstream, named by its name, or an endpoint, named `upstream/address`. Numbers are
given by control alone, in order, and never taken back. How its words change is told
in `shm/places.py`. In flight are, for each slot, a row of one word a place; what the
fleet has in flight at a place is the sum over the slots."""
TOLL_TEXT: Final = "What was counted of a place, per slot; sums over all slots are the fleet's."
LABEL_TEXT: Final = "Whose calls of language models are counted together (`shm/tallies.py`)."
TALLY_TEXT: Final = "One of these per slot and label; sums over all slots are the fleet's."
ROSTER_TEXT: Final = "One of these per place: which models an endpoint serves, as the leader read it last."
SERIES_TEXT: Final = "One of these per slot and series; sums over all slots are the fleet's."
