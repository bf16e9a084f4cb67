"""Why did this happen, and what would happen: decisions turned into words (see tree, exhaustive, recorded)."""

from sentinel.explain.exhaustive import explain
from sentinel.explain.recorded import explain_record, source_of
from sentinel.explain.render import render_lines, render_text
from sentinel.explain.tree import Node

__all__ = ["Node", "explain", "explain_record", "render_lines", "render_text", "source_of"]
