"""The benchmark of detection runs, at a size that measures nothing: a benchmark nobody can run compares nothing."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).parents[2] / "benchmarks" / "detection.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_detection", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_step_and_average_precision(benchmark, capsys):
    benchmark.step("resnet18", 64, 1, 1)
    benchmark.average_precision(20, 1)
    said = capsys.readouterr().out
    assert "step: ours / torchvision" in said and "AP: ours / faster-coco-eval" in said
    difference = float(said.split("difference of AP ")[1].split()[0])
    assert abs(difference) < 1e-9
