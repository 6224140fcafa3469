"""The loop: exact resume after SIGKILL, accumulation, NaN, refusal, and that a run says how it stands."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import whytransfer
from whytransfer.backbones.recorded import verify
from whytransfer.errors import InputError, RunError
from whytransfer.pretraining import Pretraining, describe

SMALL = {
    "images": "scenes:96:0:24",
    "method": "moco-v2",
    "backbone": "resnet18",
    "size": 24,
    "epochs": 2,
    "batch": 16,
    "queue": 32,
    "splits": 2,
    "accelerator": "cpu",
}
SUPERVISED = {**SMALL, "method": "supervised", "queue": None, "splits": None}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "backbone.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "whole"
    return folder, whytransfer.pretrain(out=folder, **SMALL)


def test_a_run_leaves_everything_it_promises(uninterrupted):
    folder, summary = uninterrupted
    names = {p.name for p in folder.iterdir()}
    promised = "card.json checkpoint.pt backbone.safetensors metrics.jsonl config.yaml tensorboard"
    assert set(promised.split()) <= names
    assert not [n for n in names if n.endswith(".tmp")]
    card = json.loads((folder / "card.json").read_text())
    assert card["finished"] and card["config"]["lr"] > 0 and card["config"]["data_fingerprint"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in rows] == [1, 2]
    assert summary["images_per_second"] > 0 and summary["loss"] == rows[-1]["loss"]
    assert "random features" in summary["standing"] and 0 <= summary["random_knn"] <= 100


def test_the_backbone_of_a_run_loads_and_sees(uninterrupted):
    folder, _ = uninterrupted
    backbone = whytransfer.load_backbone(str(folder))
    assert backbone(torch.rand(2, 3, 24, 24)).vector.shape == (2, 512)
    assert same(dict(backbone.state_dict()), weights(folder))
    recorded = json.loads((folder / "card.json").read_text())["recorded"]  # compared at every load
    assert verify(backbone, recorded, "here") < 1e-5


def test_a_finished_run_is_not_run_again(uninterrupted):
    folder, summary = uninterrupted
    before = (folder / "backbone.safetensors").stat().st_mtime_ns
    assert whytransfer.pretrain(out=folder, **SMALL) == summary
    assert (folder / "backbone.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("saves", [2, 9])
def test_killed_at_any_step_and_continued_it_ends_in_the_same_weights(uninterrupted, tmp_path, saves):
    """SIGKILL leaves no chance to tidy up: the process is gone after its n-th save, often in the middle of a step."""
    out = tmp_path / "killed"
    arguments = [f"--{k.replace('_', '-')}={v}" for k, v in SMALL.items()]
    command = [sys.executable, "-m", "whytransfer.cli", "pretrain", *arguments, f"--out={out}", "--save-minutes=0"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # sums in another order would be other weights
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=os.environ | threads)
    seen: set[int] = set()
    deadline = time.monotonic() + 120
    while len(seen) < saves and process.poll() is None and time.monotonic() < deadline:
        if (out / "checkpoint.pt").exists():
            seen.add((out / "checkpoint.pt").stat().st_mtime_ns)
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run was to be killed before its end"
    assert not (out / "backbone.safetensors").exists()
    whytransfer.pretrain(out=out, **SMALL)
    assert same(weights(out), weights(uninterrupted[0]))
    metrics = [(f / "metrics.jsonl").read_text().splitlines() for f in (out, uninterrupted[0])]
    losses = [[json.loads(line)["loss"] for line in lines] for lines in metrics]
    assert losses[0] == losses[1]


def stop_after(saved_step: int, **settings) -> None:
    """A run that gets Ctrl-C during this step."""
    from whytransfer import pretraining

    steps = 0
    original = pretraining.Pretraining._step

    def counted(self, *args):
        nonlocal steps
        steps += 1
        if steps == saved_step:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining.Pretraining, "_step", counted)
        with pytest.raises(KeyboardInterrupt):
            whytransfer.pretrain(**SMALL, **settings)
    assert torch.load(settings["out"] / "checkpoint.pt", weights_only=True)["step"] == saved_step


def test_ctrl_c_saves_and_the_run_goes_on(uninterrupted, tmp_path):
    out = tmp_path / "stopped"
    stop_after(4, out=out)
    whytransfer.pretrain(out=out, **SMALL)
    assert same(weights(out), weights(uninterrupted[0]))


def test_a_kill_between_checkpoint_and_metrics_loses_no_row(uninterrupted, tmp_path, monkeypatch):
    from whytransfer.runs import RunFolder

    save = RunFolder._save_metrics

    def killed(self, rows):
        if len(rows) == 2:
            raise MemoryError("killed")
        save(self, rows)

    monkeypatch.setattr(RunFolder, "_save_metrics", killed)
    with pytest.raises(MemoryError):
        whytransfer.pretrain(out=tmp_path / "run", **SMALL)
    monkeypatch.setattr(RunFolder, "_save_metrics", save)
    whytransfer.pretrain(out=tmp_path / "run", **SMALL)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2] and same(weights(tmp_path / "run"), weights(uninterrupted[0]))


def test_iterations_end_inside_an_epoch_and_a_stop_at_its_end_loses_nothing(tmp_path):
    settings = {**SMALL, "method": "simclr-small", "queue": None, "splits": None, "epochs": None, "iterations": 8}
    whole = whytransfer.pretrain(out=tmp_path / "whole", **settings, monitor=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[__name__], "SMALL", settings)
        stop_after(6, out=tmp_path / "stopped", monitor=False)  # the last step of the first epoch
    assert whytransfer.pretrain(out=tmp_path / "stopped", **settings, monitor=False)["loss"] == whole["loss"]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "stopped"))
    rows = [(tmp_path / f / "metrics.jsonl").read_text().splitlines() for f in ("whole", "stopped")]
    epochs, losses = ([[json.loads(line)[k] for line in lines] for lines in rows] for k in ("epoch", "loss"))
    assert epochs[0] == epochs[1] == [1, 8 / 6] and losses[0] == losses[1]


NOT_TIMED = ("epoch", "loss", "knn", "pairs", "spread", "rank")


@pytest.mark.parametrize(("epochs", "at"), [(1, 3), (2, 3), (2, 6)])
def test_a_stop_at_the_last_step_of_an_epoch_or_run_reports_what_the_whole_run_does(tmp_path, epochs, at):
    settings = {**SUPERVISED, "images": "scenes:48:0:16", "size": 16, "epochs": epochs}
    whole = whytransfer.pretrain(out=tmp_path / "whole", **settings)
    steps, original = 0, Pretraining._step

    def counted(self, *args):
        nonlocal steps
        steps += 1
        if steps == at:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(Pretraining, "_step", counted)
        whytransfer.pretrain(out=tmp_path / "stopped", **settings, save_minutes=0)
    assert steps == at
    stopped = whytransfer.pretrain(out=tmp_path / "stopped", **settings)
    timed = {"run", "seconds", "images_per_second", "waiting_for_data", "peak_mib"}
    assert {k: v for k, v in stopped.items() if k not in timed} == {k: v for k, v in whole.items() if k not in timed}
    files = [(tmp_path / f / "metrics.jsonl").read_text().splitlines() for f in ("whole", "stopped")]
    rows = [[[json.loads(line)[k] for k in NOT_TIMED] for line in lines] for lines in files]
    assert len(rows[0]) == epochs and rows[0] == rows[1]


def test_queues_banks_and_statistics_are_not_sent_around():
    from whytransfer.backbones.resnet import build as resnet
    from whytransfer.methods import build
    from whytransfer.pretraining import _Step

    step = _Step(build("exemplar-v2", resnet("resnet18"), classes=3, images=9, queue=16))
    stay = set(step._ddp_params_and_buffers_to_ignore)
    assert {f"method.moco.queue.{b}" for b in ("keys", "labels", "pointer")} < stay
    assert {"method.moco.backbone.bn1.running_mean", "method.moco.key_backbone.bn1.running_var"} < stay
    sent = {name for name, _ in step.named_buffers()} - stay
    assert {name.rsplit(".", 1)[1] for name in sent} == {"mean", "std"}  # of the pixels: six numbers
    bank = _Step(build("instdisc", resnet("resnet18"), classes=None, images=9))
    assert "method.bank.rows" in bank._ddp_params_and_buffers_to_ignore


def test_random_features_are_those_of_the_start_whenever_watching_begins(uninterrupted, tmp_path):
    stop_after(8, out=tmp_path / "late", monitor=False)
    summary = whytransfer.pretrain(out=tmp_path / "late", **SMALL)
    random = [k for k in summary if k.startswith("random_")]
    assert len(random) == 4 and {k: summary[k] for k in random} == {k: uninterrupted[1][k] for k in random}
    stop_after(8, out=tmp_path / "early")
    summary = whytransfer.pretrain(out=tmp_path / "early", **SMALL, monitor=False)
    assert "not watched" in summary["standing"] and summary["loss"] == uninterrupted[1]["loss"]


def test_other_queries_after_a_stop_have_random_features_of_their_own(tmp_path, photos):
    for i, path in enumerate(sorted(photos.rglob("*.*"))):
        path.rename(photos / f"{i}{path.suffix}")  # no class folders: unlabelled
    for folder in [p for p in photos.iterdir() if p.is_dir()]:
        folder.rmdir()
    val = "scenes:60:5:24"
    whole = whytransfer.pretrain(out=tmp_path / "whole", **SMALL, val=val)
    stop_after(8, out=tmp_path / "changed", val=str(photos))  # without kNN, as its queries have no labels
    summary = whytransfer.pretrain(out=tmp_path / "changed", **SMALL, val=val)
    keys = ["random_knn", "random_pairs", "knn", "standing", "knn_queries"]
    assert {k: summary[k] for k in keys} == {k: whole[k] for k in keys}


def test_an_epoch_is_described_without_random_features_too():
    row = {"loss": 1.0, "knn": 40.0, "pairs": 50.0, "spread": 0.5, "rank": 9.0}
    assert "kNN 40.0 % (random features not measured)  pairs 50 % (random not measured)" in describe(row, {})
    assert "kNN 40.0 % (random features 30.0 %)" in describe(row, {"knn": 30.0, "pairs": 2.0})


def test_another_configuration_in_the_folder_is_refused(uninterrupted):
    folder, _ = uninterrupted
    with pytest.raises(InputError, match=r"(?s)another configuration. Differing keys:.*lr: .* there, 0.5 asked for"):
        whytransfer.pretrain(out=folder, **SMALL, lr=0.5)
    with pytest.raises(InputError, match="data_fingerprint"):
        whytransfer.pretrain(out=folder, **{**SMALL, "images": "scenes:96:1:24"})


def test_what_changes_only_speed_may_differ(uninterrupted):
    folder, summary = uninterrupted
    assert whytransfer.pretrain(out=folder, **SMALL, threads=1, save_minutes=1) == summary


def test_a_nan_loss_stops_with_the_step_and_what_to_try(tmp_path, monkeypatch):
    from whytransfer.methods.moco import MoCo

    original = MoCo.loss

    def broken(self, views):
        out = original(self, views)
        return out | {"loss": out["loss"] * float("nan")} if self.steps == 7 else out

    monkeypatch.setattr(MoCo, "loss", broken)
    with pytest.raises(RunError, match=r"(?s)loss became nan at step 7 \(epoch 1\).*checkpoint: step 6.*lower --lr"):
        whytransfer.pretrain(out=tmp_path / "nan", **SMALL)
    state = torch.load(tmp_path / "nan" / "checkpoint.pt", weights_only=True)
    assert state["step"] == 6 and all(torch.isfinite(v).all() for v in state["backbone"].values())


def test_an_update_that_ruins_the_weights_is_not_saved_nor_called_finished(tmp_path):
    settings = {**SUPERVISED, "images": "scenes:16:0:16", "epochs": 1, "lr": 1e20, "size": 16, "warmup_epochs": 0.0}
    with pytest.raises(RunError, match=r"weights were found to be NaN, .* at step 1\. Last good checkpoint: none,"):
        whytransfer.pretrain(out=tmp_path / "run", **settings, monitor=False)
    assert not list((tmp_path / "run").glob("*.safetensors")) and not (tmp_path / "run" / "checkpoint.pt").exists()


def test_a_good_checkpoint_is_not_overwritten_by_ruined_weights(tmp_path, monkeypatch):
    from whytransfer.methods.supervised import Supervised

    def ruin(self, out, share):
        if share == 1.0:  # the loss of the last step was finite, its update is not
            next(self.backbone.parameters()).data[0, 0, 0, 0] = float("nan")

    monkeypatch.setattr(Supervised, "after_step", ruin)
    settings = {**SUPERVISED, "images": "scenes:48:0:16", "size": 16, "epochs": 1}
    for good in (2, 2):  # continued, it says the same
        with pytest.raises(RunError, match=rf"at step 3\. Last good checkpoint: step {good},.*lower --lr"):
            whytransfer.pretrain(out=tmp_path / "run", **settings, monitor=False, save_minutes=0)
        state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
        assert state["step"] == good and all(torch.isfinite(v).all() for v in state["backbone"].values())
    state["method"] |= {k: v * float("nan") for k, v in state["method"].items() if v.is_floating_point()}
    torch.save(state, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(RunError, match=r"at step 2\. Last good checkpoint: none"):
        whytransfer.pretrain(out=tmp_path / "run", **settings, monitor=False)


def test_a_standing_that_is_not_finite_is_null_and_described():
    from whytransfer.commands.pretrain import _summary
    from whytransfer.monitor import Standing

    standing = Standing(50.0, 10.0, float("nan"), float("inf")).as_dict()
    assert json.loads(json.dumps(standing, allow_nan=False)) == {"knn": 50, "pairs": 10, "spread": None, "rank": None}
    assert "spread nan  rank nan" in describe({"loss": 1.0, **standing}, {})
    summary = _summary(Path("run"), {"loss": 1.0, "width": 8, "random": standing, **standing})
    assert "broken: some features are not finite" in summary["standing"]


def test_a_disk_that_is_full_for_tensorboard_is_told_of_as_such(tmp_path, monkeypatch):
    from lightning_fabric import Fabric

    def full(self, values, step):
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            raise ValueError("you tried to log 0.1 which is currently not supported") from error  # as its logger does

    monkeypatch.setattr(Fabric, "log_dict", full)
    settings = {**SUPERVISED, "epochs": 1}
    with pytest.raises(RunError, match=r"the disk is full: .*tensorboard could not be written.*from its last checkp"):
        whytransfer.pretrain(out=tmp_path / "run", **settings, monitor=False)
    monkeypatch.setattr(Fabric, "log_dict", lambda *_, **__: {}["a defect"])
    with pytest.raises(KeyError, match="a defect"):
        whytransfer.pretrain(out=tmp_path / "run", **settings, monitor=False)


@pytest.mark.skipif(sys.platform == "win32", reason="processes are started as POSIX does")
def test_processes_agree_when_to_save_and_when_to_stop(tmp_path, capsys):
    """The second process's clock never asks for a save; SIGTERM reaches the first one alone. One process goes on."""
    code = (
        "import os, signal, sys; from whytransfer import cli, pretraining\n"
        "first, steps, step = os.environ.get('LOCAL_RANK', '0') == '0', [], pretraining.Pretraining._step\n"
        "def counted(self, *a):\n"
        "    steps.append(0)\n"
        "    object.__setattr__(self.plan, 'save_minutes', 0.0 if first else 1e9)\n"
        "    if first and len(steps) == 4 and 'STOP' in os.environ: os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return step(self, *a)\n"
        "pretraining.Pretraining._step = counted\n"
        "cli.main()\n"
    )
    (tmp_path / "two.py").write_text(code)
    small = {**SMALL, "epochs": 1, "devices": 2, "threads": 1}
    flags = ["--no-monitor", *(f"--{k}={v}" for k, v in small.items())]
    command = [sys.executable, str(tmp_path / "two.py"), "pretrain", *flags, f"--out={tmp_path / 'run'}", "--json"]

    def call(**more: str) -> subprocess.CompletedProcess:
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | more
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)

    stopped = call(STOP="1")
    assert stopped.returncode == 130 and stopped.stdout == "", stopped.stderr
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 4
    ended = whytransfer.pretrain(out=tmp_path / "run", **{**small, "devices": 1}, monitor=False)  # goes on alone
    assert ended["loss"] > 0 and (tmp_path / "run" / "backbone.safetensors").exists()
    assert "processes: 2 then, 1 now" in capsys.readouterr().err
    command.append("--seed=1")
    refused = call()
    assert refused.returncode == 2 and refused.stdout == "" and "Traceback" not in refused.stderr, refused.stderr
    assert refused.stderr.count("holds a run of another configuration") == 1


class Toy(torch.nn.Module):
    """A method without batch statistics: a mean over the batch is the mean over its equal parts."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = torch.nn.Conv2d(3, 4, 3)
        self.backbone.width = 4
        self.seen = []

    def loss(self, views):
        return {"loss": self.backbone(views.images[0]).square().mean(), "keys": views.index}

    def after_step(self, out, progress):
        self.seen.append((out["keys"].tolist(), progress))


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_parts_make_the_step_of_the_whole_batch(tmp_path, parts):
    from lightning_fabric import Fabric

    from whytransfer.images import open_images
    from whytransfer.images.cache import PixelCache
    from whytransfer.nn.schedules import Training
    from whytransfer.pretraining import Plan, Pretraining
    from whytransfer.runs import RunFolder
    from whytransfer.views.engine import Viewer
    from whytransfer.views.recipes import recipe

    methods = {}
    for accumulate in (1, parts):
        fabric = Fabric(accelerator="cpu", devices=1, precision="32-true")
        run = RunFolder.open(tmp_path / str(accumulate), {"config": {}})
        plan = Plan(Training("sgd", lr_per_256=1.0), epochs=2, batch=8, seed=0, accumulate=accumulate)
        pixels = PixelCache.open(open_images("scenes:32:0:16"))
        methods[accumulate] = Toy()
        Pretraining(methods[accumulate], pixels, Viewer(recipe("default"), 16, 0), plan, run, fabric, None).fit()
    whole, split = methods[1], methods[parts]
    assert whole.seen == split.seen and len(whole.seen) == 8 and whole.seen[-1][1] == 1.0
    torch.testing.assert_close(whole.backbone.weight, split.backbone.weight, rtol=1e-5, atol=1e-6)


def test_an_unlabelled_run_is_watched_by_pair_matching(tmp_path, photos):
    for i, path in enumerate(sorted(photos.rglob("*.*"))):
        path.rename(photos / f"{i}{path.suffix}")
    for folder in [p for p in photos.iterdir() if p.is_dir()]:
        folder.rmdir()
    settings = {**SMALL, "images": str(photos), "epochs": 1, "batch": 4, "queue": 8}
    summary = whytransfer.pretrain(out=tmp_path / "run", **settings)
    assert summary["knn"] is None and 0 <= summary["pairs"] <= 100
    assert "pair matching" in summary["standing"]
