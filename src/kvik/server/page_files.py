"""The files of the page at /ui, as `make web` builds them. Knows neither routes nor sockets.

They hold no data: what the page shows it asks of other routes, with the key that it asks a person for.
"""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "page"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
}
_NOT_BUILT = b"""<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><title>kvik: no page</title><body><h1>The page is not built</h1>
<p>This server runs from a checkout in which nobody has built its page. In the checkout, <code>make web</code> builds it
(with npm, which it fetches if there is none); then load this page again. The server needs no restart, and works without
it.</p>
"""


@dataclass(frozen=True, slots=True)
class PageFile:
    """What a browser gets."""

    status: int
    headers: dict[str, str]
    """Names in lower case; the length is not among them."""
    body: bytes


def page_file(name: str) -> PageFile | None:
    """`name` as it stands behind /ui/, "" for the page itself. None: there is no such file."""
    path = _files(FOLDER).get(name or "index.html")
    if path is None:
        _files.cache_clear()  # it may be built by now
        path = _files(FOLDER).get(name or "index.html")
    if path is not None:
        return PageFile(200, _headers(name), path.read_bytes())
    if name:
        return None
    return PageFile(
        404, _HEADERS | {"content-type": "text/html; charset=utf-8", "cache-control": "no-store"}, _NOT_BUILT
    )


@cache
def _files(folder: Path) -> dict[str, Path]:
    """By name; only what was there can be asked for, so that no name leads out of the folder."""
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def _headers(name: str) -> dict[str, str]:
    kind = mimetypes.guess_type(name or "index.html")[0] or "application/octet-stream"
    if kind.startswith("text/") or kind.endswith("javascript"):
        kind += "; charset=utf-8"
    # Names below assets/ hold a digest of what is in them.
    caching = "public, max-age=31536000, immutable" if name.startswith("assets/") else "no-cache"
    return _HEADERS | {"content-type": kind, "cache-control": caching}
