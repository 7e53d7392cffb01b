"""
The names of regrow's own part of a tree. Nobody in a file can have one of them: names there have no dot.
"""

from __future__ import annotations

SYSTEM = "regrow.system"
"""The supervisor of the others."""

LOGGER = "regrow.logger"
"""Inherits the logger's end of its channel."""

KEEPER = "regrow.keeper"
"""Looks after the store; whoever uses the store begins after it."""

HUB = "regrow.hub"
"""For what is published, and for those who are not Python or not here."""

COMMANDS = "regrow.commands"
"""Runs system commands."""
