"""Every directive of the schema, and what changing it changes.

A test here starts from text as an operator writes it, and looks at what clients, upstreams or
operators see: between the two lie the checker, the compiler, the plan and the worker, and a
directive that any of them drops is noticed. The marker `directive` names what a test shows;
tests/style/test_directives.py holds the markers against the schema.
"""
