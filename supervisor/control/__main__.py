"""`python -m supervisor.control`: started by the supervisor, never by hand."""

from __future__ import annotations

import sys

import uvloop

from supervisor.control.environment import ControlEnvironment, EnvironmentFault
from supervisor.control.process import ControlProcess

USAGE = 2


def main() -> int:
    try:
        environment = ControlEnvironment.from_environ()
    except EnvironmentFault as fault:
        print(f"sentinel control: {fault}", file=sys.stderr)
        return USAGE
    return uvloop.run(_run(environment))


async def _run(environment: ControlEnvironment) -> int:
    return await ControlProcess(environment).run()


if __name__ == "__main__":
    sys.exit(main())
