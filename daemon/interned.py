"""
To be imported before anything else by who will fork: what hot code calls things, side by side.

Python keeps one string for each name in all code, and counts whoever looks an attribute up by it: a child gets a copy
of each page that one of them lies in. Made when they are first met, while modules are loaded, they lie among everything
else. Those that are made here come first, and what is loaded later finds them.

Source: Python's sys.intern, Objects/object.c (_PyObject_GenericGetAttrWithDict).
"""

from __future__ import annotations

import sys

from regrow.daemon import hot

_kept = [sys.intern(name) for name in hot.NAMES.split()]
