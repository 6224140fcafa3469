"""LPIPS from files, beside its formula written out."""

import numpy as np
import pytest
import torch
from torchvision.models import squeezenet1_1

from whytransfer.diagnosis.lpips import WIDTHS, Lpips
from whytransfer.errors import InputError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lpips")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = squeezenet1_1(weights=None)
        torch.save(model.state_dict(), folder / "squeezenet1_1.pth")
        linear = {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1) for i, width in enumerate(WIDTHS)}
        torch.save(linear, folder / "squeeze.pth")
    return folder, model.eval(), linear


def written_out(model, x, y, weights):
    """Zhang 2018, equation 1, place by place; the parts end where the widths change or a pool begins."""
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    inputs = [
        torch.from_numpy((2 * z.double().numpy() - 1 - shift[:, None, None]) / scale[:, None, None]).float()
        for z in (x, y)
    ]
    outs = []
    for z in inputs:
        taps, z = [], z[None]
        for i, layer in enumerate(model.features):
            z = layer(z)
            if i in (1, 4, 7, 9, 10, 11, 12):
                taps.append(z[0].detach().double().numpy())
        outs.append(taps)
    total = 0.0
    for k, (a, b) in enumerate(zip(*outs, strict=True)):
        places = []
        for i in range(a.shape[1]):
            for j in range(a.shape[2]):
                u, v = (
                    a[:, i, j] / (np.linalg.norm(a[:, i, j]) + 1e-10),
                    b[:, i, j] / (np.linalg.norm(b[:, i, j]) + 1e-10),
                )
                places.append(((u - v) ** 2 * (1 if weights is None else weights[k])).sum())
        total += np.mean(places)
    return total


def test_both_distances_are_their_formulas(files):
    folder, model, linear = files
    x, y = torch.rand((2, 2, 3, 40, 40), generator=torch.Generator().manual_seed(1))
    plain, weighted = Lpips(folder / "squeezenet1_1.pth"), Lpips(folder / "squeezenet1_1.pth", folder / "squeeze.pth")
    assert (plain.name, weighted.name) == ("LPIPS (SqueezeNet, uncalibrated)", "LPIPS (SqueezeNet)")
    weights = [linear[f"lin{i}.model.1.weight"].flatten().double().numpy() for i in range(7)]
    for n in range(2):
        assert plain(x, y)[n].item() == pytest.approx(written_out(model, x[n], y[n], None), rel=1e-4)
        assert weighted(x, y)[n].item() == pytest.approx(written_out(model, x[n], y[n], weights), rel=1e-4)
    assert plain(x, x).tolist() == [0, 0]


def test_files_of_something_else_are_refused(files, tmp_path):
    folder, _, linear = files
    with pytest.raises(InputError, match="does not hold torchvision's squeezenet1_1"):
        Lpips(folder / "squeeze.pth")
    with pytest.raises(InputError, match=r"lin0.model.1.weight with 64 channels is not there"):
        Lpips(folder / "squeezenet1_1.pth", folder / "squeezenet1_1.pth")
    with pytest.raises(InputError, match="no weight file at"):
        Lpips(tmp_path / "none.pth")
