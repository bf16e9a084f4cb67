"""The admin API: what an operator asks, in JSON.

Handlers are thin. Each asks one of the parts (the fleet, the reloader, the
numbers, the journal) and gives its answer a status; none of them blocks the loop
and none of them keeps anything. Faults of the parts become answers in one
place, `answered`: who is at fault, and what to do.

    200 done   400 not understood   404 not there   409 the answer is no
    422 the configuration has problems   503 cannot be asked   504 not known in time
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from sentinel.config import redacted
from sentinel.core.plan import Plan
from sentinel.playground import Misunderstood
from shm.region import Region
from supervisor.control import governing, playing, spending
from supervisor.control.audit import AuditLog
from supervisor.control.book import LedgerFault
from supervisor.control.bookkeeping import windows_of
from supervisor.control.channel import ChannelFault, Message, SupervisorRefusal
from supervisor.control.endpoints import ENDPOINTS, openapi
from supervisor.control.fleet import Fleet
from supervisor.control.followers import Follower, Followers, TooMany
from supervisor.control.journal import LAST_MAX, FilterFault, Filters, Journal
from supervisor.control.ledger import Ledger, home_of
from supervisor.control.memory import Memory, MemoryFault
from supervisor.control.metrics import exposition
from supervisor.control.numbers import Numbers, key_ages
from supervisor.control.rehearsing import DryRun, Rehearsals
from supervisor.control.release import release
from supervisor.control.reload import Options, Outcome, Reloader, describe
from supervisor.control.rollouts import Rollout
from supervisor.control.running import PlanFault, RunningPlan
from workers.rehearsal import Misasked

T = TypeVar("T")
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Parts(Protocol):
    """What the API asks; the control process has it (see process.py)."""

    fleet: Fleet
    reloader: Reloader
    running: RunningPlan
    journal: Journal
    followers: Followers
    memory: Memory
    audit: AuditLog
    ledger: Ledger

    async def numbers(self) -> Numbers: ...
    def about_control(self) -> dict[str, Any]: ...


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a POST that has no options."""


class DrainOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    wait: bool = True


class DiffOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    recent: int = 1000


BodyT = TypeVar("BodyT")
Handler = Callable[["Api", Request], Awaitable[Response]]


def reply(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json", headers=HEADERS)


def failure(status: int, error: object, remedy: str = "") -> Response:
    return reply({"error": str(error), "remedy": remedy}, status)


def answered(handler: Handler) -> Handler:
    """Give the faults of the parts their answers."""

    @functools.wraps(handler)
    async def wrapped(api: Api, request: Request) -> Response:
        try:
            return await handler(api, request)
        except SupervisorRefusal as refusal:
            return failure(409, refusal, "see `sentinelctl status`")
        except ChannelFault as fault:
            return failure(503, fault, "control is started again by the supervisor; ask again in a moment")
        except PlanFault as fault:
            return failure(503, fault, "reload, which writes the plan anew")
        except MemoryFault as fault:
            return failure(503, fault, "see the log of the control process")
        except LedgerFault as fault:
            return failure(503, fault, "see that the ledger can be read (`state-dir`, `ledger`); the log of control")
        except governing.Unknown as fault:
            return failure(404, fault, "see `sentinelctl endpoints`, `breakers` and `limits`")
        except Misunderstood as fault:
            return failure(400, f"the question is not understood: {fault}", "see docs/reference/admin-api.md")
        except playing.Busy as fault:
            return failure(503, fault, "ask again in a moment")
        except Misasked as fault:
            return failure(400, fault, "see the OpenAPI document for what a dry run takes")
        except TooMany as fault:
            return failure(503, fault, "end one of them")
        except (FilterFault, spending.Misread) as fault:
            return failure(400, fault, "see the OpenAPI document for the filters")
        except msgspec.MsgspecError as error:
            return failure(400, f"the body is not understood: {error}", "see the OpenAPI document for the options")
        except TimeoutError:
            return failure(504, "it was not done in time", "see `sentinelctl status`")
        except Exception as error:
            traceback.print_exc()
            return failure(500, f"a fault in the control process: {type(error).__name__}", "please report its log")

    return wrapped


class EndpointChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    upstream: str
    endpoint: str
    state: str


class BreakerChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    upstream: str
    state: str
    endpoint: str = ""


class BucketName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    limit: str
    key: tuple[str, ...] = ()


class Told(StreamingResponse):
    """What a follower hears, who leaves with it: his events are never begun when the client is gone already."""

    def __init__(self, follower: Follower, followers: Followers) -> None:
        super().__init__(follower.events(), media_type="text/event-stream", headers=HEADERS)
        self._follower = follower
        self._followers = followers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._followers.leave(self._follower)


class Api:
    """The handlers, by the names of the endpoint table."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._rehearsals = Rehearsals()
        self._playground = playing.Playground()

    def application(self) -> Starlette:
        routes = [
            # A parameter takes the rest of the path: whatever was asked for is answered by its handler.
            Route(endpoint.path.replace("}", ":path}"), getattr(self, endpoint.name), methods=[endpoint.method])
            for endpoint in ENDPOINTS
        ]
        return Starlette(routes=routes, exception_handlers={HTTPException: _unknown})

    @answered
    async def status(self, request: Request) -> Response:
        status = await self._parts.fleet.status()
        document = status | {"control": dict(status.get("control") or {}) | self._parts.about_control()}
        plan = None
        with contextlib.suppress(PlanFault):  # `sentinelctl config` says it
            plan = await self._running(status)
        ages = {} if plan is None else key_ages(plan, time.time())
        return reply(document | {"keys": ages} if ages else document)

    @answered
    async def workers(self, request: Request) -> Response:
        return reply((await self._parts.fleet.status()).get("workers", []))

    @answered
    async def generations(self, request: Request) -> Response:
        return reply((await self._parts.fleet.status()).get("history", []))

    @answered
    async def config(self, request: Request) -> Response:
        plan = await self._running(await self._parts.fleet.status())
        if plan is None:
            return failure(404, "no generation runs", "mend the configuration and reload")
        document = {"fingerprint": self._parts.running.fingerprint, "sources": plan.sources}
        return reply(document | {"plan": redacted(plan)})

    @answered
    async def reload(self, request: Request) -> Response:
        options = await read_body(request, Options)
        if options.canary < 0:
            return failure(400, "`canary` is a number of lanes, 0 or more", "0 is all of them")
        outcome = await self._parts.reloader.reload(options)
        if not options.dry:
            await self._note(request, "reload --force" if options.force else "reload", outcome.outcome)
        return reply(outcome, outcome.status)

    @answered
    async def diff(self, request: Request) -> Response:
        options = await read_body(request, DiffOptions)
        if not 1 <= options.recent <= LAST_MAX:
            return failure(400, f"`recent` is a number from 1 to {LAST_MAX}", "ask for fewer")
        found = await self._parts.reloader.preview(options.recent)
        if isinstance(found, Outcome):
            return reply(found, found.status)
        return reply(found.document())

    @answered
    async def promote(self, request: Request) -> Response:
        await read_body(request, Nothing)
        rollout = await self._parts.fleet.promote(await self._plan())
        await self._note(request, "promote", rollout.state if rollout is not None else "unknown")
        return self._rolled(rollout)

    @answered
    async def rollback(self, request: Request) -> Response:
        await read_body(request, Nothing)
        rollout = await self._parts.fleet.rollback(await self._plan())
        await self._note(request, "rollback", rollout.state if rollout is not None else "unknown")
        return self._rolled(rollout)

    @answered
    async def drain(self, request: Request) -> Response:
        options = await read_body(request, DrainOptions)
        mode = await self._parts.fleet.drain(await self._plan(), wait=options.wait)
        await self._note(request, "drain", mode)
        return reply({"mode": mode}, 409 if mode == "serving" else 200)

    @answered
    async def resume(self, request: Request) -> Response:
        await read_body(request, Nothing)
        mode = await self._parts.fleet.resume()
        await self._note(request, "resume", mode)
        return reply({"mode": mode})

    @answered
    async def endpoints(self, request: Request) -> Response:
        return reply(await self._ask(governing.endpoints))

    @answered
    async def set_endpoint(self, request: Request) -> Response:
        change = await read_body(request, EndpointChange)
        name = f"{change.upstream}/{change.endpoint}"
        return await self._set(
            request, "set-endpoint", name,
            lambda plan, region: governing.set_endpoint(plan, region, change.upstream, change.endpoint, change.state),
            governing.ENDPOINT_WORD,
        )

    @answered
    async def breakers(self, request: Request) -> Response:
        return reply(await self._ask(governing.breakers))

    @answered
    async def set_breaker(self, request: Request) -> Response:
        change = await read_body(request, BreakerChange)
        name = "/".join(part for part in (change.upstream, change.endpoint) if part)
        return await self._set(
            request, "set-breaker", name,
            lambda plan, region: governing.set_breaker(plan, region, change.upstream, change.endpoint, change.state),
            governing.BREAKER_WORD,
        )

    @answered
    async def limits(self, request: Request) -> Response:
        return reply(await self._ask(governing.limits))

    @answered
    async def bucket(self, request: Request) -> Response:
        name, values = request.path_params["limit"], request.query_params.getlist("key")
        return reply(await self._ask(lambda plan, region: governing.bucket(plan, region, name, values)))

    @answered
    async def reset_limit(self, request: Request) -> Response:
        named = await read_body(request, BucketName)
        return await self._set(
            request, "reset-limit", f"{named.limit} {' '.join(named.key)}".rstrip(),
            lambda plan, region: (
                "used" if governing.reset_bucket(plan, region, named.limit, named.key) else "full", "full"
            ),
        )

    @answered
    async def budgets(self, request: Request) -> Response:
        asked = spending.Asked.of(request.query_params)
        return reply(await self._ask(lambda plan, region: spending.budgets(plan, region, asked)))

    @answered
    async def usage(self, request: Request) -> Response:
        asked = spending.Asked.of(request.query_params)
        plan = await self._plan()
        windows = await self._parts.memory.ask(lambda region: list(windows_of(region)))
        ledger = self._parts.ledger
        return reply(await asyncio.to_thread(spending.usage, plan, ledger, windows, asked))

    @answered
    async def dry_run(self, request: Request) -> Response:
        asked = await read_body(request, DryRun)
        return reply(await self._ask(lambda plan, region: self._rehearsals.rehearse(plan, region, asked)))

    @answered
    async def why(self, request: Request) -> Response:
        request_id = request.path_params["request_id"]
        found = await self._parts.journal.find(request_id)
        if found is None:
            remedy = "the journal is a ring: old records give way to new ones; look into the access log"
            if (count := self._parts.journal.unreadable_count) > 0:
                remedy += f" ({count} of its records cannot be read by this release)"
            return failure(404, f"no record of the request `{request_id}`", remedy)
        return reply(found)

    @answered
    async def requests(self, request: Request) -> Response:
        return reply(await self._parts.journal.recent(Filters.of(request.query_params)))

    @answered
    async def follow(self, request: Request) -> Response:
        filters = Filters.of(request.query_params, ("status", "route", "reason"))
        follower = await self._parts.followers.join(filters)
        return Told(follower, self._parts.followers)

    @answered
    async def statistics(self, request: Request) -> Response:
        return reply((await self._parts.numbers()).document())

    @answered
    async def playground(self, request: Request) -> Response:
        file = self._playground.file(request.path_params["file"])
        if file is None:
            return failure(404, "there is no such file of the playground", "open /playground/")
        headers = playing.HEADERS | {"etag": file.etag}
        if request.headers.get("if-none-match") == file.etag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers | {"content-type": file.media})

    @answered
    async def ask_playground(self, request: Request) -> Response:
        return reply(await self._playground.ask(await request.body()))

    @answered
    async def openapi(self, request: Request) -> Response:
        return reply(openapi(release()))

    @answered
    async def metrics(self, request: Request) -> Response:
        content, media = exposition(await self._parts.numbers(), request.headers.get("accept", ""))
        return Response(content, media_type=None, headers=HEADERS | {"content-type": media})

    @answered
    async def live(self, request: Request) -> Response:
        return reply({"live": True})

    @answered
    async def ready(self, request: Request) -> Response:
        try:
            status = await self._parts.fleet.status()
        except (ChannelFault, SupervisorRefusal):
            return reply({"ready": False, "why": "the supervisor does not answer"}, 503)
        if not status.get("generation"):
            return reply({"ready": False, "why": "no generation serves yet"}, 503)
        if status.get("mode") != "serving":
            return reply({"ready": False, "why": f"the fleet is {status.get('mode')}"}, 503)
        return reply({"ready": True})

    async def _ask(self, question: Callable[[Plan, Region], T]) -> T:
        """Answer a question about what runs and what shared memory knows of it."""
        plan = await self._plan()
        return await self._parts.memory.ask(lambda region: question(plan, region))

    async def _note(self, request: Request, action: str, outcome: str) -> None:
        await self._parts.audit.write(caller(request), action, "fleet", None, outcome)

    async def _set(
        self, request: Request, action: str, what: str, change: Callable[[Plan, Region], tuple[str, str]],
        subject: str = "",
    ) -> Response:  # fmt: skip
        """Change something in shared memory, and write it down; with a subject, also for after a reboot."""
        before, after = await self._ask(change)
        warnings = [await self._parts.audit.write(caller(request), action, what, before, after)]
        if subject:
            home = home_of((await self._plan()).system)
            note = self._parts.ledger.note
            warnings.append(await asyncio.to_thread(note, home, caller(request), subject, what, after))
        warning = "; ".join(filter(None, warnings))
        return reply({"what": what, "before": before, "after": after} | ({"warning": warning} if warning else {}))

    async def _plan(self) -> Plan:
        plan = await self._running(await self._parts.fleet.status())
        if plan is None:
            raise SupervisorRefusal("no generation runs")
        return plan

    async def _running(self, status: Message) -> Plan | None:
        return await self._parts.running.follow(status)

    def _rolled(self, rollout: Rollout | None) -> Response:
        outcome = describe(rollout, Outcome(outcome="unknown"))
        return reply(outcome, outcome.status)


def caller(request: Request) -> str:
    """Who asks, as far as it is known: whoever may open the Unix socket, or an address."""
    return f"{request.client.host}:{request.client.port}" if request.client is not None else "control.sock"


async def read_body(request: Request, kind: type[BodyT]) -> BodyT:
    """The options of a POST; an empty body stands for none."""
    return msgspec.json.decode(await request.body() or b"{}", type=kind)


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return failure(error.status_code, error.detail, "see /api/v1/openapi.json")
