"""The avatar folder: what is saved comes back, and what is wrong with it is said."""

import json
from pathlib import Path

import pytest
import torch

from avatar.core import RenderRequest
from avatar.errors import InputError
from avatar.models.avatar_model import FILES, AvatarMeta, AvatarModel
from avatar.models.backdrop import Plate, colour, composite, fitted
from tests.contract import toy


def model(size: int = 48) -> AvatarModel:
    person, camera = toy.person(400), toy.camera(size)
    ramp = torch.linspace(0, 1, size)[:, None, None].expand(size, size, 3)
    meta = AvatarMeta.of("gaussian", camera, toy.motion().frame(2), 25.0, trained={"recipe": "none"})
    return AvatarModel(person, Plate(image=ramp, camera=camera), meta)


@pytest.fixture
def folder(tmp_path) -> Path:
    model().save(tmp_path / "avatar")
    return tmp_path / "avatar"


def asked(size: int = 48) -> RenderRequest:
    return RenderRequest(camera=toy.camera(size), motion=toy.motion().frame(7))


def test_a_loaded_avatar_draws_what_the_saved_one_drew(folder):
    first, loaded = model(), AvatarModel.load(folder)
    error = (first.render(asked()).rgb - loaded.render(asked()).rgb).abs()
    assert error.mean() < 2e-3 and error.max() < 0.05
    torch.testing.assert_close(loaded.meta.rest.T_world_head, first.meta.rest.T_world_head)
    assert loaded.meta.camera.focal == first.meta.camera.focal and loaded.meta.trained == {"recipe": "none"}


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(InputError, match=name):
        AvatarModel.load(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(folder, name):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=name):
        AvatarModel.load(folder)


def test_an_avatar_of_a_newer_version_asks_for_an_upgrade(folder):
    data = json.loads((folder / "avatar.json").read_text())
    (folder / "avatar.json").write_text(json.dumps({**data, "schema": 99, "version": "9.1", "unheard_of": 1}))
    with pytest.raises(InputError, match=r"newer version \(9\.1.*upgrade"):
        AvatarModel.load(folder)


def test_weights_without_a_tensor_are_refused(folder):
    from avatar.media import read_tensors, write_tensors

    tensors, _ = read_tensors(folder / "weights.safetensors")
    write_tensors(folder / "weights.safetensors", {k: v for k, v in tensors.items() if k != "colour"})
    with pytest.raises(InputError, match="colour"):
        AvatarModel.load(folder)


def test_background_is_the_plate_unless_one_is_given():
    avatar = model()
    alone, plated = avatar.draw(asked()), avatar.render(asked())
    behind = alone.alpha < 1e-3
    torch.testing.assert_close(plated.rgb[behind], avatar.plate.image[behind], atol=2e-3, rtol=0)
    green = avatar.render(asked(), colour((0.0, 1.0, 0.0), (48, 48)))
    torch.testing.assert_close(
        green.rgb[behind], torch.tensor([0.0, 1, 0]).expand_as(green.rgb[behind]), atol=2e-3, rtol=0
    )
    torch.testing.assert_close(green.alpha, alone.alpha)
    with pytest.raises(ValueError, match="camera draws"):
        composite(alone, asked(), colour((0, 0, 0), (9, 9)))


def test_a_window_of_the_camera_shows_the_same_window_of_the_plate():
    plate, camera = model().plate, toy.camera(48)
    assert torch.equal(plate.seen_by(camera.crop(5, 7, 20, 30)), plate.image[5:25, 7:37])
    double = plate.seen_by(camera.resized(96, 96))
    torch.testing.assert_close(double[1::2][:-1], double[2::2], atol=0.02, rtol=0)
    assert (double[:, 0, 0].diff() >= 0).all()


def test_a_background_picture_fills_the_frame_without_stretching():
    picture = torch.zeros(40, 100, 3)
    picture[:, 50:] = 1.0
    out = fitted(picture, (60, 30))
    assert out.shape == (60, 30, 3)
    assert out[:, :10].max() < 0.01 and out[:, 20:].min() > 0.99
