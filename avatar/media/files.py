"""Whole files or none: everything is written under a temporary name in the same folder and then renamed."""

import contextlib
import errno
import hashlib
import json
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avatar.errors import InputError

_TEMPORARY = ".part-"
_REMEDY = {
    errno.ENOSPC: "the disk is full; free some space and start again, finished stages are kept",
    errno.EDQUOT: "your disk quota is used up; free some space and start again, finished stages are kept",
    errno.EACCES: "no permission to write there; choose another folder or change its permissions",
    errno.EPERM: "no permission to write there; choose another folder or change its permissions",
    errno.EROFS: "that disk is read-only; choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder",
    errno.EISDIR: "a folder of that name is in the way; choose another name",
    errno.ENOENT: "its folder does not exist; make it first or choose another folder",
    errno.EFBIG: "the file grew larger than this disk or your limits allow; choose another disk",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def write_error(path: Path, error: OSError) -> InputError:
    """What to tell the user when `path` could not be written."""
    remedy = _REMEDY.get(error.errno or 0, "choose another place")
    return InputError(f"{path}: cannot be written ({error.strerror or error}); {remedy}")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; it takes the place of `path` only when all went well.

    The suffix is kept, because encoders choose the format by it.

    Raises:
        InputError: when the disk is full or the folder cannot be written; `path` is then as it was before.
    """
    temporary = path.with_name(f"{_TEMPORARY}{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file, or leave the old one.

    Raises:
        InputError: see `replacing`.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, data: Any) -> None:
    """Write plain JSON values, indented, with a newline at the end.

    Raises:
        InputError: see `replacing`.
    """
    write_bytes(path, (json.dumps(data, indent=2, allow_nan=False) + "\n").encode())


def make_folder(path: Path) -> None:
    """Make a folder and those above it, and see that files can be made in it.

    Raises:
        InputError: when that is not possible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f"{_TEMPORARY}{secrets.token_hex(4)}"
        probe.touch()
        probe.unlink()
    except FileExistsError:
        raise InputError(f"{path}: a file of that name is in the way of the folder; choose another name") from None
    except OSError as error:
        raise write_error(path, error) from error


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed process left in `folder`."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        if path.is_file():
            path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file.

    Raises:
        InputError: when it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give an existing, readable file") from None
    return digest.hexdigest()


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
    """Ctrl-C takes effect at the end of the block.

    For short calls into libraries that turn an interruption into an error of their own, as torch does where it makes
    an array of a file's bytes: the file would be called damaged.
    """
    usual, pending = signal.getsignal(signal.SIGINT), []
    if usual is None or threading.current_thread() is not threading.main_thread():
        yield  # not Python's to hold back; other threads are never interrupted
        return
    signal.signal(signal.SIGINT, lambda *told: pending.append(told))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
        if pending and callable(usual):
            usual(*pending[0])


def free_bytes(folder: Path) -> int:
    """Space left for this user on the disk that holds `folder`."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize
