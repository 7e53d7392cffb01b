"""`regrow completion`: what a shell needs to complete verbs, options, files and the names of children."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import ShellComplete, get_completion_class

from regrow.daemon.cli.main import COMPLETION
from regrow.daemon.cli.options import debug_option

if TYPE_CHECKING:
    from regrow.daemon.cli.app import Register

SHELLS = ("bash", "zsh", "fish")


def register(verb: Register) -> None:
    """Add this module's verbs."""
    verb("run", completion)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@debug_option
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    r"""
    Print the completion script of a shell.

    \b
    bash:  eval "$(regrow completion bash)"          in ~/.bashrc
    zsh:   eval "$(regrow completion zsh)"           in ~/.zshrc
    fish:  regrow completion fish | source           in ~/.config/fish/config.fish
    """
    made = get_completion_class(shell)
    assert made is not None
    script = made(ctx.find_root().command, {}, "regrow", COMPLETION)
    # The base class's: bash's own also runs a bash to see its version, and this may be printed elsewhere.
    click.echo(ShellComplete.source(script))
