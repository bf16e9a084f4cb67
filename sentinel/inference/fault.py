"""What is not the shape that a dialect has.

Intuition: a customs officer who cannot read a form says which box puzzles him, and waves the lorry through:
whether a form that nobody can read may pass is for others to say.
"""

from __future__ import annotations


class InferenceFault(Exception):
    """A body or an event is not what its dialect says; `path` is a JSON path such as `$.messages[2].content`.

    It never has a value of the body in it: messages end in logs.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path
        self.message = message
