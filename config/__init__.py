"""The tree as written: from TOML files to a checked, immutable plan, and the vocabulary every room shares."""

if not __name__.startswith("regrow."):
    raise ImportError(f"{__name__} is part of regrow: import it as regrow.config (the repository is on sys.path)")
