"""Basel Face Models 2009 (Paysan et al. 2009) and 2017 (Gerig et al. 2018) from the files that registered users get.

`01_MorphableModel.mat` is in micrometres, `model2017-1_*.h5` in millimetres; +x the person's left, +y up, +z forward.
Both are masks of some 50,000 points; they are thinned to some 8,000, each a point of the file.
"""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from avatar.errors import InputError
from avatar.face.morphable import MorphableModel

_AXES = np.array([1.0, -1.0, -1.0])
_KEPT = 60
"""Strongest modes of identity that are used, and of expression; personal offsets of the fit cover the rest."""
_MOST = 9000
"""Vertices above which a mesh is thinned."""


def read_bfm(path: Path) -> MorphableModel:
    """Read a Basel Face Model; the kind is told by the name's ending.

    Raises:
        InputError: if it is missing, damaged or another kind of file.
    """
    readers = {".mat": _read_2009, ".h5": _read_2017, ".hdf5": _read_2017}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: no Basel Face Model; give 01_MorphableModel.mat or model2017-1_*.h5")
    if not path.is_file():
        raise InputError(f"{path}: file is missing; give an existing one")
    model = reader(path)
    height = np.ptp(model.mean[:, 1])
    if not 0.08 < height < 0.6:
        raise InputError(f"{path}: a head {height:.3g} m high; give the unscaled published file")
    return thinned(model, _MOST)


def _read_2009(path: Path) -> MorphableModel:
    """Its deviations are `shapeEV` itself; `tl` counts from 1 and has no order that tells outside from inside."""
    from scipy.io import loadmat

    names = ["shapeMU", "shapePC", "shapeEV", "tl"]
    try:
        found: dict[str, Any] = loadmat(path, variable_names=names)
    except (ValueError, TypeError, RuntimeError, OSError, EOFError, KeyError, IndexError, OverflowError, MemoryError,
            zlib.error) as error:  # fmt: skip
        raise InputError(f"{path}: no readable MATLAB file ({type(error).__name__}); download it again") from None
    arrays = _checked({name: found.get(name) for name in names}, path)
    mean, sizes = arrays["shapeMU"].reshape(-1), arrays["shapeEV"].reshape(-1)
    modes = _modes(arrays["shapePC"], sizes, len(mean), path)
    faces = arrays["tl"].astype(np.int64) - 1
    nothing = np.zeros((0, len(mean)))
    return _model(path, 1e-6, (mean, modes, nothing), faces)


def _read_2017(path: Path) -> MorphableModel:
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: reading it needs h5py; pip install 'avatar[bfm]'") from None
    names = [f"{part}/model/{name}" for part in ("shape", "expression") for name in ("mean", "pcaBasis", "pcaVariance")]
    names.append("shape/representer/cells")
    try:
        with h5py.File(path, "r") as file:
            found = {name: np.asarray(file[name]) for name in names if isinstance(file.get(name), h5py.Dataset)}
    except (OSError, ValueError, TypeError, RuntimeError, KeyError, MemoryError) as error:
        raise InputError(f"{path}: no readable HDF5 file ({type(error).__name__}); download it again") from None
    arrays = _checked({name: found.get(name) for name in names}, path)
    mean = arrays["shape/model/mean"].reshape(-1)
    parts = [
        _modes(arrays[f"{part}/model/pcaBasis"], np.sqrt(arrays[f"{part}/model/pcaVariance"]), len(mean), path)
        for part in ("shape", "expression")
    ]
    neutral = mean + arrays["expression/model/mean"].reshape(-1)  # the relaxed face is not the mean of expressions
    cells = arrays["shape/representer/cells"].astype(np.int64)
    return _model(path, 1e-3, (neutral, parts[0], parts[1]), cells.T if len(cells) == 3 else cells)


def _checked(found: dict[str, Any], path: Path) -> dict[str, np.ndarray]:
    missing = [name for name, value in found.items() if not isinstance(value, np.ndarray)]
    if missing:
        raise InputError(f"{path}: no Basel Face Model, {', '.join(missing)} missing; give the published file")
    for name, value in found.items():
        if value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            raise InputError(f"{path}: {name} has something else than finite numbers; download it again")
    return found


def _modes(basis: np.ndarray, sizes: np.ndarray, length: int, path: Path) -> Float[np.ndarray, "i n"]:
    """Modes of one standard deviation each."""
    sizes = sizes.reshape(-1)
    if basis.ndim != 2 or basis.shape != (length, len(sizes)) or length % 3:
        raise InputError(f"{path}: mean, basis and deviations do not belong together; download it again")
    return (basis[:, :_KEPT] * sizes[:_KEPT]).T.astype(np.float64)


def _model(path: Path, unit: float, parts: tuple[np.ndarray, ...], faces: Int[np.ndarray, "f 3"]) -> MorphableModel:
    count = parts[0].size // 3
    mean, modes, expressions = (unit * part.reshape(*part.shape[:-1], count, 3) * _AXES for part in parts)
    if faces.ndim != 2 or faces.shape[1] != 3 or not len(faces) or faces.min() < 0 or faces.max() >= len(mean):
        raise InputError(f"{path}: its triangles name points that it lacks; download it again")
    mean = mean.astype(np.float64)
    inside = mean.mean(0) + np.array([0, 0, 0.1])
    corners = mean[faces] - inside
    volume = np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2]))
    outward = faces if volume > 0 else faces[:, [0, 2, 1]]
    return MorphableModel(name=path.name, mean=mean, modes=modes, expressions=expressions, faces=outward)


def thinned(model: MorphableModel, most: int) -> MorphableModel:
    """A mesh of at most `most` of the model's own vertices, one for each piece of the surface in a cell of a grid.

    Lips that touch are two pieces in a cell, since no edge joins them there.
    """
    if len(model.mean) <= most:
        return model
    edges = np.concatenate([model.faces[:, [0, 1]], model.faces[:, [1, 2]], model.faces[:, [2, 0]]])
    cell = float(np.sqrt(_area(model) / most))
    while True:
        place = np.unique(np.floor(model.mean / cell).astype(np.int64), axis=0, return_inverse=True)[1].reshape(-1)
        near = edges[place[edges[:, 0]] == place[edges[:, 1]]]
        graph = coo_matrix((np.ones(len(near)), near.T), shape=(len(place), len(place)))
        count, group = connected_components(graph, directed=False)
        if count <= most:
            break
        cell *= 1.1
    sums = np.zeros((group.max() + 1, 3))
    np.add.at(sums, group, model.mean)
    centre = sums / np.bincount(group)[:, None]
    away = np.linalg.norm(model.mean - centre[group], axis=1)
    order = np.lexsort((away, group))
    kept = order[np.unique(group[order], return_index=True)[1]]
    faces = group[model.faces]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    _, first = np.unique(np.sort(faces, 1), axis=0, return_index=True)
    return MorphableModel(
        name=model.name,
        mean=model.mean[kept],
        modes=model.modes[:, kept],
        expressions=model.expressions[:, kept],
        faces=faces[np.sort(first)],
    )


def _area(model: MorphableModel) -> float:
    corners = model.mean[model.faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(np.linalg.norm(cross, axis=1).sum() / 2)
