"""Ctrl-C between steps: the first asks, the second insists, and afterwards the signals are as they were."""

import os
import signal
import threading

import pytest

from whytransfer.stopping import Stop, stop_between_steps


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_asks_and_the_second_insists(number, capsys):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), stop_between_steps(Stop()) as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        assert stop.asked and "the run will be saved" in capsys.readouterr().err
        os.kill(os.getpid(), number)
        raise AssertionError("the second one must stop at once")
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_in_another_thread_signals_are_left_alone():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with stop_between_steps(Stop()) as stop:
            seen.append((stop.asked, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
