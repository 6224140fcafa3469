"""masks quality: what it is asked to compare."""

from types import SimpleNamespace

import pytest

from whytransfer.commands.masks_quality import _regions
from whytransfer.errors import InputError


def test_an_engine_named_twice_is_refused():
    with pytest.raises(InputError, match="grid:5 is named twice: name each engine and folder once"):
        list(_regions(SimpleNamespace(engine=["grid:5", "grid:5"], masks=[]), None))
