"""What a study file may say, and what is said of one that is wrong."""

from pathlib import Path
from typing import Any

import pytest
from fake_stages import STAGES, STUDY

from whytransfer.errors import InputError
from whytransfer.study.plan import grid_of
from whytransfer.study.study_file import fill, read_study


def names(study: dict[str, Any]) -> list[str]:
    return [cell.name for cell in grid_of(read_study(study), STAGES).cells]


def test_the_cells_are_the_grid_written_out_by_hand():
    of_a_seed = [
        "pretrain/one/{}",
        "pretrain/two/{}",
        "class/one/{}",
        "class/two/{}",
        "class/both/{}",
        "class/random/{}",
    ]
    first = [name.format(0) for name in of_a_seed] + ["pose/one/0", "pose/two/0", "all/0", "errors/0", "masks"]
    assert names(STUDY) == [*first, *[name.format(1) for name in of_a_seed], "all/1"]


def test_each_cell_comes_after_what_it_needs():
    cells = grid_of(read_study(STUDY), STAGES).cells
    place = {cell.name: i for i, cell in enumerate(cells)}
    assert all(place[need] < place[cell.name] for cell in cells for need in cell.needs)


def test_a_fusion_needs_its_members_and_weights_that_exist_need_nothing():
    grid = grid_of(read_study(STUDY), STAGES)
    assert grid["class/both/1"].needs == ("pretrain/one/1", "pretrain/two/1")
    assert grid["class/both/1"].specs == {"backbone": ["<pretrain/one/1>+<pretrain/two/1>"]}
    assert grid["class/random/1"].specs == {"backbone": ["random:x:1"]} and not grid["class/random/1"].needs
    assert grid["errors/0"].needs == ("pose/one/0", "pose/two/0")
    assert grid["errors/0"].settings["names"] == ["one", "two"]


def test_a_fusion_of_fusions_and_one_of_another_kind():
    backbones = {**STUDY["backbones"], "all": "both + random", "scaled": "standardised:one + two"}
    grid = grid_of(read_study({**STUDY, "backbones": backbones}), STAGES)
    assert grid["class/all/0"].specs == {"backbone": ["<pretrain/one/0>+<pretrain/two/0>+random:x:0"]}
    assert grid["class/scaled/0"].specs == {"backbone": ["standardised:<pretrain/one/0>+<pretrain/two/0>"]}
    assert grid["class/all/0"].origins == ({"size": 16, "level": 10}, {"size": 16, "level": 20}, "random:x:{seed}")


def test_backbones_beside_are_named_as_the_others_are():
    study = {**STUDY, "diagnoses": {"all": {"diagnose": "all", "backbones": ["one", "two"], "control": "random"}}}
    cell = grid_of(read_study(study), STAGES)["all/1"]
    assert cell.specs == {"backbone": ["<pretrain/one/1>", "<pretrain/two/1>"], "control": ["random:x:1"]}
    assert cell.models["random:x:1"] == "random" and cell.needs == ("pretrain/one/1", "pretrain/two/1")
    study["diagnoses"]["all"]["control"] = ["randm"]
    with pytest.raises(InputError, match="control: unknown backbone 'randm'.*'random'"):
        grid_of(read_study(study), STAGES)


def test_own_settings_win_over_the_shared_ones_and_seeds_reach_the_cells():
    study = {**STUDY, "backbones": {"one": {"size": 99}, "two": {}}, "diagnoses": {}}
    grid = grid_of(read_study(study), STAGES)
    assert grid["pretrain/one/1"].settings["size"] == 99 and grid["pretrain/two/1"].settings["size"] == 16
    assert grid["pretrain/one/1"].settings["seed"] == 1 and grid["class/one/0"].settings["images"] == "b"


def test_values_are_filled_in_and_keep_their_kind():
    known = {"n": 3, "data": "/data"}
    assert fill("{n}", known, "") == 3 and fill("scenes:{n}:{seed}", known, "") == "scenes:3:{seed}"
    assert fill({"x": ["{data}/a", 1]}, known, "") == {"x": ["/data/a", 1]}
    assert fill("{000..012}.tar", known, "") == "{000..012}.tar"  # a pattern of shards is no value
    study = {**STUDY, "values": {"root": "r", "sub": "{root}/s"}, "transfer": {"images": "{sub}"}}
    assert grid_of(read_study(study, {"root": "R"}), STAGES)["class/one/0"].settings["images"] == "R/s"


def test_yaml_and_mapping_say_the_same(tmp_path: Path):
    import yaml

    (tmp_path / "a.yaml").write_text(yaml.safe_dump(STUDY))
    assert read_study(tmp_path / "a.yaml") == read_study(STUDY)
    (tmp_path / "named.yaml").write_text("backbones: {one: {}}")
    assert read_study(tmp_path / "named.yaml").name == "named"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "part": ({"taks": {}}, "unknown part of a study 'taks'. Did you mean 'tasks'"),
    "setting of a pretraining": ({"backbones": {"one": {"levl": 1}}}, "one: unknown setting 'levl'.*'level'"),
    "setting of a task": ({"tasks": {"class": {"levl": 1}}}, "tasks: class: unknown setting 'levl'.*'level'"),
    "value": ({"transfer": {"images": "{trian}"}, "values": {"train": "a"}}, "unknown value 'trian'.*'train'"),
    "value seed": ({"values": {"seed": 1}}, "seed.*choose another name"),
    "backbone of a task": ({"tasks": {"class": {"backbones": ["on"]}}}, "class: unknown backbone 'on'.*'one'"),
    "part of a fusion": ({"backbones": {"one": {}, "f": "one + tow"}}, "f: unknown part of a fusion 'tow'"),
    "cycle": ({"backbones": {"a": "b + c", "b": "c + a", "c": {}}}, "a cycle of fusions: a -> b -> a"),
    "cycle of one": ({"backbones": {"a": "a"}}, "cycle of fusions: a -> a"),
    "number for a backbone": ({"backbones": {"a": 3}}, "a is 3; a text"),
    "diagnosis": ({"diagnoses": {"d": {"diagnose": "eror", "of": "pose"}}}, "unknown diagnosis 'eror'.*'errors'"),
    "no diagnosis": ({"diagnoses": {"d": {"of": "pose"}}}, "d: which one"),
    "of": ({"diagnoses": {"d": {"diagnose": "errors", "of": "poze"}}}, "unknown task 'poze'.*'pose'"),
    "of without backbone": (
        {"diagnoses": {"d": {"diagnose": "errors", "of": "pose", "backbones": ["both"]}}}, "pose has no backbone both",
    ),
    "seeds": ({"seeds": [0, 0]}, "names one twice"),
    "seeds text": ({"seeds": "0 1"}, "a list of whole numbers"),
    "seeds of a task": ({"tasks": {"class": {"seeds": [5]}}}, "seed 5 is none of the study's"),
    "seed": ({"tasks": {"class": {"seed": 5}}}, "seed is given by the study"),
    "backbone": ({"tasks": {"class": {"backbone": "x"}}}, "backbone is given by the study"),
    "two of a name": ({"diagnoses": {"class": {"diagnose": "masks"}}}, "is a task and a diagnosis"),
    "a name with a slash": ({"backbones": {"a/b": {}}}, "'a/b' cannot be a name"),
    "pretrain": ({"tasks": {"pretrain": {}}}, "cannot be called pretrain"),
    "list of tasks": ({"tasks": ["class"]}, "tasks is .*names with settings"),
    "nothing": ({"backbones": {"r": "random:x"}, "tasks": {}, "diagnoses": {}}, "nothing to run"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_study_is_refused_with_what_is_wrong(case: str):
    change, message = WRONG[case]
    study = (
        {**STUDY, **change} if "backbones" not in change else {**STUDY, "tasks": {"t": {}}, "diagnoses": {}, **change}
    )
    with pytest.raises(InputError, match=message):
        grid_of(read_study(study), STAGES)


def test_wrong_yaml_is_refused_with_its_place(tmp_path: Path):
    path = tmp_path / "a.yaml"
    with pytest.raises(InputError, match="a.yaml: No such file"):
        read_study(path)
    path.write_text("backbones: [a")
    with pytest.raises(InputError, match="line 1"):
        read_study(path)
    path.write_text("tasks: {}\nbackbones:\n  a: {}\n  a: random:x\n")
    with pytest.raises(InputError, match="'a' stands twice"):
        read_study(path)
    path.write_text("- a")
    with pytest.raises(InputError, match="expected parts by name .*found list"):
        read_study(path)
    with pytest.raises(InputError, match="unknown value 'dat'.*'data'"):
        read_study({**STUDY, "values": {"data": "x"}}, {"dat": "y"})
