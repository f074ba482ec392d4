"""The rig with its motion as an animated glTF: 52 morph targets with ARKit's names, and joints for head, neck, torso
and eyes that move exactly as `PersonalRig.posed` does. Standard viewers and Blender show it.

The file's axes are glTF's (+y up, +z towards the camera); the node "world" turns ours (OpenCV) into them, so every
number below it is in our frames. Skinning is linear blending, as in the rig: the torso hangs on the neck, each joint
turns by half of the neck's angle.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from avatar import __version__
from avatar.core import MotionFrame, MotionSequence
from avatar.errors import InputError
from avatar.face.arkit import NAMES
from avatar.face.rig import PersonalRig
from avatar.media.glb import GlbArrays, GlbFile, write_glb

_WORLD, _HEAD, _NECK, _TORSO, _RIGHT_EYE, _LEFT_EYE, _MESH = range(7)
_NODES = ("world", "head", "neck", "torso", "right eye", "left eye", "face")
_MARK = "avatar_motion"
_VERTICES, _INDICES = 34962, 34963


@dataclass(frozen=True, kw_only=True)
class FiledMotion:
    """What a file holds beside the mesh."""

    motion: MotionSequence
    """Poses in the world."""
    rest: MotionFrame
    """The person at rest, to which other heads relate the motion."""
    neck_pivots: Float[torch.Tensor, "2 3"]
    """Of the rig, head frame."""


def write_motion_glb(motion: MotionSequence, rig: PersonalRig, path: Path, *, rest: MotionFrame) -> None:
    """Write the person's mesh, its actions and the motion (world poses); about 10 MB.

    Raises:
        InputError: when the disk refuses.
    """
    arrays = GlbArrays()
    mesh, skin = _mesh(rig, arrays)
    document = {
        "asset": {"version": "2.0", "generator": f"avatar {__version__}"},
        "extras": {_MARK: {"schema": 1, "fps": motion.fps, "rest": {k: v.tolist() for k, v in vars(rest).items()}}},
        "scene": 0,
        "scenes": [{"nodes": [_WORLD, _MESH]}],
        "nodes": _nodes(rig),
        "meshes": [mesh],
        "skins": [skin],
        "materials": [{"name": "skin", "pbrMetallicRoughness": _SKIN, "doubleSided": True}],
        "animations": [_animation(motion, rig, arrays)] if len(motion) else [],
    }
    if not document["animations"]:
        del document["animations"]
    write_glb(path, document, arrays)


def read_motion_glb(path: Path) -> FiledMotion:
    """The motion of a file that `write_motion_glb` wrote, also after another program changed its key frames.

    Raises:
        InputError: when the file is damaged, or not one of ours.
    """
    file = GlbFile(path)
    try:
        ours = file.document["extras"][_MARK]
        fps = float(ours["fps"])
        rest = MotionFrame(**{k: torch.tensor(v, dtype=torch.float32) for k, v in ours["rest"].items()})
        names = [node["name"] for node in file.document["nodes"]]
        tracks = _tracks(file, names)
        pivot, down = (np.array(file.document["nodes"][names.index(name)]["translation"]) for name in ("neck", "torso"))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{path}: holds no motion of ours ({error}); write it with `avatar export`") from None
    pose = np.tile(np.eye(4), (len(tracks["weights"]), 1, 1))
    pose[:, :3, :3] = Rotation.from_quat(tracks["head", "rotation"]).as_matrix()
    pose[:, :3, 3] = tracks["head", "translation"]
    shift = 2 * (tracks["neck", "translation"] - pivot)
    gaze = np.stack([_gaze(tracks[f"{side} eye", "rotation"]) for side in ("right", "left")], 1)
    fields = {
        "expression": tracks["weights"],
        "T_world_head": pose,
        "neck": -2 * Rotation.from_quat(tracks["neck", "rotation"]).as_rotvec(),
        "gaze": gaze,
        "torso": (pose[:, :3, :3] @ shift[..., None])[..., 0],
    }
    motion = MotionSequence(**{k: torch.from_numpy(np.asarray(v)).float() for k, v in fields.items()}, fps=fps)
    return FiledMotion(motion=motion, rest=rest, neck_pivots=torch.from_numpy(np.stack([pivot, pivot + down])).float())


_SKIN = {"baseColorFactor": [0.78, 0.62, 0.54, 1.0], "metallicFactor": 0.0, "roughnessFactor": 0.6}


def _nodes(rig: PersonalRig) -> list[dict[str, Any]]:
    upper, lower = rig.neck_pivots.double().numpy()
    right, left = rig.eye_pivots.double().numpy()
    places = (None, None, upper, lower - upper, right, left, None)
    nodes: list[dict[str, Any]] = [{"name": name} for name in _NODES]
    for node, place in zip(nodes, places, strict=True):
        if place is not None:
            node["translation"] = place.tolist()
    nodes[_WORLD] |= {"rotation": [1.0, 0.0, 0.0, 0.0], "children": [_HEAD]}
    nodes[_HEAD]["children"] = [_NECK, _RIGHT_EYE, _LEFT_EYE]
    nodes[_NECK]["children"] = [_TORSO]
    nodes[_MESH] |= {"mesh": 0, "skin": 0}
    return nodes


def _mesh(rig: PersonalRig, arrays: GlbArrays) -> tuple[dict[str, Any], dict[str, Any]]:
    """The mesh and its skin; vertices are repeated where the texture has a seam."""
    corners, faces = _unseamed(rig)
    index, uv = corners.vertex, corners.uv
    neutral = rig.neutral.numpy().astype(np.float32)[index]
    weights = torch.cat([1 - rig.skin[:, 1:].sum(1, True) - rig.eye_weights.sum(1, True), rig.skin[:, 1:]], 1)
    joints, shares = _strongest(torch.cat([weights, rig.eye_weights], 1).numpy()[index])
    attributes = {
        "POSITION": arrays.add(neutral, bounds=True, target=_VERTICES),
        "NORMAL": arrays.add(_normals(rig)[index], target=_VERTICES),
        "TEXCOORD_0": arrays.add(uv, target=_VERTICES),
        "JOINTS_0": arrays.add(joints, target=_VERTICES),
        "WEIGHTS_0": arrays.add(shares, target=_VERTICES),
    }
    actions = rig.actions.numpy().astype(np.float32)
    targets = [{"POSITION": arrays.add(action[index], bounds=True, target=_VERTICES)} for action in actions]
    indices = arrays.add(faces.astype(np.uint32).ravel(), target=_INDICES)
    primitive = {"attributes": attributes, "indices": indices, "material": 0, "targets": targets}
    mesh = {
        "name": "face", "primitives": [primitive], "weights": [0.0] * len(NAMES), "extras": {"targetNames": list(NAMES)}
    }  # fmt: skip
    rest = np.tile(np.eye(4, dtype=np.float32), (5, 1, 1))
    rest[1:, :3, 3] = -torch.cat([rig.neck_pivots, rig.eye_pivots]).numpy()
    joint_nodes = [_HEAD, _NECK, _TORSO, _RIGHT_EYE, _LEFT_EYE]
    return mesh, {"joints": joint_nodes, "skeleton": _HEAD, "inverseBindMatrices": arrays.add(rest)}


@dataclass(frozen=True)
class _Corners:
    vertex: np.ndarray
    uv: np.ndarray


def _unseamed(rig: PersonalRig) -> tuple[_Corners, np.ndarray]:
    """Vertices with one texture coordinate each, and the faces over them."""
    vertex, uv = rig.faces.numpy().reshape(-1, 1), rig.uv.numpy().reshape(-1, 2).astype(np.float64).round(6)
    unique, place = np.unique(np.concatenate([vertex, uv], 1), axis=0, return_inverse=True)
    down = np.stack([unique[:, 1], 1 - unique[:, 2]], 1).astype(np.float32)
    return _Corners(unique[:, 0].astype(int), down), place.reshape(-1, 3)


def _strongest(weights: Float[np.ndarray, "v 5"]) -> tuple[np.ndarray, np.ndarray]:
    """The four joints that move each vertex most (no vertex of the rig has five), and their shares."""
    joints = np.argsort(-weights, axis=1, kind="stable")[:, :4]
    shares = np.take_along_axis(weights, joints, 1).clip(0)
    shares = shares / shares.sum(1, keepdims=True)
    return np.where(shares > 0, joints, 0).astype(np.uint8), shares.astype(np.float32)


def _normals(rig: PersonalRig) -> Float[np.ndarray, "v 3"]:
    corner = rig.neutral[rig.faces].double().numpy()
    face = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    out = np.zeros((len(rig.neutral), 3))
    for k in range(3):
        np.add.at(out, rig.faces[:, k].numpy(), face)
    length = np.linalg.norm(out, axis=1, keepdims=True)
    return np.where(length > 0, out / np.maximum(length, 1e-12), [0.0, 0.0, -1.0]).astype(np.float32)


def _animation(motion: MotionSequence, rig: PersonalRig, arrays: GlbArrays) -> dict[str, Any]:
    upper, lower = rig.neck_pivots.double().numpy()
    turn = Rotation.from_matrix(motion.T_world_head[:, :3, :3].double().numpy())
    half = Rotation.from_rotvec(-motion.neck.double().numpy() / 2)
    shift = turn.inv().apply(motion.torso.double().numpy())  # of the whole torso, head axes
    eyes = [_eye_turn(motion.gaze[:, side].double().numpy()) for side in (0, 1)]
    moves = [
        (_HEAD, "rotation", turn),
        (_HEAD, "translation", motion.T_world_head[:, :3, 3].double().numpy()),
        (_NECK, "rotation", half),
        (_NECK, "translation", upper + 0.5 * shift),
        (_TORSO, "rotation", half),
        (_TORSO, "translation", lower - upper + half.inv().apply(0.5 * shift)),
        (_RIGHT_EYE, "rotation", eyes[0]),
        (_LEFT_EYE, "rotation", eyes[1]),
        (_MESH, "weights", motion.expression.numpy().reshape(-1)),
    ]
    times = arrays.add((np.arange(len(motion)) / motion.fps).astype(np.float32), bounds=True)
    samplers, channels = [], []
    for node, path, values in moves:
        numbers = _continuous(values) if isinstance(values, Rotation) else values
        output = arrays.add(np.asarray(numbers, np.float32))
        samplers.append({"input": times, "output": output, "interpolation": "LINEAR"})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": node, "path": path}})
    return {"name": "motion", "samplers": samplers, "channels": channels}


def _continuous(turns: Rotation) -> Float[np.ndarray, "t 4"]:
    """Quaternions (x, y, z, w) whose signs do not jump, so that viewers blend the short way."""
    quats = turns.as_quat()
    flips = np.where((quats[1:] * quats[:-1]).sum(1) < 0, -1.0, 1.0)
    quats[1:] *= np.cumprod(flips)[:, None]
    return quats


def _eye_turn(gaze: Float[np.ndarray, "t 2"]) -> Rotation:
    """Of an eyeball for (yaw, pitch), as in the rig: pitch about x, then yaw about -y."""
    return Rotation.from_euler("xy", gaze[:, ::-1] * [1.0, -1.0])


def _gaze(quats: Float[np.ndarray, "t 4"]) -> Float[np.ndarray, "t 2"]:
    ahead = Rotation.from_quat(quats).apply([0.0, 0.0, -1.0])
    return np.stack([np.arctan2(ahead[:, 0], -ahead[:, 2]), np.arcsin(ahead[:, 1].clip(-1, 1))], 1)


def _tracks(file: GlbFile, names: list[str]) -> dict[Any, np.ndarray]:
    """Key frames by (node, path); those of the morph weights by "weights"."""
    animation = file.document["animations"][0]
    out: dict[Any, np.ndarray] = {}
    for channel in animation["channels"]:
        values = file.array(animation["samplers"][channel["sampler"]]["output"]).astype(np.float64)
        target = channel["target"]
        is_weights = target["path"] == "weights"
        key = "weights" if is_weights else (names[target["node"]], target["path"])
        out[key] = values.reshape(-1, len(NAMES)) if is_weights else values
    if len({len(values) for values in out.values()}) != 1:
        raise ValueError("tracks of different lengths")
    return out
