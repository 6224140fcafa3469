"""`whytransfer diagnose invariance` from the command line and as a function: results, figures, scores, refusals."""

import json

import numpy as np
import pytest
from console import call
from PIL import Image

import whytransfer
from whytransfer.errors import InputError

SPECS = [f"random:resnet18-small:{k}" for k in range(4)]


def ask(tmp_path, **options):
    given = {"backbone": SPECS[0], "images": "scenes:24:0:24", "out": tmp_path / "out", "size": 14, "values": 2}
    given |= {"count": 3, "transforms": ("h_flip", "hue"), "figures": False, "device": "cpu"}
    return whytransfer.diagnose_invariance(**(given | options))


def score(model, value):
    return {
        "model": model, "data": "d", "task": "readout", "metric": "top1", "value": value, "unit": "%", "n": 9,
        "direction": "higher", "seed": 0, "low": None, "high": None, "provenance": {},
    }  # fmt: skip


def test_four_backbones_with_groups_latents_scores_and_figures(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("cup/1", "cup/2", "hat/1", "hat/2"):
        (tmp_path / "things" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "things" / f"{name}.png")
    (tmp_path / "scores").mkdir()
    lines = (json.dumps(score(spec, value)) for spec, value in zip(SPECS, (1.0, 3.0, 2.0, 4.0), strict=True))
    (tmp_path / "scores" / "results.jsonl").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"
    given = ["diagnose", "invariance", "--images=scenes:24:0:24", f"--out={out}", "--size=14", "--values=3"]
    given += ["--count=3", "--transforms", "h_flip", "hue", "--groups", tmp_path / "things", "--scores"]
    given += [tmp_path / "scores", "--family", "a", "a", "b", "b", "--device=cpu"]
    given += ["--latent", "scenes:24:1:24", "scenes:24:2:24", "--readouts", "ridge", "--backbone", *SPECS]
    assert call(*given) == 0
    printed = capsys.readouterr()
    assert "spatial with appearance: rank correlation" in printed.out and "real changes" in printed.out
    assert "24 images do not determine the covariance of 512 features" in printed.err
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    tasks = {task: [r for r in rows if r["task"] == task] for task in {r["task"] for r in rows}}
    assert set(tasks) == {"invariance", "real invariance", "factors", "trade-off", "transfer map"}
    assert len(tasks["invariance"]) == 4 * 2 * 4 and len(tasks["trade-off"]) == 1
    assert {r["n"] for r in tasks["real invariance"]} == {2} and len(tasks["real invariance"]) == 4 * 3
    assert all("with readout top1, d" in r["metric"] for r in tasks["transfer map"])
    assert set(tasks["transfer map"][0]["provenance"]["without_family"]) == {"a", "b"}
    figures = {path.name for path in (out / "figures").iterdir()}
    expected = {"curves-similarity", "curves-distance", "heat-map", "trade-off", "real", "transfer-map"}
    assert {f"{name}.{kind}" for name in expected for kind in ("svg", "pdf", "png", "csv", "parquet")} == figures
    assert call(*given, "--json", "--no-figures") == 0
    again = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(r["value"] for r in again) == pytest.approx(sorted(r["value"] for r in rows))
    assert len((out / "results.jsonl").read_text().splitlines()) == len(rows)


def test_mode_paper_is_a_result_of_its_own(tmp_path):
    default = ask(tmp_path)
    paper = ask(tmp_path, mode="paper", images="scenes:24:0:24")
    rows = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    assert len(rows) == len(default) + len(paper)
    flip = {r.metric: r for r in paper}["h_flip similarity"].provenance
    assert len(flip["curve"]) == 2 and flip["curve"][0] == pytest.approx(1, abs=1e-4)
    assert len({r.metric: r for r in default}["h_flip similarity"].provenance["curve"]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transforms": ("rotaton",)}, "unknown transform 'rotaton'. Did you mean 'rotation'"),
        ({"backbone": [SPECS[0], SPECS[0]]}, "names the same backbone twice"),
        ({"family": ("a", "b")}, "2 names for 1 backbones"),
        ({"scores": ("OUT/none",)}, "no results.jsonl with results there"),
        ({"count": 99}, "--count 99: scenes:24:0:24 has 24 images"),
        ({"groups": ("OUT/none",)}, "no such file or folder"),
        ({"stages": ("layer7",)}, "unknown feature stage 'layer7'"),
        ({"latent": ("OUT/none", "OUT/none")}, "no such file or folder"),
        ({"values": 1}, "values: Input should be greater than or equal to 2"),
    ],
)
def test_refusals(tmp_path, options, message):
    def there(value):
        return value.replace("OUT", str(tmp_path)) if isinstance(value, str) else value

    options = {k: tuple(map(there, v)) if isinstance(v, tuple | list) else v for k, v in options.items()}
    with pytest.raises(InputError, match=message):
        ask(tmp_path, **options)
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_the_help_teaches(capsys):
    assert call("diagnose", "invariance", "--help") == 0
    text = capsys.readouterr().out
    assert "Examples:" in text and "whytransfer diagnose invariance" in text and "--json" in text
