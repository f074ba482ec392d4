"""The words between page and server: JSON in, JSON and pictures with a fixed header out.

Everything that comes in is small, known by name and checked; what is not ends the connection that said it.
"""

import json
import math
import struct
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from avatar.config import from_dict
from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.viewer.view import View

LONGEST_MESSAGE = 64 * 1024
"""Bytes; a view with 64 key frames has some 12,000."""
LONGEST_TEXT = 1000
"""Characters that are read aloud at once."""
_HEADER = struct.Struct("<4sIIIdHHffI")
_MAGIC = b"AVF1"
_SOUND = struct.Struct("<4sI")
_SOUND_MAGIC = b"AVM1"
_TIMED, _FULL = 1, 2


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Where the page's sound is: what its listener hears now."""

    take: int
    """Counts up with every start, jump and new sound; pictures carry it back."""
    seconds: float
    """Of the performance; negative before it starts."""
    playing: bool

    def __post_init__(self) -> None:
        if not 0 <= self.take < 2**32 or not math.isfinite(self.seconds) or abs(self.seconds) > 36_000:
            raise InputError(f"clock: take {self.take} at {self.seconds} s is no moment; reload the page")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Every picture up to `number` has arrived."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Say:
    """Read a text aloud."""

    text: str
    language: str = "en"

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise InputError("there is no text to say; type some words")
        if len(self.text) > LONGEST_TEXT:
            raise InputError(f"the text has {len(self.text)} characters; give at most {LONGEST_TEXT} at once")
        if len(self.language) > 20:
            raise InputError("the language's name is too long; give for example en, fr or de")


@dataclass(frozen=True, kw_only=True)
class Style:
    """Speak in another way."""

    name: str


@dataclass(frozen=True, kw_only=True)
class Record:
    """Begin (`on`) or end what becomes a film."""

    on: bool


@dataclass(frozen=True, kw_only=True)
class Microphone:
    """Begin (`on`) or end moving the lips by the sound that comes in binary messages."""

    on: bool


@dataclass(frozen=True, kw_only=True)
class Film:
    """Write the whole performance as it looks now."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """Perform the film that the avatar was made of."""


Message: TypeAlias = View | Clock | Shown | Say | Style | Record | Microphone | Film | Replay
KINDS: dict[str, type] = {
    "view": View, "clock": Clock, "shown": Shown, "say": Say, "style": Style,
    "record": Record, "microphone": Microphone, "film": Film, "replay": Replay,
}  # fmt: skip


def understood(text: str) -> Message:
    """A message of the page.

    Raises:
        InputError: if it is none.
    """
    try:
        data = json.loads(text)
        kind = KINDS[data.pop("type")]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise InputError("a message that is none of the viewer's; reload the page") from None
    return from_dict(kind, data, where=kind.__name__.lower())


def heard(data: bytes) -> AudioTrack:
    """A piece of the microphone's sound: "AVM1", its rate in Hz (uint32), then 16-bit samples; little-endian.

    Raises:
        InputError: if it is none.
    """
    if len(data) < _SOUND.size or len(data) % 2:
        raise InputError("a message that is none of the viewer's; reload the page")
    magic, rate = _SOUND.unpack_from(data)
    if magic != _SOUND_MAGIC or not 8_000 <= rate <= 192_000:
        raise InputError("a message that is none of the viewer's; reload the page")
    samples = np.frombuffer(data, "<i2", offset=_SOUND.size).astype(np.float32) / 32768
    return AudioTrack(samples=samples, rate=rate)


def said(kind: str, **values: Any) -> str:
    """A message to the page."""
    return json.dumps({"type": kind, **values}, allow_nan=False)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawn frame with everything the page must know of it."""

    jpeg: bytes
    version: int
    """Of the view that it shows."""
    take: int
    seconds: float
    """When it is to be seen, on the clock of the sound; only if `timed`."""
    timed: bool
    full: bool
    """As good as it gets: nothing follows until something changes."""
    size: tuple[int, int]
    """Height, width in px."""
    draw_ms: float
    unseen: float
    """0 where the film saw the person from, 1 far from there."""

    def packed(self, number: int) -> bytes:
        """The message: header and JPEG. `number` counts the pictures of one client from 1."""
        flags = _TIMED * self.timed | _FULL * self.full
        height, width = self.size
        return (
            _HEADER.pack(
                _MAGIC, number, self.version, self.take, self.seconds, width, height, self.draw_ms, self.unseen, flags
            )
            + self.jpeg
        )


def unpacked(data: bytes) -> tuple[int, Picture]:
    """The inverse of `packed`, for clients in Python."""
    magic, number, version, take, seconds, width, height, ms, unseen, flags = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("no picture")
    picture = Picture(
        jpeg=data[_HEADER.size :], version=version, take=take, seconds=seconds, timed=bool(flags & _TIMED),
        full=bool(flags & _FULL), size=(height, width), draw_ms=ms, unseen=unseen,
    )  # fmt: skip
    return number, picture
