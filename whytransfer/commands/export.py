"""`whytransfer export`: a backbone as a folder that timm, torchvision, detectron2, ONNX Runtime or we read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from whytransfer.commands.common import Settings, print_json
from whytransfer.commands.transfer import sizes_of


class ExportSettings(Settings):
    """Write the weights of a backbone for another program, and prove that it sees the same features.

    The folder is loaded back as that program would load it, and both are shown 16 fixed images: the largest difference
    is printed, and one that is more than rounding leaves nothing behind.

    Examples:
      whytransfer export --backbone runs/mine --format timm --out exports/mine-timm
      whytransfer export --backbone byol:resnet50_byol_imagenet1k.npy --format onnx --out exports/byol
    """

    backbone: str
    """A run folder, a weight file, moco:FILE, torchvision:NAME:WEIGHTS ...: see docs/weights.md."""
    format: str
    """safetensors (with a card, read by whytransfer), timm, torchvision, detectron2, onnx, hf (Hugging Face folder)."""
    out: Path
    """Folder to make."""
    size: Annotated[int, Field(ge=16)] | None = None
    """Side in pixels of the images that the backbone is meant for; not given: the run's, else 224."""


def export(**settings: Any) -> Any:
    """Export a backbone; keywords are the fields of ExportSettings. Returns an `Exported` with the differences.

    export(backbone="runs/mine", format="safetensors", out="exports/mine").vector_difference
    """
    return ExportSettings.called(run, settings)


def run(s: ExportSettings) -> Any:
    from whytransfer.backbones.export import FORMATS
    from whytransfer.backbones.export import export as write
    from whytransfer.backbones.load import load_backbone
    from whytransfer.errors import unknown_name
    from whytransfer.runs import command_line, versions

    if s.format not in FORMATS:
        raise unknown_name("format", s.format, FORMATS)
    backbone = load_backbone(s.backbone)
    card = {"source": s.backbone, "size": s.size or sizes_of([s.backbone])[0], "note": backbone.note}
    card |= _made_by(s.backbone)
    return write(backbone, s.format, s.out, {**card, "command": command_line(), "versions": versions()})


def _made_by(spec: str) -> dict[str, Any]:
    """What the card of a run says of its making, under `run`: the folder may go where the run's does not."""
    import json

    card = Path(spec) / "card.json"
    if not card.is_file():
        return {}
    found = json.loads(card.read_text())  # read once already, as a backbone
    kept = ("method", "recipe", "seed", "data", "config", "command", "versions")
    return {"run": found.get("run") or {key: found[key] for key in kept if key in found}}


def show(s: ExportSettings) -> None:
    done = run(s)
    summary = {
        "folder": str(done.folder),
        "format": done.format,
        "vector_difference": done.vector_difference,
        "map_difference": done.map_difference,
        "load_it": done.load_it,
    }
    if s.as_json:
        print_json([summary])
        return
    print(f"{done.folder}: {done.format}, loaded back and shown 16 fixed images")
    print(
        f"largest difference, over the spread of the values: {done.vector_difference:.1e} in the vector, "
        f"{done.map_difference:.1e} in the map"
    )
    print(f"load it: {done.load_it}")
