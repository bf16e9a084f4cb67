"""The stage that reads on the request which model it is for, and finds the line of the route's `models` that takes it.

Intuition: an exchange of the old telephone. The caller says a name; the operator looks down her list, and plugs
him through to whoever is meant. Whom she does not find she says so, or she puts him through to the house's own
desk, as she was told to do.

It comes when the body is there, before tokens are put aside: whose budget pays is known when it is known who answers.
Lines that were passed over are not told here: the names on them, and the name that was asked for, say it at any time
(explain.losers).
"""

from __future__ import annotations

from sentinel.core.appraisal import Appraisal
from sentinel.core.candidates import Candidate
from sentinel.core.models import Directory, Target, shown
from sentinel.core.reasons import Reason
from sentinel.core.request import Request
from sentinel.core.trace import Trace
from sentinel.core.verdict import Reject, Respond


def model(
    candidate: Candidate, directory: Directory, request: Request, appraisal: Appraisal, trace: Trace
) -> Target | Respond | Reject | None:
    """The line that takes the request, or what is answered; None: it goes to the route's own upstream."""
    if appraisal.is_read:
        target = directory.find(appraisal.model)
        if target is not None:
            trace.add(target.step(appraisal.model))
            return target
        if directory.models.unknown == "forward":
            trace.add((Reason.MODEL_DEFAULTED, directory.models.span, (shown(appraisal.model),)))
            return None
        return _unknown(candidate, directory, appraisal.model, trace)
    if appraisal.kind == "free":
        return _free(candidate, directory, request, trace)
    if directory.models.unknown == "forward":
        return None
    is_malformed = appraisal.kind == "malformed"
    reason = Reason.INFERENCE_MALFORMED if is_malformed else Reason.INFERENCE_UNKNOWN
    trace.add((reason, directory.models.span, (appraisal.fault,) if is_malformed else ()))
    return Reject(reason.status, reason, candidate.route)


def _free(candidate: Candidate, directory: Directory, request: Request, trace: Trace) -> Respond | Reject | None:
    """What names no model: who asks which there are is answered, the rest is the own upstream's, if there is one."""
    if request.method in ("GET", "HEAD") and (answer := directory.answers(request.path)) is not None:
        trace.add((Reason.MODELS_LISTED, directory.models.span, ()))
        return Respond(candidate.route, answer=answer)
    if candidate.upstream is not None or candidate.split is not None:
        return None
    return _unknown(candidate, directory, "", trace)


def _unknown(candidate: Candidate, directory: Directory, asked: str, trace: Trace) -> Reject:
    trace.add((Reason.MODEL_UNKNOWN, directory.models.span, (shown(asked),)))
    return Reject(Reason.MODEL_UNKNOWN.status, Reason.MODEL_UNKNOWN, candidate.route)
