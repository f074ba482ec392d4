"""The one thread that draws for all clients: in turn, newest wish first, never more than a client has room for."""

import threading
import time
from collections.abc import Generator
from dataclasses import dataclass

from avatar.errors import InputError
from avatar.media.image import encode_image
from avatar.viewer.painter import Painter
from avatar.viewer.posing import at_rest
from avatar.viewer.protocol import Picture, said
from avatar.viewer.session import NEVER, Order, Session

SMALLEST, SMALLEST_TALKING = 256, 384
"""Heights in px below which nothing is drawn while the view moves, and while the avatar talks if that goes quickly."""
_HEIGHTS = (512, 448, 384, 320, 256)
_SLOW = 0.100
"""Seconds above which a talking picture may be smaller still: lips that follow are worth more than sharp ones."""
_QUICK = 0.030
"""Seconds that a picture may take while the view moves."""
_BUSY = 0.75
"""Share of the time that talking clients may take together."""
_FIXED = 0.6
"""Share of a full picture's time that does not depend on its size (posing and sorting; measured)."""
_JPEG_FULL, _JPEG_MOVING = 92, 85


@dataclass
class Pace:
    """How long a picture takes, learned from the last ones."""

    full_height: int
    seconds: float = 0.04
    """Of a full picture."""
    pictures: int = 0
    """How many it was learned from."""

    def learn(self, height: int, seconds: float) -> None:
        """One picture that was held up by something else does not count for more than four; the first ones count for
        more, since the guess that they replace fits Gaussians only."""
        full = min(seconds / self._share(height), 4 * self.seconds)
        self.pictures += 1
        self.seconds += max(0.1, 1 / (self.pictures + 1)) * (full - self.seconds)

    def expected(self, height: int) -> float:
        return self.seconds * self._share(height)

    def fitting(self, budget: float, smallest: int) -> int:
        """The largest height that is drawn within `budget` seconds, but not below `smallest`."""
        heights = [self.full_height, *(h for h in _HEIGHTS if h < self.full_height)]
        allowed = [h for h in heights if h >= smallest] or heights[:1]
        return next((h for h in allowed if self.expected(h) <= budget), allowed[-1])

    def _share(self, height: int) -> float:
        return _FIXED + (1 - _FIXED) * (height / self.full_height) ** 2


class Engine:
    """Draws until it is closed."""

    def __init__(self, painter: Painter) -> None:
        """Starts the thread."""
        self.painter = painter
        self._height = painter.avatar.meta.size[0]
        self._pace = Pace(full_height=self._height)
        self._talking_height = self._height
        self._sessions: list[Session] = []
        self._films: list[tuple[Session, Generator[None, None, None]]] = []
        self._turn = 0
        self._wake = threading.Condition()
        self._closed = False
        self._rest = at_rest(painter.avatar)
        self._thread = threading.Thread(target=self._run, name="viewer-engine", daemon=True)
        self._thread.start()

    def add(self, session: Session) -> None:
        with self._wake:
            self._sessions.append(session)
            self._wake.notify()

    def remove(self, session: Session) -> None:
        """Nothing more is drawn for it; films that it ordered are given up."""
        with self._wake:
            self._sessions = [s for s in self._sessions if s is not session]
            given_up = [film for s, film in self._films if s is session]
            self._films = [(s, film) for s, film in self._films if s is not session]
        for film in given_up:
            film.close()

    def film(self, session: Session, frames: Generator[None, None, None]) -> None:
        """Work in steps of one picture each, done beside everything else."""
        with self._wake:
            self._films.append((session, frames))
            self._wake.notify()

    def wake(self) -> None:
        """Something has changed."""
        with self._wake:
            self._wake.notify()

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        import torch

        torch.set_num_threads(1)  # a second thread costs more than it brings at this size, and the browser needs it
        while True:
            with self._wake:
                if self._closed:
                    return
                found = self._choose()
                if found is None:
                    continue
            session, order = found
            if order is not None:
                self._carry_out(session, order)
            else:
                self._film_step()

    def _choose(self) -> tuple[Session, Order | None] | None:
        """Whose turn it is; waits when nothing is wanted. Films get every fourth turn, and all idle time."""
        now, wait = time.monotonic(), NEVER
        self._turn += 1
        if self._films and self._turn % 4 == 0:
            return self._films[0][0], None
        lead = self._pace.expected(self._talking_height) + 0.02
        for k in range(len(self._sessions)):
            session = self._sessions[(self._turn + k) % len(self._sessions)]
            found = session.order(now, lead)
            if isinstance(found, Order):
                self._turn += k
                return session, found
            wait = min(wait, found)
        if self._films:
            return self._films[0][0], None
        self._wake.wait(max(wait, 0.001))
        return None

    def _film_step(self) -> None:
        with self._wake:
            if not self._films:
                return
            session, frames = self._films.pop(0)
        try:
            next(frames)
        except StopIteration:
            return
        except InputError as error:
            session.tell(said("error", message=str(error)))
            return
        with self._wake:
            if session in self._sessions:
                self._films.append((session, frames))
                return
        frames.close()

    def _carry_out(self, session: Session, order: Order) -> None:
        height = self._chosen_height(order)
        start = time.perf_counter()
        try:
            picture = self._drawn(session, order, height, start)
        except (InputError, ValueError) as error:
            session.tell(said("error", message=str(error)))
            session.finished(order, None)
            return
        self._pace.learn(height, picture.draw_ms / 1e3)
        session.finished(order, picture)

    def _chosen_height(self, order: Order) -> int:
        if order.performance is not None and (order.timed or order.performance.voice):
            talking = max(sum(s.performance is not None for s in self._sessions), 1)
            budget = _BUSY / (talking * order.performance.motion.fps)
            is_quick = talking < 3 and self._pace.expected(min(SMALLEST_TALKING, self._height)) < _SLOW
            self._talking_height = self._pace.fitting(budget, SMALLEST_TALKING if is_quick else SMALLEST)
            return self._talking_height
        return self._height if order.wants_full else self._pace.fitting(_QUICK, SMALLEST)

    def _drawn(self, session: Session, order: Order, height: int, start: float) -> Picture:
        performance, view = order.performance, order.view
        driven = self._rest if performance is None else performance.driven(order.seconds)
        viewpoint = view.viewpoint_at(order.seconds) if order.timed else view.viewpoint
        camera, motion = self.painter.frame(driven, view.pose, viewpoint, height)
        drawn = self.painter.paint(camera, motion, view.look, session.picture)
        is_full = not order.timed and height == self._height
        jpeg = encode_image(drawn.pixels, "JPEG", quality=_JPEG_FULL if is_full else _JPEG_MOVING)
        return Picture(
            jpeg=jpeg, version=view.version, take=order.take, seconds=order.seconds, timed=order.timed, full=is_full,
            size=camera.size, draw_ms=1e3 * (time.perf_counter() - start), unseen=drawn.unseen,
        )  # fmt: skip
