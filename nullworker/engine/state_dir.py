"""The directory that an engine owns: its permissions, how key files are written, and the lock of one engine.

The directory is 0700 and every key file 0600, both owned by the user who runs the engine. What is open to others is
refused and not repaired, as it may have been read already; an empty directory is the exception.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from typing import TYPE_CHECKING

from nullworker.client.instances import URL_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

#: More than any key here has; a file beyond it is not one of ours.
_KEY_FILE_BYTES_MAX = 1 << 20


class StateError(Exception):
    """The state directory or a file in it cannot be used; the message is one sentence that says why and what to do."""


def open_state_dir(path: Path) -> Path:
    """Makes the directory ``path`` (with its parents) where it is missing, and checks its permissions.

    Returns:
        The directory's absolute path, with ``~`` expanded.

    Raises:
        StateError: it cannot be made or written, belongs to another user, or is open to others.
    """
    path = path.expanduser().absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if found.st_uid != os.geteuid():
            raise StateError(f"The state directory {path} belongs to user {found.st_uid}; give another with --state.")
        if found.st_mode & 0o077:
            if any(path.iterdir()):
                raise StateError(
                    f"The state directory {path} is open to other users (mode {found.st_mode & 0o777:04o}); "
                    f"run chmod 700 on it, and make new keys if others may have read them."
                )
            path.chmod(0o700)
        if not os.access(path, os.W_OK | os.X_OK):
            raise StateError(f"The state directory {path} cannot be written; give another with --state.")
    except FileExistsError:
        raise StateError(f"The state directory {path} is a file; give another with --state.") from None
    except OSError as error:
        raise StateError(
            f"The state directory {path} cannot be used ({_why(error)}); give another with --state."
        ) from None
    return path


class StateLock:
    """Keeps a second engine out of a state directory while it is held; the kernel frees it with the process."""

    def __init__(self, state_dir: Path) -> None:
        """Takes the lock.

        Raises:
            StateError: another engine has it.
        """
        path = state_dir / "lock"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.pread(self._fd, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise StateError(
                f"Another engine (process {pid}) uses the state directory {state_dir}; "
                f"stop it, or give another directory with --state."
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets go of the lock; once more is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_or_create(path: Path, make: Callable[[], bytes]) -> tuple[bytes, bool]:
    """The content of the key file ``path``; where it is missing, ``make`` is called for it first.

    Of two processes that create the same file, one wins and both read what it wrote.

    Returns:
        The content, and whether it was made just now.

    Raises:
        StateError: the file is not a regular file of ours that only we may read, or it is empty.
    """
    try:
        return read_key_file(path), False
    except FileNotFoundError:
        created = write_new_key_file(path, make())
        return read_key_file(path), created


def read_key_file(path: Path) -> bytes:
    """Reads a key file that only its owner may read.

    Raises:
        FileNotFoundError: there is none.
        StateError: it is a link, another user's, open to others, empty or unreadable.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise StateError(f"The key file {path} is a symbolic link; put the file itself there.") from None
        raise StateError(f"The key file {path} cannot be read ({_why(error)}).") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise StateError(f"The key file {path} is not a regular file; move it away, and a new one is made.")
        if found.st_uid != os.geteuid():
            raise StateError(f"The key file {path} belongs to user {found.st_uid}; it must be yours.")
        if found.st_mode & 0o077:
            raise StateError(
                f"The key file {path} is open to other users (mode {found.st_mode & 0o777:04o}); run chmod 600 on it, "
                f"or delete it, if others may have read it, and a new one is made."
            )
        content = os.read(fd, _KEY_FILE_BYTES_MAX)
    finally:
        os.close(fd)
    if not content.strip():
        raise StateError(f"The key file {path} is empty; delete it, and a new one is made.")
    return content


def write_new_key_file(path: Path, content: bytes) -> bool:
    """Writes a key file that is there whole or not at all, also after a crash.

    Returns:
        False where another process made ``path`` first; its file is left as it is.
    """
    with _draft_of(path, content) as draft:
        try:
            os.link(draft, path, follow_symlinks=False)
        except FileExistsError:
            return False
    return True


def replace_key_file(path: Path, content: bytes) -> None:
    """Writes a key file in the place of one that may be there: after a crash it is the old or the new one.

    Raises:
        OSError: the disk refuses; the old one is left as it is.
    """
    with _draft_of(path, content) as draft:
        draft.replace(path)


@contextlib.contextmanager
def _draft_of(path: Path, content: bytes) -> Iterator[Path]:
    """A file beside ``path`` with that content, on the disk; so is what the context does to the directory."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        yield draft
    finally:
        draft.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


@contextlib.contextmanager
def url_kept(state_dir: Path, url: str) -> Iterator[None]:
    """Keeps an engine's URL in its state directory while it runs, for commands that ask the engine of this machine.

    Args:
        state_dir: of the engine.
        url: where it listens.
    """
    path = state_dir / URL_FILE
    with contextlib.suppress(OSError):  # without it, commands need --instance
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, f"{url}\n".encode())
        finally:
            os.close(fd)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
