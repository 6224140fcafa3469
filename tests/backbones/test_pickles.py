"""Pickled NumPy dictionaries are read; nothing else is, and nothing in a file is ever run."""

from __future__ import annotations

import collections
import datetime
import pickle
from pathlib import Path

import numpy as np
import pytest

from whytransfer.backbones.pickles import read_npy, read_npz, read_pickle
from whytransfer.errors import InputError

RAN: list[str] = []


def ran(what: str) -> dict[str, object]:
    RAN.append(what)
    return {}


class Attack:
    """Pickles as a call of `function(*arguments)`."""

    def __init__(self, function: object, *arguments: object):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def weights() -> dict[str, object]:
    rng = np.random.default_rng(0)
    return {
        "res_net50/~/initial_conv": {"w": rng.normal(size=(7, 7, 3, 4)).astype(np.float32)},
        "order": {"fortran": np.asfortranarray(rng.normal(size=(3, 4))), "big": np.arange(5, dtype=">f4")},
        "kinds": {"half": np.ones(3, np.float16), "ints": np.arange(3), "bools": np.array([True, False])},
        "scalars": {"step": np.int64(7), "lr": np.float32(0.5), "plain": 3, "name": "byol", "none": None},
        "nothing": {"empty": np.zeros((0, 3), np.float32), "zero-d": np.float64(2.5) * np.ones(())},
        "lists": [1, (2.0, "x"), b"bytes"],
    }


def assert_alike(found: object, wanted: object) -> None:
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        for key in wanted:
            assert_alike(found[key], wanted[key])
    elif isinstance(wanted, np.ndarray | np.generic):
        np.testing.assert_array_equal(found, wanted)
        native = np.asarray(wanted).dtype.newbyteorder("=")
        assert np.asarray(found).dtype == native and np.shape(found) == np.shape(wanted)
    elif isinstance(wanted, list | tuple):
        for a, b in zip(found, wanted, strict=True):
            assert_alike(a, b)
    else:
        assert found == wanted


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
def test_a_pickled_dictionary_comes_back_as_it_was(protocol: int, tmp_path: Path):
    (tmp_path / "weights.pkl").write_bytes(pickle.dumps(collections.OrderedDict(weights()), protocol=protocol))
    assert_alike(read_pickle(tmp_path / "weights.pkl"), weights())


def test_numpys_own_file_of_a_dictionary(tmp_path: Path):
    np.save(tmp_path / "weights.npy", weights())
    assert_alike(read_npy(tmp_path / "weights.npy"), weights())
    assert_alike(np.load(tmp_path / "weights.npy", allow_pickle=True).item(), weights())  # what others would read


def test_plain_arrays_and_archives(tmp_path: Path):
    wanted = {"a/w": np.ones((2, 3), np.float32), "b": np.arange(4)}
    np.savez(tmp_path / "weights.npz", **wanted)
    np.save(tmp_path / "array.npy", wanted["a/w"])
    assert_alike(read_npz(tmp_path / "weights.npz"), wanted)
    np.testing.assert_array_equal(read_npy(tmp_path / "array.npy"), wanted["a/w"])


ATTACKS = {
    "a call": Attack(ran, "a call"),
    "hidden in the weights": {"res_net50/~/initial_conv": {"w": Attack(ran, "hidden")}},
    "as a key": {("k", Attack(ran, "key")): 1},
    "eval": Attack(eval, "__import__('sys').modules['test_pickles'].RAN.append('eval')"),
    "an array of objects": np.array([Attack(ran, "array"), 1], dtype=object),
    "import": Attack(__import__, "antigravity"),
    "a codec": Attack(__import__("_codecs").encode, "x", "rot13"),
    "numpy's loader": Attack(np.load, "weights.npy"),
    "numpy's memory": Attack(np.ndarray, (1,), "O", b"12345678"),
    "a date": datetime.date(2020, 1, 1),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_code_in_a_file_is_not_run(name: str, tmp_path: Path):
    RAN.clear()
    (tmp_path / "attack.pkl").write_bytes(pickle.dumps(ATTACKS[name], protocol=4))
    np.save(tmp_path / "attack.npy", np.array({"x": ATTACKS[name]}, dtype=object))
    for read, file in ((read_pickle, "attack.pkl"), (read_npy, "attack.npy")):
        with pytest.raises(
            InputError, match=rf"{file} (holds .*where only dictionaries, strings, numbers|.*is damaged)"
        ):
            read(tmp_path / file)
    assert RAN == []


def test_the_attack_of_these_tests_is_one(tmp_path: Path):
    RAN.clear()
    pickle.loads(pickle.dumps(Attack(ran, "for real")))
    assert RAN == ["for real"]


def test_what_is_refused_is_named(tmp_path: Path):
    (tmp_path / "date.pkl").write_bytes(pickle.dumps({"made": datetime.date(2020, 1, 1)}))
    with pytest.raises(InputError, match=r"holds an object of datetime\.date, .*numpy\.savez\(FILE"):
        read_pickle(tmp_path / "date.pkl")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="cannot be read as an archive of arrays: Object arrays cannot be loaded"):
        read_npz(tmp_path / "objects.npz")


def test_damaged_files(tmp_path: Path):
    whole = pickle.dumps(weights())
    np.save(tmp_path / "w.npy", np.ones(9))
    cases = {"half.pkl": whole[: len(whole) // 2], "empty.pkl": b"", "text.npy": b"hello", "deep.pkl": b"(" * 50 + b"."}
    cases["half.npy"] = (tmp_path / "w.npy").read_bytes()[:-8]
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name} .*(damaged|holds|is no readable)"):
            (read_npy if name.endswith("npy") else read_pickle)(tmp_path / name)


def test_a_class_cannot_be_changed_by_a_file():
    """A state for a class, not for one of its objects, is a pickle's way to replace what the class does."""
    from whytransfer.backbones import pickles

    for name in ("numpy\nndarray", "numpy\ndtype", "numpy.core.multiarray\nscalar", "_codecs\nencode"):
        program = f"c{name}\n(N}}S'reduced'\nS'x'\nstub.".encode()
        before = [dict(vars(c)) for c in (pickles._Marker, pickles._DType, pickles._Array)]
        with pytest.raises(InputError):
            pickles._read(program, Path("class.pkl"))
        assert [dict(vars(c)) for c in (pickles._Marker, pickles._DType, pickles._Array)] == before


def test_cut_and_changed_files_are_called_damaged(tmp_path: Path):
    """Not a traceback of zipfile, nor a warning of code where there is none."""
    np.savez(tmp_path / "w.npz", w=np.arange(999.0))
    np.save(tmp_path / "w.npy", weights())
    archive, array = (tmp_path / "w.npz").read_bytes(), (tmp_path / "w.npy").read_bytes()
    middle = len(archive) // 2
    flipped = archive[:middle] + bytes([archive[middle] ^ 255]) + archive[middle + 1 :]
    for data in (archive[:20], archive[:middle], archive[:-5], flipped):
        (tmp_path / "cut.npz").write_bytes(data)
        with pytest.raises(InputError, match=r"cut.npz \([\d,]+ bytes\) is no archive of arrays, or damaged"):
            read_npz(tmp_path / "cut.npz")
    for data in (array[: len(array) // 2], array[:-5]):
        (tmp_path / "cut.npy").write_bytes(data)
        with pytest.raises(InputError, match=r"cut.npy \([\d,]+ bytes\) is (no pickle, or damaged|damaged)"):
            read_npy(tmp_path / "cut.npy")
    (tmp_path / "page.pkl").write_text("<html>404</html>")
    with pytest.raises(InputError, match=r"page.pkl \(16 bytes\) is no pickle, or damaged"):
        read_pickle(tmp_path / "page.pkl")
