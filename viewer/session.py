"""One client: what it sees and hears, and which picture it needs next. Times are `time.monotonic` seconds."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import UInt8

from avatar.viewer.performance import Performance
from avatar.viewer.protocol import Clock, Picture
from avatar.viewer.view import View

LONGEST = 1.0
"""Seconds that a picture may take and still be shown in time with the sound."""
AHEAD = 0.25
"""Seconds of pictures that wait in the page before they are heard."""
STILL = 0.15
"""Seconds without a change after which a picture is drawn in full."""
IN_FLIGHT = 2
"""Pictures on their way to a page that rests."""
IN_FLIGHT_TALKING = 10
NEVER = 3600.0
"""Seconds to wait when only a message can change anything."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """A picture to draw."""

    revision: int
    view: View
    take: int
    seconds: float
    """Of the performance."""
    performance: Performance | None
    timed: bool
    wants_full: bool


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What holds from a time on, until the next one."""

    at: float
    view: View
    clock: Clock
    performance: Performance | None

    def heard(self, now: float) -> float:
        """Seconds of the performance at `now`."""
        return self.clock.seconds + (now - self.at if self.clock.playing else 0.0)


Listener: TypeAlias = Callable[[Moment], None]


@dataclass
class Session:
    """The state of one client; every method may be called from any thread."""

    name: str
    """Hard to guess: it is what downloads are asked by."""
    deliver: Callable[[bytes], None]
    """Takes a packed picture; does not block."""
    tell: Callable[[str], None]
    """Takes a message; does not block."""
    picture: UInt8[np.ndarray, "h w 3"] | None = None
    """The background that was uploaded last."""
    style: str = "own"
    sent: int = 0
    arrived: int = 0
    _now: Moment = field(
        default_factory=lambda: Moment(
            at=0.0, view=View(), clock=Clock(take=0, seconds=0.0, playing=False), performance=None
        )
    )
    _changed: float = 0.0
    _revision: int = 0
    """Counts up with everything that makes pictures stale."""
    _drawn: tuple[int, bool] = (-1, False)
    """Revision of the newest still picture, and whether it is as good as it gets."""
    _next: int = 0
    """Frame of the performance that is drawn next, and the revision for which this holds."""
    _next_of: int = -1
    _watching: Listener | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # what happens -------------------------------------------------------------------------------------------------

    def see(self, view: View, now: float) -> None:
        """A new view; older ones that were not drawn yet are forgotten."""
        with self._lock:
            if view == self._now.view:
                return
            self.redraw(now)
            self._become(replace(self._moment(now), view=view))

    def hear(self, clock: Clock, now: float) -> None:
        """What the page hears now; small corrections of a running clock are no change."""
        with self._lock:
            seen = self._now
            jumps = (clock.take, clock.playing) != (seen.clock.take, seen.clock.playing)
            if jumps or (not clock.playing and clock.seconds != seen.clock.seconds):
                self.redraw(now)
            if jumps or abs(clock.seconds - seen.heard(now)) > 0.02 or not clock.playing:
                self._become(replace(seen, at=now, clock=clock))
            else:
                self._now = replace(seen, at=now, clock=clock)

    def perform(self, performance: Performance | None, now: float, *, goes_on: bool = False) -> None:
        """Another performance from its start, or the same sound with another motion."""
        with self._lock:
            self.redraw(now)
            clock = self._now.clock if goes_on else replace(self._now.clock, seconds=0.0, playing=False)
            at = self._now.at if goes_on else now
            self._become(replace(self._now, at=at, clock=clock, performance=performance))

    def put(self, performance: Performance) -> None:
        """A performance that has just been made."""
        self.perform(performance, time.monotonic())

    def stand_before(self, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        """A background of the client's own."""
        self.picture = picture
        self.redraw(time.monotonic())

    def redraw(self, now: float) -> None:
        """What was drawn is stale."""
        with self._lock:
            self._changed, self._revision = now, self._revision + 1

    def acknowledge(self, number: int) -> None:
        """Pictures up to `number` have arrived."""
        with self._lock:
            self.arrived = min(max(self.arrived, number), self.sent)

    def watch(self, listener: Listener | None) -> Moment:
        """Tell a listener of every moment from now on; gives the present one."""
        with self._lock:
            self._watching = listener
            return self._now

    @property
    def performance(self) -> Performance | None:
        return self._now.performance

    def _moment(self, now: float) -> Moment:
        """The present moment with its clock brought forward to `now`."""
        seen = self._now
        return replace(seen, at=now, clock=replace(seen.clock, seconds=seen.heard(now)))

    def _become(self, moment: Moment) -> None:
        self._now = moment
        if self._watching is not None:
            self._watching(moment)

    # what is drawn next -------------------------------------------------------------------------------------------

    def order(self, now: float, lead: float) -> Order | float:
        """The picture that is needed next, or for how many seconds none is.

        Args:
            lead: seconds that a picture takes from here to the screen.
        """
        with self._lock:
            playing = self._is_playing(now)
            if self.sent - self.arrived >= (IN_FLIGHT_TALKING if playing else IN_FLIGHT):
                return NEVER
            return self._timed_order(now, lead) if playing else self._still_order(now)

    def _is_playing(self, now: float) -> bool:
        moment = self._now
        return (
            moment.performance is not None and moment.clock.playing and moment.heard(now) < moment.performance.seconds
        )

    def _timed_order(self, now: float, lead: float) -> Order | float:
        moment, performance = self._now, self._now.performance
        assert performance is not None
        heard, fps = moment.heard(now), performance.motion.fps
        lead = min(lead, LONGEST)  # a machine that is slower still shows pictures late, rather than none
        soonest = max(math.ceil((heard + lead) * fps), 0)
        if self._next_of != self._revision:
            # A change is shown as soon as it arrives, not at the next picture's time.
            self._next, self._next_of = max(math.floor((heard + lead) * fps), 0), self._revision
        else:
            self._next = max(self._next, soonest)
        # What takes long is begun as long before its time, and then shown in time: seldom, but with the sound.
        early = self._next / fps - heard - max(AHEAD, lead + 1 / fps)
        if early > 0:
            return early
        self._next += 1
        return Order(
            revision=self._revision, view=moment.view, take=moment.clock.take, seconds=(self._next - 1) / fps,
            performance=performance, timed=True, wants_full=False,
        )  # fmt: skip

    def _still_order(self, now: float) -> Order | float:
        moment = self._now
        rested = now - self._changed
        wants_full = rested >= STILL
        revision, is_full = self._drawn
        if revision == self._revision and (is_full or not wants_full):
            return NEVER if is_full else STILL - rested
        return Order(
            revision=self._revision, view=moment.view, take=moment.clock.take,
            seconds=max(moment.heard(now), 0.0), performance=moment.performance, timed=False, wants_full=wants_full,
        )  # fmt: skip

    def finished(self, order: Order, picture: Picture | None) -> None:
        """An order was carried out, or could not be (None); it is not given again."""
        with self._lock:
            if not order.timed:
                self._drawn = (order.revision, picture is None or picture.full)
            if picture is None:
                return
            self.sent += 1
            data = picture.packed(self.sent)
        self.deliver(data)
