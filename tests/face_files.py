"""Files in the formats of FLAME and of the Basel Face Models, made of the Anny head: small, of known truth."""

import pickle
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.sparse import csc_matrix

from avatar.core import Region
from avatar.face import AnnyRig
from avatar.face.arkit import INDEX
from avatar.face.rig import Piece

TURN = np.array([1.0, -1.0, -1.0])
"""Head axes to those of the files."""
ORIGIN = np.array([0.003, 0.04, -0.02])
"""Where the files' origin lies, head frame, metres."""


@dataclass(frozen=True)
class Drawn:
    """A head and where it came from."""

    anny: AnnyRig
    identity: torch.Tensor
    index: np.ndarray
    """Anny's vertices that the file has."""
    faces: np.ndarray
    mean: np.ndarray
    """Head frame, metres."""
    modes: np.ndarray
    actions: np.ndarray


def draw(*, eyeballs: bool, mask: bool) -> Drawn:
    """The middle of a family of heads around one random Anny head, cut off at the chest or at the ears."""
    anny = AnnyRig.load()
    identity = anny.sample(1, seed=11, spread=0.7)[0]
    person = anny.personal(identity)
    pieces, regions = anny.pieces.numpy(), anny.regions.numpy()
    allowed = [Piece.SKIN, Piece.RIGHT_SOCKET, Piece.LEFT_SOCKET] + [Piece.RIGHT_EYE, Piece.LEFT_EYE] * eyeballs
    kept = np.isin(pieces, [int(p) for p in allowed])
    front = person.neutral.numpy()[anny.faces.numpy()].mean(1)
    kept &= (front[:, 2] < (-0.01 if mask else 1)) & (front[:, 1] < (0.06 if mask else 0.12))
    if mask:
        kept &= ~np.isin(regions, [int(Region.EARS), int(Region.TORSO)])
    index = np.unique(anny.faces.numpy()[kept])
    number = np.full(len(anny.mean), -1)
    number[index] = np.arange(len(index))
    modes = anny.modes[:12, index].double().numpy()
    return Drawn(
        anny=anny,
        identity=identity,
        index=index,
        faces=number[anny.faces.numpy()[kept]],
        mean=person.neutral[index].double().numpy(),
        modes=modes,
        actions=person.actions[:, index].double().numpy(),
    )


def to_file(points: np.ndarray) -> np.ndarray:
    return (points - ORIGIN) * TURN


def flame_arrays(drawn: Drawn) -> dict[str, np.ndarray]:
    """With FLAME's names, types and 300 + 100 columns; joints root, neck, jaw, left eye, right eye."""
    count = len(drawn.index)
    person = drawn.anny.personal(drawn.identity)
    right, left = person.eye_pivots.double().numpy()
    jaw_joint = np.array([0.0, 0.005, -0.02])
    joints = np.stack([person.neck_pivots[1].numpy(), np.zeros(3), jaw_joint, left, right])
    weights = np.zeros((count, 5))
    eyes = drawn.anny.eye_weights.double().numpy()[drawn.index]
    weights[:, 4], weights[:, 3] = eyes.T
    weights[:, 0] = 1 - drawn.anny.skin[drawn.index, 0].numpy()
    opened = drawn.actions[INDEX["jawOpen"]][:, 1]
    weights[:, 2] = (opened / opened.max()).clip(0, 1) * (1 - weights[:, [0, 3, 4]].sum(1))
    weights[:, 1] = 1 - weights.sum(1)
    homogeneous = np.concatenate([drawn.mean, np.ones((count, 1))], 1)
    regressor = np.concatenate([joints, np.ones((5, 1))], 1) @ np.linalg.pinv(homogeneous)
    regressor[np.abs(regressor) < 1e-7] = 0
    dirs = np.zeros((count, 3, 400))
    dirs[..., : len(drawn.modes)] = np.moveaxis(drawn.modes * TURN, 0, -1)
    for column, name in enumerate(("mouthSmileLeft", "mouthSmileRight", "mouthPucker", "browInnerUp")):
        dirs[..., 300 + column] = 0.5 * drawn.actions[INDEX[name]] * TURN
    return {
        "v_template": to_file(drawn.mean),
        "shapedirs": dirs,
        "posedirs": np.zeros((count, 3, 36)),
        "f": drawn.faces.astype(np.uint32),
        "J_regressor": regressor,
        "kintree_table": np.array([[4294967295, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.int64),
        "J": to_file(joints),
        "weights": weights,
    }


def write_flame_pickle(path: Path, arrays: dict[str, np.ndarray], protocol: int = 2) -> None:
    """As published: arrays inside objects of a package (chumpy) that the reader does not have, a sparse regressor."""
    module, inner = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    kind = type("Ch", (), {"__module__": "chumpy.ch"})
    inner.Ch = kind  # type: ignore[attr-defined]
    sys.modules.update({"chumpy": module, "chumpy.ch": inner})
    try:
        wrapped: dict[str, object] = {"bs_style": "lbs", "bs_type": "lrotmin", **arrays}
        for name in ("v_template", "shapedirs", "weights"):
            made = kind()
            vars(made).update({"x": arrays[name], "_dirty_vars": set(), "_status": "new"})
            wrapped[name] = made
        wrapped["J_regressor"] = csc_matrix(arrays["J_regressor"])
        with path.open("wb") as file:
            pickle.dump(wrapped, file, protocol=protocol)
    finally:
        del sys.modules["chumpy"], sys.modules["chumpy.ch"]


def bfm_2009(drawn: Drawn) -> dict[str, np.ndarray]:
    """Micrometres, single precision, deviations apart from an orthonormal basis, triangles from 1, clockwise."""
    flat = (drawn.modes * TURN).reshape(len(drawn.modes), -1) * 1e6
    directions, sizes, _ = np.linalg.svd(flat.T, full_matrices=False)
    return {
        "shapeMU": (to_file(drawn.mean) * 1e6).reshape(-1, 1).astype(np.float32),
        "shapePC": directions.astype(np.float32),
        "shapeEV": sizes.reshape(-1, 1).astype(np.float32),
        "tl": (drawn.faces[:, [0, 2, 1]] + 1).astype(np.float64),
        "texMU": np.zeros((3, 1), np.float32),
    }


def write_bfm_2017(path: Path, drawn: Drawn) -> None:
    """Millimetres, variances, a mean expression."""
    import h5py

    def basis(moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = (moves * TURN).reshape(len(moves), -1) * 1e3
        directions, sizes, _ = np.linalg.svd(flat.T, full_matrices=False)
        return directions.astype(np.float32), (sizes**2).astype(np.float32)

    names = ("mouthSmileLeft", "mouthSmileRight", "mouthPucker", "browInnerUp", "jawOpen")
    shift = 0.1 * drawn.actions[INDEX["jawOpen"]]
    parts = {
        "shape": (to_file(drawn.mean - shift), basis(drawn.modes)),
        "expression": (shift * TURN, basis(np.stack([drawn.actions[INDEX[n]] for n in names]))),
    }
    with h5py.File(path, "w") as file:
        for part, (mean, (directions, variance)) in parts.items():
            file[f"{part}/model/mean"] = (mean * 1e3).reshape(-1).astype(np.float32)
            file[f"{part}/model/pcaBasis"], file[f"{part}/model/pcaVariance"] = directions, variance
            file[f"{part}/representer/cells"] = drawn.faces.T.astype(np.int32)
