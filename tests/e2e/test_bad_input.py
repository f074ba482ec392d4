"""Films as people have them: each gives a workspace, or one sentence that says what to do, and nothing half-written."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest

pytest.importorskip("mediapipe")

from films import SIDE, TOOLS, Listener, film, person, placed, run, voice, wall

from avatar.core import AudioTrack
from avatar.errors import InputError
from avatar.media import open_clip
from avatar.preprocess import preprocess

# what cannot be used ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"this is a letter, not a film" * 100])
def test_a_file_that_is_no_video(tmp_path, content):
    (tmp_path / "letter.mp4").write_bytes(content)
    with pytest.raises(InputError, match=r"letter\.mp4: no video or audio file.*export it again"):
        run(tmp_path / "letter.mp4")
    assert not (tmp_path / "me").exists()


def test_a_film_of_three_frames(tmp_path, stills):
    with pytest.raises(InputError, match=r"too short: 0\.3 s, at least 2 s are needed; film 20 s"):
        run(film(tmp_path / "a.mp4", [person(stills, i) for i in range(3)]))
    assert not (tmp_path / "me").exists()


def test_no_face(tmp_path):
    with pytest.raises(InputError, match=r"a\.mp4: no face found.*film one person from the front"):
        run(film(tmp_path / "a.mp4", [wall().astype(np.uint8)] * 24))
    assert not (tmp_path / "me").exists()


def test_a_face_of_less_than_80_px(tmp_path, stills):
    frames = [placed(stills[i % 3], wall(480, 480), 150, 150, scale=0.5).astype(np.uint8) for i in range(24)]
    with pytest.raises(InputError, match=r"the face is \d\d px high.*at least 80 px.*go closer"):
        run(film(tmp_path / "a.mp4", frames))
    assert not (tmp_path / "me").exists()


def test_a_face_for_less_than_two_seconds(tmp_path, stills):
    frames = [person(stills, i) if i < 12 else wall().astype(np.uint8) for i in range(40)]
    with pytest.raises(InputError, match=r"seen in 1\d of 40 frames only: 1\.\d s, at least 2 s are needed"):
        run(film(tmp_path / "a.mp4", frames))


def test_a_truncated_film_of_less_than_two_seconds(good):
    good.write_bytes(good.read_bytes()[: int(good.stat().st_size * 0.5)])
    with pytest.raises(InputError, match=r"too short|no frame of the video decodes"):
        run(good)
    assert not (good.parent / "me").exists()


def test_a_folder_that_cannot_be_written(good, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match=r"taken.*choose another"):
        preprocess(good, tmp_path / "taken" / "me", tools=TOOLS)
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(InputError, match=r"locked.*no permission to write there; choose another folder"):
            preprocess(good, tmp_path / "locked" / "me", tools=TOOLS)


# what can be used, and what is said about it ----------------------------------------------------------------------


def test_a_truncated_film_is_used_as_far_as_it_decodes(tmp_path, stills):
    rng = np.random.default_rng(0)
    noisy = [np.clip(person(stills, i) + rng.normal(0, 6, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8) for i in range(40)]
    path = film(tmp_path / "a.mp4", noisy, audio=voice(4))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.8)])
    heard = Listener()
    workspace = run(path, heard)
    assert heard.said("cut off")
    assert 20 <= len(workspace) < 40
    audio = workspace.audio()
    assert audio is not None
    assert audio.seconds == pytest.approx(len(workspace) / workspace.fps, abs=0.01)


def test_no_sound(tmp_path, stills, quick):
    heard = Listener()
    workspace = run(film(tmp_path / "a.mp4", [person(stills, i) for i in range(24)]), heard, quick)
    assert heard.said("no sound; the avatar learns the face but not how")
    assert workspace.audio() is None
    assert workspace.json("quality.json")["sound"] == "none"


def test_silent_sound(tmp_path, stills, quick):
    heard = Listener()
    silence = AudioTrack(samples=np.zeros(48000, np.float32), rate=16000)
    workspace = run(film(tmp_path / "a.mp4", [person(stills, i) for i in range(24)], audio=silence), heard, quick)
    assert heard.said("the sound is silent")
    assert workspace.json("quality.json")["sound"] == "silent"


def test_a_face_in_half_of_the_frames(tmp_path, stills):
    frames = [person(stills, i) if i < 26 else wall().astype(np.uint8) for i in range(52)]
    heard = Listener()
    workspace = run(film(tmp_path / "a.mp4", frames), heard)
    confidence = workspace.tensors("landmarks.safetensors")[0]["confidence"]
    assert heard.said("cut at 2.6 s; 26 frames of another shot are left out (nobody is seen)")
    assert (confidence[:25] > 0).all()
    assert (confidence[30:] == 0).all()
    split = workspace.json("split.json")
    assert max(split["train"] + split["test"]) < 30


def test_two_faces_the_larger_one_is_used(tmp_path, stills):
    frames = []
    for i in range(24):
        both = placed(stills[i // 3 % 3], wall(SIDE, 480), 0, 0)
        frames.append(placed(stills[0], both, 90, 300, scale=0.65).astype(np.uint8))
    heard = Listener()
    workspace = run(film(tmp_path / "a.mp4", frames), heard)
    assert heard.said("more than one face")
    points = workspace.tensors("landmarks.safetensors")[0]["landmarks_px"]
    assert float(points[..., 0].max()) < SIDE
    assert workspace.alpha(10)[:, 360:].mean() < 0.35 * workspace.mask(10)[:, 360:].mean() + 2


@pytest.mark.parametrize("fps", [10.0, 60.0])
def test_slow_and_fast_films(tmp_path, stills, quick, fps):
    frames = [person(stills, i) for i in range(6)]
    video = film(tmp_path / "a.mp4", (frames[i % 6] for i in range(int(2.1 * fps))), fps)
    workspace = run(video, tools=quick)
    assert workspace.fps == min(fps, 30.0)
    assert len(workspace) == round(2.1 * workspace.fps)


def test_a_portrait_in_4k_with_a_rotation_tag(tmp_path, stills):
    path = tmp_path / "phone.mp4"
    picture = placed(stills[1], wall(3840, 2160), 1000, 300, scale=5).astype(np.uint8)
    stored = np.ascontiguousarray(np.rot90(picture, -1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"preset": "ultrafast", "crf": "30"})
        stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuv420p"
        stream.set_display_rotation(90)
        for i in range(11):
            frame = av.VideoFrame.from_ndarray(stored, "rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 5)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert open_clip(path).frames[0].shape == (3840, 2160, 3)
    workspace = run(path, size=384)
    assert max(workspace.size) == 384
    quality = workspace.json("quality.json")
    assert quality["face_found"] == 1.0
    assert quality["face_px"] > 80


@pytest.mark.parametrize(("rate", "layout", "codec"), [(8000, "mono", "pcm_s16le"), (48000, "7.1", "flac")])
def test_telephone_and_cinema_sound(tmp_path, stills, quick, rate, layout, codec):
    path = tmp_path / "a.mkv"
    channels = 8 if layout == "7.1" else 1
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=10)
        picture.width, picture.height, picture.pix_fmt = SIDE, SIDE, "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout=layout)
        for i in range(24):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(person(stills, i), "rgb24")))
        container.mux(picture.encode(None))
        samples = np.repeat((voice(2.4, rate).samples * 32767).astype(np.int16), channels)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        fit = av.AudioResampler(format=sound.format, layout=layout, rate=rate, frame_size=sound.frame_size or 1024)
        for piece in [*fit.resample(frame), *fit.resample(None)]:
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    workspace = run(path, tools=quick)
    audio = workspace.audio()
    assert audio is not None
    assert (audio.rate, round(audio.seconds, 2)) == (16000, 2.4)
    assert np.abs(audio.samples).max() > 0.05
