"""What was heard and seen, written as a film: the moments are kept while it happens and drawn in full afterwards.

Picture and sound of the film are cut by the same list of moments, so a slow machine or a slow line costs neither
pictures nor sync.
"""

import bisect
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.media import VideoWriter
from avatar.viewer.painter import Painter
from avatar.viewer.performance import LONGEST_RECORDING, SOUND_RATE, Performance
from avatar.viewer.posing import at_rest
from avatar.viewer.session import Moment, Session
from avatar.viewer.view import View

_EDGE = 240
"""Samples over which sound fades where it is cut (5 ms)."""


class Recording:
    """Notes what a client sees and hears until it is stopped."""

    def __init__(self, session: Session, now: float) -> None:
        """Starts at `now`."""
        self._session, self._start, self._end = session, now, now
        self._moments: list[Moment] = []
        present = session.watch(self._note)
        self._note(replace(present, at=now, clock=replace(present.clock, seconds=present.heard(now))))

    def _note(self, moment: Moment) -> None:
        """Of several changes within a hundredth of a second only the last one is kept: that bounds the list."""
        if moment.at - self._start > LONGEST_RECORDING:
            return
        if self._moments and moment.at - self._moments[-1].at < 0.01:
            moment = replace(moment, at=max(self._moments[-1].at, self._start))
            self._moments[-1] = moment
        else:
            self._moments.append(moment)

    def stop(self, now: float) -> list[Moment]:
        """The moments, their times counted from the start of the recording, and a last one that only ends it."""
        self._session.watch(None)
        end = min(now, self._start + LONGEST_RECORDING)
        told = [replace(m, at=max(m.at - self._start, 0.0)) for m in self._moments]
        return [*told, replace(told[-1], at=end - self._start)]


def whole(performance: Performance, view: View) -> list[Moment]:
    """The moments of a performance from start to end with an unchanging view."""
    from avatar.viewer.protocol import Clock

    start = Moment(at=0.0, view=view, clock=Clock(take=0, seconds=0.0, playing=True), performance=performance)
    return [start, replace(start, at=performance.seconds)]


def suffix_of(moments: list[Moment]) -> str:
    """mp4, or webm where something is transparent: H.264 films cannot be."""
    return ".webm" if any(m.view.look.background == "transparent" for m in moments) else ".mp4"


def film(
    moments: list[Moment], session: Session, painter: Painter, out: Path, report: Callable[[int, int], None]
) -> Generator[None, None, None]:
    """Write the film, one picture each step; `report` gets (pictures done, of how many). A webm is transparent where
    the background is.

    Raises:
        InputError: if there is nothing to write, or the disk refuses.
    """
    fps, size = painter.avatar.meta.fps, painter.avatar.meta.size
    count = int(moments[-1].at * fps)
    if count < 1:
        raise InputError("the recording is empty; record for longer")
    rest, times = at_rest(painter.avatar), [m.at for m in moments[:-1]]
    is_clear = out.suffix == ".webm"
    paint = painter.cut_out if is_clear else painter.paint
    with VideoWriter(out, size, fps, sound_of(moments), alpha=is_clear) as writer:
        for i in range(count):
            moment = moments[bisect.bisect_right(times, i / fps) - 1]
            heard, performance = moment.heard(i / fps), moment.performance
            driven = rest if performance is None else performance.driven(heard)
            view = moment.view
            viewpoint = view.viewpoint_at(heard) if moment.clock.playing else view.viewpoint
            camera, motion = painter.frame(driven, view.pose, viewpoint, size[0])
            writer.write(paint(camera, motion, view.look, session.picture).pixels)
            report(i + 1, count)
            yield


def sound_of(moments: list[Moment]) -> AudioTrack | None:
    """The sound that was heard or spoken, silence where there was none; None if there never was any."""
    out = np.zeros(round(moments[-1].at * SOUND_RATE), np.float32)
    is_heard = False
    for start, end, piece in [*_played(moments), *_spoken(moments)]:
        first, last = round(start * SOUND_RATE), round(end * SOUND_RATE)
        samples = piece(0.0, (last - first) / SOUND_RATE).samples.copy()
        edge = min(_EDGE, len(samples) // 2)
        samples[:edge] *= np.linspace(0, 1, edge)
        samples[len(samples) - edge :] *= np.linspace(1, 0, edge)
        out[first : first + len(samples)] = samples[: len(out) - first]
        is_heard = True
    return AudioTrack(samples=out, rate=SOUND_RATE) if is_heard else None


_Piece: TypeAlias = tuple[float, float, Callable[[float, float], AudioTrack]]
"""From when to when in the recording, and what sounds between two moments of it, counted from its start."""


def _played(moments: list[Moment]) -> Iterator[_Piece]:
    joined = _joined(moments)
    for moment, following in zip(joined, [*joined[1:], moments[-1]], strict=True):
        sound = moment.performance.sound if moment.performance else None
        if sound is not None and moment.clock.playing:
            yield moment.at, following.at, partial(_later, sound.between, moment.clock.seconds)


def _spoken(moments: list[Moment]) -> Iterator[_Piece]:
    """A voice runs on from the first moment that it moved: moments come unevenly, sound must not."""
    start, speaks = moments[0], None
    for moment in moments:
        voice = moment.performance.voice if moment.performance else None
        if voice is speaks and moment is not moments[-1]:
            continue
        if speaks is not None and start.performance is not None:
            yield start.at, moment.at, partial(_later, speaks.between, start.performance.voice_at)
        start, speaks = moment, voice


def _later(between: Callable[[float, float], AudioTrack], by: float, start: float, end: float) -> AudioTrack:
    return between(start + by, end + by)


def _joined(moments: list[Moment]) -> list[Moment]:
    """Moments at which the sound changes: those that go on with what was heard before are left out."""
    kept: list[Moment] = []
    for moment in moments[:-1]:
        before = kept[-1] if kept else None
        goes_on = (
            before is not None
            and before.performance is moment.performance
            and before.clock.playing == moment.clock.playing
            and abs(before.heard(moment.at) - moment.clock.seconds) < 0.02
        )
        if not goes_on:
            kept.append(moment)
    return kept
