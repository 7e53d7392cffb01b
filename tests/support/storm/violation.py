"""What a storm is looking for."""


class Violation(Exception):
    """Something that regrow promises did not hold; the text says what was seen, line by line."""
