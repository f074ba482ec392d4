"""Files of splats, read back by the formats' own rules and drawn again."""

import gzip
import math
import struct

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatar.core import Gaussians
from avatar.drive.export import export
from avatar.drive.splat_files import write_splats
from avatar.errors import InputError
from avatar.media.glb import GlbFile
from avatar.models.avatar_model import AvatarMeta, AvatarModel
from avatar.models.backdrop import Plate
from avatar.ops.rasterize import rasterize
from tests.contract import toy

DEGREE_0 = 0.5 / math.sqrt(math.pi)
UPRIGHT = np.diag([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def splats():
    with torch.no_grad():
        return toy.person().pose(toy.motion().frame(3))


def seen(splats):
    return splats.raw_opacity.sigmoid() > 1 / 255


def drawn(splats):
    camera = toy.camera(64)
    with torch.no_grad():
        quats = torch.nn.functional.normalize(splats.quats, dim=-1)
        numbers = (splats.means, quats, splats.log_scales.exp(), splats.raw_opacity.sigmoid(), splats.colour)
        return rasterize(*numbers, camera.T_camera_world, camera.focal, camera.center, camera.size)[0]


def psnr(a, b):
    return float(-10 * ((a - b) ** 2).mean().log10())


def ours(means, turn, log_scales, raw_opacity, colour):
    """Splats from upright arrays (glTF's and SPZ's axes; rotations are scipy's)."""
    wxyz = (Rotation.from_matrix(UPRIGHT) * turn).as_quat()[:, [3, 0, 1, 2]]
    fields = {
        "means": means @ UPRIGHT, "quats": wxyz, "log_scales": log_scales, "raw_opacity": raw_opacity, "colour": colour
    }  # fmt: skip
    return Gaussians(**{k: torch.from_numpy(np.ascontiguousarray(v)).float() for k, v in fields.items()})


def read_ply(path):
    head, body = path.read_bytes().split(b"end_header\n", 1)
    lines = head.decode().splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(next(line.split()[2] for line in lines if line.startswith("element vertex")))
    names = [line.split()[2] for line in lines if line.startswith("property float")]
    rows = np.frombuffer(body, "<f4").reshape(count, len(names))
    return {name: rows[:, k] for k, name in enumerate(names)}


def columns(table, stem, names):
    return np.stack([table[f"{stem}{name}"] for name in names], 1)


def read_spz(path):
    data = gzip.decompress(path.read_bytes())
    magic, version, count, degree, fraction, flags, reserved = struct.unpack_from("<IIIBBBB", data)
    assert (magic, version, degree, flags, reserved) == (0x5053474E, 3, 0, 0, 0)
    body = np.frombuffer(data, np.uint8, offset=16)
    assert len(body) == count * (9 + 1 + 3 + 3 + 4)
    place, alpha, colour, scale, turn = np.split(body, np.cumsum([9 * count, count, 3 * count, 3 * count]))
    low, middle, high = place.reshape(count, 3, 3).astype(np.int64).transpose(2, 0, 1)
    fixed = low + (middle << 8) + (high << 16)
    means = np.where(fixed >= 1 << 23, fixed - (1 << 24), fixed) / 2**fraction
    opacity = alpha.astype(float).clip(0.5, 254.5) / 255
    rgb = ((colour.reshape(count, 3) / 255 - 0.5) / 0.15) * DEGREE_0 + 0.5
    quats = np.stack([unpacked(int(word)) for word in turn.view("<u4")])
    sizes = scale.reshape(count, 3) / 16 - 10
    return ours(means, Rotation.from_quat(quats), sizes, np.log(opacity / (1 - opacity)), rgb)


def unpacked(word):
    """(x, y, z, w): the largest is found from the others, which follow in order, the last one lowest."""
    largest, out = word >> 30, np.zeros(4)
    for k in reversed([k for k in range(4) if k != largest]):
        part, word = word & 1023, word >> 10
        out[k] = (-1 if part >> 9 else 1) * (part & 511) / 511 / math.sqrt(2)
    out[largest] = math.sqrt(max(0.0, 1 - (out**2).sum()))
    return out


def test_a_ply_holds_every_visible_splat_as_it_is(splats, tmp_path):
    write_splats(splats, tmp_path / "me.ply")
    table, kept = read_ply(tmp_path / "me.ply"), seen(splats)
    np.testing.assert_allclose(columns(table, "", "xyz"), splats.means[kept].numpy(), atol=1e-6)
    np.testing.assert_allclose(columns(table, "scale_", "012"), splats.log_scales[kept].numpy(), atol=1e-6)
    np.testing.assert_allclose(table["opacity"], splats.raw_opacity[kept].numpy(), atol=1e-6)
    np.testing.assert_allclose(columns(table, "f_dc_", "012") * DEGREE_0 + 0.5, splats.colour[kept].numpy(), atol=1e-6)
    quats = torch.nn.functional.normalize(splats.quats[kept], dim=-1).numpy()
    np.testing.assert_allclose(columns(table, "rot_", "0123"), quats, atol=1e-6)


def test_spz_and_gltf_draw_the_same_picture(splats, tmp_path):
    truth = drawn(splats)
    assert truth.max() > 0.3
    write_splats(splats, tmp_path / "me.spz")
    assert psnr(drawn(read_spz(tmp_path / "me.spz")), truth) > 35
    write_splats(splats, tmp_path / "me.glb")
    assert psnr(drawn(read_glb(tmp_path / "me.glb")), truth) > 60


def read_glb(path):
    file = GlbFile(path)
    [primitive] = file.document["meshes"][0]["primitives"]
    assert file.document["extensionsUsed"] == ["KHR_gaussian_splatting"]
    how = primitive["extensions"]["KHR_gaussian_splatting"]
    assert primitive["mode"] == 0
    assert (how["kernel"], how["colorSpace"]) == ("ellipse", "srgb_rec709_display")

    def values(name):
        return file.array(primitive["attributes"][name]).astype(np.float64)

    turn, opacity = values("KHR_gaussian_splatting:ROTATION"), values("KHR_gaussian_splatting:OPACITY")
    np.testing.assert_allclose(np.linalg.norm(turn, axis=1), 1, atol=1e-5)
    scale, harmonic = values("KHR_gaussian_splatting:SCALE"), values("KHR_gaussian_splatting:SH_DEGREE_0_COEF_0")
    raw = np.log(opacity / (1 - opacity).clip(1e-9))
    colour = values("COLOR_0")
    assert ((colour >= 0) & (colour <= 1)).all()
    return ours(values("POSITION"), Rotation.from_quat(turn), np.log(scale), raw, harmonic * DEGREE_0 + 0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    head, camera, motion = toy.person(), toy.camera(48), toy.motion()
    meta = AvatarMeta.of("gaussian", camera, motion.frame(0), 25.0)
    path = tmp_path_factory.mktemp("me") / "avatar"
    AvatarModel(head, Plate(image=torch.zeros(48, 48, 3), camera=camera), meta).save(path)
    return path


def test_an_avatar_gives_its_resting_face(folder, tmp_path):
    avatar = AvatarModel.load(folder)
    assert export(folder, tmp_path / "me.ply") == [tmp_path / "me.ply"]
    with torch.no_grad():
        rest = avatar.backbone.pose(avatar.meta.rest)
    np.testing.assert_allclose(
        columns(read_ply(tmp_path / "me.ply"), "", "xyz"), rest.means[seen(rest)].numpy(), atol=1e-6
    )


def test_a_moment_of_a_motion_moves_the_splats_and_brings_the_rig(folder, tmp_path):
    from avatar.drive.motion_io import write_motion
    from avatar.drive.retarget import relative

    avatar = AvatarModel.load(folder)
    motion = relative(toy.motion(), toy.motion().frame(0), avatar.rig.neck_pivots)
    write_motion(motion, tmp_path / "talk.npz")
    files = export(folder, tmp_path / "me.glb", tmp_path / "talk.npz", at=10 / motion.fps)
    assert files == [tmp_path / "me.glb", tmp_path / "me-rig.glb"]
    assert len(GlbFile(files[1]).document["animations"]) == 1
    moved, still = read_glb(files[0]), avatar.backbone.pose(avatar.meta.rest)
    assert (moved.means - still.means[seen(still)].detach()).norm(dim=1).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "motion", "at", "says"),
    [
        ("me.ply", "talk.npz", None, "say which with --at"),
        ("me.ply", "talk.npz", 1e3, "choose a time within it"),
        ("me.spz", "talk.npz", -1.0, "choose a time within it"),
        ("me.csv", "talk.npz", 0.0, r"choose \.ply, \.spz or \.glb"),
        ("me.ply", None, 0.0, "holds no tracked motion"),
        ("me.obj", None, None, r"\.ply"),
    ],
)
def test_what_cannot_be_written_is_told(folder, tmp_path, name, motion, at, says):
    from avatar.drive.motion_io import write_motion
    from avatar.drive.retarget import relative

    write_motion(relative(toy.motion(), toy.motion().frame(0), toy.rig().neck_pivots), tmp_path / "talk.npz")
    with pytest.raises(InputError, match=says):
        export(folder, tmp_path / name, None if motion is None else tmp_path / motion, at)
    assert not (tmp_path / name).exists()
