"""
What those may ask of the daemon who are not its operators; at the control socket and at the hub alike.

Source: config-and-cli, [access].
"""

from __future__ import annotations

ASKING = frozenset({"ping", "exit_reason"})
"""The verbs of agents, and of each process that may connect on this host: what became of whom they talk to."""

VIEWING = ASKING | {"status", "events", "why", "applies", "which_children", "count_children", "get_childspec"}
"""Those of viewers, and of clients of other hosts."""
