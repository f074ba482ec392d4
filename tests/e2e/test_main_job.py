"""The main job as a user runs it: a drawn speaker's film goes in, a talking avatar comes out, errors are one line."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from avatar.cli import main
from avatar.media import open_clip, read_audio
from avatar.synthetic.clip import TINY, write_clip

pytest.importorskip("mediapipe", reason="finding faces needs avatar[preprocess]")


def avatar(*arguments: str | Path, **more) -> subprocess.CompletedProcess[str]:
    """A process of its own, as a user starts it."""
    command = [sys.executable, "-m", "avatar", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=400, **more)


def avatar_here(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The same in this process: most of a short command's time goes into starting Python."""
    out, said, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(["avatar"], code, out.getvalue(), said.getvalue())


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with speaker/ and me/, made by the command line; interrupted once on the way."""
    folder = tmp_path_factory.mktemp("job")
    film = write_clip(folder / "speaker", replace(TINY, size=256, fps=12.5)).video
    arguments = ["build", film, "-o", folder / "me", "--recipe", "gaussian/smoke", "--size", "256"]
    stopped = _interrupted_after("detect", folder / "me", arguments)
    assert stopped.returncode == 130, stopped.stderr
    assert "go on from here" in stopped.stderr and "Traceback" not in stopped.stderr
    done = avatar(*arguments)
    assert done.returncode == 0, done.stderr
    assert "detect: up to date" in done.stderr
    return folder


def _interrupted_after(stage: str, workspace: Path, arguments: list) -> subprocess.CompletedProcess[str]:
    """Ctrl-C once the workspace's manifest says that the stage is finished."""
    manifest = workspace / "workspace.json"
    command = [sys.executable, "-m", "avatar", *map(str, arguments)]
    # A shell that runs the tests in the background lets its children ignore Ctrl-C.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed)  # noqa: PLW1509
    for _ in range(2000):
        finished = manifest.exists() and stage in json.loads(manifest.read_text())["stages"]
        if finished or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, "", said)


def test_build_leaves_avatar_and_report(built: Path) -> None:
    report = json.loads((built / "me" / "report" / "report.json").read_text())
    assert set(report["rows"]) == {"reenacted", "spoken", "nearest_frame", "ground_truth"}
    assert report["rows"]["reenacted"]["psnr_frame"] > 20
    assert "<html" in (built / "me" / "report" / "index.html").read_text()
    assert sum(f.stat().st_size for f in (built / "me" / "avatar").iterdir()) < 20e6


def test_the_avatar_says_a_new_sentence_with_sound_over_a_new_background(built: Path) -> None:
    hello, out = built / "speaker" / "hello.wav", built / "hello.mp4"
    done = avatar("drive", built / "me" / "avatar", "--audio", hello, "-o", out, "--background", "#ff0000")
    assert done.returncode == 0, done.stderr
    clip = open_clip(out)
    assert clip.seconds == pytest.approx(read_audio(hello).seconds, abs=0.1)
    assert clip.audio is not None and np.abs(clip.audio.samples).max() > 0.05
    first = clip.frames[0].astype(int)
    assert first[2, 2, 0] > 220 and first[2, 2, 1:].max() < 40


def test_tracked_motion_leaves_in_every_format_and_drives_the_avatar_again(built: Path) -> None:
    for suffix in (".csv", ".npz", ".glb"):
        done = avatar_here("export", built / "me", "-o", built / f"me{suffix}")
        assert done.returncode == 0, done.stderr
        again = avatar_here(
            "export", built / "me" / "avatar", "--motion", built / f"me{suffix}", "-o", built / "again.npz"
        )
        assert again.returncode == 0, again.stderr
    out = built / "performed.mp4"
    done = avatar_here("drive", built / "me" / "avatar", "--motion", built / "again.npz", "-o", out, "--size", "96")
    assert done.returncode == 0, done.stderr
    assert len(open_clip(out).frames) == len(open_clip(built / "speaker" / "speaker.mp4").frames)


def test_evaluating_again_is_up_to_date_and_copies_the_numbers(built: Path, tmp_path: Path) -> None:
    done = avatar_here("evaluate", built / "me", "--json", tmp_path / "numbers.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "numbers.json").read_text())["rows"]["reenacted"]["psnr_frame"] > 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["build", "nothing.mp4", "-o", "me"], "nothing.mp4"),
        (["train", "."], "avatar preprocess"),
        (["evaluate", "."], "avatar preprocess"),
        (["drive", ".", "--audio", "a.wav", "-o", "a.mp4"], "avatar build"),
        (["drive", ".", "-o", "a.mp4"], "--motion"),
        (["export", ".", "-o", "a.csv"], "avatar preprocess"),
        (["export", ".", "-o", "a.bvh"], ".bvh"),
        (["build", "nothing.mp4", "-o", "me", "--size", "5"], "--size"),
        (["build", "nothing.mp4"], "--out"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_the_user_can_mend_is_said_and_ends_with_2(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = avatar_here(*arguments)
    assert done.returncode == 2
    assert words in done.stderr + done.stdout and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_process_ends_with_2_and_one_sentence(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = avatar("build", "nothing.mp4", "-o", "me", cwd=tmp_path, env=environment)
    assert done.returncode == 2 and "nothing.mp4" in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_bad_drive_leaves_no_film(built: Path, tmp_path: Path) -> None:
    folder = built / "me" / "avatar"
    (tmp_path / "noise.wav").write_bytes(b"no sound")
    for arguments in (
        ["--audio", tmp_path / "noise.wav", "-o", tmp_path / "a.mp4"],
        ["--audio", built / "speaker" / "hello.wav", "-o", tmp_path / "a.mp4", "--background", "transparent"],
        ["--audio", built / "speaker" / "hello.wav", "-o", tmp_path / "a.mp4", "--background", "blurple"],
        ["--audio", built / "speaker" / "hello.wav", "-o", tmp_path / "no" / "such" / "a.txt"],
    ):
        done = avatar_here("drive", folder, *arguments)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert [f.name for f in tmp_path.iterdir()] == ["noise.wav"]
