"""MATLAB files, whole and cut short."""

import numpy as np
import pytest
from scipy.io import savemat

from whytransfer.images.matlab import read_matlab


@pytest.mark.parametrize("compressed", [False, True])
def test_what_was_written_is_read_and_a_file_cut_anywhere_is_a_value_error(tmp_path, compressed):
    path = tmp_path / "a.mat"
    savemat(path, {"numbers": np.arange(40).reshape(1, 40), "words": "cats"}, do_compression=compressed)
    found = read_matlab(path)
    assert found["numbers"].tolist() == list(range(40)) and found["words"] == "cats"
    assert read_matlab(path, squeeze=False)["numbers"].shape == (1, 40)
    whole = path.read_bytes()
    refused = 0
    for end in range(0, len(whole), 11):
        path.write_bytes(whole[:end])
        try:
            assert read_matlab(path).get("words", "cats") == "cats"  # a cut between two variables cannot be seen
        except ValueError as error:
            assert str(error).startswith(f"{path} cannot be read as a MATLAB file: ")
            refused += 1
    assert refused > len(whole) / 11 / 2
