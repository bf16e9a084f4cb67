"""Whether mypyc has translated us: the one thing that a module which is compiled may do in another way (ADR 29).

mypy has to know it too, to leave out the other branch: setup.py has mypyc read `COMPILED` as true, pyproject.toml has
mypy read it as false.
"""

from __future__ import annotations

from typing import Final


def _probe() -> None:
    """A function of Python has its bytecode; one that was compiled has none."""


COMPILED: Final[bool] = not hasattr(_probe, "__code__")
