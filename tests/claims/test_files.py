"""Claims as files: the studies that are in studies/claims, and the table of answers."""

import json
import sys
from pathlib import Path

import pytest

from whytransfer.claims import CLAIMS, SCALES, judge
from whytransfer.claims.claim import Claim, Effect
from whytransfer.claims.files import folders_of, markdown, study_file, write_studies
from whytransfer.study.scores import Scores

STUDIES = Path(__file__).parents[2] / "studies" / "claims"
SCALE = "laptop"  # of the files that are kept


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=list(CLAIMS))
def test_the_kept_studies_are_those_of_the_claims(claim: Claim):
    """After a change: python tests/claims/test_files.py writes them again."""
    path = STUDIES / f"{claim.id.lower()}.yaml"
    assert path.read_text() == study_file(claim, SCALE)


@pytest.mark.parametrize("scale", SCALES)
def test_a_study_file_reads_back_as_the_study_under_a_head_that_says_what_it_asks(scale):
    yaml = pytest.importorskip("yaml")
    for claim in CLAIMS.values():
        text = study_file(claim, scale)
        read = yaml.safe_load(text)
        assert read.pop("study") == f"{claim.id}-{scale}"
        assert read == json.loads(json.dumps(claim.study(scale)))
        for word in ("From", "Question", "Command", "Cost", "Expect"):
            assert f"\n# {word} " in text, f"{claim.id} does not say its {word}"


def test_what_a_study_needs_on_disk_is_known_beforehand():
    assert folders_of(CLAIMS["C01"].study("laptop")) == ["caltech101_128", "tiny_imagenet_40", "voc100"]
    assert folders_of(CLAIMS["C01"].study("demo")) == []


def test_the_table_has_every_effect_with_its_seeds_and_says_what_is_undecided():
    def effects(scores, scale):
        return [
            Effect("a | b", "+", {0: 1.0, 1: 1.1, 2: 1.2}, "points", "+2"),
            Effect("c", "-", {0: -1.0, 1: 2.0, 2: 0.0}, "rho", "-1"),
        ]

    claim = Claim("C77", "nobody 2000", "it holds", "7", lambda scale: {}, effects)
    lines = markdown([judge(claim, Scores([]), "demo").row()]).splitlines()
    assert len(lines) == 4 and all(line.count(" | ") == 7 for line in lines[2:])
    assert "a \\| b" in lines[2] and "+1.10 [+0.85, +1.35] points" in lines[2] and "1.00, 1.10, 1.20" in lines[2]
    assert "**undecided**" in lines[2] and "undecided (so many seeds show" in lines[3]
    none = judge(Claim("C78", "x", "y", "z", lambda s: {}, effects, {"demo": "no faces"}), Scores([]), "demo")
    assert "not run: no faces" in markdown([none.row()])


def test_studies_are_written_where_asked(tmp_path):
    paths = write_studies([CLAIMS["C05"]], "demo", tmp_path / "mine")
    assert paths == [tmp_path / "mine" / "c05.yaml"] and "scenes:80:0:48" in paths[0].read_text()


if __name__ == "__main__":
    sys.stdout.write("\n".join(map(str, write_studies(CLAIMS.values(), SCALE, STUDIES))) + "\n")
