"""Ceilings: the rate of work whose duration is known, and a step that really trains."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from whytransfer import speed
from whytransfer.nn.schedules import Training
from whytransfer.records import Views
from whytransfer.speed import make_views, rate, reading_rate, step_rate, view_rate


class Clock:
    """A clock that only work moves; each reading of it costs nothing."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def work(self, durations):
        """A function that takes these durations in turn; `calls` counts."""
        turns = iter(durations)

        def work():
            work.calls += 1
            self.now += next(turns)

        work.calls = 0
        return work


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


def test_rate_is_images_over_the_median_time(clock):
    work = clock.work([9, 9] + [0.25] * 100)
    assert rate(work, images=16, seconds=2.0) == pytest.approx(64)
    assert work.calls == 2 + 8  # warm-up, then two seconds of a quarter each


def test_one_slow_call_does_not_move_the_rate(clock):
    assert rate(clock.work([0, 0, 0.5, 30, 0.5, 0.5]), images=8, seconds=31.0) == pytest.approx(16)


def test_slow_work_is_timed_three_times(clock):
    work = clock.work([100] * 9)
    assert rate(work, images=50, seconds=1.0, warmup=1) == pytest.approx(0.5)
    assert work.calls == 1 + 3


class Pixels:
    """Pictures of 4 px that note who was asked for."""

    def __init__(self, count):
        self.labels, self.asked = np.arange(count) % 2, []

    def __len__(self):
        return len(self.labels)

    def pixels(self, i):
        self.asked.append(i)
        return np.full((4, 4, 3), i, np.uint8)


@pytest.mark.parametrize("batch", [4, 50])
def test_reading_asks_for_pictures_all_over_the_set(batch):
    pixels = Pixels(12)
    assert reading_rate(pixels, batch, seconds=0.01) > 0
    assert set(pixels.asked) <= set(range(12)) and len(set(pixels.asked)) > 6


def test_views_are_made_of_whole_batches():
    pixels, seen = Pixels(6), []

    def viewer(pictures, index, labels, epoch):
        seen.append((len(pictures), epoch))
        assert [p[0, 0, 0] for p in pictures] == index.tolist() and (labels == index % 2).all()
        return Views((torch.zeros(len(pictures), 3, 4, 4),), torch.from_numpy(index), torch.from_numpy(labels))

    assert view_rate(pixels, viewer, batch=9, seconds=0.01) > 0 and set(seen) == {(9, 0)}
    assert make_views(pixels, viewer, np.array([5, 0])).index.tolist() == [5, 0]


def test_views_on_a_gpu_are_awaited_before_the_clock_is_read(monkeypatch):
    cuda, made, waited = torch.device("cuda", 0), [], []
    monkeypatch.setattr("torch.cuda.synchronize", lambda device=None: waited.append((device, len(made))))

    def viewer(pictures, index, labels, epoch):
        made.append(epoch)
        return SimpleNamespace(index=SimpleNamespace(device=cuda))

    assert view_rate(Pixels(6), viewer, batch=3, seconds=0.01) > 0
    assert waited == [(cuda, call) for call in range(1, len(made) + 1)]


class Toy(nn.Module):
    """Pulls its weight towards the pictures' mean; remembers what came after each step."""

    def __init__(self):
        super().__init__()
        self.weight, self.after = nn.Parameter(torch.full((1, 1), 5.0)), []

    def loss(self, views):
        return {"loss": (self.weight - views.images[0].mean()).square().sum(), "keys": views.index}

    def after_step(self, out, progress):
        self.after.append((out["keys"].tolist(), out["loss"].requires_grad, progress))


def test_the_step_trains_the_method_it_was_given():
    toy = Toy().eval()
    views = Views((torch.full((8, 3, 4, 4), 0.5),), torch.arange(8), torch.zeros(8, dtype=torch.int64))
    training = Training("sgd", lr_per_256=0.05, momentum=0.0, weight_decay=0.0)
    assert step_rate(toy, views, training, torch.device("cpu"), amp=False, seconds=0.01) > 0
    assert toy.training and toy.weight.grad is None
    assert len(toy.after) >= 5 and all(seen == (list(range(8)), False, 0.0) for seen in toy.after)
    expected = 0.5 + 4.5 * 0.9 ** len(toy.after)  # each step covers 2 lr of the way
    assert toy.weight.item() == pytest.approx(expected, rel=1e-4)
