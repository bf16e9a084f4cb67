"""Guardrails: what is looked for in the texts of language models, and what is done about it."""
