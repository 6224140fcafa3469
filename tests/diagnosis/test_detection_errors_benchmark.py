"""The benchmark of error analysis runs our side, at a size that measures nothing."""

import importlib.util
import sys
from pathlib import Path

from whytransfer.diagnosis import detection_measures
from whytransfer.tasks.average_precision import COCO_RECALLS


def test_our_side_and_the_paired_draws(capsys, monkeypatch):
    path = Path(__file__).parents[2] / "benchmarks" / "detection_errors.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_detection_errors", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["", "--images", "4", "--rounds", "1", "--draws", "3", "--peer", ""])
    module.main()
    said = capsys.readouterr().out
    assert "400 detections on 4 images" in said and "3 paired draws, two detectors" in said and "ours:" in said
    assert detection_measures.COCO_RECALLS is COCO_RECALLS  # the benchmark leaves things as they were
