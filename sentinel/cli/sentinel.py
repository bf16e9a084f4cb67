"""`sentinel`: run a fleet.

`run` forks, so nothing is loaded here that it does not load itself.
"""

from __future__ import annotations

from typing import Final

from sentinel.cli.entry import Desk, enter

PROGRAM: Final = "sentinel"

HELP: Final = """A gateway that can explain every decision it takes.

`sentinel` runs a fleet in the foreground. To ask a running one, and to check configuration files, see `sentinelctl`.
"""

sentinel: Final = Desk(PROGRAM, HELP, {"Commands": {"run": "sentinel.cli.run", "dev": "sentinel.cli.dev"}})


def main() -> None:
    enter(sentinel, PROGRAM)


if __name__ == "__main__":
    main()
