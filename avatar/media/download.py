"""Fetching a pinned file once: known address, size and checksum; whole or not at all; taken up where it stopped."""

import contextlib
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from avatar.errors import InputError
from avatar.events import Progress, Sink, silent
from avatar.media.files import make_folder, sha256, write_error

_BLOCK = 1 << 16
_TIMEOUT = 30.0
"""Seconds without a byte after which a connection is given up."""
_LOCAL = ("127.0.0.1", "localhost", "::1")
"""Hosts that need no https."""


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file that never changes."""

    url: str
    size: int
    """Bytes."""
    sha256: str
    """Hexadecimal."""
    name: str
    """What it is called in the cache."""


def cache_folder() -> Path:
    """Where fetched files lie: $AVATAR_CACHE, else `avatar` in the user's cache folder."""
    chosen = os.environ.get("AVATAR_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "avatar"


def fetched(file: RemoteFile, *, folder: Path | None = None, sink: Sink = silent) -> Path:
    """The path of the file in the cache; it is downloaded when it is not there, or not as it should be.

    An interrupted download goes on from where it stopped.

    Raises:
        InputError: if it cannot be had; the message says what to download to where.
    """
    path = (folder or cache_folder()) / file.name
    if path.is_file() and path.stat().st_size == file.size and sha256(path) == file.sha256:
        return path
    make_folder(path.parent)
    part = path.with_name(f"{file.name}.{file.sha256[:12]}.part")
    try:
        _receive(file, part, sink)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{file.name}: cannot be downloaded ({reason}); {_by_hand(file, path)}") from None
    except OSError as error:
        raise write_error(part, error) from error
    if part.stat().st_size != file.size or sha256(part) != file.sha256:
        part.unlink(missing_ok=True)
        raise InputError(f"{file.name}: what {file.url} gives is another file; {_by_hand(file, path)}")
    try:
        part.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    return path


def _by_hand(file: RemoteFile, path: Path) -> str:
    return f"download {file.url} ({file.size} bytes, sha256 {file.sha256}) to {path}"


def _receive(file: RemoteFile, part: Path, sink: Sink) -> None:
    """Append what is missing; never more than the file's size."""
    have = part.stat().st_size if part.exists() else 0
    if have > file.size:
        part.unlink()
        have = 0
    if have == file.size:
        return
    with _opened(file.url, have) as (answer, resumes), part.open("ab" if resumes else "wb") as out:
        done = have if resumes else 0
        sink(Progress(stage="download", done=done, total=file.size, unit="bytes"))
        while block := answer.read(_BLOCK):
            done += len(block)
            if done > file.size:
                break  # another file; the checksum says so
            out.write(block)
            sink(Progress(stage="download", done=done, total=file.size, unit="bytes"))
        if done < file.size:
            raise ConnectionError(f"it broke off after {done} of {file.size} bytes")
        if done > file.size:
            out.write(block)


@contextlib.contextmanager
def _opened(url: str, start: int) -> Iterator[tuple[IO[bytes], bool]]:
    """The answer, and whether it begins at byte `start`."""
    _require_safe(url)
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    opener = urllib.request.build_opener(_SafeRedirects)
    with opener.open(request, timeout=_TIMEOUT) as answer:
        said = answer.headers.get("Content-Range", "")
        yield answer, answer.status == http.client.PARTIAL_CONTENT and said.startswith(f"bytes {start}-")


def _require_safe(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL):
        raise InputError(f"{url}: only https addresses are fetched")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *given: Any) -> urllib.request.Request | None:
        _require_safe(given[-1])
        return super().redirect_request(*given)
