"""Settings that explain what is wrong with them; tables and JSON lines that survive a pipe."""

import json
from typing import Annotated

import pytest
from pydantic import Field, ValidationError

from whytransfer.commands.common import Settings, in_words, print_json, print_table
from whytransfer.errors import InputError


class Plan(Settings):
    """A command's settings."""

    batch: Annotated[int, Field(ge=2)] = 8
    out: str = "here"


def test_every_wrong_setting_is_named_with_what_was_given():
    with pytest.raises(InputError) as error:
        Plan.made_from({"batch": 1, "bacth": 3})
    message = str(error.value)
    assert message.startswith("wrong settings: ") and "Traceback" not in message
    assert "batch: Input should be greater than or equal to 2 (got 1)" in message
    assert "bacth: Extra inputs are not permitted (got 3); did you mean batch?" in message


def test_settings_are_made_frozen_with_their_defaults():
    plan = Plan.made_from({"batch": 4})
    assert (plan.batch, plan.out, plan.as_json) == (4, "here", False)
    with pytest.raises(ValidationError, match="frozen"):
        plan.batch = 5
    assert hash(plan) == hash(Plan(batch=4))


@pytest.mark.parametrize(
    ("key", "value", "row"),
    [
        ("images_per_second", 211.372, ("speed", "211.4 images/s")),
        ("step_images_per_second", 12345.6, ("step", "12,346 images/s")),
        ("peak_memory_gb", 1.5, ("peak memory", "1.5 GiB")),
        ("state_bytes_per_image", 17, ("memory held per image", "17 bytes")),
        ("knn", 23.75, ("kNN accuracy", "23.75 %")),
        ("waiting_for_data", 0.01551, ("waiting for data", "1.6 % of the time")),
        ("run", "runs/mine", ("run", "runs/mine")),
        ("loss", 2.125, ("loss", "2.125")),
    ],
)
def test_a_summary_is_told_in_words_with_its_units(key, value, row):
    assert in_words(key, value) == row


def test_json_is_one_object_per_line(capsys):
    records = [{"b": 1.5, "a": None}, {"c": "ä"}]
    print_json(records)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == records and lines[0] == '{"a": null, "b": 1.5}'


def test_a_table_in_a_file_is_not_folded(capsys):
    path = "/a/long/path" * 20
    print_table("runs", ["", "value"], [("run", path), ("loss", 1.25)])
    printed = capsys.readouterr().out
    assert path in printed and "1.25" in printed and printed.startswith("runs")
    wide = "a heading [1] that is wider than its table " * 3
    print_table(wide, ["", "value"], [("loss", 1.25)])
    assert capsys.readouterr().out.startswith(f"{wide}\n")


def test_names_in_a_table_are_shown_as_they_are(capsys):
    name = "felzenszwalb:100:100 [bold]of[/nothing]"
    print_table(name, ["", "value"], [(name, "[0.10, 0.20]")])
    shown = capsys.readouterr().out
    assert shown.count(name) == 2 and "[0.10, 0.20]" in shown
