"""Weights in plain pickles, read without running anything that the file names.

A pickle is a program: it may call whatever it can import. NumPy dictionaries are published as such (`numpy.save` of a
dict, detectron2's .pkl), so they are read by an unpickler that knows a few names, and answers each of them with a
recorder of our own: not even NumPy's functions are called. Arrays are then made from the recorded bytes.
Admitted are dictionaries, lists, tuples, strings, bytes, numbers and NumPy arrays of numbers.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whytransfer.errors import InputError

_NUMBERS = re.compile(r"[<>|=]?(b1|\?|[iuf][1248])")
_LIMITS = "dictionaries, strings, numbers and NumPy arrays"


class _Refused(pickle.UnpicklingError):
    """What a pickle asks for and must not have; pickle's own UnpicklingError is a file that is damaged or none."""


class _DType:
    """numpy.dtype as a pickle makes it: a code such as "f4", then a state whose second entry is the byte order."""

    def __init__(self, code: str, *_: Any):
        self.code, self.order = code, ""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = "" if state[1] == "|" else state[1]

    def number(self) -> np.dtype[Any]:
        """The dtype it stands for; ValueError unless its entries are plain numbers."""
        if not isinstance(self.code, str) or not _NUMBERS.fullmatch(self.code) or self.order not in ("", "<", ">", "="):
            raise ValueError(f"an array of {self.code!r}")
        return np.dtype(self.order + self.code.lstrip("<>|="))


class _Array:
    """numpy.ndarray as a pickle makes it: empty first, then a state (version, shape, dtype, Fortran order, bytes)."""

    def __init__(self, *_: Any):
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state


class _Scalar:
    """One number of NumPy: its dtype and its bytes."""

    def __init__(self, dtype: _DType, data: bytes | str):
        self.dtype, self.data = dtype, data


def _encoded(text: str, encoding: str = "") -> bytes:
    """`_codecs.encode` as Python 3 writes bytes into old pickles: latin-1 only, so no codec is looked up."""
    if encoding != "latin1" or not isinstance(text, str):
        raise _Refused(f"a conversion by the codec {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """`bytes()`, as old pickles write b""."""
    return b""


class _Marker:
    """The class numpy.ndarray, which a pickle names but must neither make nor change."""

    def __init__(self, *_: Any):
        raise _Refused("an array that is not made by NumPy's own reconstruction")

    def __setstate__(self, *_: Any) -> None:
        raise _Refused("a change to a class of NumPy")


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _Marker,
    ("collections", "OrderedDict"): dict,
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): _no_bytes,
    ("builtins", "bytes"): _no_bytes,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before and from NumPy 2
    _ADMITTED |= {(_module, "_reconstruct"): _Array, (_module, "scalar"): _Scalar}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise _Refused(f"an object of {module}.{name}")
        return _ADMITTED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a reference to something outside the file")


def read_pickle(path: Path) -> Any:
    """What a pickle file holds; InputError naming the first thing in it that is not plain data."""
    return _read(path.read_bytes(), path)


def read_npy(path: Path) -> Any:
    """What `numpy.save` wrote: an array, or the object (a dict) that it wrapped into an array and pickled."""
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = read_header[version](file)
        except (ValueError, KeyError, EOFError) as error:
            raise InputError(f"{path} is no readable .npy file: {error}") from None
        if not dtype.hasobject:
            file.seek(0)
            return _whole_array(file, path)
        return _read(file.read(), path)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz archive by name; pickles inside it are refused."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:  # cut off, changed, or packed in a new way
        raise InputError(
            f"{path} ({path.stat().st_size:,} bytes) is no archive of arrays, or damaged: {error}"
        ) from None
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise InputError(f"{path} cannot be read as an archive of arrays: {error}") from None


def _whole_array(file: Any, path: Path) -> NDArray[Any]:
    try:
        return np.lib.format.read_array(file, allow_pickle=False)
    except ValueError as error:
        raise InputError(f"{path} is no readable .npy file: {error}") from None


def _read(data: bytes, path: Path) -> Any:
    try:
        return _plain(_Plain(io.BytesIO(data), encoding="latin1").load())  # latin-1: arrays written by Python 2
    except (_Refused, TypeError, ValueError) as error:
        raise InputError(
            f"{path} holds {error}, where only {_LIMITS} are read: a pickle can run code, so nothing else is. "
            "Save it again where it came from: numpy.savez(FILE, **{'module/name': array})."
        ) from None
    except (EOFError, IndexError, KeyError, AttributeError, OverflowError, MemoryError, RecursionError) as error:
        raise InputError(f"{path} ({len(data):,} bytes) is damaged: {error or 'it ends too early'}") from None
    except pickle.UnpicklingError as error:
        raise InputError(f"{path} ({len(data):,} bytes) is no pickle, or damaged: {error}") from None


def _plain(value: Any) -> Any:
    """Recorders turned into arrays and numbers, all the way down; ValueError for anything else."""
    if isinstance(value, _Array):
        return _array(value)
    if isinstance(value, _Scalar):
        return np.frombuffer(_bytes(value.data), value.dtype.number(), count=1)[0]
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, str | bytes | int | float):
        return value
    raise ValueError(f"a {type(value).__name__.lstrip('_')}")


def _array(found: _Array) -> Any:
    if len(found.state) != 5 or not isinstance(found.state[2], _DType):
        raise ValueError("an array without content")
    _, shape, dtype, fortran, content = found.state
    if dtype.code in ("O", "O8") and isinstance(content, list) and shape == ():  # numpy.save of a dict wraps it so
        return _plain(content[0])
    flat = np.frombuffer(_bytes(content), dtype.number())
    native = flat.astype(flat.dtype.newbyteorder("="))  # also a copy, that may be written to
    return native.reshape(shape, order="F" if fortran else "C")


def _bytes(content: Any) -> bytes:
    if not isinstance(content, bytes | str):
        raise ValueError(f"an array made of a {type(content).__name__}")
    return content.encode("latin1") if isinstance(content, str) else content
