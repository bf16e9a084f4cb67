"""`sentinel run`: a fleet in the foreground. The composition root of the supervisor and the workers.

    check the configuration (in a child) -> import what workers need -> supervisor.main.run

The supervisor parses no configuration, yet needs three things of it before control
lives: the run-dir, the admin address, and the certainty that the rest can be
served. So a forked child checks everything, prints all problems, and hands back
the few settings; what a parser leaves in memory goes with it.

What workers need is imported here, before any fork: it is then in memory once for
the whole fleet, and a new worker is ready within milliseconds.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Final, NoReturn, TypedDict

import click

INVALID: Final = 1
USAGE: Final = 2


class Settings(TypedDict):
    """What the supervisor is told of a configuration."""

    run_dir: str
    admin_address: str
    workers: int
    routes: int
    limit_keys: int
    lease_keys: int
    budget_keys: int
    places: int
    journal_records: int


@click.command()
@click.option("-c", "--config", required=True, metavar="FILE", help="The configuration (KDL).")
def run(config: str) -> None:
    """Run a fleet in the foreground, until SIGTERM or Ctrl-C.

    SIGHUP reloads, SIGTERM and SIGINT drain and end with 0, a second one ends at once, SIGUSR1 reopens logs.
    """
    raise SystemExit(run_fleet(config))


def run_fleet(config: str) -> int:
    """Serve the configuration at this path; returns the exit status: 1 when it cannot be served, 2 when not read."""
    path = os.path.abspath(config)
    if not os.path.isfile(path):
        click.echo(f"sentinel: {config}: no such file", err=True)
        return USAGE
    settings = _check(path)
    if settings is None:
        return INVALID

    from supervisor.main import Options, budgets_for, limits_for, places_for, series_for, slots_for
    from supervisor.main import run as supervise
    from workers.main import run as worker_main

    options = Options(
        run_dir=settings["run_dir"], config=path, admin_address=settings["admin_address"],
        slots_max=slots_for(settings["workers"]), series_max=series_for(settings["routes"]),
        limits_max=limits_for(settings["limit_keys"]), leases_max=limits_for(settings["lease_keys"]),
        budgets_max=budgets_for(settings["budget_keys"]), places_max=places_for(settings["places"]),
        journal_records=max(1, settings["journal_records"]),
    )  # fmt: skip
    return supervise(options, worker_main)


def _check(path: str) -> Settings | None:
    """Check the configuration in a child; None when it has problems, which then stand on standard error."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _check_and_exit(path, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        return None
    settings: Settings = json.loads(data)
    return settings


def _check_and_exit(path: str, writing: int) -> NoReturn:
    status = INVALID
    try:
        from sentinel.config import load, render_problems
        from sentinel.core.places import place_names

        loaded = load(path)
        if loaded.problems or loaded.plan is None:
            click.echo(render_problems(loaded.problems), err=True)
        else:
            plan = loaded.plan
            settings = Settings(
                run_dir=plan.system.run_dir, admin_address=plan.admin.address, workers=plan.system.workers,
                routes=len(plan.routes), limit_keys=plan.system.limit_keys,
                lease_keys=plan.system.lease_keys,
                budget_keys=plan.system.budget_keys if plan.token_budgets else 0,
                places=len(place_names(plan)), journal_records=plan.system.journal.records,
            )  # fmt: skip
            os.write(writing, json.dumps(settings).encode())
            status = 0
    except BaseException as fault:
        click.echo(f"sentinel: the configuration cannot be checked: {type(fault).__name__}: {fault}", err=True)
    finally:
        sys.stderr.flush()
        os._exit(status)
