"""The splats of one moment as files that other programs open: .ply, .spz and glTF.

Ours are in OpenCV's axes (x right, y down, z away from the viewer), as .ply files of this field are; .spz and glTF want
y up and z towards the viewer, a half turn about x. Colours are sRGB without dependence on the view: spherical
harmonics of degree 0.
"""

import gzip
import struct
from pathlib import Path

import numpy as np
from jaxtyping import Float

from avatar import __version__
from avatar.core import Gaussians
from avatar.media.files import write_bytes
from avatar.media.glb import GlbArrays, write_glb

PLY, SPZ = ".ply", ".spz"
_DEGREE_0 = 0.28209479177387814
"""Spherical harmonic of degree 0; files hold (colour - 0.5) / this (Kerbl et al. 2023)."""
_LEAST_OPACITY = 1 / 255
"""Splats below this are drawn by nobody."""
_MAGIC, _VERSION, _FRACTION = 0x5053474E, 3, 16
"""SPZ (Niantic 2024, github.com/nianticlabs/spz): version 3, the newest in one gzip stream; positions in 2^-16 m."""
_COLOUR = 0.15
_EXTENSION = "KHR_gaussian_splatting"
"""Ratified by Khronos."""


def write_splats(splats: Gaussians, path: Path) -> None:
    """Write what can be seen of the splats as the suffix says: .ply, .spz, or .glb.

    Raises:
        InputError: when the disk refuses.
    """
    arrays = _Arrays(splats)
    {PLY: _write_ply, SPZ: _write_spz}.get(path.suffix.lower(), _write_glb)(arrays, path)


class _Arrays:
    """The visible splats as float32 arrays in our axes."""

    def __init__(self, splats: Gaussians):
        opacity = splats.raw_opacity.sigmoid()
        seen = opacity > _LEAST_OPACITY
        self.means: Float[np.ndarray, "n 3"] = splats.means[seen].numpy()
        turn = splats.quats[seen].double().numpy()
        self.quats: Float[np.ndarray, "n 4"] = turn / np.linalg.norm(turn, axis=1, keepdims=True)
        """wxyz."""
        self.log_scales: Float[np.ndarray, "n 3"] = splats.log_scales[seen].numpy()
        self.raw_opacity: Float[np.ndarray, "n"] = splats.raw_opacity[seen].numpy()
        self.opacity: Float[np.ndarray, "n"] = opacity[seen].numpy()
        self.colour: Float[np.ndarray, "n 3"] = splats.colour[seen].numpy()

    @property
    def harmonic(self) -> Float[np.ndarray, "n 3"]:
        return (self.colour - 0.5) / _DEGREE_0

    def upright(self) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 4"]]:
        """Positions, and rotations (x, y, z, w) between axes that both have y up and z towards the viewer."""
        w, x, y, z = self.quats.T
        return self.means * np.array([1, -1, -1], np.float32), np.stack([x, -y, -z, w], 1)


def _write_ply(a: _Arrays, path: Path) -> None:
    """The file of the original 3-D Gaussian splatting, without the harmonics of higher degree."""
    columns = {
        **dict(zip("xyz", a.means.T, strict=True)),
        **{name: np.zeros(len(a.means)) for name in ("nx", "ny", "nz")},
        **{f"f_dc_{k}": a.harmonic[:, k] for k in range(3)},
        "opacity": a.raw_opacity,
        **{f"scale_{k}": a.log_scales[:, k] for k in range(3)},
        **{f"rot_{k}": a.quats[:, k] for k in range(4)},
    }
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment avatar {__version__}",
        f"element vertex {len(a.means)}",
    ]
    lines += [*(f"property float {name}" for name in columns), "end_header", ""]
    body = np.stack(list(columns.values()), 1).astype("<f4").tobytes()
    write_bytes(path, "\n".join(lines).encode() + body)


def _write_spz(a: _Arrays, path: Path) -> None:
    means, quats = a.upright()
    fixed = np.round(means.astype(np.float64) * 2**_FRACTION).clip(-(2**23), 2**23 - 1).astype("<i4")
    parts = [
        struct.pack("<IIIBBBB", _MAGIC, _VERSION, len(means), 0, _FRACTION, 0, 0),
        np.ascontiguousarray(fixed[..., None].view(np.uint8)[..., :3]).tobytes(),
        _bytes(a.opacity * 255),
        _bytes((a.harmonic * _COLOUR + 0.5) * 255),
        _bytes((a.log_scales + 10) * 16),
        _smallest_three(quats).tobytes(),
    ]
    write_bytes(path, gzip.compress(b"".join(parts), mtime=0))


def _bytes(values: np.ndarray) -> bytes:
    return np.round(values).clip(0, 255).astype(np.uint8).tobytes()


def _smallest_three(quats: Float[np.ndarray, "n 4"]) -> np.ndarray:
    """Rotations (x, y, z, w) in 32 bits: which number is the largest, then sign and 9 bits of each other one."""
    largest = np.abs(quats).argmax(1)
    rows = np.arange(len(quats))
    quats = quats * np.where(quats[rows, largest] < 0, -1, 1)[:, None]
    packed = largest.astype(np.uint32)
    for k in range(4):
        size = np.floor(511 * np.abs(quats[:, k]) * np.sqrt(2) + 0.5).astype(np.uint32)
        more = (packed << 10) | ((quats[:, k] < 0).astype(np.uint32) << 9) | size
        packed = np.where(largest == k, packed, more).astype(np.uint32)
    return packed.astype("<u4")


def _write_glb(a: _Arrays, path: Path) -> None:
    """A cloud of points for viewers that do not know the extension."""
    means, quats = a.upright()
    arrays, target = GlbArrays(), 34962
    linear = np.where(a.colour <= 0.04045, a.colour / 12.92, ((a.colour.clip(0) + 0.055) / 1.055) ** 2.4).clip(0, 1)
    attributes = {
        "POSITION": arrays.add(means.astype(np.float32), bounds=True, target=target),
        "COLOR_0": arrays.add(np.concatenate([linear, a.opacity[:, None]], 1).astype(np.float32), target=target),
        f"{_EXTENSION}:ROTATION": arrays.add(quats.astype(np.float32), target=target),
        f"{_EXTENSION}:SCALE": arrays.add(np.exp(a.log_scales).astype(np.float32), target=target),
        f"{_EXTENSION}:OPACITY": arrays.add(a.opacity.astype(np.float32), target=target),
        f"{_EXTENSION}:SH_DEGREE_0_COEF_0": arrays.add(a.harmonic.astype(np.float32), target=target),
    }
    how = {
        "kernel": "ellipse",
        "colorSpace": "srgb_rec709_display",
        "sortingMethod": "cameraDistance",
        "projection": "perspective",
    }
    primitive = {"attributes": attributes, "mode": 0, "extensions": {_EXTENSION: how}}
    document = {
        "asset": {"version": "2.0", "generator": f"avatar {__version__}"},
        "extensionsUsed": [_EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"name": "splats", "mesh": 0}],
        "meshes": [{"name": "splats", "primitives": [primitive]}],
    }
    write_glb(path, document, arrays)
