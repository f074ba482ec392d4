"""FLAME 2020 and 2023 (Li et al. 2017, flame.is.tue.mpg.de) from the files that its authors give to registered users.

Read are `generic_model.pkl`, `flame2023.pkl` and their like, or an .npz of the same arrays. FLAME's axes are +x the
person's left, +y up, +z forward, in metres; joints are root, neck, jaw, left eye, right eye.
"""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from avatar.errors import InputError
from avatar.face.arrays_pickle import read_pickled_arrays
from avatar.face.morphable import Embedding, Joints, MorphableModel

_AXES = np.array([1.0, -1.0, -1.0])
_SHAPES = 300
"""Columns of shapedirs that are identity; those behind are expression."""
_KEPT = 60
"""Strongest modes of identity that are used; personal offsets of the fit cover the rest."""
_ROOT, _NECK, _JAW = 0, 1, 2
_JAW_TURNS = ((0.2, 0.0, 0.0), (0.0, 0.1, 0.0))
"""Axis-angle (radians) of a typical opening and of a typical sideways movement of the jaw."""
_NEEDED = {"v_template": 2, "shapedirs": 3, "f": 2, "J_regressor": 2, "kintree_table": 2, "weights": 2}


def read_flame(path: Path) -> MorphableModel:
    """Read a FLAME file.

    Raises:
        InputError: if it is missing, damaged, no FLAME, or asks for the execution of anything.
    """
    arrays = _read_npz(path) if path.suffix == ".npz" else read_pickled_arrays(path)
    _check(arrays, path)
    mean, faces = arrays["v_template"].astype(np.float64), arrays["f"].astype(np.int64)
    dirs = np.moveaxis(arrays["shapedirs"].astype(np.float64), -1, 0)
    modes, expressions = (part[part.any((1, 2))] for part in (dirs[:_KEPT], dirs[_SHAPES:]))
    regressor, weights = arrays["J_regressor"].astype(np.float64), arrays["weights"].astype(np.float64)
    at = regressor @ mean
    jaw = np.stack([_jaw_move(mean, weights, at, turn) for turn in _JAW_TURNS])
    order = [_NECK, _ROOT, *sorted((3, 4), key=lambda joint: at[joint, 0])]
    below = weights[:, _ROOT]
    neck = np.clip((mean[:, 1] - at[_ROOT, 1]) / max(at[_NECK, 1] - at[_ROOT, 1], 1e-6) + 0.5, 0, 1)
    joints = Joints(
        skin=np.stack([1 - below, below * neck, below * (1 - neck)], 1),
        eye_weights=weights[:, order[2:]],
        pivots_mean=at[order] * _AXES,
        pivots_modes=np.einsum("jv,ivk->ijk", regressor[order], modes) * _AXES,
    )
    moving = np.concatenate([expressions, jaw]) * (1 - joints.eye_weights.sum(1).clip(0, 1))[:, None]
    return MorphableModel(
        name=path.name,
        mean=mean * _AXES,
        modes=modes * _AXES,
        expressions=moving * _AXES,
        faces=faces,
        joints=joints,
    )


def read_embedding(path: Path) -> Embedding:
    """Read landmarks such as FLAME's `mediapipe_landmark_embedding.npz`: MediaPipe's points on the model's triangles.

    Raises:
        InputError: if it is missing, damaged or another kind of file.
    """
    arrays = _read_npz(path)
    names = ("landmark_indices", "lmk_face_idx", "lmk_b_coords")
    if any(name not in arrays for name in names):
        raise InputError(f"{path}: lacks {', '.join(n for n in names if n not in arrays)}; give a landmark embedding")
    landmarks, triangles, barycentric = (arrays[name] for name in names)
    fits = landmarks.ndim == triangles.ndim == 1 and barycentric.shape == (len(landmarks), 3)
    whole = landmarks.dtype.kind in "iu" and triangles.dtype.kind in "iu"
    if not fits or not whole or len(landmarks) != len(triangles) or not len(landmarks):
        raise InputError(f"{path}: its arrays do not belong together; download it again")
    off = np.abs(barycentric.sum(1) - 1).max() > 0.01 or not np.isfinite(barycentric).all()
    if landmarks.min() < 0 or landmarks.max() >= 478 or triangles.min() < 0 or off:
        raise InputError(
            f"{path}: names points that MediaPipe does not have, or off their triangles; download it again"
        )
    return Embedding(
        landmarks=landmarks.astype(np.int64), triangles=triangles.astype(np.int64), barycentric=barycentric
    )


def _jaw_move(
    mean: np.ndarray, weights: np.ndarray, joints: np.ndarray, turn: tuple[float, float, float]
) -> Float[np.ndarray, "v 3"]:
    arm = mean - joints[_JAW]
    return weights[:, _JAW, None] * (Rotation.from_rotvec(turn).apply(arm) - arm)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if isinstance(file, np.ndarray):
                raise InputError(f"{path}: holds one array, not a model; give the published file")
            return {name: _array(file, name) for name in file.files}
    except FileNotFoundError:
        raise InputError(f"{path}: file is missing; give an existing one") from None
    except (OSError, ValueError, EOFError, KeyError, BadZipFile) as error:
        raise InputError(f"{path}: no readable .npz of plain arrays ({error}); download it again") from None


def _array(file: "np.lib.npyio.NpzFile", name: str) -> np.ndarray:
    return np.asarray(file[name])


def _check(arrays: dict[str, np.ndarray], path: Path) -> None:
    missing = [name for name in _NEEDED if name not in arrays]
    if missing:
        raise InputError(f"{path}: no FLAME, {', '.join(missing)} missing; give generic_model.pkl or flame2023.pkl")
    v, f, weights = arrays["v_template"], arrays["f"], arrays["weights"]
    count = len(v)
    shapes = {"v_template": (count, 3), "J_regressor": (5, count), "weights": (count, 5), "kintree_table": (2, 5)}
    wrong = [name for name, shape in shapes.items() if arrays[name].shape != shape]
    wrong += ["shapedirs"] * (arrays["shapedirs"].shape[:-1] != (count, 3) or not arrays["shapedirs"].shape[-1])
    wrong += ["f"] * (f.ndim != 2 or f.shape[-1] != 3 or f.dtype.kind not in "iu")
    if wrong:
        raise InputError(f"{path}: no FLAME, {', '.join(wrong)} of another shape; SMPL and other bodies do not do")
    floats = [arrays[name] for name in ("v_template", "shapedirs", "J_regressor", "weights")]
    if any(array.dtype.kind != "f" or not np.isfinite(array).all() for array in floats):
        raise InputError(f"{path}: has numbers that are not finite; download it again")
    if not len(f) or f.min() < 0 or f.max() >= count or np.abs(weights.sum(1) - 1).max() > 0.01:
        raise InputError(f"{path}: triangles or weights do not belong to its {count} vertices; download it again")
    if not 0.1 < np.ptp(v[:, 1]) < 1.0:
        raise InputError(f"{path}: a head {np.ptp(v[:, 1]):.3g} m high; FLAME is in metres, give the unscaled file")
