"""Regular expressions whose cost is linear in the text, whatever the pattern (see syntax and automaton)."""

from sentinel.core.regex.automaton import Examples, Pattern
from sentinel.core.regex.syntax import BadPattern, parse


def compile_pattern(text: str) -> Pattern:
    """Compile a whole-value pattern; raise BadPattern (with a position) when it is not of our subset."""
    return Pattern(text, parse(text))


__all__ = ["BadPattern", "Examples", "Pattern", "compile_pattern"]
