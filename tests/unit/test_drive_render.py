"""Films of a driven avatar: length, cameras, backgrounds, and what is refused before anything is drawn."""

from pathlib import Path

import numpy as np
import pytest
import torch

from avatar.core import AudioTrack
from avatar.drive.render import Shot, render_video
from avatar.drive.sources import from_voice, placed
from avatar.drive.speak import speak
from avatar.errors import InputError
from avatar.events import Done, Notice, Progress
from avatar.face.arkit import INDEX
from avatar.media import open_clip, read_audio, write_audio, write_image
from avatar.models.avatar_model import AvatarMeta, AvatarModel
from avatar.models.backdrop import Plate
from tests.contract import toy

SIZE = 64


@pytest.fixture(scope="module")
def avatar() -> AvatarModel:
    camera = toy.camera(SIZE)
    ramp = torch.linspace(0, 1, SIZE)[:, None, None].expand(SIZE, SIZE, 3).contiguous()
    meta = AvatarMeta.of("gaussian", camera, toy.motion().frame(2), 25.0)
    return AvatarModel(toy.person(400), Plate(image=ramp, camera=camera), meta)


def buzz(seconds: float) -> AudioTrack:
    t = np.arange(round(seconds * 16_000)) / 16_000
    tone = sum(np.sin(2 * np.pi * 130 * k * t) / k for k in range(1, 12)) * (0.6 + 0.4 * np.sin(2 * np.pi * 5 * t))
    return AudioTrack(samples=(0.1 * tone).astype(np.float32), rate=16_000)


def test_film_has_the_motions_length_the_sound_and_every_frame_reported(avatar, tmp_path):
    events, motion = [], toy.motion(30)
    render_video(avatar, motion, tmp_path / "a.mp4", audio=buzz(1.2), sink=events.append)
    clip = open_clip(tmp_path / "a.mp4")
    assert len(clip.frames) == 30 and clip.fps == 25 and clip.frames[0].shape == (SIZE, SIZE, 3)
    assert read_audio(tmp_path / "a.mp4").seconds == pytest.approx(1.2, abs=0.05)
    assert [e.done for e in events if isinstance(e, Progress)] == list(range(31))
    assert isinstance(events[-1], Done) and events[-1].outputs == (tmp_path / "a.mp4",)


def test_backgrounds_stand_behind_the_person(avatar, tmp_path):
    motion = toy.motion(2)
    write_image(tmp_path / "red.png", np.tile(np.array([200, 10, 20], np.uint8), (90, 160, 1)))
    corner = {}
    for name in ("plate", "#20a060", str(tmp_path / "red.png")):
        render_video(avatar, motion, tmp_path / "b.mp4", Shot(background=name))
        corner[name] = open_clip(tmp_path / "b.mp4").frames[0][2, 2].astype(int)
    assert np.abs(corner["plate"] - 8).max() < 16
    assert np.abs(corner["#20a060"] - [0x20, 0xA0, 0x60]).max() < 16
    assert np.abs(corner[str(tmp_path / "red.png")] - [200, 10, 20]).max() < 16


def test_transparent_frames_have_straight_opacity(avatar, tmp_path):
    from PIL import Image

    render_video(avatar, toy.motion(2), tmp_path / "c.png", Shot(background="transparent"))
    pixels = np.asarray(Image.open(tmp_path / "c_000000.png"))
    assert pixels.shape == (SIZE, SIZE, 4) and pixels[1, 1, 3] == 0 and pixels[..., 3].max() > 250


def test_orbit_sees_the_head_from_both_sides_and_begins_in_front(avatar):
    from avatar.drive.cameras import camera_move

    camera, rest = avatar.meta.camera, avatar.meta.rest
    move = camera_move("orbit", camera, rest)
    torch.testing.assert_close(move(0.0).T_world_camera, camera.T_world_camera, atol=1e-6, rtol=0)
    left, right = move(2.0).T_world_camera, move(6.0).T_world_camera
    assert left[0, 3] * right[0, 3] < 0 and (left[:3, 3] - right[:3, 3]).norm() > 0.4
    head = rest.T_world_head[:3, 3]
    for moment in (0.0, 2.0, 6.0):
        x, y = move(moment).project(head)
        assert abs(x - SIZE / 2) < SIZE / 4 and abs(y - SIZE / 2) < SIZE / 4


def test_size_is_a_height_and_keeps_the_view(avatar, tmp_path):
    render_video(avatar, toy.motion(1), tmp_path / "d.mp4", Shot(size=96))
    assert open_clip(tmp_path / "d.mp4").frames[0].shape == (96, 96, 3)


@pytest.mark.parametrize(
    ("shot", "name", "words"),
    [
        (Shot(camera="drone"), "e.mp4", "front, orbit"),
        (Shot(background="no_such.png"), "e.mp4", "colour"),
        (Shot(background="transparent"), "e.mp4", r"\.mov"),
        (Shot(size=7), "e.mp4", "64 to 4096"),
        (Shot(), "e.xyz", "kind of film"),
    ],
)
def test_bad_requests_are_refused_and_leave_nothing(avatar, tmp_path, shot, name, words):
    with pytest.raises(InputError, match=words):
        render_video(avatar, toy.motion(2), tmp_path / name, shot)
    assert list(tmp_path.iterdir()) == []


def test_a_stopped_film_leaves_no_file(avatar, tmp_path):
    def stop(event):
        if isinstance(event, Progress) and event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_video(avatar, toy.motion(9), tmp_path / "f.mp4", sink=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_silent_voice_is_told_and_keeps_the_mouth_shut(avatar, tmp_path):
    pytest.importorskip("pocketsphinx")
    avatar.save(tmp_path / "avatar")
    write_audio(tmp_path / "still.wav", AudioTrack(samples=np.zeros(16_000, np.float32), rate=16_000))
    events = []
    speak(tmp_path / "avatar", tmp_path / "still.wav", tmp_path / "g.mp4", sink=events.append)
    assert any(isinstance(e, Notice) and "closed" in e.message for e in events)
    motion = placed(from_voice(AudioTrack(samples=np.zeros(16_000, np.float32), rate=16_000), avatar), avatar)
    assert len(open_clip(tmp_path / "g.mp4").frames) == len(motion) == 25
    rest = avatar.meta.rest.expression[INDEX["jawOpen"]]
    torch.testing.assert_close(motion.expression[:, INDEX["jawOpen"]], rest.expand(25), atol=1e-6, rtol=0)


def test_a_folder_that_is_no_avatar_and_a_file_without_sound_are_refused(avatar, tmp_path):
    with pytest.raises(InputError, match="is no avatar"):
        speak(tmp_path, tmp_path / "x.wav", tmp_path / "h.mp4")
    avatar.save(tmp_path / "avatar")
    with pytest.raises(InputError, match=r"its avatar is .*/avatar$"):
        speak(tmp_path, tmp_path / "x.wav", tmp_path / "h.mp4")
    Path(tmp_path / "x.wav").write_bytes(b"not sound")
    with pytest.raises(InputError, match=r"x\.wav"):
        speak(tmp_path / "avatar", tmp_path / "x.wav", tmp_path / "h.mp4")
    assert not (tmp_path / "h.mp4").exists()
