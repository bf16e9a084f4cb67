"""`sentinelctl`: ask a running fleet, and work on configuration files.

The verbs are elsewhere: those of the fleet in fleet.py, those on files in offline.py and
dry.py. Here is only the list of them.
"""

from __future__ import annotations

from typing import Final

from sentinel.cli.entry import Desk, enter

PROGRAM: Final = "sentinelctl"
FLEET: Final = (
    "status", "workers", "reload", "promote", "rollback", "drain", "resume", "generations", "config", "metrics", "why",
    "trace", "endpoints", "breakers", "limits", "budgets", "usage",
)  # fmt: skip
OFFLINE: Final = ("check", "fmt", "migrate", "schema")

HELP: Final = """Ask a running fleet, and work on configuration files.

The exit status is 0 when it is done, 1 when the answer is no (invalid, differs, refused, not found), and 2 for wrong
usage and when the fleet or a file cannot be read. Every verb has --json.
"""

sentinelctl: Final = Desk(
    PROGRAM, HELP,
    {
        "The running fleet (through its control.sock)": dict.fromkeys(FLEET, "sentinel.cli.fleet"),
        "Offline, on files": {
            **dict.fromkeys(OFFLINE, "sentinel.cli.offline"),
            "dry-run": "sentinel.cli.dry", "diff": "sentinel.cli.diff", "test": "sentinel.cli.testing",
            "hash-key": "sentinel.cli.keys", "hash-password": "sentinel.cli.keys",
        },
    },
)  # fmt: skip


def main() -> None:
    enter(sentinelctl, PROGRAM)


if __name__ == "__main__":
    main()
