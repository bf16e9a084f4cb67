"""What a configuration costs to check, by its number of routes, and whether that number counts twice.

Run with `python -m benchmarks.config [--routes 10,100,1000,10000] [--rounds 3]`. Every route has a host, a
prefix, a header condition, a timeout and an upstream of its own group of ten, as it comes from a
generator; the columns are the steps that a reload goes through:

    check     text to plan, with all references looked up (of it `parse` is kdl-py alone)
    encode    plan to the octets that workers read, and their hash
    decode    those octets to a plan again, in a worker
    index     plan to the table that is asked

What is linear has the same figure per 1,000 routes in every line.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kdl

from sentinel.config import load
from sentinel.config.codec import encode_plan, fingerprint
from sentinel.core.plan import Plan
from sentinel.core.routes import compile_routes
from workers.planload import load_plan

STEPS = ("parse", "check", "encode", "decode", "index")
GROUP = 10
HOSTS = 97


def text(routes: int) -> str:
    """A configuration with so many routes."""
    lines = ['schema-version "1.0"', 'listeners { listener "web" { address "127.0.0.1:8080"; }; }', "upstreams {"]
    for group in range(-(-routes // GROUP)):
        address = f"10.0.{group // 250 % 250}.{group % 250}:8080"
        lines.append(f'    upstream "u{group}" {{ endpoint "{address}" weight=2; }}')
    lines += ["}", "routes {"]
    for number in range(routes):
        lines += [
            f'    route "r{number}" {{',
            f'        matches {{ host "h{number % HOSTS}.example.com"; path-prefix "/v1/s{number}"; header "x-t"; }}',
            f'        upstream "u{number // GROUP}"',
            '        timeout "30s"',
            "    }",
        ]
    return "\n".join([*lines, "}", ""])


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds of processor time, and what came out."""
    gc.collect()
    before = time.process_time_ns()
    result = action()
    return (time.process_time_ns() - before) / 1e6, result


def steps(path: Path) -> list[float]:
    """Every step once, in milliseconds."""
    written = path.read_text()
    parse_ms, _ = timed(lambda: kdl.parse(written))
    check_ms, loaded = timed(lambda: load(str(path)))
    assert loaded.plan is not None, loaded.problems
    encode_ms, octets = timed(lambda: _stored(loaded.plan))
    stored = path.with_suffix(".json")
    stored.write_bytes(octets)
    decode_ms, plan = timed(lambda: load_plan(str(stored), fingerprint(octets)))
    index_ms, _ = timed(lambda: compile_routes(plan))
    return [parse_ms, check_ms, encode_ms, decode_ms, index_ms]


def _stored(plan: Plan) -> bytes:
    octets = encode_plan(plan)
    fingerprint(octets)
    return octets


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.config", description="What a configuration costs.")
    parser.add_argument("--routes", default="10,100,1000,10000", help="numbers of routes, with commas")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'routes':>7} {'total ms':>9}   ms per 1,000 routes: " + " ".join(f"{step:>7}" for step in STEPS))
    with tempfile.TemporaryDirectory() as directory:
        for routes in map(int, options.routes.split(",")):
            path = Path(directory) / "sentinel.kdl"
            path.write_text(text(routes))
            rounds = [steps(path) for _ in range(options.rounds)]
            medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
            each = " ".join(f"{median * 1000 / routes:>7.1f}" for median in medians)
            print(f"{routes:>7} {sum(medians[1:]):>9.1f}   {'':<20} {each}", flush=True)


if __name__ == "__main__":
    main()
