"""Binary glTF 2.0 files (Khronos Group 2021): one JSON document and one buffer of arrays."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from avatar.errors import InputError
from avatar.media.files import replacing

_MAGIC, _JSON, _BIN = 0x46546C67, 0x4E4F534A, 0x004E4942
_TYPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
_COMPONENTS = {"f4": 5126, "u4": 5125, "u2": 5123, "u1": 5121}
_SHAPES = {name: shape for shape, name in _TYPES.items()}
_DTYPES = {code: np.dtype("<" + name) for name, code in _COMPONENTS.items()}


class GlbArrays:
    """Collects arrays for a file; `add` gives the number by which the document names each."""

    def __init__(self) -> None:
        self.accessors: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []
        self.buffer = bytearray()

    def add(self, values: np.ndarray, *, bounds: bool = False, target: int | None = None) -> int:
        """Append an array [n ...] of float32, uint32, uint16 or uint8.

        Args:
            bounds: also state the smallest and largest values, which positions and key times must.
            target: 34962 for vertex attributes, 34963 for indices, None for everything else.
        """
        values = np.ascontiguousarray(values)
        self.buffer.extend(b"\0" * (-len(self.buffer) % 4))
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.buffer), "byteLength": values.nbytes}
        self.views.append(view | ({"target": target} if target else {}))
        shape = values.shape[1:]
        # Matrices are stored column after column.
        self.buffer.extend((values.swapaxes(1, 2) if len(shape) == 2 else values).tobytes())
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "componentType": _COMPONENTS[values.dtype.str[1:]],
            "count": len(values),
            "type": _TYPES[shape],
        }
        if bounds:
            flat = values.reshape(len(values), -1)
            accessor |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def write_glb(path: Path, document: dict[str, Any], arrays: GlbArrays) -> None:
    """Write the file whole or not at all; `document` is glTF's JSON without accessors, views and buffers.

    Raises:
        InputError: when the disk is full or the folder cannot be written.
    """
    body = bytes(arrays.buffer) + b"\0" * (-len(arrays.buffer) % 4)
    whole = document | {
        "accessors": arrays.accessors, "bufferViews": arrays.views, "buffers": [{"byteLength": len(body)}]
    }  # fmt: skip
    text = json.dumps(whole, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), _JSON) + text + struct.pack("<II", len(body), _BIN) + body
    with replacing(path) as temporary:
        temporary.write_bytes(struct.pack("<III", _MAGIC, 2, 12 + len(chunks)) + chunks)


class GlbFile:
    """A file that was read: its document, and its arrays by number."""

    def __init__(self, path: Path):
        """Reads all of it.

        Raises:
            InputError: when the file is missing, damaged or no binary glTF.
        """
        self.path = path
        try:
            data = path.read_bytes()
            magic, version, length = struct.unpack_from("<III", data)
            size, kind = struct.unpack_from("<II", data, 12)
            if magic != _MAGIC or version != 2 or kind != _JSON or length > len(data):
                raise ValueError("no binary glTF 2.0, or cut off")
            self.document: dict[str, Any] = json.loads(data[20 : 20 + size])
            self._buffer = memoryview(data)[28 + size :]
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); give a .glb file") from None
        except (ValueError, struct.error) as error:
            raise InputError(f"{path}: is not readable as .glb ({error}); export it again") from None

    def array(self, number: int) -> np.ndarray:
        """The array of an accessor, [n ...].

        Raises:
            InputError: when it is missing, sparse or reaches past the end of the file.
        """
        try:
            accessor = self.document["accessors"][number]
            view = self.document["bufferViews"][accessor["bufferView"]]
            dtype, shape = _DTYPES[accessor["componentType"]], _SHAPES[accessor["type"]]
            if "sparse" in accessor or "byteStride" in view:
                raise ValueError("sparse and interleaved arrays are not read")
            first = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
            count = int(accessor["count"])
            flat = np.frombuffer(self._buffer, dtype, count * int(np.prod(shape, dtype=int)), first)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"{self.path}: array {number} is damaged ({error}); export it again") from None
        out = flat.reshape(count, *shape)
        return out.swapaxes(1, 2) if len(shape) == 2 else out
