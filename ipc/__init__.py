"""What processes share: wire formats, clients, and later mailboxes and the store."""

if not __name__.startswith("regrow."):
    raise ImportError(f"{__name__} is part of regrow: import it as regrow.ipc (the repository is on sys.path)")
