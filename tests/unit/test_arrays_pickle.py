"""Pickles of strangers give up their arrays and run nothing."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from avatar.errors import InputError
from avatar.face.arrays_pickle import read_pickled_arrays
from avatar.face.flame import read_flame
from tests import face_files


class Attack:
    """What a hostile pickle does when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def hostile(tmp_path: Path) -> dict[str, bytes]:
    witness = tmp_path / "executed"
    return {
        "a function": pickle.dumps({"v_template": Attack(witness)}, protocol=2),
        "a builtin": b"cbuiltins\neval\n(S\"open('" + str(witness).encode() + b"','w')\"\ntR.",
        "the system": b"cos\nsystem\n(S'touch " + str(witness).encode() + b"'\ntR.",
        "numpy's loader": b"cnumpy\nload\n(S'x'\ntR.",
        "a changed function": b"cnumpy.core.multiarray\n_reconstruct\n}S'__call__'\nI1\nsb.",
        "a deep package": b"\x80\x04\x8c\x06chumpy\x8c\x09ch.os.sys\x93.",
    }


def test_a_pickle_that_would_run_something_is_refused_and_nothing_runs(tmp_path):
    for what, data in hostile(tmp_path).items():
        path = tmp_path / "generic_model.pkl"
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"generic_model\.pkl"):
            read_flame(path)
        assert not (tmp_path / "executed").exists(), what


def small_arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    regressor = random.random((5, 40)) * (random.random((5, 40)) < 0.2)
    return {"v_template": random.random((40, 3)), "shapedirs": random.random((40, 3, 7)), "weights": np.ones((40, 5)),
            "f": np.arange(9, dtype=np.uint32).reshape(3, 3), "J_regressor": regressor}  # fmt: skip


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_arrays_in_chumpy_objects_and_sparse_matrices_are_read_without_those_packages(tmp_path, protocol):
    path, arrays = tmp_path / "generic_model.pkl", small_arrays()
    face_files.write_flame_pickle(path, arrays, protocol)
    found = read_pickled_arrays(path)
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert type(found[name]) is np.ndarray


def test_damaged_pickles_are_named(tmp_path):
    path = tmp_path / "generic_model.pkl"
    face_files.write_flame_pickle(path, small_arrays())
    whole = path.read_bytes()
    cuts = [whole[:end] for end in range(1, len(whole), 97)]
    for data in (b"", b"no pickle", whole[:-1], pickle.dumps([1, 2]), *cuts):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"generic_model\.pkl"):
            read_flame(path)


def test_arrays_whose_bytes_do_not_fill_their_shape_are_refused(tmp_path):
    path = tmp_path / "a.pkl"
    whole = pickle.dumps({"v": np.arange(6.0).reshape(2, 3)}, protocol=2)
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_pickled_arrays(path)["v"], np.arange(6.0).reshape(2, 3))
    assert whole.count(b"K\x02K\x03\x86") == 1
    path.write_bytes(whole.replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"))
    with pytest.raises(InputError, match="too few or too many bytes"):
        read_pickled_arrays(path)


def test_arrays_of_every_number_type_and_order_are_read_as_they_were(tmp_path):
    random = np.random.default_rng(1)
    arrays = {
        f"{kind}{order}": np.asarray(random.integers(0, 100, (3, 4)).astype(kind), order=order)
        for kind in ("<f8", ">f4", "<i8", "u4", "?")
        for order in ("C", "F")
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({**arrays, "objects": np.array([{}, 1], object), "text": "hello"}, protocol=2))
    found = read_pickled_arrays(path)
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


def test_an_npz_with_objects_is_refused(tmp_path):
    path = tmp_path / "flame.npz"
    np.savez(path, v_template=np.array([Attack(tmp_path / "executed")], object))
    with pytest.raises(InputError, match="plain arrays"):
        read_flame(path)
    assert not (tmp_path / "executed").exists()


def test_any_damage_ends_in_arrays_or_in_a_sentence(tmp_path):
    path, random = tmp_path / "generic_model.pkl", np.random.default_rng(5)
    face_files.write_flame_pickle(path, small_arrays())
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(400):
        data = whole.copy()
        where = random.integers(0, len(data), 3) if random.random() < 0.5 else random.integers(0, 300, 3)
        data[where] = random.integers(0, 256, 3)
        path.write_bytes(data.tobytes())
        try:
            found = read_pickled_arrays(path)
        except InputError:
            refused += 1
        else:
            assert all(type(array) is np.ndarray for array in found.values())
    assert refused > 100


def test_what_python_2_wrote_is_read_as_it_was(tmp_path):
    """Byte strings without an encoding, and old names of modules: how the published files are."""
    values = np.array([1.5, -2.25e300])
    kind = b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    array = made + b"(K\x01(K\x02t" + kind + b"\x89U\x10" + values.astype("<f8").tobytes() + b"tb"
    head = b"ccopy_reg\n_reconstructor\n(cchumpy.ch\nCh\nc__builtin__\nobject\nNtR}(U\x01x"
    seen = b"U\x0b_dirty_varsc__builtin__\nset\n((ltR"
    path = tmp_path / "generic_model.pkl"
    path.write_bytes(b"\x80\x02}(U\x0av_template" + head + array + seen + b"ubU\x08bs_styleU\x03lbsu.")
    found = read_pickled_arrays(path)
    assert set(found) == {"v_template"}
    np.testing.assert_array_equal(found["v_template"], values)
