"""Errors that a person can act on. Callers branch on type and attributes, never on text."""

from __future__ import annotations


class RecwatchError(Exception):
    """Root of all errors raised on purpose; its text is fit to be shown as it is."""


class ConfigError(RecwatchError):
    """The configuration is wrong; one line for each problem.

    Args:
        problems: Texts of the form ``file:line:column: path: what is wrong, got VALUE; what to do``.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class EngineError(RecwatchError):
    """A query could not be answered.

    Args:
        message: What happened, for a person.
        unreachable: Whether the engine itself could not be reached, so that nothing can run on it.
    """

    def __init__(self, message: str, *, unreachable: bool = False) -> None:
        super().__init__(message)
        self.unreachable = unreachable


class StateError(RecwatchError):
    """The state database cannot be used."""
