"""Groups of commands: a misspelt one is refused with the nearest, and `poet`'s own load when run.

Invariant: `poet --help`, completion of a command's name and a misspelt command import no command.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from poet_cli.output import safe
from poet_core.errors import UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class CommandGroup(click.Group):
    """A group that names the nearest command where one is misspelt."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's. Raises UsageError (`command_unknown`)."""
        known = self.list_commands(ctx)
        if args[0] not in known and not args[0].startswith("-") and not ctx.resilient_parsing:
            raise unknown_command(args[0], known, ctx.command_path)
        return super().resolve_command(ctx, args)


class LazyGroup(CommandGroup):
    """A group whose commands are modules of `package`, in titled sections of (name, sentence)."""

    def __init__(
        self,
        *arguments: object,
        package: str,
        sections: Iterable[tuple[str, Iterable[tuple[str, str]]]],
        **others: object,
    ) -> None:
        super().__init__(*arguments, **others)  # type: ignore[arg-type]
        self._package = package
        self._sections = [(title, dict(rows)) for title, rows in sections]

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature.
        """The names, in the order of the table."""
        return [name for _, rows in self._sections for name in rows]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in self.list_commands(ctx):
            return None
        name = cmd_name.replace("-", "_")
        found = getattr(importlib.import_module(f"{self._package}.{name}"), name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The sections, one below the other, their columns aligned."""
        widest = max(map(len, self.list_commands(ctx)))
        for title, rows in self._sections:
            with formatter.section(title):
                formatter.write_dl([(name.ljust(widest), text) for name, text in rows.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Names with their sentences, and the group's options."""
        from click.shell_completion import CompletionItem

        names = [
            CompletionItem(name, help=text)
            for _, rows in self._sections
            for name, text in rows.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)


def unknown_command(name: str, known: list[str], path: str) -> UsageError:
    """`path` has no command `name`; the nearest ones are named."""
    from difflib import get_close_matches

    near = get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    hint = f"See `{path} --help`."
    if near:
        hint = f"Did you mean `{path} {near[0]}`? {hint}"
    return UsageError(f"There is no command {safe(name, 60)!r}.", code="command_unknown", hint=hint)
