"""A headless Chromium and a viewer in a process of its own, for the tests of the page."""

import base64
import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.contract import pulses

# Without the last four Chromium asks its maker's servers for updates at every start.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Playwright's browser object."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield opened
        opened.close()


class Viewer:
    """`avatar view FOLDER` as a user starts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._start(0)

    def _start(self, port: int) -> None:
        command = [sys.executable, "-m", "avatar", "view", str(self.folder), "--no-open", "--port", str(port)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        # A shell that runs this in the background lets its children ignore Ctrl-C.
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        more: dict[str, Any] = {"text": True, "env": environment, "preexec_fn": heed}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, **more)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().removeprefix("viewer: ").strip()

    @property
    def port(self) -> int:
        return int(self.address.split(":")[2].split("/")[0])

    def start_again(self) -> None:
        """After `stop`, at the same address."""
        self._start(self.port)

    def stop(self) -> int:
        """Ctrl-C; gives the exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def opened(context: Any, address: str) -> Any:
    """A page that shows its first full picture; `page.faults` collects what goes wrong in it."""
    page = context.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(address)
    settled(page)
    return page


def settled(page: Any) -> None:
    """Wait until the newest wish is drawn in full."""
    page.wait_for_function("viewer.frames.shown.full && viewer.frames.shown.version === viewer.state.version")


def pixels(page: Any) -> np.ndarray:
    """What the canvas shows, int [h w 3]."""
    from PIL import Image

    data = page.evaluate("viewer.frames.canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGB")).astype(int)


def drop(page: Any, path: Path) -> None:
    """Drop a file onto the page, as from a folder's window."""
    page.evaluate(
        """([name, data]) => {
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), moved = new DataTransfer();
            moved.items.add(new File([bytes], name));
            const options = {bubbles: true, cancelable: true, dataTransfer: moved};
            for (const type of ["dragover", "drop"]) document.body.dispatchEvent(new DragEvent(type, options));
        }""",
        [path.name, base64.b64encode(path.read_bytes()).decode()],
    )


def sync_of(path: Path, until: float = float("inf")) -> tuple[float, float]:
    """Of a film of `pulses.motion`: by how many seconds lips come after their sound, and how well the two agree.

    Args:
        until: seconds from which on something else than the mouth changes.
    """
    times, pictures = [], []
    with av.open(str(path)) as film:
        for frame in film.decode(video=0):
            times.append(frame.time)
            pictures.append(frame.reformat(width=192, height=192, format="gray").to_ndarray().astype(np.float32))
        film.seek(0)
        pieces = [(f.time, f.to_ndarray().mean(axis=0), f.sample_rate) for f in film.decode(audio=0)]
    rate = pieces[0][2]
    samples = np.zeros(round((pieces[-1][0] + 1) * rate), np.float32)
    for start, piece, _ in pieces:
        first = max(round(start * rate), 0)
        samples[first : first + len(piece)] = piece[: len(samples) - first]
    # Before and after the sound stills are shown, which are drawn finer.
    loud = np.flatnonzero(np.abs(samples) > 0.1) / rate
    inside = np.flatnonzero((np.array(times) > loud[0] - 0.1) & (np.array(times) < min(loud[-1] + 0.1, until)))
    times, shown = np.array(times)[inside], np.stack(pictures)[inside]
    change = (shown - shown.mean(axis=0)).reshape(len(shown), -1)
    lively = change.std(axis=0) >= np.quantile(change.std(axis=0), 0.98)  # the mouth: nothing else moves
    seen = np.linalg.svd(change[:, lively], full_matrices=False)[0][:, 0]  # its main way of changing, of either sign
    even = np.arange(times[0], times[-1], 0.005)
    return pulses.delay(even, np.interp(even, times, seen), samples, rate)


RECORD = """async (seconds) => {
    const { sound, frames } = viewer, ear = sound.context.createMediaStreamDestination(), parts = [];
    sound.output.connect(ear);
    const tracks = [...frames.canvas.captureStream().getVideoTracks(), ...ear.stream.getAudioTracks()];
    const kind = { mimeType: "video/webm;codecs=vp8,opus", videoBitsPerSecond: 3e6 };
    const recorder = new MediaRecorder(new MediaStream(tracks), kind);
    recorder.ondataavailable = (e) => parts.push(e.data);
    const ended = new Promise((done) => { recorder.onstop = done; });
    recorder.start();
    sound.seek(0);
    sound.play();
    await new Promise((done) => setTimeout(done, seconds * 1000));
    recorder.stop();
    await ended;
    sound.output.disconnect(ear);
    const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return { film: btoa(text), latency: sound.context.currentTime - sound.heardByContext() };
}"""
"""Record what the page shows and sounds with the browser's own recorder. `latency` is what the page takes for the
loudspeaker's delay; the recorder hears before the loudspeaker, and delays sound by a little of its own."""


SPEAK = """async ([voice, seconds, [left, top, width, height]]) => {
    const { sound, frames } = viewer;
    await sound.wake();
    const { context } = sound, bytes = Uint8Array.from(atob(voice), (c) => c.charCodeAt(0)), seen = [];
    const buffer = await context.decodeAudioData(bytes.buffer), ear = context.createMediaStreamDestination();
    const spoken = new AudioBufferSourceNode(context, { buffer });
    spoken.connect(ear);
    navigator.mediaDevices.getUserMedia = async () => ear.stream.clone();
    document.getElementById("microphone").click();
    while (!viewer.talk.microphone) await new Promise((done) => setTimeout(done, 20));
    const look = () => frames.context.getImageData(left, top, width, height).data;
    const before = frames.onShown;
    let first = null;
    frames.onShown = (shown) => {
        const now = look();
        first ??= now; // of the same size as those that follow, not the finer one of a page at rest
        seen.push([performance.now(), now.reduce((sum, value, i) => sum + Math.abs(value - first[i]), 0) / now.length]);
        before(shown);
    };
    const start = performance.now();
    spoken.start();
    await new Promise((done) => setTimeout(done, seconds * 1000));
    frames.onShown = before;
    return seen.map(([time, value]) => [(time - start) / 1000, value]);
}"""
"""Speak a sound file into the page's microphone; gives the seconds of every picture that was shown meanwhile, and how
much a part of it had changed."""
