"""What is known of published weights, origin by origin: where their ResNet is, what lies beside it, how it sees images.

Only facts, no code that loads: a new origin is a new entry. A prefix is a regular expression for all that stands
before `conv1.weight`, dictionaries of the file included, joined by dots.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from whytransfer.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD
from whytransfer.backbones.geometry import Geometry

Rename = Callable[[str], str]


@dataclass(frozen=True)
class Origin:
    """The facts of one publisher. `beside` are the names that its files hold outside the ResNet; None: any.

    Names that are not among them stop an import, so a file of another origin is not taken for this one.
    """

    published_by: str
    prefix: str
    beside: tuple[str, ...] | None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    geometry: Geometry = Geometry()
    rename: Rename | None = None  # keys of the file -> our keys, where the names differ; "" leaves one aside
    note: str = ""
    or_else: str = ""  # the prefix of files that have nothing under `prefix`


_OPTIMISER = ("optimizer", "opt", "epoch", "amp", "scaler", "scheduler")
_HAIKU: tuple[str, ...] = ("projector", "predictor", "classifier", "logits", "online_params", "online_state")
_HAIKU += ("target_params", "target_state", "opt_state", "step")
_SAME = Geometry(same_convolutions=True, same_pool=True)
_BLOCK = r"net\.([1-4])\.blocks\.(\d+)\."


def simclr_v2(key: str) -> str:
    """`resnet.net.2.blocks.0.net.4.weight` -> `layer2.0.conv3.weight`; other keys only lose `resnet.`."""
    inner = key.removeprefix("resnet.")
    if stem := re.fullmatch(r"net\.0\.(0|1\.0)\.(\w+)", inner):
        return f"{'conv1' if stem[1] == '0' else 'bn1'}.{stem[2]}"
    if shortcut := re.fullmatch(_BLOCK + r"projection\.(shortcut|bn\.0)\.(\w+)", inner):
        stage, block, part, leaf = shortcut.groups()
        return f"layer{stage}.{block}.downsample.{0 if part == 'shortcut' else 1}.{leaf}"
    if found := re.fullmatch(_BLOCK + r"net\.(0|1\.0|2|3\.0|4|5\.0)\.(\w+)", inner):
        stage, block, place, leaf = found.groups()
        number = int(place[0]) // 2 + 1
        return f"layer{stage}.{block}.{'bn' if '.' in place else 'conv'}{number}.{leaf}"
    return inner


def lightly_names(key: str) -> str:
    """The shortcut of lightly's own ResNet is called so; torchvision calls it downsample."""
    return key.replace(".shortcut.", ".downsample.")


ORIGINS: dict[str, Origin] = {
    "moco": Origin(
        "MoCo v1 and v2, and what follows their layout (PCL) [github.com/facebookresearch/moco]",
        prefix=r"(state_dict\.)?(module\.)?encoder_q\.",
        beside=("fc", "encoder_k", "queue", "queue_ptr", "queue_proto", "queue_index", *_OPTIMISER),
    ),
    "exemplar": Origin(
        "Exemplar, and the MoCo and supervised models beside it [github.com/nanxuanzhao/Good_transfer]",
        prefix=r"((model|state_dict)\.)?(module\.)?",  # the three forms that its own reader accepts
        beside=("fc", *_OPTIMISER),
    ),
    "instdisc": Origin(
        "InstDisc by PyContrast or by lemniscate.pytorch [github.com/HobbitLong/PyContrast, github.com/zhirongw]",
        prefix=r"(model\.)?module\.encoder\.|(state_dict\.)?module\.",
        beside=("fc", "head", "contrast", "memory", "best_prec1", *_OPTIMISER),
    ),
    "pirl": Origin(
        "PIRL, and InfoMin and MoCo, by PyContrast [github.com/HobbitLong/PyContrast]; its CMC sees no RGB images",
        prefix=r"(model\.)?module\.encoder\.",
        beside=("head", "head_jig", "jigsaw", "contrast", "memory", "model_ema", *_OPTIMISER),
    ),
    "simclr": Origin(
        "SimCLR v1 and v2 converted to PyTorch [github.com/tonylins/simclr-converter, .../Separius/SimCLRv2-Pytorch]",
        prefix=r"(state_dict\.)?",
        beside=("fc", "head"),
        mean=(0.0, 0.0, 0.0),  # images in [0, 1] as they are
        std=(1.0, 1.0, 1.0),
        geometry=Geometry(same_pool=True),  # convolutions pad alike before and behind, the max-pool does not
        rename=simclr_v2,
    ),
    "byol": Origin(
        "BYOL by DeepMind: Haiku's .npy or .npz, or its conversion to PyTorch [github.com/ajtejankar/byol-convert]",
        prefix=r"(state_dict\.)?",
        beside=("fc", *_HAIKU),
        geometry=_SAME,
    ),
    "detcon": Origin(
        "DetCon by DeepMind: Haiku's .npy or .npz [github.com/google-deepmind/detcon]",
        prefix=r"(state_dict\.)?",
        beside=("fc", *_HAIKU),
        geometry=_SAME,
    ),
    "swav": Origin(
        "SwAV, DeepCluster-v2 and SeLa-v2 [github.com/facebookresearch/swav]; their two paddings add up to ours",
        prefix=r"(state_dict\.)?(module\.)?",
        beside=("projection_head", "prototypes", *_OPTIMISER),
    ),
    "dino": Origin(
        "DINO's ResNet-50: the published backbone, or the teacher of a checkpoint [github.com/facebookresearch/dino]",
        prefix=r"(teacher\.(module\.)?backbone\.)?",  # the teacher is what DINO publishes and evaluates
        beside=("fc", "head", "student", "dino_loss", "fp16_scaler", "args", *_OPTIMISER),
    ),
    "lightly": Origin(
        "lightly: torchvision's ResNet, its children in a row, or lightly's own for small images",
        prefix=r"(state_dict\.)?backbone\.",  # what its modules' forward and its evaluations use: DINO's teacher too
        or_else=r"(state_dict\.)?student_backbone\.",  # examples that name both networks by their roles
        beside=None,  # every example has heads of its own
        rename=lightly_names,
    ),
    "solo-learn": Origin(
        "solo-learn [github.com/vturrisi/solo-learn]",
        prefix=r"(state_dict\.)?(backbone|encoder)\.",
        beside=None,
    ),
    "vissl": Origin(
        "VISSL [github.com/facebookresearch/vissl]",
        prefix=r"(classy_state_dict\.base_model\.model\.trunk\.|model_state_dict\.)?(base_model\.)?_feature_blocks\.",
        beside=None,  # heads, losses, hooks: named by the configuration
    ),
}

# What is otherwise where the stem is 3x3, for images of 32 pixels
SMALL_STEMS: dict[str, Origin] = {
    "solo-learn": Origin(
        ORIGINS["solo-learn"].published_by,
        prefix=ORIGINS["solo-learn"].prefix,
        beside=None,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.247, 0.243, 0.261),
        geometry=Geometry(stem_padding=2),  # its stem for CIFAR pads by 2, so maps are 2 larger
        note="normalised for CIFAR-10, as a 3x3 stem of solo-learn is",
    ),
}

# lightly's own ResNet as `nn.Sequential(*resnet.children())`: its ReLU after the stem is no module, so it is lost there
LIGHTLY_IN_A_ROW = Geometry(stem_relu=False)

# detectron2 counts pixels to 255; std 1 and BGR go with MSRA's (Caffe's) weights, which stride in the 1x1 convolution
MSRA = Origin(
    "detectron2 with MSRA's ResNets, the default of its configurations [github.com/facebookresearch/detectron2]",
    prefix="",
    beside=None,
    mean=tuple(value / 255 for value in (123.675, 116.280, 103.530)),
    std=(1 / 255, 1 / 255, 1 / 255),
    geometry=Geometry(stride_in_1x1=True),
)
CONVERTED = Origin(
    "detectron2 with a ResNet converted from torchvision's layout: RGB, ImageNet's mean and std",
    prefix="",
    beside=None,
    mean=tuple(value / 255 for value in (123.675, 116.280, 103.530)),
    std=tuple(value / 255 for value in (58.395, 57.120, 57.375)),
)
