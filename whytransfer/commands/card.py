"""What a pretraining run says of itself: its card, its settings as YAML, and a word on what is unusual."""

from __future__ import annotations

import dataclasses
from typing import Any

from whytransfer.commands.method import OPTIONS, known_method, option_of
from whytransfer.commands.regions import say_how_coarse

NOT_IN_CONFIG = frozenset(
    {"out", "masks", "val", "monitor", "cache_gb", "threads", "devices", "accelerator", "save_minutes"}
    | {"as_json", "quiet"}
) | {"images"}
NOT_SAVED = ("out", "as_json", "quiet")  # of the settings that repeat a run
FEW_IN_A_GROUP = 4  # images; the papers' groups have 32
# the preset for small data that is nearest to a paper's method
SMALL = {
    "moco-v1": "moco-v2-small",
    "moco-v2": "moco-v2-small",
    "simclr": "simclr-small",
    "byol": "byol-small",
    "detcon-s": "detcon-s-small",
    "detcon-b": "detcon-b-small",
    "supcon": "supcon-small",
    "supcon-queue": "supcon-small",
    "exemplar-v1": "exemplar-small",
    "exemplar-v2": "exemplar-small",
    "instdisc": "instdisc-small",
    "instdisc-softmax": "instdisc-small",
}


def make_card(
    s: Any, views: str, training: Any, options: dict[str, Any], pixels: Any, backbone: Any, fabric: Any
) -> dict[str, Any]:
    """The run card. `config` is what decides the weights: only a run with an equal one may continue in the folder."""
    from whytransfer.runs import command_line, versions

    plain = s.model_dump(mode="json", exclude={*NOT_IN_CONFIG, *OPTIONS})
    config = {
        **plain,
        **dataclasses.asdict(training),
        "recipe": views,
        "lr": training.lr_per_256 * training.batch / 256,
        "precision": fabric._precision.precision,
        "device": fabric.device.type,
        "cache_px": 2 * s.size if s.cache_px is None else s.cache_px,
        **{f"{s.method}.{key}": value for key, value in options.items()},
        "data_fingerprint": pixels.fingerprint,
        "images": len(pixels),
    }
    return {
        "config": {k: list(v) if isinstance(v, tuple) else v for k, v in config.items() if k != "lr_per_256"},
        "arch": s.backbone,
        "method": s.method,
        "recipe": views,
        "seed": s.seed,
        "size": s.size,
        "mean": backbone.mean.tolist(),
        "std": backbone.std.tolist(),
        "data": {"spec": s.images, "name": pixels.name, "images": len(pixels), "classes": len(pixels.classes)},
        "command": command_line(),
        "versions": versions() | {"processes": str(fabric.world_size)},
    }


def write_config(s: Any, folder: Any) -> None:
    """The settings as YAML, ready for `--config`, with every default written out."""
    import yaml

    from whytransfer.runs import atomic_write

    resolved = {k: v for k, v in s.model_dump(mode="json").items() if v is not None and k not in NOT_SAVED}
    config = folder.card["config"]
    resolved |= {
        k: config[k]
        for k in ("recipe", "epochs", "batch", "lr", "weight_decay", "schedule", "optimizer", "warmup_epochs")
    }
    if s.iterations:
        del resolved["epochs"]
    resolved |= {
        "precision": "bf16" if config["precision"] == "bf16-mixed" else "32",
        "cache_px": config["cache_px"],
        **{setting: config.get(f"{s.method}.{option_of(s.method, setting)}") for setting in OPTIONS},
    }
    resolved = {k: v for k, v in resolved.items() if v is not None}
    text = yaml.safe_dump(resolved, sort_keys=True).encode()
    atomic_write(folder.path / "config.yaml", lambda file: file.write(text))


def say_the_plan(card: dict[str, Any], options: dict[str, Any], iterations: int | None = None) -> None:
    """What a run is about to do, in a line: most of it are settings of the method, which nobody typed."""
    from whytransfer import progress

    c = card["config"]
    length = progress.several(iterations, "iteration") if iterations else progress.several(c["epochs"], "epoch")
    shown = {int: "{} {:,}", float: "{} {:g}"}
    decided = [shown[type(value)].format(name, value) for name, value in options.items() if type(value) in shown]
    parts = [
        f"{card['method']}: {card['arch']} on {progress.several(c['images'], 'image')}",
        f"views {card['recipe']} of {card['size']} px",
        f"{length} at batch {c['batch']}",
        f"{c['optimizer']}, lr {c['lr']:.3g} ({c['schedule']}), weight decay {c['weight_decay']:g}",
        *([", ".join(decided)] if decided else []),
        "bfloat16" if c["precision"] == "bf16-mixed" else "32 bits",
    ]
    progress.say("; ".join(parts))


def say_what_changed(folder: Any, card: dict[str, Any]) -> None:
    """A continued run is bit for bit the uninterrupted one only where threads, libraries and processor stay."""
    from whytransfer import progress

    changes = folder.changed_versions(card["versions"])
    if folder.saved and changes:
        progress.say(
            f"note: this changed since {folder.path} was started, so its weights may differ in the last bits from "
            f"an uninterrupted run's: {'; '.join(changes)}."
        )


def say_what_is_unusual(s: Any, views: str, options: dict[str, Any], pixels: Any) -> None:
    from whytransfer import progress

    if "regions" in known_method(s.method).needs:
        say_how_coarse(s.backbone, s.size)
    if s.recipe and views != s.recipe:
        progress.say(f"note: {s.method} takes the views {views}, which is what {s.recipe} means for it.")
    if options.get("queue") and options["queue"] > len(pixels):
        progress.say(
            f"note: the queue ({options['queue']:,} keys) is larger than the data ({len(pixels):,} images), so an "
            f"image meets its own older keys{_as_what(s.method)}. Choose a smaller --queue, or {SMALL[s.method]}, "
            "which needs none."
        )
    if options.get("negatives") and options["negatives"] > len(pixels):
        taken = "all of them are taken" if s.method == "instdisc-softmax" else "some are drawn several times"
        progress.say(
            f"note: --negatives {options['negatives']:,} are more than the bank holds ({len(pixels):,} images): "
            f"{taken}."
        )
    if s.method in SMALL and len(pixels) < 100_000:
        progress.say(
            f"note: {s.method}'s published settings assume a million images; with {len(pixels):,} a run can end below "
            f"random features. {SMALL[s.method]} is the preset for small data."
        )


def say_if_all_is_warm_up(training: Any, iterations: int | None, images: int) -> None:
    """A note where a paper's warm-up, made for a long run, is as long as this one."""
    from whytransfer import progress
    from whytransfer.loading import steps_per_epoch

    epochs = iterations / steps_per_epoch(images, training.batch) if iterations else training.epochs
    if training.warmup_epochs and training.warmup_epochs >= epochs:
        warm_up = progress.several(training.warmup_epochs, "epoch")
        progress.say(
            f"note: the warm-up is {warm_up} long and the run {epochs:.3g}, so the learning rate only rises, from 0 to "
            "its peak at the very end. Choose a shorter --warmup-epochs, or a longer run."
        )


def say_how_small_groups_are(batch: int, parts: int, splits: int) -> None:
    """A note where batch norm's groups (MoCo and what builds on it) hold too few images for their statistics.

    Two values become 1 and -1 whatever they are; where maps are one pixel, features look collapsed for dozens of steps.
    """
    from whytransfer import progress

    together = batch // parts
    images = together // splits
    if splits > 1 and images < FEW_IN_A_GROUP:
        fit = (n for n in range(1, together + 1) if together % n == 0 and together // n >= FEW_IN_A_GROUP)
        most = max(fit, default=1)
        progress.say(
            f"note: batch norm in {splits} groups sees {progress.several(images, 'image')} at a time, too few for its "
            f"statistics, and features can look collapsed for many steps. Choose a larger --batch, or --splits {most}."
        )


def _as_what(method: str) -> str:
    """What one's own older key is in the queue of a method."""
    if method == "supcon-queue":
        return " as positives"
    return " there, which leave the loss as all of its class do" if method.startswith("exemplar") else " as negatives"
