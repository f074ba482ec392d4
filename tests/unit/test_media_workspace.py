"""Whole files or none, and damage is found and named."""

import errno
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avatar.errors import InputError
from avatar.media import Workspace, read_image, read_tensors, replacing, write_image, write_tensors
from avatar.media.files import interrupts_wait
from avatar.media.image import encode_map


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "me.mp4"
    path.write_bytes(b"video")
    return path


def test_pictures_come_back_and_jpegs_are_fine(tmp_path):
    ramp = np.stack(np.meshgrid(np.arange(64), np.arange(48)), axis=-1).astype(np.uint8) * 3
    picture = np.concatenate([ramp, 255 - ramp[..., :1]], axis=-1)
    write_image(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture)
    write_image(tmp_path / "a.jpg", picture)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - picture).mean() < 1.5


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (64, 200)])
def test_maps_come_back_as_they_were(tmp_path, size):
    path, rng = tmp_path / "map.png", np.random.default_rng(0)
    for pixels in (rng.integers(0, 256, size, np.uint8), np.full(size, 200, np.uint8), np.arange(size[1]) > 2):
        wanted = np.broadcast_to(pixels.astype(np.uint8), size)
        path.write_bytes(encode_map(wanted))
        np.testing.assert_array_equal(read_image(path, gray=True), wanted)
        with Image.open(path) as image:
            image.verify()
            assert image.mode == "L"


def test_damaged_pictures_and_tensors_are_named(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((64, 64, 3), np.uint8))
    write_tensors(tmp_path / "a.safetensors", {"x": torch.ones(1000)})
    for name, reader in (("a.png", read_image), ("a.safetensors", read_tensors)):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(InputError, match=name):
            reader(path)
        path.unlink()
        with pytest.raises(InputError, match="missing"):
            reader(path)
    write_tensors(tmp_path / "b.safetensors", {"x": torch.tensor([1.0, float("nan")])})
    with pytest.raises(InputError, match="not finite"):
        read_tensors(tmp_path / "b.safetensors")


def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": torch.ones(3)})

    def full(self, data):
        self.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="disk is full; free some space"):
        write_tensors(path, {"x": torch.zeros(3)})
    assert read_tensors(path)[0]["x"].sum() == 3
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_manifest_remembers_stages_and_notices_lost_outputs(tmp_path, source):
    workspace = Workspace.create(tmp_path / "me", source)
    workspace.path("frames").mkdir()
    workspace.set_frames(25.0, 1, (8, 8))
    workspace.write_picture("frames", 0, np.zeros((8, 8, 3), np.uint8))
    workspace.finish("decode", "key", ("frames",), 1.0, {"n": 1})
    again = Workspace.create(tmp_path / "me", source)
    record = again.record("decode")
    assert record is not None
    assert (record.key, record.facts, again.fps, again.size) == ("key", {"n": 1}, 25.0, (8, 8))
    assert again.is_whole(record)
    assert again.frame(0).shape == (8, 8, 3)
    again.picture_path("frames", 0).unlink()
    assert not again.is_whole(record)


def test_manifest_holds_relative_names_only(tmp_path, source):
    workspace = Workspace.create(tmp_path / "me", source)
    workspace.write_json("split.json", {"train": [0]})
    workspace.finish("split", "key", ("split.json",), 0.0, {})
    assert str(tmp_path) not in (tmp_path / "me" / "workspace.json").read_text()
    with pytest.raises(ValueError, match="leaves"):
        workspace.path("../x")


def test_folders_that_cannot_be_used_are_named(tmp_path, source):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="holds other files"):
        Workspace.create(tmp_path / "photos", source)
    with pytest.raises(InputError, match="choose another"):
        Workspace.create(source, source)
    with pytest.raises(InputError, match="is no workspace"):
        Workspace.open(tmp_path / "photos")
    workspace = Workspace.create(tmp_path / "me", source)
    manifest = json.loads((workspace.root / "workspace.json").read_text())
    (workspace.root / "workspace.json").write_text(json.dumps(manifest | {"schema": 99}))
    with pytest.raises(InputError, match="newer version"):
        Workspace.open(workspace.root)


@pytest.fixture
def heeded():
    """Ctrl-C is heeded; a shell that runs the tests in the background has them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interruption_waits_for_the_end_of_the_block(heeded) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_wait():
        signal.raise_signal(signal.SIGINT)
        done.append("block")
    assert done == ["block"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_interruption_while_arrays_are_read_is_no_damage(heeded, tmp_path, monkeypatch) -> None:
    write_tensors(tmp_path / "a.safetensors", {"a": torch.ones(3)})
    usual = torch.asarray

    def interrupted(*given, **named):
        signal.raise_signal(signal.SIGINT)
        return usual(*given, **named)

    monkeypatch.setattr(torch, "asarray", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_tensors(tmp_path / "a.safetensors")
