"""One open page on the server's side: its session, its files, and the work it has ordered."""

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.events import Event, Notice, Progress
from avatar.media import Workspace, write_audio
from avatar.models.avatar_model import AvatarModel
from avatar.viewer import protocol, recording
from avatar.viewer.desk import Desk, kind_of
from avatar.viewer.ear import Ear
from avatar.viewer.engine import Engine
from avatar.viewer.facts import hello
from avatar.viewer.performance import STYLES, of_source, of_text, restyled
from avatar.viewer.protocol import said
from avatar.viewer.session import Session
from avatar.viewer.view import View

if TYPE_CHECKING:
    from aiohttp import web

_MOST_WAITING = 200
"""Messages and pictures that wait for a page; one that takes none of so many is gone."""
_MOST_JOBS = 3
"""Files and texts of one client that wait to be worked on."""


@dataclass
class Room:
    """What all clients share."""

    avatar: AvatarModel
    engine: Engine
    workspace: Workspace | None = None
    """Of the film that the avatar was made of, if it lies beside it."""
    workers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "viewer-desk"))
    watchers: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "viewer-films"))
    """For what takes minutes and must not keep a short sound of somebody else waiting: following a film's face."""
    ears: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "viewer-ears"))
    """For microphones, which take a few hundredths of the time that they are open."""

    def close(self) -> None:
        """Stop everything."""
        for pool in (self.workers, self.watchers, self.ears):
            pool.shutdown(wait=False, cancel_futures=True)
        self.engine.close()


@dataclass
class Client:
    """A page that is open."""

    name: str
    room: Room
    folder: Path
    session: Session
    outbox: "asyncio.Queue[str | bytes]"
    files: dict[str, Path] = field(default_factory=dict)
    """What the page may download, by name."""
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _recording: recording.Recording | None = None
    _ear: Ear | None = None
    _jobs: int = 0
    _sounds: int = 0
    _films: int = 0
    _closed: bool = False

    @classmethod
    def open(cls, room: Room, folder: Path) -> "Client":
        """A new page, with a name that nobody guesses."""
        name = secrets.token_urlsafe(16)
        own = folder / name
        own.mkdir(mode=0o700)
        loop = asyncio.get_running_loop()
        outbox: asyncio.Queue[str | bytes] = asyncio.Queue(_MOST_WAITING)

        def put(item: str | bytes) -> None:
            with contextlib.suppress(asyncio.QueueFull):
                outbox.put_nowait(item)

        def later(item: str | bytes) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the server is going
                loop.call_soon_threadsafe(put, item)

        session = Session(name=name, deliver=later, tell=later)
        client = cls(name=name, room=room, folder=own, session=session, outbox=outbox)
        later(hello(room.avatar, room.workspace, name))
        room.engine.add(session)
        return client

    def close(self) -> None:
        """Everything that was done for the page ends."""
        self._closed, self._ear = True, None
        self.room.engine.remove(self.session)
        self.files.clear()

    async def send_all(self, socket: "web.WebSocketResponse") -> None:
        """Send what waits, one after the other: a page that reads slowly only holds up itself."""
        with contextlib.suppress(ConnectionError):
            while True:
                item = await self.outbox.get()
                await _SENDERS[type(item)](socket, item)

    # messages -----------------------------------------------------------------------------------------------------

    def receive(self, message: protocol.Message) -> None:
        """Do what the page asks.

        Raises:
            InputError: only if the message makes no sense; what goes wrong in doing it is told to the page.
        """
        _ANSWERS[type(message)](self, message)
        self.room.engine.wake()

    def _see(self, view: View) -> None:
        self.session.see(view, time.monotonic())

    def _hear(self, clock: protocol.Clock) -> None:
        self.session.hear(clock, time.monotonic())

    def _shown(self, shown: protocol.Shown) -> None:
        self.session.acknowledge(shown.number)

    def _say(self, say: protocol.Say) -> None:
        self._order(lambda: self._perform_text(say))

    def _perform_text(self, say: protocol.Say) -> None:
        self.session.put(of_text(say.text, say.language, self.room.avatar, self.session.style))
        self._announce()

    def _style(self, style: protocol.Style) -> None:
        self._order(lambda: self._restyle(style.name))

    def _restyle(self, name: str) -> None:
        performance = self.session.performance
        if name not in STYLES:
            raise InputError(f"style {name!r} is unknown; choose one of {', '.join(STYLES)}")
        if performance is not None:
            other = restyled(performance, self.room.avatar, name)
            self.session.perform(other, time.monotonic(), goes_on=True)
            self.room.engine.wake()
        self.session.style = name

    def _replay(self, message: protocol.Replay) -> None:
        def work() -> None:
            if self.room.workspace is None:
                raise InputError("the film of this avatar is not beside it; view the folder that `avatar build` made")
            self.session.put(of_source(self.room.workspace, self.room.avatar, self._listen))
            self._announce()

        self._order(work)

    def _record(self, record: protocol.Record) -> None:
        now = time.monotonic()
        if record.on:
            self._recording = recording.Recording(self.session, now)
            return
        if self._recording is not None:
            moments, self._recording = self._recording.stop(now), None
            self._write_film(moments)

    def _microphone(self, microphone: protocol.Microphone) -> None:
        ear, self._ear = self._ear, None
        if ear is not None:
            ear.close()
        if microphone.on:
            self._ear = Ear(self.room.avatar, self.session)

    def take_in(self, sound: AudioTrack) -> None:
        """The next piece of the microphone's sound; what comes while no microphone is open is not listened to."""
        ear = self._ear

        def work() -> None:
            try:
                if ear is not None and ear.work():
                    self.room.engine.wake()
            except InputError as error:
                self._ear = None
                self.session.tell(said("error", message=str(error)))

        if ear is not None and ear.hear(sound):
            self.room.ears.submit(work)

    def _film(self, message: protocol.Film) -> None:
        performance = self.session.performance
        if performance is None:
            self.session.tell(said("error", message="there is nothing to write yet; give a text or a sound first"))
            return
        self._write_film(recording.whole(performance, self.session.watch(None).view))

    def _write_film(self, moments: list) -> None:
        self._films += 1
        name = f"avatar_{self._films}{recording.suffix_of(moments)}"
        path = self.folder / name

        def report(done: int, total: int) -> None:
            if done % 10 == 0 or done == total:
                self.session.tell(said("progress", what="writing the film", done=done, total=total))

        def steps():
            painter = self.room.engine.painter
            yield from recording.film(moments, self.session, painter, path, report)
            self.files[name] = path
            if path.suffix == ".webm":
                words = "saved as .webm: it keeps the transparent background, which an mp4 cannot hold"
                self.session.tell(said("notice", message=words))
            self.session.tell(said("film", name=name, url=f"{self.name}/file/{name}"))

        self.room.engine.film(self.session, steps())

    # work ---------------------------------------------------------------------------------------------------------

    async def take(self, path: Path, name: str) -> None:
        """Work on an uploaded file.

        Raises:
            InputError: if it cannot be used.
        """
        before = self.session.performance

        def work() -> None:
            Desk(self.room.avatar).take(self.session, path, name, self._listen)
            if self.session.performance is not before:
                self._announce()

        await self._queued(work, self.room.watchers if kind_of(name).is_slow else self.room.workers)
        self.room.engine.wake()

    def _order(self, work: Callable[[], None]) -> None:
        """Work on something beside the socket; what goes wrong is told."""
        task = asyncio.ensure_future(self._told(work))
        task.add_done_callback(lambda done: done.exception())

    async def _told(self, work: Callable[[], None]) -> None:
        try:
            await self._queued(work, self.room.workers)
        except InputError as error:
            self.session.tell(said("error", message=str(error)))
        self.room.engine.wake()

    async def _queued(self, work: Callable[[], None], pool: ThreadPoolExecutor) -> None:
        if self._jobs >= _MOST_JOBS:
            raise InputError("still busy with what came before; wait a moment and try again")
        self._jobs += 1
        self.session.tell(said("busy", on=True))
        try:
            await self._loop.run_in_executor(pool, lambda: None if self._closed else work())
        finally:
            self._jobs -= 1
            if not self._jobs:
                self.session.tell(said("busy", on=False))

    def _announce(self) -> None:
        """Tell the page what there is to play now."""
        performance = self.session.performance
        assert performance is not None
        url = None
        for old in [name for name in self.files if name.endswith(".wav")]:
            self.files.pop(old).unlink(missing_ok=True)
        if performance.sound is not None and not self._closed:
            self._sounds += 1
            name = f"sound_{self._sounds}.wav"
            write_audio(self.folder / name, performance.sound)
            self.files[name] = self.folder / name
            url = f"{self.name}/file/{name}"
        self.session.tell(
            said(
                "performance",
                name=performance.name,
                seconds=performance.seconds,
                fps=performance.motion.fps,
                sound=url,
                source=performance.is_source,
                spoken=performance.lips is not None,
            )
        )

    def _listen(self, event: Event) -> None:
        if self._closed:
            raise InputError("the page is closed")  # ends what was begun for it
        for kind, words in _EVENTS.items():
            if type(event) is kind:
                self.session.tell(words(event))


_SENDERS = {
    str: lambda socket, item: socket.send_str(item),
    bytes: lambda socket, item: socket.send_bytes(item),
}
_EVENTS: dict[type, Callable[..., str]] = {
    Notice: lambda event: said("notice", message=event.message),
    Progress: lambda event: said("progress", what="following the face", done=event.done, total=event.total),
}
_ANSWERS: dict[type, Callable[..., None]] = {
    View: Client._see, protocol.Clock: Client._hear, protocol.Shown: Client._shown, protocol.Say: Client._say,
    protocol.Style: Client._style, protocol.Replay: Client._replay, protocol.Record: Client._record,
    protocol.Film: Client._film, protocol.Microphone: Client._microphone,
}  # fmt: skip
