"""A real worker whose plan was written by an operator.

`serving` fills in what a test does not care about: one listener, one upstream
`origin`, and a route for each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sentinel.config import load_text, render_problems
from sentinel.core.plan import Plan
from tests.workers.child import Worker, upstream_of
from tests.workers.origin import closed_port

TEXT = """\
schema-version "1.0"
system {{
    access-log "{log}"
    {system}
}}
listeners {{
    listener "{name}" {{
        address "127.0.0.1:{port}"
        {listener}
    }}
}}
routes {{
    {routes}
    route "fixed" {{
        matches {{ path "/fixed"; }}
        respond 200 body="fixed"
    }}
    route "rest" {{
        matches {{ path-prefix "/"; }}
        upstream "origin"
        {route}
    }}
}}
{top}
filters {{
    {filters}
}}
upstreams {{
    upstream "origin" {{
        {endpoints}
        {upstream}
    }}
}}
"""


def plan_from(text: str) -> Plan:
    loaded = load_text(text)
    assert loaded.plan is not None, render_problems(loaded.problems)
    return loaded.plan


def written(directory: Path, port: int, *, origin: int = 0, **parts: str) -> str:
    """The text of a configuration; parts go where the template names them."""
    settings = {"system": "", "listener": "", "routes": "", "route": "", "upstream": "", "filters": "", "name": "web"}
    settings |= {"top": "", "log": str(directory / "access.log")}
    settings |= {"endpoints": f'endpoint "127.0.0.1:{origin or closed_port()}"'}
    return TEXT.format(port=port, **(settings | parts))


@contextlib.contextmanager
def serving(directory: Path, **parts: Any) -> Iterator[Worker]:
    """A worker that serves what the text says, in a directory of its own."""
    directory.mkdir(parents=True, exist_ok=True)
    born = {name: parts.pop(name) for name in ("tickets", "generation") if name in parts}
    worker = Worker(
        upstream_of(1), directory, plan_at=lambda port: plan_from(written(directory, port, **parts)), **born
    )
    worker.start()
    try:
        yield worker
    finally:
        worker.stop()
