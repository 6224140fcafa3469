"""The file without a browser: what is in it, what is not, and that names in it are text."""

import base64
import dataclasses
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_rows import CLAIMS, renamed, row, study_rows

from whytransfer.errors import InputError
from whytransfer.report.build import build
from whytransfer.report.page import Drawn, Missing, Page, Section, html, libraries, plain_json

BREAKING = "</script><script>document.title='broken'</script>"
IMAGE = "<img src=x onerror=\"document.title='broken'\">"
NAMES = {"random": IMAGE, "class": BREAKING, "hue similarity": "hue & <b>bold</b> similarity", "fused": "a'\"b"}


class Read(HTMLParser):
    """Every start tag with its attributes, and text by the tag it is in."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def page() -> Page:
    claims = [{**CLAIMS[0], "finding": BREAKING}, *CLAIMS[1:]]
    rows = renamed(study_rows(), NAMES)
    return build(
        rows, claims, Path("/study"), Path("/study/report.html"), "whytransfer report /study", lambda r: "make it"
    )


@pytest.fixture(scope="module")
def text(page: Page) -> str:
    return html(page)


@pytest.fixture(scope="module")
def read(text: str) -> Read:
    return Read(text)


def test_names_with_markup_are_text(read: Read, text: str):
    plain_names = Read(html_of_plain_names())
    assert [tag for tag, _ in read.tags] == [tag for tag, _ in plain_names.tags]  # a name adds no tag
    assert not any(name.startswith("on") for _, attributes in read.tags for name in attributes)
    assert IMAGE in [a.get("data-backbone") for a in read.all("tr")] and BREAKING in [
        a.get("value") for a in read.all("input")
    ]


def html_of_plain_names() -> str:
    rows = renamed(study_rows(), {name: f"name {k}" for k, name in enumerate(NAMES)})
    return html(build(rows, CLAIMS, Path("/study"), Path("/study/report.html"), "c", lambda r: "make it"))


def test_links_to_numbers_and_parts_lead_somewhere(page: Page, read: Read):
    named = [attributes["id"] for _, attributes in read.tags if "id" in attributes]
    places = set(named)
    assert len(named) == len(places)  # each place is there once
    numbers = len(page.evidence["numbers"])
    links = [str(a["href"]) for a in read.all("a")]
    assert len(links) > numbers  # each at least once, in its table
    for link in links:
        assert link.startswith("#"), link
        to_numbers = re.fullmatch(r"#n\d+(\+n\d+)*", link)
        assert link[1:] in places or (to_numbers and all(int(n) < numbers for n in re.findall(r"\d+", link)))
    assert {int(n) for link in links for n in re.findall(r"n(\d+)", link) if link[1] == "n"} == set(range(numbers))


def test_nothing_is_loaded_and_no_other_script_may_run(read: Read):
    for tag, attributes in read.tags:
        for name in ("src", "href", "data", "srcset", "action"):
            assert not re.match(r"(https?:)?//", attributes.get(name) or ""), (tag, attributes)
    policy = next(str(a["content"]) for a in read.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    ours = [*(script for script in read.scripts if "=>" in script), libraries()]
    assert len(ours) == 3 and {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in ours} == allowed
    assert (
        "default-src 'none'" in policy and "unsafe-inline" not in policy.split("script-src")[1] and "eval" not in policy
    )


def test_the_data_of_the_page_reads_back(page: Page, read: Read):
    data, packed = (script for script in read.scripts if "=>" not in script)
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", data + packed)  # nothing that could end the element it stands in
    found = json.loads(zlib.decompress(base64.b64decode(data)))
    assert found["evidence"] == json.loads(json.dumps(page.evidence))
    charts = [*page.claim_charts, *page.task_charts, *(c for section in page.sections for c in section.charts)]
    assert found["specs"] == {c.id: json.loads(plain_json(c.spec)) for c in charts} and len(charts) >= 10
    assert zlib.decompress(base64.b64decode(packed)).decode() == libraries()


def test_what_is_no_number_is_null():
    value = {"name": BREAKING, "bad": float("nan"), "list": [1, (2.5, float("inf"))]}
    assert json.loads(plain_json(value)) == {**value, "bad": None, "list": [1, [2.5, None]]}


def test_the_page_is_small(text: str):
    assert len(text.encode()) < 800_000  # of which the libraries are 0.4


def test_parts_without_content_are_left_out(page: Page):
    bare = dataclasses.replace(page, claims=(), overview=None, task_tables=(), sections=(), answers=())
    found = Read(html(bare))
    places = {attributes.get("id") for _, attributes in found.tags}
    assert not places & {"claims", "tasks", "invariance"} and {"compared", "answers", "method"} <= places
    one = dataclasses.replace(
        bare, sections=[Section("cost", "Cost", [Drawn("c", "Title", "Reading", {"mark": "bar"})])]
    )
    assert "cost" in {attributes.get("id") for _, attributes in Read(html(one)).tags}


def test_what_was_compared(page: Page):
    what = {row["name"]: row["what"] for row in page.compared}
    assert what["a'\"b"] == "default + spatial + appearance" and what[IMAGE] == "random:resnet18:0"
    kinds = {row["name"]: row["kind"] for row in page.asked}
    assert kinds["parts"] == "task: segmentation" and kinds["masks"] == "quality of regions"
    assert page.lead.startswith("6 backbones, 8 tasks and diagnoses, 3 seeds: 152 numbers from 140 runs")


def test_a_diagnosis_that_the_page_does_not_know_is_shown_all_the_same():
    rows = [{**row("default", "new one", "depth of thought", 1.0, 0), "stage": "diagnose-thought"}, *study_rows((0,))]
    page = build(rows, [], Path("/study"), Path("/study/report.html"), "c", lambda r: "")
    (more,) = [section for section in page.sections if section.anchor == "more"]
    assert [t.item for t in more.tables] == ["new one"] and "depth of thought" in html(page)


def test_cells_without_a_result_are_listed_as_text(page: Page):
    left_out = [Missing(f"class/{IMAGE}/0", "failed", f"RunError: {BREAKING}"), Missing("depth/fused/0", "not run", "")]
    text = html(dataclasses.replace(page, missing=left_out))
    assert "2 cells have no result and are left out: 1 failed, 1 not run" in text
    assert IMAGE not in text and BREAKING not in text and "depth/fused/0" in text
    assert "no result" not in html(page)


def test_no_rows_no_report():
    with pytest.raises(InputError, match="results has no finished cell.*whytransfer study FILE.yaml --out results"):
        build([], [], Path("results"), Path("r.html"), "", lambda _: "")
    left = [Missing("class/a/0", "failed", "RunError: the disk is full\n(log)"), Missing("depth/a/0", "not run", "")]
    told = r"no finished cell of 2 \(1 failed, 1 not run\), so .* report\. class/a/0: RunError: the disk is full\. Run"
    with pytest.raises(InputError, match=told):
        build([], [], Path("results"), Path("r.html"), "", lambda _: "", left)
