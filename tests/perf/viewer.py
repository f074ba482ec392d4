"""The viewer as its user meets it: `python -m tests.perf.viewer --json FILE [--avatar FOLDER] [--minutes 10]`.

1. One page in headless Chromium, while the avatar talks: pictures a second on the screen and their height, how late a
   picture is for its sound, and how long a slider's move takes to the picture, at rest and while it talks.
2. Sync of a recording made by the browser itself, and of the film that the record button makes, with a motion that is
   known to be as open as the sound is loud.
3. Eight clients for some minutes: six that orbit and talk, one that is stopped (it takes nothing off its socket), one
   that comes again and again with garbage; errors of the others, their pictures, and memory of the server over time.

Without --avatar a small drawn one is made. The two cores are the server's and the browser's alone if figures are to
mean anything; `load` in the output tells how busy the machine was.
"""

import argparse
import asyncio
import base64
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from avatar.drive.motion_io import write_motion
from avatar.media import write_audio
from avatar.viewer.protocol import unpacked
from tests.contract import pulses, toy
from tests.perf.processes import processor_seconds, resident_bytes

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))
from browser import RECORD, Viewer, browser, opened, sync_of

BARS = {
    "fps_talking": (">=", 20.0),
    "height_talking": (">=", 384.0),
    "slider_ms": ("<=", 120.0),
    "sync_browser_ms": ("<=", 40.0),
    "sync_film_ms": ("<=", 40.0),
    "errors": ("<=", 0.0),
    "memory_growth_mb": ("<=", 30.0),
}
SECONDS = 5.8
_DRAG = """async (moves) => {
    const { state, frames } = viewer;
    frames.latencies = [];
    for (let i = 0; i < moves; i++) {
        state.want.sliders[17] = (i % 10) / 10;
        state.change();
        await new Promise((done) => setTimeout(done, 100));
    }
    await new Promise((done) => setTimeout(done, 500));
    return frames.latencies;
}"""


def one_page(viewer: Viewer, folder: Path) -> dict[str, Any]:
    """What one user gets."""
    with browser() as chrome:
        page = opened(chrome.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True), viewer.address)
        page.evaluate("viewer.sound.wake()")
        resting = page.evaluate(_DRAG, 30)
        page.set_input_files("#file", folder / "pulses.wav")
        page.wait_for_function("viewer.sound.buffer && viewer.sound.playing", timeout=120_000)
        page.set_input_files("#file", folder / "pulses.npz")
        page.wait_for_function("!viewer.talk.starts && viewer.sound.playing", timeout=120_000)
        talking = _talking(page, viewer)
        page.evaluate("viewer.sound.loop = true")
        page.evaluate("viewer.sound.play()")
        moved = page.evaluate(_DRAG, 30)
        page.evaluate("viewer.sound.loop = false")
        recorded = page.evaluate(RECORD, SECONDS + 0.6)
        (folder / "seen.webm").write_bytes(base64.b64decode(recorded["film"]))
        late, agreement = sync_of(folder / "seen.webm")
        film = _film(page, folder / "film.mp4")
    return {
        **talking,
        "slider_ms": _middle(resting),
        "slider_ms_p90": round(float(np.quantile(resting, 0.9)), 1),
        "slider_talking_ms": _middle(moved),
        "sync_browser_ms": round(1e3 * late, 1),
        "sync_browser_agreement": round(agreement, 3),
        "sound_latency_ms": round(1e3 * recorded["latency"], 1),
        **film,
    }


def _talking(page: Any, viewer: Viewer) -> dict[str, Any]:
    page.evaluate("viewer.sound.seek(0)")
    page.evaluate("viewer.sound.play()")
    page.wait_for_function("viewer.sound.heard() > 0.3")
    before = processor_seconds(viewer.process.pid)
    page.evaluate("viewer.frames.lateness = []")
    start, count = time.perf_counter(), page.evaluate("viewer.frames.shown.number")
    page.wait_for_timeout(4000)
    shown = page.evaluate(
        "({ n: viewer.frames.lateness.length, late: viewer.frames.lateness, s: viewer.frames.shown })"
    )
    seconds = time.perf_counter() - start
    return {
        "fps_talking": round(shown["n"] / seconds, 2),
        "fps_sent": round((shown["s"]["number"] - count) / seconds, 2),
        "height_talking": shown["s"]["height"],
        "picture_late_ms_median": _middle([1e3 * x for x in shown["late"]]),
        "server_processor_share": round((processor_seconds(viewer.process.pid) - before) / seconds, 3),
        "load": round(os.getloadavg()[0], 2),
    }


def _film(page: Any, path: Path) -> dict[str, Any]:
    page.evaluate("viewer.sound.seek(0)")
    page.click("#record")
    page.evaluate("viewer.sound.play()")
    page.wait_for_timeout(1000 * SECONDS)
    started = time.perf_counter()
    with page.expect_download(timeout=180_000) as download:
        page.click("#record")
    download.value.save_as(path)
    late, agreement = sync_of(path)
    seconds = round(time.perf_counter() - started, 1)
    return {"sync_film_ms": round(1e3 * late, 1), "sync_film_agreement": round(agreement, 3), "film_seconds": seconds}


def _middle(values: list[float]) -> float:
    return round(float(np.median(values)), 1)


async def crowd(viewer: Viewer, folder: Path, minutes: float) -> dict[str, Any]:
    """Eight clients at once."""
    from aiohttp import ClientSession

    end = time.monotonic() + 60 * minutes
    memory: list[float] = []
    async with ClientSession() as web:
        good = [asyncio.create_task(_visitor(web, viewer.address, folder, k, end)) for k in range(6)]
        rude = asyncio.create_task(_rude(web, viewer.address, end))
        stopped = asyncio.create_task(_stopped(viewer.port, end))
        await asyncio.sleep(min(15.0, 6 * minutes))
        while time.monotonic() < end:
            memory.append(resident_bytes(viewer.process.pid) / 1e6)
            await asyncio.sleep(2.0)
        results = await asyncio.gather(*good, return_exceptions=True)
        rudeness = await rude
        await stopped
    third = max(len(memory) // 3, 1)
    pictures = [r for r in results if isinstance(r, int)]
    return {
        "minutes": minutes,
        "errors": len(results) - len(pictures),
        "what": [str(r) for r in results if not isinstance(r, int)],
        "pictures_a_second_each": [round(n / 60 / minutes, 2) for n in pictures],
        "refused": rudeness,
        "memory_mb": [round(float(np.median(part)), 1) for part in (memory[:third], memory[-third:])],
        "memory_growth_mb": round(float(np.median(memory[-third:]) - np.median(memory[:third])), 1),
    }


async def _visitor(web: Any, address: str, folder: Path, which: int, end: float) -> int:
    """Orbits all the time and plays a motion; gives how many pictures came."""
    from aiohttp import WSMsgType

    count = version = 0
    async with web.ws_connect(address + "socket") as socket:
        client = (await socket.receive_json(timeout=20))["client"]
        data = (folder / "pulses.npz").read_bytes()
        async with web.post(f"{address}{client}/upload/m.npz", data=data) as answer:
            assert answer.status == 200, await answer.text()
        next_move = next_play = time.monotonic()
        while (now := time.monotonic()) < end:
            if now >= next_move:
                next_move, version = now + 0.2, version + 1
                view = {"type": "view", "version": version, "viewpoint": {"yaw": 0.4 * np.sin(now + which)}}
                await socket.send_json(view)
            if now >= next_play:
                next_play = now + SECONDS
                await socket.send_json({"type": "clock", "take": version, "seconds": 0.0, "playing": which % 2 == 0})
            message = await _soon(socket)
            if message is None:
                continue
            if message.type is WSMsgType.BINARY:
                number, _ = unpacked(message.data)
                count += 1
                await socket.send_json({"type": "shown", "number": number})
            elif message.type is not WSMsgType.TEXT:
                raise ConnectionError(f"the server ended the connection: {message}")
            elif json.loads(message.data)["type"] == "error":
                raise ConnectionError(message.data)
    return count


async def _soon(socket: Any) -> Any:
    try:
        return await socket.receive(timeout=0.2)
    except asyncio.TimeoutError:
        return None


async def _rude(web: Any, address: str, end: float) -> int:
    """Comes with garbage, is shown out, comes again; gives how often."""
    from aiohttp import WSMsgType

    times, random = 0, np.random.default_rng(0)
    while time.monotonic() < end:
        async with web.ws_connect(address + "socket") as socket:
            await socket.send_str(random.bytes(200).decode("latin1"))
            closed = False
            while not closed:
                message = await socket.receive(timeout=20)
                closed = message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING)
        times += 1
        await asyncio.sleep(1.0)
    return times


async def _stopped(port: int, end: float) -> None:
    """Connects and never reads again, as a browser that hangs."""
    while time.monotonic() < end:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        key = base64.b64encode(os.urandom(16)).decode()
        writer.write(
            f"GET /socket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        await writer.drain()
        await asyncio.sleep(min(60.0, max(end - time.monotonic(), 0.1)))
        writer.close()


def judge(values: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Every bar that was measured."""
    verdicts = {}
    for name, (sign, bar) in BARS.items():
        if name in values:
            value = abs(values[name]) if name.startswith("sync") else values[name]
            holds = value <= bar if sign == "<=" else value >= bar
            verdicts[name] = {"value": values[name], "bar": f"{sign} {bar:g}", "holds": bool(holds)}
    return verdicts


def main() -> int:
    """Exit code 0 when every checked bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="where the numbers go")
    parser.add_argument("--avatar", type=Path, help="an avatar folder; a small drawn one by default")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the eight clients; 0 leaves them out")
    parser.add_argument("--keep", type=Path, help="an existing folder for the films that are made")
    parser.add_argument("--skip-page", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        write_audio(folder / "pulses.wav", pulses.sound(SECONDS))
        write_motion(pulses.motion(SECONDS), folder / "pulses.npz")
        if options.avatar is None:
            toy.avatar(512, 3000).save(folder / "avatar")
        viewer = Viewer(options.avatar or folder / "avatar")
        result: dict[str, Any] = {"cores": os.cpu_count()}
        try:
            result["page"] = {} if options.skip_page else one_page(viewer, folder)
            result["crowd"] = asyncio.run(crowd(viewer, folder, options.minutes)) if options.minutes else {}
        finally:
            viewer.stop()
    result["bars"] = judge({**result["page"], **result["crowd"]})
    options.json.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    for name, verdict in result["bars"].items():
        print(f"{'ok  ' if verdict['holds'] else 'FAIL'} {name:20s} {verdict['value']:10.2f}  {verdict['bar']}")
    return 0 if all(verdict["holds"] for verdict in result["bars"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
