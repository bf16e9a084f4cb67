"""The stage for providers that speak another dialect than the client: the request is said anew, or refused.

Intuition: a letter to a foreign office. The translator is asked once it is known which office it goes to; what he
cannot say he names, and then the letter goes back to whoever wrote it, not to the office with a line missing.

The core reads no bodies: whoever has the octets translates them (World.translate), and this is what follows from it.
"""

from __future__ import annotations

from sentinel.core.appraisal import Translation
from sentinel.core.plan import Translate
from sentinel.core.reasons import Reason
from sentinel.core.trace import Trace
from sentinel.core.verdict import Forward, Reject


def translate(verdict: Forward, how: Translate, found: Translation, trace: Trace) -> Forward | Reject:
    """The verdict with its translation, or the refusal of what cannot be said."""
    if found.kind == "same":
        return verdict
    if found.kind == "unsayable":
        trace.add((Reason.UNTRANSLATABLE, how.span, (found.client, found.provider, found.fault)))
        return Reject(Reason.UNTRANSLATABLE.status, Reason.UNTRANSLATABLE, verdict.route, verdict.fields)
    trace.add((Reason.TRANSLATED, how.span, (found.client, found.provider, found.left_out)))
    verdict.translation = found
    return verdict
