"""What a worker may raise to say something to its supervisor, and what the `run` of a workflow meets."""

from __future__ import annotations


class Ignore(Exception):
    """Raised by a worker that is not needed: its start counts as a success and nothing runs (S30)."""


class StepFailed(Exception):
    """
    A step of a workflow has failed, after all its retries. `run` may catch it, and goes on then.

    `type` and `text` are those of the exception that the last attempt has raised. It is the same at each replay.
    """

    def __init__(self, step: str, number: int, type: str, text: str) -> None:
        super().__init__(f"{step} has failed: {type}{f': {text}' if text else ''}")
        self.step = step
        self.number = number
        self.type = type
        self.text = text


class NotDeterministic(Exception):
    """
    The `run` of a workflow has called another step than the last time under the same number, or its code has changed.

    What it does between steps may depend on its arguments, on results of steps and on messages, and on nothing else.
    """

    def __init__(self, id: str, number: int, kept: str, called: str) -> None:
        super().__init__(
            f"run {id}: call {number} was {kept} and is {called} now; between steps, `run` may depend on its arguments "
            f"and the results of steps only"
        )
        self.number = number
        self.kept = kept
        self.called = called


class RunIsCancelled(BaseException):
    """Raised in the `run` of a workflow in place of its next step when it was cancelled. Not to be caught for good."""
