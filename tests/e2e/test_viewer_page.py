"""The viewer as its user sees it: a page in a browser, a small avatar, and what each control does to the picture."""

import base64
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiohttp", reason="the viewer needs avatar[viewer]")
pytest.importorskip("playwright", reason="driving a browser needs playwright")

from browser import RECORD, SPEAK, Viewer, browser, chromium, drop, opened, pixels, settled, sync_of

from avatar.core import AudioTrack
from avatar.drive.motion_io import write_motion
from avatar.media import open_clip, read_audio, write_audio
from avatar.speech import voices
from tests.contract import pulses, toy

if chromium() is None:
    pytest.skip("no Chromium is installed", allow_module_level=True)

SECONDS = 2.9
MOUTH = (slice(200, 290), slice(150, 234))
"""Where the toy's mouth is in its picture of 384 px."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("viewer")
    toy.avatar(384, 1500).save(made / "avatar")
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


def moved(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.abs(after - before).mean(axis=2)


def test_first_screen_shows_how_to_make_it_talk_on_desktop_and_phone(page) -> None:
    for width, height in ((1280, 800), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        for what in ("#picture", "#text", "#say", "label[for=file]", "#microphone"):
            box = page.locator(what).bounding_box()
            assert box["y"] >= 0 and box["y"] + box["height"] <= height, f"{what} is below the first screen at {width}"
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_control_has_a_name(page) -> None:
    nameless = page.evaluate(
        """[...document.querySelectorAll("button, input, select, canvas:not([aria-hidden])")].filter((e) =>
            !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim())).map((e) => e.outerHTML)"""
    )
    assert nameless == []


def test_dragging_orbits_and_a_key_brings_the_front_back(page) -> None:
    front = pixels(page)
    page.mouse.move(400, 300)
    page.mouse.down()
    page.mouse.move(520, 300, steps=4)
    page.mouse.up()
    settled(page)
    assert page.evaluate("viewer.state.want.viewpoint.yaw") > 0.2
    assert moved(front, pixels(page)).mean() > 3
    page.locator("#picture").focus()
    page.keyboard.press("0")
    settled(page)
    assert moved(front, pixels(page)).mean() < 0.2
    page.keyboard.press("Control+z")
    settled(page)
    assert page.evaluate("viewer.state.want.viewpoint.yaw") > 0.2
    page.click("text=Profile")
    settled(page)
    assert page.locator("#unseen").is_visible()


def test_jaw_open_opens_the_mouth_and_undo_closes_it(page) -> None:
    closed = pixels(page)
    page.click("summary:has-text('Jaw and mouth')")
    page.locator("[data-action=jawOpen]").fill("1")
    page.locator("[data-action=jawOpen]").dispatch_event("change")
    settled(page)
    change = moved(closed, pixels(page))
    assert change[MOUTH].mean() > 4
    assert change[:100].mean() < 0.1, "the rest of the picture stays"
    page.click("#copy")
    page.click("#undo")
    settled(page)
    assert moved(closed, pixels(page)).mean() < 0.2
    page.click("#paste")
    page.wait_for_function("viewer.state.want.sliders.some((value) => value === 1)")
    settled(page)
    assert moved(closed, pixels(page))[MOUTH].mean() > 4


def test_background_and_layers_change_the_picture(page) -> None:
    before = pixels(page)
    page.select_option("#background", "#20a060")
    settled(page)
    assert np.abs(pixels(page)[5, 5] - [0x20, 0xA0, 0x60]).max() < 8
    for drawing in ("ellipses", "mesh", "depth", "regions"):
        page.select_option("#drawing", drawing)
        settled(page)
        assert moved(before, pixels(page)).mean() > 2, drawing
    page.select_option("#drawing", "picture")
    page.uncheck("[data-part=head]")
    settled(page)
    face = pixels(page)[150:200, 180:204].reshape(-1, 3)
    assert np.abs(face - [0x20, 0xA0, 0x60]).mean() < 40


def test_a_dropped_sound_moves_the_mouth_in_time_with_it(page, folder) -> None:
    page.mouse.click(5, 5)  # a browser makes sound only on a page that was touched
    page.evaluate("viewer.sound.wake()")
    drop(page, folder / "pulses.wav")
    page.wait_for_function("viewer.sound.playing && viewer.sound.heard() > 0.1")
    drop(page, folder / "pulses.npz")
    page.wait_for_function("!viewer.talk.starts && viewer.sound.buffer && viewer.sound.playing")
    found = page.evaluate(RECORD, SECONDS + 0.6)
    assert page.evaluate("viewer.frames.times.length") > 0
    path = folder / "heard_and_seen.webm"
    path.write_bytes(base64.b64decode(found["film"]))
    late, agreement = sync_of(path)
    assert agreement > 0.8
    assert abs(late) < 0.040, f"lips come {1000 * late:.0f} ms after the sound"


def test_record_saves_what_was_heard_and_seen(page, folder) -> None:
    page.evaluate("viewer.sound.wake()")
    page.set_input_files("#file", folder / "pulses.wav")
    page.wait_for_function("viewer.sound.buffer && viewer.sound.playing")
    page.set_input_files("#file", folder / "pulses.npz")
    page.wait_for_function("!viewer.talk.starts && viewer.sound.playing && viewer.sound.heard() < 0.3")
    page.click("#record")
    page.wait_for_function("viewer.sound.heard() > 2.2")
    page.select_option("#background", "#20a060")
    page.wait_for_timeout(100)
    with page.expect_download() as download:
        page.click("#record")
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
    spoken = voices.EspeakVoice().say("Ah.", "en").audio
    said = np.zeros(round(SECONDS * spoken.rate), np.float32)
    for start in (0.3, 1.1, 2.0):
        first = round(start * spoken.rate)
        said[first : first + len(spoken.samples)] += spoken.samples[: len(said) - first]
    write_audio(folder / "spoken.wav", AudioTrack(samples=said, rate=spoken.rate))
    voice = base64.b64encode((folder / "spoken.wav").read_bytes()).decode()
    path = folder / "spoken.webm"
    path.write_bytes(base64.b64decode(page.evaluate(SPEAK, [voice, SECONDS + 0.5])))
    late, agreement = sync_of(path, where=(slice(100, 145), slice(75, 117)), most=0.8)
    assert agreement > 0.5
    assert 0 < late < 0.6
    page.click("#microphone")
    page.wait_for_function("viewer.sound.playing && viewer.sound.heard() > 0.2")


def test_a_text_is_said_and_a_camera_path_becomes_a_film(page, folder) -> None:
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
    with page.expect_download() as download:
        page.click("#film")
    path = folder / "path.mp4"
    download.value.save_as(path)
    clip = open_clip(path)
    assert clip.audio is not None and np.abs(clip.audio.samples).max() > 0.05
    first, last = clip.frames[0].astype(int), clip.frames[len(clip.frames) - 1].astype(int)
    assert moved(first, last).mean() > 5


def test_the_page_says_when_the_server_is_gone_and_comes_back(page, viewer, folder) -> None:
    page.evaluate("viewer.sound.wake()")
    page.set_input_files("#file", folder / "pulses.npz")
    page.wait_for_function("viewer.sound.length > 0")
    assert viewer.stop() == 0
    page.wait_for_selector("#gone:visible")
    page.evaluate("viewer.sound.length = 0")
    viewer.start_again()
    page.wait_for_selector("#gone", state="hidden")
    page.wait_for_function("viewer.sound.length > 0")  # it gave the motion again by itself
    page.evaluate("viewer.sound.stop()")
    settled(page)
