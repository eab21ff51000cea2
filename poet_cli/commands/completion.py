"""`poet completion bash|zsh|fish`: the script that completes `poet` in a shell."""

from __future__ import annotations

import click

from poet_cli.completion import SHELLS, script
from poet_cli.options import json_option
from poet_cli.output import print_json


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet completion bash >> ~/.bashrc\n"
    "  poet completion zsh >> ~/.zshrc          # below the line with compinit\n"
    "  poet completion fish > ~/.config/fish/completions/poet.fish\n"
    "  source <(poet completion bash)           # for this shell alone",
)
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print the script that completes `poet` in your shell.

    Commands, options, the names of devices, and the steps of the modules in the current folder.
    """
    if as_json:
        print_json({"shell": shell, "script": script(shell)})
    else:
        click.echo(script(shell), nl=False)
