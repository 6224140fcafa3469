"""Stage 4: images -> Features. ResNets of our own, and weights from runs, files, torchvision and timm by one string."""

from whytransfer.backbones.backbone import Backbone
from whytransfer.backbones.checkpoints import fingerprint, load_checkpoint
from whytransfer.backbones.load import load_backbone
from whytransfer.backbones.resnet import build

__all__ = ["Backbone", "build", "fingerprint", "load_backbone", "load_checkpoint"]
