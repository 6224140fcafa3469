"""Made files of true key layouts, and the networks they must give, written without our own modules."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models import get_model

BLOCKS_18 = (2, 2, 2, 2)


def trained(seed: int = 0, arch: str = "resnet18"):
    """A torchvision ResNet whose batch-norm statistics and weights are no initial ones."""
    torch.manual_seed(seed)
    model = get_model(arch, weights=None)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith(("running_var", "bn1.weight", "bn2.weight", "downsample.1.weight")):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("running_mean", "bn1.bias", "bn2.bias", "downsample.1.bias")):
                tensor.uniform_(-0.3, 0.3)
    return model.eval()


def trunk(model: torch.nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Its state dict without the classifier, under a prefix."""
    return {prefix + k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}


def images(size: int = 48) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(3))


def features(
    model, x: Tensor, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), same_pool: bool = False
) -> Tensor:
    """torchvision's own forward to the mean over places, with TensorFlow's max-pool where asked."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (mean, std))
    with torch.no_grad():
        x = model.relu(model.bn1(model.conv1((x - mean) / std)))
        x = F.max_pool2d(padded(x, 3, 2, -math.inf), 3, 2) if same_pool else model.maxpool(x)
        return model.layer4(model.layer3(model.layer2(model.layer1(x)))).mean((2, 3))


def padded(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """SAME: ceil(n / stride) windows per side, the odd pixel behind."""
    total = [max((math.ceil(n / stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:]]
    height, width = total
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2), value=value)


def haiku_dictionary(
    seed: int = 0, name: str = "res_net18", norm: str = "batchnorm"
) -> dict[str, dict[str, np.ndarray]]:
    """Parameters and statistics of Haiku's ResNet-18 as DetCon's .npy holds them, heads and counters too."""
    rng = np.random.default_rng(seed)
    found: dict[str, dict[str, np.ndarray]] = {}

    def conv(where: str, kernel: int, inner: int, outer: int) -> None:
        spread = (2 / (kernel * kernel * outer)) ** 0.5
        found[where] = {"w": rng.normal(0, spread, (kernel, kernel, inner, outer)).astype(np.float32)}

    def batch_norm(where: str, channels: int) -> None:
        shape = (1, 1, 1, channels)
        draw = lambda low, high: rng.uniform(low, high, shape).astype(np.float32)  # noqa: E731
        found[where] = {"scale": draw(0.5, 1.5), "offset": draw(-0.3, 0.3)}
        for kind, low, high in (("mean_ema", -0.3, 0.3), ("var_ema", 0.5, 1.5)):
            average = draw(low, high)
            hidden = average * np.float32(0.9)  # not the average: the wrong one would be noticed
            found[f"{where}/~/{kind}"] = {"average": average, "hidden": hidden, "counter": np.array(9, np.int32)}

    conv(f"{name}/~/initial_conv", 7, 3, 64)
    batch_norm(f"{name}/~/initial_{norm}", 64)
    channels_in = 64
    for group, count in enumerate(BLOCKS_18):
        channels = 64 << group
        for block in range(count):
            where = f"{name}/~/block_group_{group}/~/block_{block}/~"
            for i, inner in enumerate((channels_in, channels)):
                conv(f"{where}/conv_{i}", 3, inner, channels)
                batch_norm(f"{where}/{norm}_{i}", channels)
            if channels_in != channels:
                conv(f"{where}/shortcut_conv", 1, channels_in, channels)
                batch_norm(f"{where}/shortcut_{norm}", channels)
            channels_in = channels
    found["projector/linear"] = {"w": rng.normal(size=(8, 4)).astype(np.float32), "b": np.zeros(4, np.float32)}
    found["classifier"] = {"w": np.zeros((8, 3), np.float32), "b": np.zeros(3, np.float32)}
    return found


def haiku_features(weights: dict[str, dict[str, np.ndarray]], x: Tensor, name: str = "res_net18") -> Tensor:
    """Haiku's ResNet-18 v1, step by step from its dictionary: SAME padding everywhere, `average` as statistics."""

    def conv(where: str, x: Tensor, stride: int) -> Tensor:
        kernel = torch.from_numpy(weights[f"{name}/~/{where}"]["w"]).permute(3, 2, 0, 1)
        return F.conv2d(padded(x, kernel.shape[-1], stride), kernel, stride=stride)

    def batch_norm(where: str, x: Tensor) -> Tensor:
        place = f"{name}/~/{where}"
        scale, offset = (torch.from_numpy(weights[place][k]).reshape(-1, 1, 1) for k in ("scale", "offset"))
        mean, var = (
            torch.from_numpy(weights[f"{place}/~/{k}"]["average"]).reshape(-1, 1, 1) for k in ("mean_ema", "var_ema")
        )
        return (x - mean) * scale / (var + 1e-5).sqrt() + offset

    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    x = batch_norm("initial_batchnorm", conv("initial_conv", x, 2)).relu()
    x = F.max_pool2d(padded(x, 3, 2, -math.inf), 3, 2)
    for group, count in enumerate(BLOCKS_18):
        for block in range(count):
            where, stride = f"block_group_{group}/~/block_{block}/~", 2 if group and not block else 1
            out = batch_norm(f"{where}/batchnorm_0", conv(f"{where}/conv_0", x, stride)).relu()
            out = batch_norm(f"{where}/batchnorm_1", conv(f"{where}/conv_1", out, 1))
            if f"{name}/~/{where}/shortcut_conv" in weights:
                x = batch_norm(f"{where}/shortcut_batchnorm", conv(f"{where}/shortcut_conv", x, stride))
            x = (out + x).relu()
    return x.mean((2, 3))
