"""Watching a training in the browser: its curves and its newest pictures. A listener; the training does not know it."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avatar.errors import InputError
from avatar.events import Draft, Event, Metric, Preview, Progress, Sink
from avatar.media.image import encode_image
from avatar.viewer.app import check_installed
from avatar.viewer.draft import DraftView
from avatar.viewer.gate import LOCAL, gate
from avatar.viewer.view import Viewpoint

if TYPE_CHECKING:
    from aiohttp import web

_PAGE = Path(__file__).with_name("page")
_LONGEST_WAIT = 10.0
"""Seconds for which a picture is kept waiting, so that the training gets its time."""
_MOST_POINTS = 1500
"""Of a curve; beyond that every other one is left out."""


@dataclass
class TrainingWatch:
    """A sink that hands every event on and shows it at an address of this machine.

    All that it does while the training waits is to append a number, to encode a picture every few hundred steps, and to
    copy the avatar if somebody looks at it (see `draft`).
    """

    sink: Sink
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    progress: tuple[int, int] = (0, 0)
    pictures: int = 0
    draft: DraftView = field(default_factory=DraftView)
    _picture: bytes = b""
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _runner: "web.AppRunner | None" = None
    _painters: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "draft"))

    def __call__(self, event: Event) -> None:
        """See `avatar.events.Sink`."""
        handle = _HANDLERS.get(type(event))
        if handle is not None:
            handle(self, event)
        self.sink(event)

    def _metric(self, event: Metric) -> None:
        curve = self.curves.setdefault(event.name, [])
        curve.append((event.step, float(event.value)))
        if len(curve) > _MOST_POINTS:
            del curve[-2:0:-2]

    def _preview(self, event: Preview) -> None:
        self._picture = encode_image(event.image, "JPEG", quality=88)
        self.pictures += 1

    def _drafted(self, event: Draft) -> None:
        self.draft.offer(event.step, event.copy)

    def _progressed(self, event: Progress) -> None:
        self.progress = (event.done, event.total)

    def open(self, port: int, ready: Callable[[str], None]) -> None:
        """Serve from a thread of its own until `close`.

        Raises:
            InputError: if aiohttp is missing or the port is in use.
        """
        check_installed()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="training-watch", daemon=True)
        self._thread.start()  # the caller may have a loop of its own, as a notebook has
        try:
            bound = asyncio.run_coroutine_threadsafe(self._start(port), self._loop).result()
        except OSError as error:
            self.close()
            raise InputError(f"port {port} cannot be used ({error.strerror or error}); choose another") from None
        ready(f"http://{LOCAL[0]}:{bound}/")

    def close(self) -> None:
        """Stop serving."""
        assert self._loop is not None and self._thread is not None
        if self._runner is not None:
            with contextlib.suppress(TimeoutError):  # a page that does not let go is not waited for
                asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(timeout=3)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._painters.shutdown(cancel_futures=True)

    async def _start(self, port: int) -> int:
        from aiohttp import web

        app = web.Application(middlewares=[gate(None)])
        app.router.add_get("/", self._index)
        app.router.add_get("/state", self._state)
        app.router.add_get("/picture.jpg", self._newest)
        app.router.add_get("/draft.jpg", self._draw)
        app.router.add_static("/page/", _PAGE)
        self._runner = runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, LOCAL[0], port).start()
        return runner.addresses[0][1]

    async def _index(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import web

        return web.FileResponse(_PAGE / "training.html")

    async def _state(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import web

        self.draft.look()
        shown: dict[str, Any] = {
            "curves": self.curves, "progress": self.progress, "pictures": self.pictures, "draft": self.draft.step,
        }  # fmt: skip
        return web.json_response(shown)

    async def _draw(self, request: "web.Request") -> "web.StreamResponse":
        """The avatar as it is now from a side, when the training can spare the time."""
        from aiohttp import web

        self.draft.look()
        viewpoint = _viewpoint(request.query)
        await asyncio.sleep(min(self.draft.wait(), _LONGEST_WAIT))
        full = request.query.get("full") == "1"
        data = await asyncio.get_running_loop().run_in_executor(self._painters, self.draft.draw, viewpoint, full)
        if data is None:
            raise web.HTTPNotFound(text="There is no avatar to see yet.\n")
        return web.Response(body=data, content_type="image/jpeg")

    async def _newest(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import web

        if not self._picture:
            raise web.HTTPNotFound(text="There is no picture yet.\n")
        return web.Response(body=self._picture, content_type="image/jpeg")


def _viewpoint(query: Mapping[str, str]) -> Viewpoint:
    """Raises: InputError: if a number is none or out of range."""
    names = ("yaw", "pitch", "zoom", "right", "down")
    try:
        numbers = {name: float(query[name]) for name in names if name in query}
    except ValueError:
        raise InputError("a viewpoint that is none; reload the page") from None
    pan = (numbers.pop("right", 0.0), numbers.pop("down", 0.0))
    return Viewpoint(pan=pan, **numbers)


_HANDLERS: dict[type, Callable[..., None]] = {
    Metric: TrainingWatch._metric, Preview: TrainingWatch._preview, Progress: TrainingWatch._progressed,
    Draft: TrainingWatch._drafted,
}  # fmt: skip
