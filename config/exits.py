"""
Exit statuses with an agreed meaning. This module imports nothing.

Source: sysexits(3) for 69, 70 and 78; 82 is regrow's own word for *shutdown* (T1).
"""

DONE = 0
REFUSED = 1
USAGE = 2
UNREACHABLE = 69
INTERNAL = 70
BAD_CONFIG = 78
SHUTDOWN = 82
