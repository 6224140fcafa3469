"""Progress: durations in words, silence when asked, lines with an ETA where there is no terminal."""

import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from whytransfer import progress


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def quiet():
    progress.be_quiet()
    yield
    progress.be_quiet(False)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (95, "1 min 35 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (3600 * 26 + 60 * 5 + 59, "26 h 05 min"),
    ],
)
def test_durations_in_words(seconds, words):
    assert progress.duration(seconds) == words


def test_one_has_no_plural():
    counts = (1, 1.0, 0, 1_281_167, 2 / 3)
    words = ["1 epoch", "1 epoch", "0 epochs", "1,281,167 epochs", "0.667 epochs"]
    assert [progress.several(count, "epoch") for count in counts] == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(1211.4, "1,211"), (10.0, "10"), (9.96, "10.0"), (2.83, "2.8"), (0.43, "0.43"), (0.0183, "0.018"), (0.0, "0")],
)
def test_a_slow_rate_keeps_digits(value, words):
    assert progress.rate(value) == f"{words} images/s"


def test_messages_go_to_standard_error_as_they_are(capsys):
    progress.say(
        "[bold] is no markup, and a line of this length is not wrapped however narrow the terminal may be: " * 2
    )
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("[bold]") and printed.err.count("\n") == 1


def test_quiet_means_nothing_at_all(capsys, quiet, clock):
    progress.say("nothing")
    with progress.bar("work", 10) as update:
        clock.now = 1000
        update(5, "half")
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""


def test_a_log_gets_a_line_now_and_then_with_the_time_left(capsys, clock):
    with progress.bar("reading", 100) as update:
        for done, now in ((1, 1), (10, 30), (11, 31), (12, 49), (20, 50)):
            clock.now = now
            update(done, "3 images/s")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["reading 10/100  ETA 4 min 50 s  3 images/s", "reading 20/100  ETA 3 min 26 s  3 images/s"]


def test_work_that_is_done_has_no_time_left_at_any_pace(capsys, clock):
    with progress.bar("regions", 6) as update:
        clock.now = 25
        update(6)
    assert capsys.readouterr().err == "regions 6/6  ETA 0 s\n"


def test_the_time_left_of_continued_work_counts_from_where_it_began(capsys, clock):
    with progress.bar("steps", 100, done=50) as update:
        clock.now = 20
        update(50)  # nothing new: no speed to go by
        update(60)  # compiled, decoded, ... before: no speed to go by yet
        clock.now = 40
        update(70)
    assert capsys.readouterr().err.splitlines() == ["steps 60/100  ETA not known yet", "steps 70/100  ETA 1 min 00 s"]


def test_no_work_no_bar(capsys):
    with progress.bar("nothing", 0) as update:
        update(0)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_that_goes_away(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=100, _environ={})
    monkeypatch.setattr(progress, "_console", terminal)
    with progress.bar("steps", 4) as update:
        for done in range(5):
            update(done, f"loss {done}")
    text = shown.getvalue()
    assert "steps" in text and "4/4" in text and "loss 4" in text and "ETA" in text
    assert text.rstrip().endswith("\x1b[2K") or text.endswith("\x1b[2K")  # its last line is wiped away
    assert capsys.readouterr().out == ""


def test_what_is_said_can_be_kept_in_a_file_too_also_by_a_quiet_process(tmp_path, capsys):
    with progress.also_in(tmp_path / "log.txt"):
        progress.say("one [b]two[/b]")
        progress.be_quiet()
        progress.say("three")
    progress.say("four")
    assert (tmp_path / "log.txt").read_text() == "one [b]two[/b]\nthree\n"
    assert capsys.readouterr().err == "one [b]two[/b]\n"


NAME = "felzenszwalb:100:100 of [bold]photos[/nothing]"  # in which rich would see an emoji and styles


def test_names_in_a_message_are_shown_as_they_are(capsys):
    progress.say(NAME)
    assert capsys.readouterr().err == f"{NAME}\n"


def test_names_beside_a_bar_are_shown_as_they_are(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=200, _environ={}, emoji=False)
    monkeypatch.setattr(progress, "_console", terminal)
    with progress.bar(NAME, 2) as update:
        update(2, text="loss [1]")
    assert NAME in shown.getvalue() and "loss [1]" in shown.getvalue()


def test_quietly_ends_with_its_block_and_never_makes_noise_where_silence_was_asked(quiet):
    with progress.quietly(False):
        assert progress.is_quiet()
    progress.be_quiet(False)
    with pytest.raises(KeyError), progress.quietly():
        assert progress.is_quiet()
        raise KeyError
    assert not progress.is_quiet()
