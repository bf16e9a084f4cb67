"""The playground without a server: what the page calls when Python itself runs in the browser (Pyodide).

The composition root there, as control is on a server: it hands the workers' way of reading requests to the
function. In a browser that way is plain Python throughout (workers.http1's twin), without llhttp's second opinion.
"""

from __future__ import annotations

import json

from sentinel.core.plan import Plan
from sentinel.explain.cases import Ask
from sentinel.playground.ask import Misunderstood, ask
from workers.rehearsal import House, ask_in


def answer(text: str) -> str:
    """Answer a question that is written as JSON; what is not understood is `{error}`, as control says it."""
    try:
        return json.dumps(ask(json.loads(text), _open))
    except (Misunderstood, ValueError, RecursionError) as fault:
        return json.dumps({"error": f"the question is not understood: {fault}", "remedy": "reload the page"})


def _open(plan: Plan) -> Ask:
    return ask_in(House(plan))
