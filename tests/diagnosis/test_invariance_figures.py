"""What the figures draw: one number per value of each transform, short names (whole figures: the command's tests)."""

import numpy as np

from whytransfer.diagnosis import grids
from whytransfer.diagnosis.invariance_figures import abscissa, labels_of


def test_every_transform_has_an_axis():
    for name in grids.NAMES:
        values = grids.grid(name, "paper")
        x, what = abscissa(name, values)
        assert x.shape == (len(values),) and np.isfinite(x).all() and what
    x, what = abscissa("translation", np.array([[-3.0, 4.0]]))
    assert x.tolist() == [5.0] and "px of 256" in what
    assert abscissa("resized_crop", np.array([[0.0, 0, 128, 128]]))[0].tolist() == [25.0]
    assert abscissa("shear", np.array([[-160.0, 20]]))[0].tolist() == [160.0]


def test_models_are_called_by_their_folder_where_that_tells_them_apart():
    assert labels_of(["runs/a", "runs/b", "random:resnet18"]) == {
        "runs/a": "a", "runs/b": "b", "random:resnet18": "random:resnet18",
    }  # fmt: skip
    assert labels_of(["x/a", "y/a"]) == {"x/a": "x/a", "y/a": "y/a"}
