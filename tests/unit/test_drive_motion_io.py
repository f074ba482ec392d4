"""Motion files come back as they were written, and damaged ones are refused by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from avatar.drive.motion_io import read_motion, write_motion
from avatar.errors import InputError
from avatar.face.arkit import NAMES
from tests.contract import toy


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_everything_survives_a_binary_file(tmp_path, suffix):
    motion = replace(toy.motion(), torso=torch.rand(40, 3, generator=torch.Generator().manual_seed(0)))
    write_motion(motion, tmp_path / f"m{suffix}")
    back = read_motion(tmp_path / f"m{suffix}")
    for name in ("expression", "T_world_head", "neck", "gaze", "torso"):
        torch.testing.assert_close(getattr(back, name), getattr(motion, name), rtol=0, atol=0)
    assert back.fps == motion.fps and [p.name for p in tmp_path.iterdir()] == [f"m{suffix}"]


def test_a_csv_keeps_coefficients_angles_and_frame_rate(tmp_path):
    motion = toy.motion(60)
    write_motion(motion, tmp_path / "m.csv")
    back = read_motion(tmp_path / "m.csv")
    torch.testing.assert_close(back.expression, motion.expression, atol=1e-6, rtol=0)
    torch.testing.assert_close(back.T_world_head[:, :3, :3], motion.T_world_head[:, :3, :3], atol=1e-5, rtol=0)
    torch.testing.assert_close(back.gaze, motion.gaze, atol=1e-6, rtol=0)
    assert back.fps == motion.fps


def test_a_live_link_recording_without_our_extra_columns_is_read(tmp_path):
    names = [n[0].upper() + n[1:] for n in NAMES if n != "tongueOut"]
    head = ",".join(["Timecode", "BlendShapeCount", *names, "HeadYaw", "HeadPitch", "HeadRoll"])
    rows = [f"10:20:{i // 60:02d}:{i % 60:02d}.123,61," + ",".join(["0.25"] * 51) + ",0.1,0,0" for i in range(130)]
    (tmp_path / "take.csv").write_text("\n".join([head, *rows]))
    motion = read_motion(tmp_path / "take.csv")
    assert len(motion) == 130 and motion.fps == 60 and motion.expression[:, :51].eq(0.25).all()
    assert motion.T_world_head[0, 0, 2] == pytest.approx(-np.sin(0.1), abs=1e-5)


@pytest.mark.parametrize("name", ["m.npz", "m.safetensors", "m.csv"])
def test_damaged_and_missing_files_are_named(tmp_path, name):
    with pytest.raises(InputError, match="missing"):
        read_motion(tmp_path / name)
    write_motion(toy.motion(), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:200])
    with pytest.raises(InputError, match=name):
        read_motion(tmp_path / name)


def test_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"\.bvh"):
        write_motion(toy.motion(), tmp_path / "m.bvh")


def test_a_file_of_nans_is_refused(tmp_path):
    motion = toy.motion()
    motion.expression[3, 3] = float("nan")
    write_motion(motion, tmp_path / "m.npz")
    with pytest.raises(InputError, match="not finite"):
        read_motion(tmp_path / "m.npz")
