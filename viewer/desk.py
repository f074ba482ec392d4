"""What comes in from a client besides messages: files, checked by size and kind before anything is decoded."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from avatar.errors import InputError
from avatar.events import Sink
from avatar.media import read_image
from avatar.models.avatar_model import AvatarModel
from avatar.viewer.performance import LONGEST, of_film, of_motion, of_voice
from avatar.viewer.session import Session

_MB = 2**20
LARGEST_SIDE = 4096
"""Pixels of an uploaded background."""


@dataclass(frozen=True)
class Kind:
    """What files of one kind are taken for."""

    largest: int
    """Bytes."""
    take: Callable[["Desk", Session, Path, str, Sink], None]
    is_slow: bool = False
    """Takes longer than it lasts: nobody else's short sound should wait for it."""


class Desk:
    """Turns uploaded files into what a session performs or stands before."""

    def __init__(self, avatar: AvatarModel) -> None:
        self.avatar = avatar

    def take(self, session: Session, path: Path, name: str, sink: Sink) -> None:
        """Use a file.

        Args:
            name: what the client called it; it decides what the file is taken for.

        Raises:
            InputError: if it is too large, too long, of another kind or damaged.
        """
        kind = kind_of(name)
        if path.stat().st_size > kind.largest:
            raise too_large(name, kind)
        kind.take(self, session, path, name, sink)


def kind_of(name: str) -> Kind:
    """What a file of this name is taken for.

    Raises:
        InputError: if its suffix is none that the viewer knows.
    """
    suffix = Path(name).suffix.lower()
    if suffix not in KINDS:
        raise InputError(f"{name[:80]}: the viewer takes {', '.join(sorted(KINDS))}")
    return KINDS[suffix]


def too_large(name: str, kind: Kind) -> InputError:
    """What to say of a file that is too large."""
    return InputError(f"{name[:80]}: is larger than {kind.largest // _MB} MB; shorten or compress it")


def _voice(desk: Desk, session: Session, path: Path, name: str, sink: Sink) -> None:
    _check_seconds(path, name)
    session.put(of_voice(path, name, desk.avatar, session.style, sink))


def _motion(desk: Desk, session: Session, path: Path, name: str, sink: Sink) -> None:
    if path.suffix == ".npz":
        _check_unpacked(path, name)
    sound = session.performance.sound if session.performance else None
    session.put(of_motion(path, name, desk.avatar, sound))


def _film(desk: Desk, session: Session, path: Path, name: str, sink: Sink) -> None:
    _check_seconds(path, name)
    session.put(of_film(path, name, desk.avatar, sink))


def _picture(desk: Desk, session: Session, path: Path, name: str, sink: Sink) -> None:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            size = image.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise InputError(f"{name}: is no picture; give a JPEG or PNG") from None
    if max(size) > LARGEST_SIDE:
        raise InputError(f"{name}: is {size[0]}x{size[1]} px; give at most {LARGEST_SIDE} px a side")
    session.stand_before(read_image(path))


def _check_seconds(path: Path, name: str) -> None:
    """See what the file says of its length before it is decoded."""
    from avatar.media.container import opened

    with opened(path) as container:
        seconds = (container.duration or 0) / 1e6
    if seconds > LONGEST:
        raise InputError(f"{name}: is {seconds:.0f} s long; the viewer plays at most {LONGEST:.0f} s, cut it")


def _check_unpacked(path: Path, name: str) -> None:
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(item.file_size for item in packed.infolist())
    except (zipfile.BadZipFile, OSError):
        raise InputError(f"{name}: is no motion file; export it again") from None
    if size > 256 * _MB:
        raise InputError(f"{name}: unpacks to {size // _MB} MB, more than any motion of {LONGEST:.0f} s; cut it")


KINDS: dict[str, Kind] = {
    **dict.fromkeys((".wav", ".mp3", ".m4a", ".aac", ".ogg", ".opus", ".flac", ".weba"), Kind(64 * _MB, _voice)),
    **dict.fromkeys((".csv", ".npz", ".safetensors", ".glb"), Kind(64 * _MB, _motion)),
    **dict.fromkeys((".mp4", ".mov", ".mkv", ".webm", ".m4v"), Kind(256 * _MB, _film, is_slow=True)),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".webp"), Kind(32 * _MB, _picture)),
}
