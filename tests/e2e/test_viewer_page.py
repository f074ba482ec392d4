"""The viewer as its user sees it: a page in a browser, a small avatar, and what each control does to the picture.

A screenshot of each step lies in pytest's folder of temporary files; AVATAR_SCREENSHOTS=FOLDER keeps them, and those
of a phone with them.
"""

import base64
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="the viewer needs avatar[viewer]")
pytest.importorskip("playwright", reason="driving a browser needs playwright")

from browser import RECORD, SPEAK, Viewer, browser, chromium, drop, opened, pixels, settled, sync_of

from avatar.config import to_dict
from avatar.core import AudioTrack
from avatar.drive.motion_io import write_motion
from avatar.events import Draft, Metric, Progress
from avatar.media import open_clip, read_audio, write_audio
from avatar.speech import vad, voices
from avatar.speech.style import SpeechStyle
from avatar.viewer.training import TrainingWatch
from tests.contract import pulses, toy

if chromium() is None:
    pytest.skip("no Chromium is installed", allow_module_level=True)

SECONDS = 2.9
MOUTH = (slice(200, 290), slice(150, 234))
"""Where the toy's mouth is in its picture of 384 px."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("viewer")
    avatar = toy.avatar(384, 1500)
    way = SpeechStyle(opening_gain=2.0, head_std=(0.0, 0.0, 0.0), gaze_std=(0.0, 0.0), blink_hz=0.0)
    avatar.meta = replace(avatar.meta, speech=to_dict(way))  # of speech only the mouth is seen
    avatar.save(made / "avatar")
    write_audio(made / "pulses.wav", pulses.sound(SECONDS))
    write_motion(pulses.motion(SECONDS), made / "pulses.npz")
    return made


@pytest.fixture(scope="module")
def viewer(folder):
    started = Viewer(folder / "avatar")
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def chrome():
    with browser() as started:
        yield started


@pytest.fixture
def page(chrome, viewer):
    context = chrome.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = opened(context, viewer.address)
    yield page
    assert not page.faults
    context.close()


@pytest.fixture
def screenshot(page, folder):
    """Writes what the page looks like now."""
    kept = os.environ.get("AVATAR_SCREENSHOTS")
    place = Path(kept or folder / "screenshots")
    place.mkdir(parents=True, exist_ok=True)

    def write(step: str) -> None:
        if kept:
            page.set_viewport_size({"width": 1280, "height": 800})
        page.screenshot(path=place / f"{step}.png")
        if kept:
            page.set_viewport_size({"width": 390, "height": 844})
            page.screenshot(path=place / f"{step}_phone.png")
            page.screenshot(path=place / f"{step}_phone_whole.png", full_page=True)
            page.set_viewport_size({"width": 1280, "height": 800})

    return write


def moved(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.abs(after - before).mean(axis=2)


def test_first_screen_shows_how_to_make_it_talk_on_desktop_and_phone(page, screenshot) -> None:
    for width, height in ((1280, 800), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        for what in ("#picture", "#text", "#say", "label[for=file]", "#microphone"):
            box = page.locator(what).bounding_box()
            assert box["y"] >= 0 and box["y"] + box["height"] <= height, f"{what} is below the first screen at {width}"
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    screenshot("1_open")


def test_every_control_has_a_name(page) -> None:
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, select, canvas:not([aria-hidden])")].filter((e) =>
            !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim())).map((e) => e.outerHTML)"""
    )
    assert nameless == []


def test_dragging_orbits_and_a_key_brings_the_front_back(page, screenshot) -> None:
    front = pixels(page)
    page.mouse.move(400, 300)
    page.mouse.down()
    page.mouse.move(520, 300, steps=4)
    page.mouse.up()
    settled(page)
    assert page.evaluate("viewer.state.want.viewpoint.yaw") > 0.2
    assert moved(front, pixels(page)).mean() > 3
    screenshot("2_orbit")
    page.locator("#picture").focus()
    page.keyboard.press("0")
    settled(page)
    assert moved(front, pixels(page)).mean() < 0.2
    page.keyboard.press("Shift+ArrowRight")
    assert page.evaluate("viewer.state.want.viewpoint.pan[0]") > 0.01
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    settled(page)
    assert page.evaluate("viewer.state.want.viewpoint.yaw") > 0.2
    page.click("text=Profile")
    settled(page)
    assert page.locator("#unseen").is_visible()
    screenshot("2_profile")


def test_jaw_open_opens_the_mouth_and_undo_closes_it(page, screenshot) -> None:
    closed = pixels(page)
    page.click("summary:has-text('Jaw and mouth')")
    page.locator("[data-action=jawOpen]").fill("1")
    page.locator("[data-action=jawOpen]").dispatch_event("change")
    settled(page)
    change = moved(closed, pixels(page))
    assert change[MOUTH].mean() > 4
    assert change[:100].mean() < 0.1, "the rest of the picture stays"
    screenshot("3_jaw_open")
    page.click("#copy")
    page.select_option("#pose", "ah")
    assert page.evaluate("viewer.state.want.sliders[17]") == 0.6
    page.click("#undo")
    page.click("#undo")
    settled(page)
    assert moved(closed, pixels(page)).mean() < 0.2
    page.click("#paste")
    page.wait_for_function("viewer.state.want.sliders.some((value) => value === 1)")
    settled(page)
    assert moved(closed, pixels(page))[MOUTH].mean() > 4


def test_background_and_layers_change_the_picture(page, screenshot) -> None:
    before = pixels(page)
    page.select_option("#background", "#20a060")
    settled(page)
    assert np.abs(pixels(page)[5, 5] - [0x20, 0xA0, 0x60]).max() < 8
    screenshot("5_background")
    for drawing in ("ellipses", "mesh", "depth", "regions"):
        page.select_option("#drawing", drawing)
        settled(page)
        assert moved(before, pixels(page)).mean() > 2, drawing
    page.select_option("#drawing", "picture")
    page.click("summary:has-text('Way of speaking')")
    page.select_option("#style", "calm")
    page.keyboard.press("Control+z")
    assert page.input_value("#style") == "own" and page.input_value("#drawing") == "picture"
    for _ in range(6):
        page.click("#undo")
    assert page.input_value("#background") == "plate"
    page.click("#redo")
    assert page.input_value("#background") == "#20a060"
    page.uncheck("[data-part=head]")
    settled(page)
    face = pixels(page)[150:200, 180:204].reshape(-1, 3)
    assert np.abs(face - [0x20, 0xA0, 0x60]).mean() < 40


def test_a_dropped_sound_moves_the_mouth_in_time_with_it(page, folder, screenshot) -> None:
    page.mouse.click(5, 5)  # a browser makes sound only on a page that was touched
    page.evaluate("viewer.sound.wake()")
    drop(page, folder / "pulses.wav")
    page.wait_for_function("viewer.sound.playing && viewer.sound.heard() > 0.1")
    screenshot("4_talks")
    drop(page, folder / "pulses.npz")
    page.wait_for_function("!viewer.talk.starts && viewer.sound.buffer && viewer.sound.playing")
    found = page.evaluate(RECORD, SECONDS + 0.6)
    assert page.evaluate("viewer.frames.times.length") > 0
    path = folder / "heard_and_seen.webm"
    path.write_bytes(base64.b64decode(found["film"]))
    late, agreement = sync_of(path)
    assert agreement > 0.8
    assert abs(late) < 0.040, f"lips come {1000 * late:.0f} ms after the sound"


def test_record_saves_what_was_heard_and_seen(page, folder, screenshot) -> None:
    page.evaluate("viewer.sound.wake()")
    page.set_input_files("#file", folder / "pulses.wav")
    page.wait_for_function("viewer.sound.buffer && viewer.sound.playing")
    page.set_input_files("#file", folder / "pulses.npz")
    page.wait_for_function("!viewer.talk.starts && viewer.sound.playing && viewer.sound.heard() < 0.3")
    page.click("#record")
    page.wait_for_function("viewer.sound.heard() > 2.2")
    screenshot("6_records")
    page.select_option("#background", "#20a060")
    page.wait_for_timeout(100)
    with page.expect_download() as download:
        page.click("#record")
    screenshot("6_recorded")
    path = folder / "recorded.mp4"
    download.value.save_as(path)
    clip = open_clip(path)
    sound = read_audio(path)
    assert clip.seconds > 1.8 and abs(clip.seconds - sound.seconds) < 0.15
    corners = np.stack([clip.frames[i][5, 5] for i in range(len(clip.frames))]).astype(int)
    green = np.flatnonzero(np.abs(corners - [0x20, 0xA0, 0x60]).max(axis=1) < 16)
    assert len(green) and green[-1] == len(clip.frames) - 1 and green[0] > 1.5 * clip.fps
    late, agreement = sync_of(path, until=(green[0] - 0.5) / clip.fps)
    assert abs(late) < 0.040 and agreement > 0.8


def test_lips_move_while_one_speaks_and_then_it_is_said_again(page, folder) -> None:
    pytest.importorskip("espeakng_loader", reason="a voice is needed")
    pytest.importorskip("pocketsphinx", reason="the acoustic tables come with pocketsphinx")
    if not vad.is_installed():
        pytest.skip("a voice is told from noise by silero-vad")
    spoken = voices.EspeakVoice().say("Ah.", "en").audio
    said = np.zeros(round(SECONDS * spoken.rate), np.float32)
    starts = (0.4, 1.2, 2.1)
    for start in starts:
        first = round(start * spoken.rate)
        said[first : first + len(spoken.samples)] += spoken.samples[: len(said) - first]
    write_audio(folder / "spoken.wav", AudioTrack(samples=said, rate=spoken.rate))
    voice = base64.b64encode((folder / "spoken.wav").read_bytes()).decode()
    page.evaluate("viewer.sound.wake()")
    page.click("#record")
    seen = np.array(page.evaluate(SPEAK, [voice, SECONDS + 0.3, [150, 200, 84, 90]]))
    (times, change), opened = seen.T, 0
    for start, following in zip(starts, [*starts[1:], SECONDS], strict=True):
        since, rest = (times > start) & (times < following + 0.1), change[times <= start][-1]
        widest = since & (change == change[since].max())
        half = (rest + change[widest][0]) / 2
        if half - rest < 0.1 * change.max():
            continue
        opened += 1
        assert 0.1 < times[since & (change > half)][0] - start < 0.6
        assert change[since & (times > times[widest][0])].min() < half, "it shuts again"
    assert opened >= 2, "a browser that waits for a processor loses pieces of what is said, but not most of it"
    with page.expect_download() as download:
        page.click("#record")
    path = folder / "spoken.mp4"
    download.value.save_as(path)
    late, agreement = sync_of(path)
    assert abs(late) < 0.060 and agreement > 0.6, "the film has the voice, and its lips with it"
    page.click("#microphone")
    page.wait_for_function("viewer.sound.playing && viewer.sound.heard() > 0.2")


def test_a_text_is_said_and_a_camera_path_becomes_a_film(page, folder, screenshot) -> None:
    pytest.importorskip("espeakng_loader")
    page.fill("#text", "Hello.")
    page.click("#say")
    page.wait_for_function("viewer.sound.playing")
    page.wait_for_function("!viewer.sound.playing", timeout=20_000)
    page.evaluate("viewer.sound.seek(0)")
    page.click("#addkey")
    page.evaluate("viewer.sound.seek(viewer.sound.length)")
    page.click("text=Profile")
    page.click("#addkey")
    screenshot("7_camera_path")
    assert page.locator("#keys button").count() == 4
    page.locator("#keys button").first.click()
    assert page.evaluate("viewer.sound.heard()") == 0 and abs(page.evaluate("viewer.state.want.viewpoint.yaw")) < 0.01
    with page.expect_download() as download:
        page.click("#film")
    path = folder / "path.mp4"
    download.value.save_as(path)
    clip = open_clip(path)
    assert clip.audio is not None and np.abs(clip.audio.samples).max() > 0.05
    first, last = clip.frames[0].astype(int), clip.frames[len(clip.frames) - 1].astype(int)
    assert moved(first, last).mean() > 5


def test_the_page_says_when_the_server_is_gone_and_comes_back(page, viewer, folder, screenshot) -> None:
    page.evaluate("viewer.sound.wake()")
    page.set_input_files("#file", folder / "pulses.npz")
    page.wait_for_function("viewer.sound.length > 0")
    assert viewer.stop() == 0
    page.wait_for_selector("#gone:visible")
    screenshot("8_gone")
    page.evaluate("viewer.sound.length = 0")
    viewer.start_again()
    page.wait_for_selector("#gone", state="hidden")
    page.wait_for_function("viewer.sound.length > 0")  # it gave the motion again by itself
    page.evaluate("viewer.sound.stop()")
    settled(page)


def test_a_training_shows_its_avatar_from_the_side_that_is_dragged_to(chrome) -> None:
    watch, addresses, avatar = TrainingWatch(lambda event: None), [], toy.avatar(128, 600)
    watch.open(0, addresses.append)
    look = "document.getElementById('draft').getContext('2d').getImageData(0, 0, 128, 128).data"
    page = chrome.new_page(viewport={"width": 1280, "height": 800}, bypass_csp=True)
    try:
        page.goto(addresses[0])
        watch(Progress(stage="train", done=50, total=200, unit="steps"))
        for step in range(0, 75, 25):
            watch(Metric(stage="train", name="loss", value=1 / (step + 1), step=step))
        watch.draft.look()
        watch(Draft(stage="train", step=50, copy=lambda: avatar))
        page.wait_for_selector("#now:visible")
        page.wait_for_function("document.getElementById('draft').width === 128")
        page.evaluate(f"front = {look}; 0")
        box = page.locator("#draft").bounding_box()
        page.mouse.move(box["x"] + 60, box["y"] + 60)
        page.mouse.down()
        page.mouse.move(box["x"] + 200, box["y"] + 60, steps=3)
        page.mouse.up()
        page.wait_for_function(f"{look}.reduce((sum, v, i) => sum + Math.abs(v - front[i]), 0) > 3 * front.length")
        assert "step 50 of 200" in page.locator("#steps").text_content()
        assert page.locator("[data-curve=loss] canvas").is_visible()
    finally:
        watch.close()
    page.wait_for_selector("#gone:visible")
    page.close()
