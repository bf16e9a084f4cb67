"""Configuration: KDL text to a plan, or to all problems with their places.

    source.py     where text comes from           document.py   text -> nodes with spans (kdl-py)
    schema.py     the table of all directives     kinds.py      the kinds of values in it
    check.py      nodes against the table         compile.py    what directives mean together -> Plan
    states.py     a described state of the fleet  cases.py      policy tests
    load.py       all of it, with includes        codec.py      plans as octets, and redacted
    problem.py    what is wrong, and its place    certificates.py
    tokens.py, concrete.py, fmt.py, migrate.py    text as text: nothing of it is lost
"""

from sentinel.config.codec import encode_plan, fingerprint, hide, redacted
from sentinel.config.load import Loaded, load, load_text
from sentinel.config.problem import Problem, render_problems
from sentinel.config.schema import schema_json

__all__ = [
    "Loaded", "Problem", "encode_plan", "fingerprint", "hide", "load", "load_text", "redacted", "render_problems",
    "schema_json",
]  # fmt: skip
