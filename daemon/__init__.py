"""Supervision: the pure core, the Linux layer, the root daemon and the command line."""

if not __name__.startswith("regrow."):
    raise ImportError(f"{__name__} is part of regrow: import it as regrow.daemon (the repository is on sys.path)")
