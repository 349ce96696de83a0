"""The engine's page: a few files that are part of the package, read once, and served with a strict policy.

The page may load nothing that is not the engine's own, and run nothing that stands in the page itself.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from nullworker.wire.errors import NotFoundError
from nullworker.wire.paths import PAGE_FILES

DIRECTORY = Path(__file__).parents[1] / "page"
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "manifest-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for "
        "'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",  # asked for each time, and answered 304 where it is the same
}


class PageFile(NamedTuple):
    """A file as it is served."""

    content_type: str
    plain: bytes
    compressed: bytes
    tag: str


class Page:
    """The page's files, by their names below ``page/``."""

    def __init__(self) -> None:
        self.files = dict(_read(DIRECTORY, ""))

    async def page(self, request: web.BaseRequest) -> web.Response:
        """The page itself, the same at the address of each view: its script shows what the address says."""
        return self._answer(request, self.files["index.html"])

    async def page_file(self, request: web.BaseRequest) -> web.Response:
        """One of the page's files."""
        file = self.files.get(request.path.removeprefix(PAGE_FILES))
        if file is None:
            raise NotFoundError(f"There is nothing at {request.path[:200]}.")
        return self._answer(request, file)

    @staticmethod
    def _answer(request: web.BaseRequest, file: PageFile) -> web.Response:
        headers = {**HEADERS, "ETag": file.tag, "Vary": "Accept-Encoding"}
        if request.headers.get("If-None-Match") == file.tag:
            return web.Response(status=304, headers=headers)
        body = file.plain
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            body = file.compressed
        return web.Response(body=body, content_type=file.content_type, charset="utf-8", headers=headers)


def _read(directory: Path, prefix: str) -> list[tuple[str, PageFile]]:
    found: list[tuple[str, PageFile]] = []
    for entry in sorted(directory.iterdir()):
        kind = _TYPES.get(entry.name.rpartition(".")[2])
        if entry.is_dir():
            found += _read(entry, f"{prefix}{entry.name}/")
        elif kind is not None:
            plain = entry.read_bytes()
            tag = f'"{hashlib.sha256(plain).hexdigest()[:24]}"'
            found.append((prefix + entry.name, PageFile(kind, plain, gzip.compress(plain, 9, mtime=0), tag)))
    return found
