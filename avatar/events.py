"""What the engine reports while it works. It does not know who listens: a bar, a log file, a browser."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias


@dataclass(frozen=True, kw_only=True)
class Progress:
    """`done` of `total` units of one stage; the first event of a stage has done = 0 (or where it resumes)."""

    stage: str
    done: int
    total: int
    unit: str = "frames"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a running stage, for example a loss."""

    stage: str
    name: str
    value: float
    step: int


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A picture of the work so far."""

    stage: str
    name: str
    image: Any
    """uint8 [h w 3] sRGB, numpy."""


@dataclass(frozen=True, kw_only=True)
class Draft:
    """The result as it is now, between two steps; only who wants it pays for it."""

    stage: str
    step: int
    copy: Callable[[], Any]
    """Gives an avatar that changes no more. To be called, if at all, before the listener returns."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Something the user should know but that does not stop the work; said once."""

    message: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """A stage ended; `outputs` are the files it left."""

    stage: str
    seconds: float
    outputs: tuple[Path, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    skipped: bool = False
    """True when everything was up to date and nothing ran."""


Event: TypeAlias = Progress | Metric | Preview | Draft | Notice | Done
Sink: TypeAlias = Callable[[Event], None]


def silent(event: Event) -> None:
    """The sink that listens to nothing."""
