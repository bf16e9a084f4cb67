"""Facts that differ, in words: one line a change, old and new.

    burst: 20 → 30            it is another one
    + retry                   only the new configuration has it
    - endpoint 10.0.0.2:80    only the old one has it
    secrets differs           it is never shown

Texts that came from (env) and (file) are taken out before anything is cut to length: half a secret is one, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sentinel.core.plan import Plan
from sentinel.core.witness import query_of
from sentinel.explain.treatment import differences, facts_of
from sentinel.explain.words import SHOWN_MAX, quoted

SETTINGS_MAX: Final = 100
REDACTED: Final = "(not shown)"
SECRET_CHARS_MIN: Final = 4
"""Shorter ones (a port, a digit) stand in other texts by chance."""


class Secrets:
    """What is shown of no plan."""

    def __init__(self, *plans: Plan) -> None:
        whole = {secret for plan in plans for secret in plan.secrets if len(secret) >= SECRET_CHARS_MIN}
        whole |= {secret.swapcase() for secret in whole}  # as generated requests have it (generate)
        whole |= {query_of([("", secret)])[1:] for secret in whole}  # and as it is sent in a query
        found = whole | {secret[:SHOWN_MAX] for secret in whole}  # as words.quoted may have cut it
        self._found = sorted(found, key=lambda one: (-len(one), one))

    def hide(self, text: str) -> str:
        for secret in self._found:
            text = text.replace(secret, REDACTED)
        return text


def settings(old: Plan, new: Plan) -> list[str]:
    """What differs beside the treatment of requests: the fleet as a whole, the admin API, listeners."""
    pairs: list[tuple[str, Any, Any]] = [("system", old.system, new.system), ("admin", old.admin, new.admin)]
    before, after = ({one.name: one for one in plan.listeners} for plan in (old, new))
    found: list[str] = []
    secrets = Secrets(old, new)
    for name in dict.fromkeys((*before, *after)):
        if name not in before or name not in after:
            found.append(f"{'-' if name in before else '+'} listener `{name}`")
            continue
        one, other = before[name], after[name]
        pairs.append((f"listener `{name}`", one.tls, other.tls))
        if one.address != other.address:
            found.append(f"listener `{name}`: address: {one.address} → {other.address}")
    for what, one, other in pairs:
        facts = [{} if value is None else dict(facts_of(value)) for value in (one, other)]
        found += [f"{what}: {change}" for change in change_lines(differences(*facts), secrets)]
    return found[:SETTINGS_MAX]


def change_lines(changes: Sequence[tuple[str, str, str]], secrets: Secrets) -> tuple[str, ...]:
    """Say what `differences` has found."""
    found = []
    for name, old, new in (tuple(map(secrets.hide, change)) for change in changes):
        if not old or not new:
            value = old or new
            said = "" if value == "there" else f": {quoted(value)}"
            found.append(f"{'-' if old else '+'} {name}{said}")
        elif "there" in (old, new) and "none" in (old, new):
            found.append(f"{'-' if old == 'there' else '+'} {name}")
        elif old == new:
            found.append(f"{name} differs")
        else:
            found.append(f"{name}: {_short(old)} → {_short(new)}")
    return tuple(found)


def _short(text: str) -> str:
    return quoted(text)[1:-1]
