"""
How many files a process of the logging kind may have open.
"""

from __future__ import annotations

import resource


def use_all_descriptors() -> None:
    """
    Raise the soft limit of open files to the hard one: a tree of 1,000 children needs two for each.

    The usual soft limit of 1,024 protects programs that use select(2), which none of ours does.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
