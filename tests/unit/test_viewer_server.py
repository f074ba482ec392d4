"""Who may talk to the viewer's server, what it takes, and that one client's faults stay its own."""

import asyncio
import json
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="the viewer needs avatar[viewer]")

from aiohttp import WSMsgType
from aiohttp.test_utils import TestClient, TestServer

from avatar.drive.motion_io import write_motion
from avatar.errors import InputError
from avatar.events import Progress
from avatar.face.arkit import INDEX
from avatar.media import write_audio, write_image
from avatar.viewer import app, desk
from avatar.viewer.client import Room
from avatar.viewer.engine import Engine
from avatar.viewer.facts import groups
from avatar.viewer.painter import Painter
from avatar.viewer.protocol import LONGEST_MESSAGE, understood, unpacked
from avatar.viewer.server import Server
from tests.contract import pulses, toy


class Page:
    """A page without a browser."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.told, self.numbers = socket, [], []

    async def until(self, done: Callable[["Page"], bool]) -> None:
        """Read, answering every picture, until something has come."""
        while not done(self):
            message = await asyncio.wait_for(self.socket.receive(), 10)
            if message.type is WSMsgType.BINARY:
                number, picture = unpacked(message.data)
                self.numbers.append(picture)
                await self.socket.send_json({"type": "shown", "number": number})
            elif message.type is WSMsgType.TEXT:
                self.told.append(json.loads(message.data))
            else:
                raise ConnectionError(str(message.data))

    def heard(self, kind: str) -> list[dict]:
        return [told for told in self.told if told["type"] == kind]

    @property
    def client(self) -> str:
        return self.heard("hello")[0]["client"]


def serving(
    folder: Path, work: Callable[[TestClient, Server], Awaitable[None]], token: str | None = None, workspace: Any = None
) -> None:
    """Run `work` against a server with a small avatar."""

    async def run() -> None:
        avatar = toy.avatar(64, 400)
        room = Room(avatar=avatar, engine=Engine(Painter(avatar)), workspace=workspace)
        server = Server(room=room, token=token, folder=folder)
        async with TestClient(TestServer(server.application())) as client:
            await work(client, server)
        room.close()

    asyncio.run(run())


async def opened(client: TestClient) -> Page:
    page = Page(await client.ws_connect("/socket"))
    await page.until(lambda p: bool(p.heard("hello")) and bool(p.numbers))
    return page


def test_hello_tells_all_that_the_page_builds_on(tmp_path) -> None:
    async def work(client, server) -> None:
        page = await opened(client)
        hello = page.heard("hello")[0]
        assert len(hello["actions"]) == 52 and hello["size"] == [64, 64] and not hello["source"]
        assert all(len(parts) for parts in hello["emotions"].values())

    serving(tmp_path, work)
    assert sorted(i for indices in groups().values() for i in indices) == list(range(52))


@pytest.mark.parametrize(
    "garbage",
    [
        "", "no json", "[]", "1", '{"type": "view"', '{"type": "open"}', '{"type": "view", "version": -1}',
        '{"type": "view", "viewpoint": {"yaw": NaN}}', '{"type": "view", "pose": {"expression": [1, 2]}}',
        '{"type": "view", "look": {"drawing": "everything"}}', '{"type": "shown", "number": "all"}',
        '{"type": "clock", "take": 1, "seconds": 1e999, "playing": true}', '{"type": "view", "more": 1}', "[" * 5000,
        '{"type": ["view"]}', '{"type": "say", "text": "   "}',
    ],
)  # fmt: skip
def test_a_malformed_message_is_refused_in_a_sentence(garbage) -> None:
    with pytest.raises(InputError):
        understood(garbage)


def test_garbage_closes_its_own_connection_and_no_other(tmp_path) -> None:
    async def work(client, server) -> None:
        good = await opened(client)
        for garbage in ("nonsense", b"\x00" * 100, "x" * (LONGEST_MESSAGE + 1)):
            bad = await opened(client)
            await (bad.socket.send_bytes if isinstance(garbage, bytes) else bad.socket.send_str)(garbage)
            with pytest.raises(ConnectionError):
                await bad.until(lambda page: False)
        before = len(good.numbers)
        await good.socket.send_json({"type": "view", "version": 9})
        await good.until(lambda page: len(page.numbers) > before and page.numbers[-1].version == 9)
        assert len(server.clients) == 1

    serving(tmp_path, work)


def test_closing_a_page_frees_its_files_and_its_work(tmp_path) -> None:
    async def work(client, server) -> None:
        page = await opened(client)
        assert [p.name for p in tmp_path.iterdir()] == [page.client]
        await page.socket.close()
        for _ in range(100):
            if not list(tmp_path.iterdir()):
                break
            await asyncio.sleep(0.02)
        assert not list(tmp_path.iterdir()) and not server.clients and not server.room.engine._sessions

    serving(tmp_path, work)


def test_without_the_token_nothing_is_given(tmp_path) -> None:
    async def work(client, server) -> None:
        for path in ("/", "/page/main.js", "/socket", "/?token=wrong", "/x/file/y"):
            assert (await client.get(path)).status == 403, path
        first = await client.get("/?token=secret")
        assert first.status == 200 and "HttpOnly" in first.headers["Set-Cookie"]
        assert (await client.get("/page/main.js")).status == 200, "the cookie does for all that follows"

    serving(tmp_path, work, token="secret")


def test_another_sites_page_and_another_name_are_turned_away(tmp_path) -> None:
    async def work(client, server) -> None:
        assert (await client.get("/", headers={"Origin": "http://evil.example"})).status == 403
        assert (await client.get("/", headers={"Host": "evil.example"})).status == 403
        answer = await client.get("/")
        assert answer.status == 200 and "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert (await client.get("/page/../server.py")).status == 404

    serving(tmp_path, work)


async def upload(client: TestClient, page: Page, name: str, data: bytes) -> str:
    """Gives what the server complained about."""
    answer = await client.post(f"/{page.client}/upload/{name}", data=data)
    return (await answer.json()).get("error", "")


def test_what_is_uploaded_is_checked_before_it_is_used(tmp_path, monkeypatch) -> None:
    async def work(client, server) -> None:
        page = await opened(client)
        assert "the viewer takes" in await upload(client, page, "virus.exe", b"MZ")
        assert "no video or audio file" in await upload(client, page, "noise.wav", b"no sound")
        assert "is no picture" in await upload(client, page, "a.png", b"no picture")
        assert "no motion file" in await upload(client, page, "a.npz", b"no zip")
        long = tmp_path / "long.wav"
        write_audio(long, pulses.AudioTrack(samples=np.zeros(8000 * 301, np.float32), rate=8000))
        assert "301 s long" in await upload(client, page, "long.wav", long.read_bytes())
        monkeypatch.setitem(desk.KINDS, ".wav", desk.Kind(1000, desk.KINDS[".wav"].take))
        assert "larger than" in await upload(client, page, "a.wav", b"x" * 2000)
        assert not [f for f in (tmp_path / page.client).iterdir()], "nothing is left of them"
        assert (await client.post("/nobody/upload/a.wav", data=b"")).status == 404

    serving(tmp_path, work)


def test_a_motion_and_a_picture_are_taken_up(tmp_path) -> None:
    async def work(client, server) -> None:
        page = await opened(client)
        write_motion(pulses.motion(20.0), tmp_path / "m.csv")
        assert not await upload(client, page, "m.csv", (tmp_path / "m.csv").read_bytes())
        await page.until(lambda p: bool(p.heard("performance")))
        assert page.heard("performance")[0]["sound"] is None
        await page.socket.send_json({"type": "clock", "take": 1, "seconds": 0.0, "playing": True})
        await page.until(lambda p: any(picture.timed and picture.seconds > 0.3 for picture in p.numbers))
        write_image(tmp_path / "b.png", np.full((40, 80, 3), 200, np.uint8))
        assert not await upload(client, page, "b.png", (tmp_path / "b.png").read_bytes())
        session = server.clients[page.client].session
        assert session.picture is not None and session.picture.shape == (40, 80, 3)

    serving(tmp_path, work)


def test_a_microphone_moves_the_lips_while_it_is_open_and_leaves_what_was_before(tmp_path) -> None:
    pytest.importorskip("espeakng_loader", reason="a voice is needed")
    pytest.importorskip("pocketsphinx", reason="the acoustic tables come with pocketsphinx")
    from avatar.speech.voices import EspeakVoice

    spoken = EspeakVoice().say("Papa.", "en").audio

    async def work(client, server) -> None:
        page = await opened(client)
        session = server.clients[page.client].session
        seen = []
        session.watch(lambda moment: seen.append(moment.performance))
        pieces = np.array_split((spoken.samples.clip(-1, 1) * 32767).astype("<i2"), 30)
        sounds = [b"AVM1" + struct.pack("<I", spoken.rate) + piece.tobytes() for piece in pieces]
        await page.socket.send_bytes(sounds[0])
        await page.socket.send_json({"type": "microphone", "on": True})
        for sound in sounds:
            await page.socket.send_bytes(sound)
            await asyncio.sleep(0.01)
        await page.until(lambda p: any(picture.draw_ms and len(p.numbers) > 3 for picture in p.numbers[-1:]))
        await page.socket.send_json({"type": "microphone", "on": False})
        await page.socket.send_json({"type": "view", "version": 5})
        await page.until(lambda p: p.numbers[-1].version == 5)
        assert session.performance is None
        jaws = [float(p.motion.expression[0, INDEX["jawOpen"]]) for p in seen if p is not None]
        assert len(jaws) > 3 and max(jaws) > min(jaws) + 0.05
        await page.socket.send_bytes(b"AVM1" + struct.pack("<I", 7) + b"1234")
        with pytest.raises(ConnectionError):
            await page.until(lambda page: False)

    serving(tmp_path, work)


def test_the_film_that_the_avatar_was_made_of_plays_with_its_frames(tmp_path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    workspace = toy.workspace(made, frames=10)

    async def work(client, server) -> None:
        page = await opened(client)
        await page.socket.send_json({"type": "replay"})
        await page.until(lambda p: bool(p.heard("performance")))
        assert page.heard("performance")[0]["source"]
        assert (await client.get(f"/{page.client}/source/3.jpg")).status == 404
        frame = await client.get(f"/{page.client}/source/3")
        assert frame.status == 200 and await frame.read() == workspace.picture_path("frames", 3).read_bytes()
        assert (await client.get(f"/{page.client}/source/99")).status == 404

    served = tmp_path / "served"
    served.mkdir()
    serving(served, work, workspace=workspace)


def test_a_long_film_keeps_no_other_page_waiting_and_ends_with_its_own(tmp_path, monkeypatch) -> None:
    began, ended = threading.Event(), threading.Event()

    def follow(desk, session, path, name, sink):
        began.set()
        try:
            for i in range(2000):
                sink(Progress(stage="live", done=i, total=2000))
                time.sleep(0.01)
        finally:
            ended.set()

    monkeypatch.setitem(desk.KINDS, ".mp4", desk.Kind(1000, follow, is_slow=True))

    async def work(client, server) -> None:
        busy, other = await opened(client), await opened(client)
        sending = asyncio.ensure_future(upload(client, busy, "a.mp4", b"film"))
        await asyncio.to_thread(began.wait, 5)
        write_motion(pulses.motion(1.0), tmp_path / "m.npz")
        assert not await upload(client, other, "m.npz", (tmp_path / "m.npz").read_bytes())
        assert not ended.is_set()
        await busy.socket.close()
        assert await asyncio.to_thread(ended.wait, 5)
        sending.cancel()

    serving(tmp_path, work)


def test_addresses_beyond_this_machine_need_share(tmp_path) -> None:
    with pytest.raises(InputError, match="--share"):
        app.view(tmp_path, host="0.0.0.0", port=0, share=False, ready=lambda address: None)
    with pytest.raises(InputError, match="avatar build"):
        app.view(tmp_path, host="127.0.0.1", port=0, share=False, ready=lambda address: None)
