import json
import struct

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from avatar.core import MotionSequence
from avatar.drive.motion_gltf import read_motion_glb, write_motion_glb
from avatar.drive.retarget import relative
from avatar.drive.sources import from_file
from avatar.errors import InputError
from avatar.face.arkit import NAMES
from avatar.face.rig import AnnyRig
from avatar.media.glb import GlbFile


@pytest.fixture(scope="module")
def rig():
    family = AnnyRig.load()
    return family.personal(family.sample(1, seed=3)[0])


@pytest.fixture(scope="module")
def motion():
    rng = np.random.default_rng(0)
    pose = np.tile(np.eye(4), (7, 1, 1))
    pose[:, :3, :3] = Rotation.from_rotvec(rng.normal(size=(7, 3)) * 0.4).as_matrix()
    pose[:, :3, 3] = rng.normal(size=(7, 3)) * 0.1 + [0, 0, 1.0]
    values = {
        "expression": rng.random((7, 52)),
        "T_world_head": pose,
        "neck": rng.normal(size=(7, 3)) * 0.3,
        "gaze": rng.normal(size=(7, 2, 2)) * 0.2,
        "torso": rng.normal(size=(7, 3)) * 0.02,
    }
    return MotionSequence(**{k: torch.from_numpy(v).float() for k, v in values.items()}, fps=25.0)


@pytest.fixture(scope="module")
def path(rig, motion, tmp_path_factory):
    path = tmp_path_factory.mktemp("glb") / "head.glb"
    write_motion_glb(motion, rig, path, rest=motion.frame(2))
    return path


def node_matrix(node):
    T = np.eye(4)
    T[:3, :3] = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
    T[:3, 3] = node.get("translation", [0, 0, 0])
    return T


def as_a_viewer_draws(file, frame):
    """Vertices by glTF's rules (morph, then skin), with no word of ours."""
    document = file.document
    nodes = [dict(node) for node in document["nodes"]]
    animation, weights = document["animations"][0], None
    for channel in animation["channels"]:
        values = file.array(animation["samplers"][channel["sampler"]]["output"])
        target = channel["target"]
        if target["path"] == "weights":
            weights = values.reshape(-1, 52)[frame]
        else:
            nodes[target["node"]][target["path"]] = values[frame]
    world = {}

    def place(index, parent):
        world[index] = parent @ node_matrix(nodes[index])
        for child in nodes[index].get("children", []):
            place(child, world[index])

    for index in document["scenes"][0]["nodes"]:
        place(index, np.eye(4))
    primitive, skin = document["meshes"][0]["primitives"][0], document["skins"][0]
    points = file.array(primitive["attributes"]["POSITION"]).astype(np.float64)
    assert weights is not None
    for weight, target in zip(weights, primitive["targets"], strict=True):
        points = points + weight * file.array(target["POSITION"])
    rest = file.array(skin["inverseBindMatrices"])
    moves = np.stack([world[node] @ rest[i] for i, node in enumerate(skin["joints"])])
    joints, shares = (file.array(primitive["attributes"][name]) for name in ("JOINTS_0", "WEIGHTS_0"))
    blended = (moves[joints] * shares[..., None, None]).sum(1)
    return (blended @ np.concatenate([points, np.ones((len(points), 1))], 1)[..., None])[:, :3, 0]


def test_motion_comes_back_to_a_ten_thousandth(path, rig, motion):
    filed = read_motion_glb(path)
    again = filed.motion
    torch.testing.assert_close(filed.rest.T_world_head, motion.T_world_head[2])
    torch.testing.assert_close(filed.neck_pivots, rig.neck_pivots)
    assert again.fps == motion.fps
    for name in ("expression", "T_world_head", "neck", "gaze", "torso"):
        torch.testing.assert_close(getattr(again, name), getattr(motion, name), atol=1e-4, rtol=0)


def test_a_viewer_shows_the_posed_rig(path, rig, motion):
    file = GlbFile(path)
    for frame in (0, 4):
        drawn = as_a_viewer_draws(file, frame) * [1, -1, -1]
        posed = rig.posed(motion.frame(frame)).numpy()
        faces = file.array(file.document["meshes"][0]["primitives"][0]["indices"]).reshape(-1, 3)
        np.testing.assert_allclose(drawn[faces], posed[rig.faces.numpy()], atol=2e-5)


def test_morph_targets_have_arkits_names(path):
    assert GlbFile(path).document["meshes"][0]["extras"]["targetNames"] == list(NAMES)


@pytest.mark.parametrize("damage", ["cut", "text", "other"])
def test_damaged_files_are_refused_by_name(damage, path, tmp_path):
    bad = tmp_path / "bad.glb"
    data = path.read_bytes()
    text = json.dumps({"asset": {"version": "2.0"}}).encode()
    text += b" " * (-len(text) % 4)
    other = struct.pack("<IIIII", 0x46546C67, 2, 20 + len(text), len(text), 0x4E4F534A) + text
    bad.write_bytes({"cut": data[: len(data) // 2], "text": b"hello", "other": other}[damage])
    with pytest.raises(InputError, match=r"bad\.glb"):
        read_motion_glb(bad)


def test_motion_drives_another_head_as_from_any_other_file(path, rig, motion):
    found = from_file(path)
    wanted = relative(motion, motion.frame(2), rig.neck_pivots)
    for name in ("expression", "T_world_head", "neck", "gaze", "torso"):
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), atol=1e-4, rtol=0)
