"""Predictions come back as they were kept, from folders that no other settings share."""

import numpy as np
import pytest

from whytransfer.errors import InputError
from whytransfer.tasks import predictions
from whytransfer.tasks.fitting import Schedule


def test_a_folder_is_named_by_all_that_decides_the_fit(tmp_path):
    settings = {"lr": 0.1, "seed": 0, "schedule": Schedule(10, 2, 0.1)}
    one = predictions.folder_of(tmp_path, "depth", settings)
    assert one == predictions.folder_of(tmp_path, "depth", dict(reversed(settings.items()))) and one.parent == tmp_path
    assert one != predictions.folder_of(tmp_path, "depth", {**settings, "seed": 1}) and one.name.startswith("depth-")
    assert predictions.folder_of(None, "depth", settings) is None and predictions.keep(None, x=[1]) is None


def test_predictions_come_back(tmp_path):
    names = np.array(["a.png", "ä.png"])
    where = predictions.keep(tmp_path / "readout-1", predicted=np.array([1, 2]), names=names)
    kept = predictions.read(tmp_path, where)
    assert where == "readout-1/predictions.npz" and set(kept) == {"predicted", "names"}
    assert kept["predicted"].tolist() == [1, 2] and kept["names"].tolist() == names.tolist()


def test_what_is_not_there_or_damaged_is_told(tmp_path):
    with pytest.raises(InputError, match="no predictions can be read from .*nowhere"):
        predictions.read(tmp_path, "nowhere/predictions.npz")
    (tmp_path / "half.npz").write_bytes(b"PK half")
    with pytest.raises(InputError, match="half.npz"):
        predictions.read(tmp_path, "half.npz")
