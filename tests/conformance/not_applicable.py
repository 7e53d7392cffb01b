"""
The public scenarios that are tested here, and those that mean nothing for OS processes, with the reason.
"""

from __future__ import annotations

PUBLIC = frozenset(
    (
        *(1, 2, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15),  # A start-up
        *(16, 17, 18, 19, 20, 21),  # B validation
        *(23, 24, 25, 26, 27, 28, 29, 30, 31, 32),  # C restart types
        *(34, 35, 36, 37, 38, 40, 42, 44, 46),  # D strategies
        *(47, 48, 49, 51, 53, 54, 55, 56),  # E intensity
        *(57, 58, 59, 60, 62, 63, 64, 65, 68, 69),  # F a restart that fails to start
        *(70, 71, 72, 73, 74, 77, 78, 79, 80, 81, 82),  # G stopping
        *(83, 84, 85, 86, 90, 91, 92, 93),  # H auto_shutdown
        *(94, 95, 96, 97, 98, 99, 100, 101, 103, 104, 105),  # I management
        *(106, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 119, 120, 121, 122, 123, 124),  # J dynamic
        *(125, 127, 128),  # K partitions
        *(129, 132, 133, 134, 178, 179, 180),  # L nested supervisors
        *(135, 137, 138, 139, 140),  # M reconfiguration
        *(141, 143, 144, 145, 146, 147, 148, 149),  # N calls
        *(150, 151, 153, 154, 156, 157, 158, 159),  # O monitors and links
        *(160, 162, 163, 164, 165),  # P registry
        *(166, 167, 168, 169, 170, 172, 173, 174, 175, 176, 177),  # Q tasks
    )
)
"""The numbers of the public scenarios of sections A to Q."""

NOT_APPLICABLE = {
    4: "a supervisor is a table of the file: it runs no init of the user's that could answer ignore",
    15: "a process has no channel for extra start information: start_child and restart_child answer a pid and "
    "nothing else; the rest of the scenario is C94, C95 and C96",
    159: "OS processes have no links: which of them end together is said in the file, by the strategy of their "
    "supervisor and by significant children; whoever only wants to know has a monitor (C150), and a task that is to "
    "end with its owner is started with async_ (C166)",
}
