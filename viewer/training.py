"""Watching a training in the browser: its curves and its newest pictures. A listener; the training does not know it."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avatar.errors import InputError
from avatar.events import Event, Metric, Preview, Progress, Sink
from avatar.media.image import encode_image
from avatar.viewer.app import check_installed
from avatar.viewer.gate import LOCAL, gate

if TYPE_CHECKING:
    from aiohttp import web

_PAGE = Path(__file__).with_name("page")
_MOST_POINTS = 1500
"""Of a curve; beyond that every other one is left out."""


@dataclass
class TrainingWatch:
    """A sink that hands every event on and shows it at an address of this machine.

    All that it does while the training waits is to append a number, and to encode a picture every few hundred steps.
    """

    sink: Sink
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    progress: tuple[int, int] = (0, 0)
    pictures: int = 0
    _picture: bytes = b""
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None

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

    def _progressed(self, event: Progress) -> None:
        self.progress = (event.done, event.total)

    def open(self, port: int, ready: Callable[[str], None]) -> None:
        """Serve from a thread of its own until `close`.

        Raises:
            InputError: if aiohttp is missing or the port is in use.
        """
        check_installed()
        self._loop = asyncio.new_event_loop()
        try:
            bound = self._loop.run_until_complete(self._start(port))
        except OSError as error:
            self._loop.close()
            raise InputError(f"port {port} cannot be used ({error.strerror or error}); choose another") from None
        self._thread = threading.Thread(target=self._loop.run_forever, name="training-watch", daemon=True)
        self._thread.start()
        ready(f"http://{LOCAL[0]}:{bound}/")

    def close(self) -> None:
        """Stop serving."""
        assert self._loop is not None and self._thread is not None
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    async def _start(self, port: int) -> int:
        from aiohttp import web

        app = web.Application(middlewares=[gate(None)])
        app.router.add_get("/", self._index)
        app.router.add_get("/state", self._state)
        app.router.add_get("/picture.jpg", self._newest)
        app.router.add_static("/page/", _PAGE)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, LOCAL[0], port).start()
        return runner.addresses[0][1]

    async def _index(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import web

        return web.FileResponse(_PAGE / "training.html")

    async def _state(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import web

        shown: dict[str, Any] = {"curves": self.curves, "progress": self.progress, "pictures": self.pictures}
        return web.json_response(shown)

    async def _newest(self, request: "web.Request") -> "web.StreamResponse":
        from aiohttp import web

        if not self._picture:
            raise web.HTTPNotFound(text="There is no picture yet.\n")
        return web.Response(body=self._picture, content_type="image/jpeg")


_HANDLERS: dict[type, Callable[..., None]] = {
    Metric: TrainingWatch._metric, Preview: TrainingWatch._preview, Progress: TrainingWatch._progressed,
}  # fmt: skip
