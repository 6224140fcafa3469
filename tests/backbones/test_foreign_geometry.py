"""SAME padding against a slow loop and against PyTorch's own stride-1 SAME; changes that a state dict does not show."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from whytransfer.backbones import build
from whytransfer.backbones.geometry import Geometry, SameConv2d, SameMaxPool2d, geometry_of, pad_same

GEOMETRIES = {
    "plain": Geometry(),
    "same": Geometry(same_convolutions=True, same_pool=True),
    "pool": Geometry(same_pool=True),
    "eps": Geometry(batch_norm_eps=1e-3),
    "relu": Geometry(stem_relu=False),
}


def images(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("n", [8, 9, 15, 16, 31])
@pytest.mark.parametrize("kernel", [3, 7])
def test_a_strided_same_convolution_is_every_second_place_of_the_unstrided_one(n: int, kernel: int):
    """PyTorch has padding="same" for stride 1 alone; its place 2i (n odd) or 2i + 1 (n even) is the strided one's i."""
    conv = SameConv2d(3, 4, kernel, stride=2, bias=False)
    x = images(2, 3, n, n)
    dense = F.conv2d(x, conv.weight, padding="same")
    torch.testing.assert_close(conv(x), dense[:, :, 1 - n % 2 :: 2, 1 - n % 2 :: 2], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (8, 9), (5, 12)])
def test_a_same_max_pool_is_the_loop_over_its_windows(size: tuple[int, int]):
    x = -1 - images(1, 2, *size)  # negative: a zero from outside would win
    found = SameMaxPool2d(3, 2)(x)
    rows, columns = (math.ceil(n / 2) for n in size)
    assert found.shape == (1, 2, rows, columns)
    for i in range(rows):
        for j in range(columns):
            first = [2 * k - (n % 2) for k, n in ((i, size[0]), (j, size[1]))]  # SAME: nothing before an even side
            window = x[:, :, max(first[0], 0) : first[0] + 3, max(first[1], 0) : first[1] + 3]
            torch.testing.assert_close(found[:, :, i, j], window.amax((2, 3)), rtol=0, atol=0)


def test_same_padding_of_the_stem_is_two_before_and_three_after():
    padded = pad_same(torch.ones(1, 1, 224, 224), (7, 7), (2, 2), 0.0)[0, 0]
    assert padded.shape == (229, 229)
    assert padded[100].tolist() == [0, 0, *[1] * 224, 0, 0, 0] and padded[:, 100].tolist()[:3] == [0, 0, 1]
    assert pad_same(torch.ones(1, 1, 4, 6), (1, 1), (2, 2), 0.0).shape == (1, 1, 4, 6)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("arch", ["resnet18", "resnet18-small"])
def test_a_geometry_is_read_off_the_modules_and_keeps_the_keys(name: str, arch: str):
    wanted = GEOMETRIES[name]
    model = wanted.apply(build(arch))
    assert list(model.state_dict()) == list(build(arch).state_dict())
    found = geometry_of(model)
    if arch.endswith("small"):  # it has no max-pool to pad
        assert not found.same_pool and found.same_convolutions == wanted.same_convolutions
    else:
        assert found == wanted and Geometry(**found.told()) == wanted
    assert Geometry().told() == {}


def test_shortcuts_and_unstrided_convolutions_stay_as_they_are():
    model = GEOMETRIES["same"].apply(build("resnet50"))
    same = [name for name, m in model.named_modules() if isinstance(m, SameConv2d)]
    assert same == ["conv1", "layer2.0.conv2", "layer3.0.conv2", "layer4.0.conv2"]


def test_stem_padding_and_the_place_of_the_stride():
    wide = Geometry(stem_padding=2).apply(build("resnet18-small"))
    assert wide(images(1, 3, 32, 32)).stages["stem"].shape[2:] == (34, 34) and geometry_of(wide).stem_padding == 2
    model = Geometry(stride_in_1x1=True).apply(build("resnet50"))
    assert geometry_of(model).stride_in_1x1
    strides = [(m.conv1.stride[0], m.conv2.stride[0]) for m in (model.layer1[0], model.layer2[0], model.layer2[1])]
    assert strides == [(1, 1), (2, 1), (1, 1)]


def test_an_epsilon_reaches_every_batch_norm():
    model = GEOMETRIES["eps"].apply(build("resnet18"))
    assert {m.eps for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


@pytest.mark.parametrize(("kernel", "size"), [(7, (32, 33)), (3, (31, 28)), (3, (9, 8))])
def test_same_padding_is_onnx_runtimes(kernel: int, size: tuple[int, int]):
    """SAME_UPPER of another library, convolution and max-pool: no formula of ours in it."""
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    conv = SameConv2d(2, 3, kernel, stride=2, bias=False)
    same = {"kernel_shape": [kernel, kernel], "strides": [2, 2], "auto_pad": "SAME_UPPER"}
    weight = helper.make_tensor("w", float32, conv.weight.shape, conv.weight.detach().flatten().tolist())
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], **same), helper.make_node("MaxPool", ["x"], ["z"], **same)]
    outputs = [helper.make_tensor_value_info(name, float32, [1, c, None, None]) for name, c in (("y", 3), ("z", 2))]
    x = helper.make_tensor_value_info("x", float32, [1, 2, *size])
    graph = helper.make_graph(nodes, "same", [x], outputs, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    inputs = images(1, 2, *size) - 2
    convolved, pooled = session.run(None, {"x": inputs.numpy()})
    torch.testing.assert_close(conv(inputs), torch.from_numpy(convolved), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(SameMaxPool2d(kernel, 2)(inputs), torch.from_numpy(pooled))
