"""Reading arrays out of pickles of strangers: nothing in the file is ever executed, and no class of it is made.

FLAME is published as a Python 2 pickle of chumpy objects and a sparse matrix. Every name that such a file may mention
stands for an inert record of ours that only remembers what it was given; any other name is refused.
"""

import codecs
import io
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from avatar.errors import InputError

_LARGEST = 1 << 30
"""Bytes; the published files have 50 to 100 million."""
_KINDS = "biuf"
"""Arrays of truth values and numbers; never of objects."""


class _Inert:
    """Takes anything, does nothing. Slots, so that a file cannot hang attributes on it."""

    __slots__ = ("given", "state")

    def __new__(cls, *given: Any, **named: Any) -> Any:
        del named
        made = object.__new__(cls)
        made.given, made.state = given, None
        return made

    def __init__(self, *given: Any, **named: Any) -> None:
        del given, named

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Record(_Inert):
    """An object whose state holds arrays: chumpy's keep theirs as `x`."""

    __slots__ = ()


class _Sparse(_Inert):
    """scipy's compressed sparse columns."""

    __slots__ = ()


class _Array(_Inert):
    """A numpy array by its parts: (shape, type, column order, bytes)."""

    __slots__ = ()


class _Type(_Inert):
    """A numpy dtype by its name and byte order."""

    __slots__ = ()


class _Class(_Inert):
    """Stands for a class that is named but not made: object, ndarray."""

    __slots__ = ()


class _Call:
    """A function that a file may call; it can be neither changed nor given a state."""

    __slots__ = ("_work",)

    def __init__(self, work: Any) -> None:
        object.__setattr__(self, "_work", work)

    def __call__(self, *given: Any) -> Any:
        return self._work(*given)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"it changes {name} of a function")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it changes a function")


def _reconstructed(kind: Any, *rest: Any) -> Any:
    """What copyreg._reconstructor makes: an empty object of the class."""
    del rest
    if not (isinstance(kind, type) and issubclass(kind, _Inert)):
        raise pickle.UnpicklingError("it makes an object of something that is no class")
    return kind()


def _from_buffer(buffer: Any, kind: Any, shape: Any, order: Any) -> _Array:
    made = _Array()
    made.state = (1, shape, kind, order == "F", buffer)
    return made


def _encoded(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or codecs.lookup(str(encoding)).name != "iso8859-1":
        raise pickle.UnpicklingError(f"it has bytes in the encoding {encoding!r}")
    return text.encode("latin1")


_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_SPARSE = ("scipy.sparse.csc", "scipy.sparse._csc")
_KNOWN: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): _Call(lambda *given: _Array()) for module in _NUMPY},
    **{(module, "scalar"): _Call(lambda kind, data=b"": _from_buffer(data, kind, (), "C")) for module in _NUMPY},
    **{(module, "_frombuffer"): _Call(_from_buffer) for module in _NUMERIC},
    **{(module, "csc_matrix"): _Sparse for module in _SPARSE},
    **{(module, "_reconstructor"): _Call(_reconstructed) for module in ("copy_reg", "copyreg")},
    **{(module, name): _Class for module in ("__builtin__", "builtins") for name in ("object", "set", "frozenset")},
    ("numpy", "ndarray"): _Class,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _Call(_encoded),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        known = _KNOWN.get((module_name, global_name))
        if known is not None:
            return known
        if module_name.split(".", maxsplit=1)[0] == "chumpy" and "." not in global_name:
            return _Record
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, which no model file needs")


def read_pickled_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a pickled dictionary by name, sparse matrices filled up; what is no array is left out.

    Raises:
        InputError: if the file is missing or damaged, or asks for anything but arrays.
    """
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise InputError(f"{path}: {size >> 20} MB are too many for a head model; give the published file")
        found = _Unpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give an existing, readable file") from None
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: refused, {error}; give the file as its authors publish it") from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, LookupError, MemoryError, EOFError,
            OverflowError, ImportError, RecursionError) as error:  # fmt: skip
        raise InputError(f"{path}: no readable pickle ({type(error).__name__}); download it again") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no dictionary of arrays; give the file as its authors publish it")
    arrays = {str(name): _as_array(value, f"{path}: {name}") for name, value in found.items()}
    return {name: array for name, array in arrays.items() if array is not None}


def _as_array(value: Any, where: str) -> np.ndarray | None:
    """An array of ours from what the file said, or None."""
    if isinstance(value, _Record):
        state = value.state[0] if isinstance(value.state, tuple) and value.state else value.state
        value = state.get("x") if isinstance(state, dict) else None
    if isinstance(value, _Sparse):
        return _filled(value, where)
    return _plain(value, where) if isinstance(value, _Array) else None


def _plain(value: _Array, where: str) -> np.ndarray | None:
    if not isinstance(value.state, tuple) or len(value.state) != 5:
        raise InputError(f"{where} is a damaged array; download the file again")
    _, shape, kind, columns, data = value.state
    name, order = _type_of(kind, where)
    if name[:1] not in _KINDS:
        return None
    data = data.encode("latin1") if isinstance(data, str) else data
    shape = (shape,) if isinstance(shape, int) else shape
    sizes = isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)
    dtype = np.dtype(order + name)
    if not sizes or not isinstance(data, bytes | bytearray) or len(data) != math.prod(shape) * dtype.itemsize:
        raise InputError(f"{where} is an array of shape {shape} with too few or too many bytes; download it again")
    array = np.frombuffer(bytes(data), dtype).reshape(shape, order="F" if columns else "C")
    return array.astype(dtype.newbyteorder("="))


def _type_of(kind: Any, where: str) -> tuple[str, str]:
    """Name such as f8 and byte order of a numpy type."""
    name = kind.given[0] if isinstance(kind, _Type) and kind.given else None
    if not isinstance(name, str) or not name[1:].isdigit() or int(name[1:]) > 16:
        raise InputError(f"{where} is an array of an unknown type; download the file again")
    if name[0] in _KINDS and name not in ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"):
        raise InputError(f"{where} is an array of the unknown type {name}; download the file again")
    order = kind.state[1] if isinstance(kind.state, tuple) and len(kind.state) > 1 else "="
    return name, order if order in ("<", ">") else "="


def _filled(value: _Sparse, where: str) -> np.ndarray:
    """A sparse matrix as a full one."""
    state = value.state if isinstance(value.state, dict) else {}
    shape: Any = state.get("_shape", state.get("shape"))
    parts = [_as_array(state.get(name), where) for name in ("data", "indices", "indptr")]
    whole = isinstance(shape, tuple) and len(shape) == 2 and all(isinstance(n, int) and 0 < n < 10**6 for n in shape)
    if not whole or any(part is None or part.ndim != 1 for part in parts):
        raise InputError(f"{where} is a damaged sparse matrix; download the file again")
    data, rows, starts = (part for part in parts if part is not None)
    height, width = shape
    fits = len(starts) == width + 1 and len(rows) == len(data) == (starts[-1] if len(starts) else -1)
    if not fits or height * width > 10**8 or (np.diff(starts) < 0).any() or starts[0] != 0:
        raise InputError(f"{where} is a damaged sparse matrix; download the file again")
    if len(rows) and not (rows.min() >= 0 and rows.max() < height):
        raise InputError(f"{where} is a sparse matrix with rows out of its size; download the file again")
    out = np.zeros(shape)
    np.add.at(out, (rows, np.repeat(np.arange(width), np.diff(starts))), data)
    return out
