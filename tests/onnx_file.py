"""The smallest useful ONNX file, written by hand (protocol buffers): one 1x1 convolution of a picture."""

import struct
from pathlib import Path

import numpy as np


def _number(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _field(index: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _number(index << 3) + _number(value)
    data = value.encode() if isinstance(value, str) else value
    return _number(index << 3 | 2) + _number(len(data)) + data


def _tensor_kind(name: str, shape: tuple[int, ...]) -> bytes:
    sizes = b"".join(_field(1, _field(1, n)) for n in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, sizes)))


def write_convolution(path: Path, weights: np.ndarray, offsets: np.ndarray, side: int) -> None:
    """A network from RGB [1 3 side side] to `weights` [k 3] times each pixel plus `offsets` [k]."""
    kinds = len(weights)
    tensors = (("w", (kinds, 3, 1, 1), weights), ("b", (kinds,), offsets))
    node = b"".join(_field(1, name) for name in ("picture", "w", "b")) + _field(2, "scores") + _field(4, "Conv")
    graph = _field(1, node) + _field(2, "tiny")
    for name, shape, values in tensors:
        data = struct.pack(f"<{values.size}f", *values.astype(np.float32).ravel())
        graph += _field(5, b"".join(_field(1, n) for n in shape) + _field(2, 1) + _field(8, name) + _field(9, data))
    graph += _field(11, _tensor_kind("picture", (1, 3, side, side)))
    graph += _field(12, _tensor_kind("scores", (1, kinds, side, side)))
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13)))
