"""What a command raises when its user can do something about it; `nullworker.cli.main` prints it and exits."""

from __future__ import annotations


class UserError(Exception):
    """One sentence: what happened, to what, what to do. ``exit_code`` is the process's."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code
