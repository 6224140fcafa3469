"""A fusion is its members side by side: equal to concatenating what each of them says."""

import pytest
import torch

from whytransfer.backbones import load_backbone
from whytransfer.backbones.fused import Fused, side_by_side
from whytransfer.backbones.load import members_of
from whytransfer.errors import InputError


def images(n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def test_a_fusion_says_what_its_members_say():
    a, b = "random:resnet18-small:1", "random:resnet18-small:2"
    both, x = load_backbone(f"{a}+{b}"), images()
    with torch.inference_mode():
        fused, one, two = both(x), load_backbone(a)(x), load_backbone(b)(x)
    assert both.width == 1024 and both.spec == f"{a}+{b}" and both.arch == "resnet18-small+resnet18-small"
    torch.testing.assert_close(fused.vector, torch.cat([one.vector, two.vector], 1), rtol=0, atol=0)
    torch.testing.assert_close(fused.map, torch.cat([one.map, two.map], 1), rtol=0, atol=0)
    assert list(fused.stages) == list(one.stages)
    for name in fused.stages:
        torch.testing.assert_close(fused.stages[name], torch.cat([one.stages[name], two.stages[name]], 1))
    assert not both.training and not any(p.requires_grad for p in both.parameters())


def test_each_member_normalises_for_itself():
    a = load_backbone("random:resnet18-small:1")
    b = load_backbone("random:resnet18-small:1").normalise_with((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    both = Fused([a, b]).eval()
    with torch.inference_mode():
        one, two = both(images()).vector.split(512, dim=1)
        torch.testing.assert_close(one, a(images()).vector)
        torch.testing.assert_close(two, b(images()).vector)
    assert not torch.allclose(one, two)


def test_maps_of_different_sizes_become_the_largest():
    small, large = torch.ones(1, 2, 2, 2), torch.zeros(1, 3, 4, 4)
    joined = side_by_side([small, large])
    assert joined.shape == (1, 5, 4, 4) and bool((joined[:, :2] == 1).all()) and bool((joined[:, 2:] == 0).all())
    fused = load_backbone("random:resnet18+random:resnet18-small")(images(1))
    assert fused.map.shape[2:] == load_backbone("random:resnet18-small")(images(1)).map.shape[2:]


def test_three_members_and_paths_with_a_plus(tmp_path):
    folder = tmp_path / "a+b"
    folder.mkdir()
    spec = f"{folder}+random:resnet18+{folder}"
    assert members_of(spec) == [str(folder), "random:resnet18", str(folder)]
    assert members_of("random:resnet18 + random:resnet34") == ["random:resnet18", "random:resnet34"]
    assert members_of("random:resnet18") == ["random:resnet18"]


@pytest.mark.parametrize("spec", ["random:resnet18+", "+random:resnet18", "random:resnet18++random:resnet34"])
def test_an_empty_part_is_refused(spec):
    with pytest.raises(InputError, match="a part of the sum is empty"):
        load_backbone(spec)


def test_one_member_is_no_fusion():
    with pytest.raises(InputError, match="two backbones or more, got 1"):
        Fused([load_backbone("random:resnet18-small")])
