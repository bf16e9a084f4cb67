"""How our two programs start and end: commands that are loaded when they are asked for.

Intuition: a reception desk with a list of names. To send a visitor to one room
nobody has to open all the doors; only whoever asks "who is here?" (`--help`)
makes the receptionist walk round.

    sentinel       run (forks: nothing may be loaded before it that it does not need), dev
    sentinelctl    the fleet's verbs and the offline verbs, in two lists

Rules of the end: 0, 1 and 2 are the verbs' own (sentinel.cli.fleet); wrong usage is 2.
Ctrl-C and a reader that went away (`| head`) are no news: nothing is printed,
and the status is that of the signal, as of any tool.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final, NoReturn

import click

INTERRUPTED: Final = 130
READER_GONE: Final = 141

Sections = Mapping[str, Mapping[str, str]]
"""Title of a list in the help: its verbs, and the module that each is in."""


class Desk(click.Group):
    """A group whose commands live in modules that are imported when needed.

    A module has its commands in COMMANDS, or the one as an attribute of its name.
    """

    def __init__(self, name: str, help: str, sections: Sections) -> None:
        super().__init__(name, help=help, context_settings={"help_option_names": ["-h", "--help"]})
        self._sections = sections
        self.params.append(_version_option())

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [verb for verbs in self._sections.values() for verb in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for verbs in self._sections.values():
            if cmd_name in verbs:
                return _loaded(verbs[cmd_name], cmd_name)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name.startswith("-") or ctx.resilient_parsing or self.get_command(ctx, name) is not None:
            return super().resolve_command(ctx, args)
        close = get_close_matches(name, self.list_commands(ctx), n=1)
        remedy = f"did you mean `{close[0]}`?" if close else f"see `{ctx.command_path} --help`."
        ctx.fail(f"there is no verb `{name}`; {remedy}")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, verbs in self._sections.items():
            rows = [(verb, _loaded(module, verb).get_short_help_str(90)) for verb, module in verbs.items()]
            with formatter.section(title):
                formatter.write_dl(rows)


def enter(group: click.Group, program: str) -> NoReturn:
    """Run the program on the words of its command line, and end the process."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character shows its number; an answer is never lost for that.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        status = _run(group, program)
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = INTERRUPTED
    except BrokenPipeError:
        # What is still buffered has no reader either; the interpreter would try to flush it on its way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = READER_GONE
    sys.exit(status)


def _run(group: click.Group, program: str) -> int:
    if _completes(group, program):
        return 0
    try:
        with group.make_context(program, sys.argv[1:]) as context:
            group.invoke(context)
    except click.ClickException as fault:
        fault.show()
        return fault.exit_code
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        return INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _completes(group: click.Group, program: str) -> bool:
    """Answer the shell's question what may come next, if it asked one."""
    variable = f"_{program.upper()}_COMPLETE"
    instruction = os.environ.get(variable)
    if not instruction:
        return False
    from click.shell_completion import shell_complete

    shell_complete(group, {}, program, variable, instruction)
    return True


def _loaded(module: str, verb: str) -> click.Command:
    found = import_module(module)
    commands = {command.name: command for command in getattr(found, "COMMANDS", ())}
    command: click.Command = commands.get(verb) or getattr(found, verb)
    return command


def _version_option() -> click.Option:
    def show(context: click.Context, _option: click.Parameter, is_asked: bool) -> None:
        if is_asked and not context.resilient_parsing:
            from supervisor.control.release import release

            click.echo(f"{context.info_name} {release()}")
            context.exit()

    options: dict[str, Any] = {"is_flag": True, "expose_value": False, "is_eager": True}
    return click.Option(["--version"], callback=show, help="Show the release.", **options)
