"""The page: every section, what is missing, and foreign text that must stay text."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.unit.report.reports import DATA, NOTHING, SCORES, held_out, two_behaviors

from heretic.report.data import Chosen, ReportData
from heretic.report.page import Drawing, page
from heretic.results import tables
from heretic.results.capability import Benchmark, Capability, PairedAnswers, Questions
from heretic.results.held_out import Example
from heretic.results.score import Scores

DRAWINGS = {
    name: Drawing(f"light {name}".encode(), f"dark {name}".encode(), 90, 60)
    for name in ("pareto", "importance", "strengths", "quality")
}
VOID = {"meta", "link", "img", "source", "br"}


class Page(HTMLParser):
    """Sections by id with their text, tables as rows of cells, images, and all tags with attributes."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {"": ""}
        self.rows: dict[str, list[list[str]]] = {}
        self._section = ""
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], "a tag is never closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self._section = dict(attrs)["aria-labelledby"] or ""
            self.texts[self._section] = ""
        elif tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        elif tag in ("td", "th"):
            self.rows[self._section][-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.texts[self._section] += data
        if self._open and {"td", "th"} & set(self._open):
            self.rows[self._section][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def cells(self, section: str) -> list[list[str]]:
        return [[" ".join(cell.split()) for cell in row] for row in self.rows.get(section, [])]


def parsed(data: ReportData, drawings: dict[str, Drawing] = DRAWINGS) -> Page:
    return Page(page(data, drawings))


def test_how_good_the_front_is() -> None:
    words = " ".join(parsed(DATA).texts["trials"].split())
    # 0.92 log(0.5 / 0.2) + 0.6 log(0.2 / 0.01), of log(500).
    assert "The front fills 0.42 of what is between KL 0.001 and 0.5 nats" in words
    assert (
        "Lowest KL by what is left of the behaviour: 0.0100 at 50 % or less, 0.2000 at 10 % or less, no trial at none."
        in words
    )
    several = replace(DATA, records=(two_behaviors(0, 25.0, 40.0, 0.02),), chosen=None)
    assert "0.0200 at 50 % or less, no trial at 10 % or less" in " ".join(parsed(several).texts["trials"].split())


def test_everything_has_its_place() -> None:
    found = parsed(DATA)
    sections = [name for name in found.texts if name]
    assert sections == ["examples", "trials", "importance", "edit", "held-out", "capability", "run"]
    links = [attributes["href"] for attributes in found.all("a")]
    assert links == [f"#{name}" for name in sections]
    assert {attributes["id"] for attributes in found.all("h2") if "id" in attributes} >= set(sections)
    head = found.texts[""]
    assert "Heretic report: some/model" in head
    assert "2026-01-02 03:04 UTC" in head
    assert (
        "Trial 3 of 7 was chosen: refusals 5/100 (original model: 50/100), "
        "at a KL divergence of 0.2100 nats from the original model." in head
    )
    assert "refusals 17/80 (95 %: 15.5 to 19.5; original model: 44/80)" in head
    assert "at a KL divergence of 0.3100 (first token) and 0.2700 (over answers) nats" in head
    assert "7 trials: 4 complete, 3 of them on the front; 2 stopped early; 1 failed." in found.texts["trials"]
    assert "computed from 30 of 31 trials (KL divergence), evenly spread over the search" in found.texts["importance"]
    assert "Water that falls." in found.texts["examples"]
    shown = [[list(own.header), *(list(row.cells) for row in own.rows)] for own in tables.capability(DATA.capability)]
    assert found.cells("capability") == [row for own in shown for row in own]
    assert found.cells("run") == [["Setting", "Value", "Default"], ["n_trials", "60", "200"]]
    assert "LlamaForCausalLM" in found.texts["run"]
    assert "heretic 0.1.0, torch 2.9" in found.texts["run"]


def test_the_front_is_a_table_with_the_chosen_trial_marked() -> None:
    found = parsed(DATA)
    assert found.cells("trials")[1:] == [
        ["3 (chosen)", "4/100", "0.2000", "0.4000", "-"],
        ["2", "20/100", "0.0100", "0.0200", "-"],
        ["1", "50/100", "0.0010", "0.0020", "-"],
        ["original", "50/100", "0", "0", "100.0 %"],
    ]
    # Besides, the row of all questions.
    assert [attributes.get("class") for attributes in found.all("tr")].count("marked") == 2


def test_held_out_values_stand_beside_those_of_the_search() -> None:
    table = tables.held_out(DATA.held_out, SCORES)
    assert parsed(DATA).cells("held-out") == [list(table.header), *(list(row.cells) for row in table.rows)]
    parts = [own for own in parsed(DATA).all("th") if own.get("class") == "part"]
    assert len(parts) == sum(row.is_part for row in table.rows) == 4


def test_quantised_search_values_are_told_from_those_of_the_saved_weights() -> None:
    searched = Scores((replace(SCORES.behaviors[0], value=3.0),), replace(SCORES.kl, value=0.19))
    assert DATA.chosen is not None
    found = parsed(replace(DATA, chosen=replace(DATA.chosen, searched=searched)))
    assert "Trial 3 of 7 was chosen: refusals 5/100" in found.texts[""]
    assert "On the quantised weights that the search ran on it was refusals 3/100" in found.texts[""]
    assert ["refusals at 30 tokens", "44/80", "6/80 (95 %: 4.5 to 8.5)", "80", "3/100"] in found.cells("held-out")


def test_several_behaviors_are_groups_of_the_held_out_table() -> None:
    records = (two_behaviors(0, 10, 30.5, 0.1), two_behaviors(1, 20, 20.25, 0.2))
    chosen = Chosen(1, records[1].plan, records[1].scores)
    data = replace(DATA, behaviors=("refusal", "verbosity"), records=records, chosen=chosen)
    found = parsed(replace(data, held_out=held_out("refusal", "verbosity")))
    groups = [row[0] for row in found.cells("held-out") if len(row) == 1]
    assert groups == ["refusal", "verbosity", "KL divergence"]
    assert "refusals 20/100 (original model: 50/100) and words 20.2 (original model: 80.0), at a KL" in found.texts[""]
    assert "verbosity: refusals 17/80 (95 %" in found.texts[""]
    assert found.cells("trials")[0] == ["Trial", "refusals", "words", "KL (nats)", "95th percentile", "Same top token"]


def test_what_is_missing_is_said() -> None:
    found = parsed(NOTHING, {})
    assert "Heretic report" in found.texts[""]
    assert "No trial is complete yet, so there is nothing to choose." in found.texts[""]
    assert "There is no study." in found.texts["trials"]
    assert "None." in found.texts["importance"]
    assert "No trial was chosen." in found.texts["edit"]
    assert "Not kept." in found.texts["edit"]
    assert "No answers were kept" in found.texts["examples"]
    assert "Nothing was measured on held-out prompts." in found.texts["held-out"]
    assert "Capability was not measured." in found.texts["capability"]
    assert found.rows == {}
    assert found.all("img") == []


def test_without_held_out_prompts_the_search_stands_alone() -> None:
    rows = parsed(replace(DATA, held_out=None)).cells("held-out")
    assert rows == [
        ["Measure", "Original", "Edited", "Prompts"],
        ["refusals", "50/100", "5/100 (95 %: 2.2 to 11.2)", "100"],
        ["KL in nats, over answers", "0", "0.2100", "100"],
        ["95th percentile", "0", "0.4300", "100"],
        ["same top token", "100.0 %", "87.5 %", "100"],
    ]


def test_an_automatic_choice_is_called_one() -> None:
    assert DATA.chosen is not None
    data = replace(DATA, chosen=replace(DATA.chosen, automatic=True), held_out=None)
    assert "the automatic choice would be trial 3 of 7" in parsed(data).texts[""]
    elsewhere = replace(DATA, chosen=replace(DATA.chosen, number=None))
    assert "The saved edit is no trial of a search: refusals 5/100" in parsed(elsewhere).texts[""]
    unmeasured = replace(DATA, chosen=replace(DATA.chosen, scores=None))
    assert "nothing was measured on it" in parsed(unmeasured).texts[""]


EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> {{ 7*7 }} &lt; $x_1$"


EVIL_CAPABILITY = Capability(
    Questions(EVIL, ((EVIL, 1),), PairedAnswers(EVIL, 1, 0, 0, 0, 0), (PairedAnswers(EVIL, 1, 0, 0, 0, 0),)),
    (Benchmark(EVIL, EVIL, EVIL, 1, None, 0.5, None, 0.5, None, None),),
    None,
)


def test_foreign_text_stays_text() -> None:
    plain = parsed(DATA)
    data = replace(
        DATA,
        model=EVIL,
        behaviors=(EVIL,),
        direction_method=EVIL,
        examples=(Example(EVIL, EVIL, EVIL, EVIL),),
        capability=EVIL_CAPABILITY,
        facts=((EVIL, EVIL),),
        versions=((EVIL, EVIL),),
        settings=(replace(DATA.settings[0], name=EVIL, value=EVIL, default=EVIL),),
        held_out=held_out(EVIL, EVIL),
        importances=(replace(DATA.importances[0], label=EVIL, shares=((EVIL, 1.0),)),),
        created=EVIL,
        no_importances=EVIL,
    )
    found = parsed(data)
    assert [tag for tag, _ in found.tags if tag in ("script", "iframe")] == []
    assert len(found.all("img")) == len(plain.all("img"))
    assert not any(name.startswith("on") for _tag, attributes in found.tags for name in attributes)
    # Shown as it is, not swallowed.
    assert found.texts["examples"].count(EVIL) == 3
    assert EVIL in found.texts[""]
    assert EVIL in found.texts["run"]
    assert EVIL in (found.all("img")[1]["alt"] or "")


def test_characters_that_garble_a_page_are_replaced() -> None:
    html = page(replace(DATA, examples=(Example("x", "a\x00b\u202ec\ud800d", "e\r\nf\tg", "h"),)), {})
    assert "a\ufffdb\ufffdc\ufffdd" in html
    assert "e\nf\tg" in html
    html.encode("utf-8")


def test_images_are_in_the_page_for_light_and_dark() -> None:
    found = parsed(DATA)
    images, sources = found.all("img"), found.all("source")
    assert [image["src"] for image in images] == [
        f"data:image/png;base64,{code}"
        for code in ("bGlnaHQgcGFyZXRv", "bGlnaHQgaW1wb3J0YW5jZQ==", "bGlnaHQgc3RyZW5ndGhz", "bGlnaHQgcXVhbGl0eQ==")
    ]
    assert sources[0]["srcset"] == "data:image/png;base64,ZGFyayBwYXJldG8="
    assert all("dark" in (source["media"] or "") for source in sources)
    alternatives = [image["alt"] or "" for image in images]
    assert "from trial 3 with refusals 4/100, KL 0.2000 to trial 1" in alternatives[0]
    assert "Trial 3 is ringed" in alternatives[0]
    assert "attention: peak weight 70 % and scope 30 %" in alternatives[1]
    assert "attention: at most 1.0" in alternatives[2]
    assert "best at layer 4 with 0.8" in alternatives[3]


def test_the_page_asks_for_nothing() -> None:
    found = parsed(DATA)
    for tag, attributes in found.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    policy = next(own["content"] for own in found.all("meta") if own.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "url(" not in page(DATA, {})


@pytest.mark.parametrize("created", ["", "yesterday", "2026-01-02T03:04:05"])
def test_any_date_will_do(created: str) -> None:
    shown = {"": "", "yesterday": "yesterday", "2026-01-02T03:04:05": "2026-01-02 03:04"}[created]
    assert shown in parsed(replace(DATA, created=created)).texts["run"]
