"""The avatar while it learns, from any side: drawn beside the training, for no more than a small share of its time."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from avatar.media.image import encode_image
from avatar.models.avatar_model import AvatarModel
from avatar.viewer.painter import Painter
from avatar.viewer.posing import at_rest
from avatar.viewer.view import Look, Pose, Viewpoint

SHARE = 0.02
"""Of the training's time that copying and drawing may take (the bar is 0.05, and who draws also disturbs)."""
_SAVED = 0.5
"""Seconds of drawing that may be saved up while nobody asks: three seconds of dragging without a pause."""
_AROUND = 0.004
"""Processor seconds that a picture costs besides drawing it (asking, encoding, sending; measured)."""
_ALIVE = 6.0
"""Seconds after the last question for which somebody counts as looking."""
MOVING = 256
"""Height in px while the view moves."""


@dataclass
class Allowance:
    """Seconds of work that may be spent: they grow with time, up to a limit."""

    share: float
    most: float
    left: float = 0.0
    at: float = field(default_factory=time.monotonic)
    """When `left` held, `time.monotonic` seconds as all times here."""

    def wait(self, now: float) -> float:
        """Seconds until something may be spent."""
        self.left, self.at = min(self.left + self.share * (now - self.at), self.most), now
        return max(-self.left / self.share, 0.0)

    def spend(self, seconds: float, now: float) -> None:
        """Also what is not there: it has to grow again before anything else may be spent."""
        self.wait(now)
        self.left -= seconds


class DraftView:
    """Keeps the newest avatar of a training and draws it. The training calls `offer`, the web server `draw`."""

    def __init__(self, share: float = SHARE) -> None:
        self.step = 0
        self._allowance = Allowance(share=share, most=_SAVED, left=_SAVED)
        self._newest: AvatarModel | None = None
        self._painter: Painter | None = None
        self._asked = -_ALIVE
        self._lock = threading.Lock()

    def look(self) -> None:
        """Somebody is there."""
        self._asked = time.monotonic()

    def offer(self, step: int, copy: Callable[[], AvatarModel]) -> None:
        """Between two steps: takes a copy if somebody looks and there is time for it."""
        if time.monotonic() - self._asked > _ALIVE:
            return
        with self._lock:
            if self._allowance.wait(time.monotonic()) > 0:
                return
        start = time.perf_counter()
        avatar = copy()
        with self._lock:
            self._newest, self.step = avatar, step
            self._allowance.spend(time.perf_counter() - start, time.monotonic())

    def wait(self) -> float:
        """Seconds until a picture may be drawn."""
        with self._lock:
            return self._allowance.wait(time.monotonic())

    def draw(self, viewpoint: Viewpoint, full: bool) -> bytes | None:
        """The newest avatar at rest as JPEG; None before there is one. To be called by one thread, after `wait`."""
        torch.set_num_threads(1)
        start = time.thread_time()
        with self._lock:
            avatar = self._newest
        if avatar is None:
            return None
        painter = self._painter
        if painter is None or painter.avatar is not avatar:
            painter = self._painter = Painter(avatar)
        height = avatar.meta.size[0] if full else min(MOVING, avatar.meta.size[0])
        camera, motion = painter.frame(at_rest(avatar), Pose(), viewpoint, height)
        drawn = painter.paint(camera, motion, Look(shade=False), None)
        data = encode_image(drawn.pixels, "JPEG", quality=88)
        with self._lock:
            self._allowance.spend(time.thread_time() - start + _AROUND, time.monotonic())
        return data
