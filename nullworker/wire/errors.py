"""What an engine refuses, and the one shape in which it says so: ``{"success": false, "error", "msg"}``.

``error`` is a code for programs, ``msg`` a sentence for people, which the ``vastai`` command line prints. Nothing here
needs more than the standard library, so that workers and clients can use it as well.
"""

from __future__ import annotations


class WireError(Exception):
    """A request that is refused: ``field`` names what was wrong in it ("" for the whole), the message says what."""

    status = 400  # of the HTTP answer
    error = "invalid_args"  # the code for programs

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field

    @property
    def message(self) -> str:
        """One sentence that says what was wrong."""
        return str(self)

    def body(self) -> dict[str, object]:
        """The answer's body, ready for JSON; ``field`` is left out where no field is to blame."""
        body: dict[str, object] = {"success": False, "error": self.error, "msg": self.message}
        if self.field:
            body["field"] = self.field
        return body


class _WholeRequestError(WireError):
    """A refusal that no single field is to blame for."""

    def __init__(self, message: str) -> None:
        super().__init__("", message)


class UnauthorizedError(_WholeRequestError):
    """No key or token, or one that nothing here knows."""

    status = 401
    error = "auth_error"


class ForbiddenError(_WholeRequestError):
    """A key that is known, and is not for this object."""

    status = 403
    error = "forbidden"


class NotFoundError(_WholeRequestError):
    """The path names nothing, or an object that is not there."""

    status = 404
    error = "not_found"


class TooManyError(_WholeRequestError):
    """More than is taken at once; later it may be."""

    status = 429
    error = "too_many"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        #: When it is of use to try again.
        self.retry_after_s = retry_after_s


class TooLargeError(_WholeRequestError):
    """The body is larger than the path takes."""

    status = 413
    error = "too_large"


class UnwritableError(_WholeRequestError):
    """What was asked must be on the disk first, and the disk refuses."""

    status = 503
    error = "unwritable"
