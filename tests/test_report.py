"""The page: complete, self-contained, true to the tables; read by a parser and, where there is one, by a browser."""

import base64
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import browser
import needs
import pytest
from made_report import DOT, FIGURES, NAMES, NASTY, make
from made_results import REASON

from bench import report, rulegraph
from bench.__main__ import main
from bench.errors import UserError
from bench.report_record import PNG

ROOT = Path(__file__).resolve().parents[1]
VOID = {"meta", "link", "img", "br", "hr"}


class Element:
    """A parsed element: tag, attributes, children (elements and texts)."""

    def __init__(self, tag: str, attributes: dict[str, str]) -> None:
        self.tag, self.attributes, self.children = tag, attributes, []

    def all(self, tag: str = "", cls: str = "") -> Iterator["Element"]:
        """All elements below this one with that tag and that class."""
        for child in self.children:
            if isinstance(child, Element):
                if tag in ("", child.tag) and (not cls or cls in child.attributes.get("class", "").split()):
                    yield child
                yield from child.all(tag, cls)

    def one(self, identity: str) -> "Element":
        (found,) = [element for element in self.all() if element.attributes.get("id") == identity]
        return found

    @property
    def text(self) -> str:
        joined = " ".join(child if isinstance(child, str) else child.text for child in self.children)
        return " ".join(joined.split())


class Page(HTMLParser):
    """The tree of a page; a tag that is not closed fails."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(text)
        self.close()
        assert [element.tag for element in self.open] == [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def path(folder: Path) -> Path:
    return report.write(folder, folder / "report.html", NAMES)


@pytest.fixture(scope="module")
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Element:
    return Page(text).root


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about the published tables, made by the command."""
    output = tmp_path_factory.mktemp("published") / "page.html"
    command = ["report", "--config", str(ROOT / "config.yaml"), "--from", str(ROOT / "results" / "published")]
    assert main([*command, "--output", str(output)]) == 0
    return output


def cells(page: Element, table: str, label: str) -> list[Element]:
    """The cells of a method in the matrix of a table."""
    (matrix,) = page.one(table).all("table", "matrix")
    (row,) = [row for row in matrix.all("tr") if next(row.all("th"), Element("", {})).text == label]
    return list(row.all("td"))


def test_nothing_is_fetched_and_pictures_have_words(page: Element, text: str) -> None:
    for element in page.all():
        for name in ("src", "srcset", "data", "action", "poster"):
            assert element.attributes.get(name, "data:").startswith("data:"), element.attributes
        target = element.attributes.get("href", "#")
        assert target.startswith(("#", "data:")) or (element.tag, target) == ("a", report.PAPER)
    assert "url(#" in text and not re.search(r"@import|url\((?!#)", text)
    policy = next(meta for meta in page.all("meta") if meta.attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy.attributes["content"].startswith("default-src 'none'; img-src data:;")
    images = list(page.all("img"))
    assert len(images) == 2 and all(image.attributes["alt"] for image in images)
    for image in images:
        assert base64.b64decode(image.attributes["src"].removeprefix("data:image/png;base64,")).startswith(PNG)


def test_every_anchor_leads_somewhere_once(page: Element) -> None:
    identities = Counter(element.attributes["id"] for element in page.all() if "id" in element.attributes)
    assert {name: n for name, n in identities.items() if n > 1} == {}
    targets = {link.attributes["href"][1:] for link in page.all("a") if link.attributes["href"].startswith("#")}
    assert targets <= identities.keys()
    sections = {"summary", *NAMES, "missing", "figures", "runtimes", "workflow", "provenance", *FIGURES}
    assert sections <= {link.attributes["href"][1:] for nav in page.all("nav") for link in nav.all("a")}


def test_a_cell_says_ours_the_papers_difference_verdict_and_interval(page: Element) -> None:
    first, second, *_ = cells(page, "table1", "BM3D")
    assert first.attributes["class"] == "v-match"
    assert first.text == "37.50 = 37.54 −0.04"
    assert re.match(r"paper 37.54; 95 % interval 36\.\d\d … 38\.\d\d; 3 images; match", first.attributes["title"])
    assert second.attributes["class"] == "v-differs"  # 31.50 − 31.13 is more than four tolerances
    assert second.text == "31.50 ≠ 31.13 +0.37"
    best = [found.text for cell in cells(page, "table1", "DEAL") for found in cell.all("span", "best")]
    assert best == ["37.83", "31.83"]
    assert cells(page, "table1", "BM3D")[2].text.startswith("41.10 ‡")
    assert cells(page, "table1", "Truth")[0].text == "∞"


def test_every_missing_cell_leads_to_its_reason(page: Element, folder: Path) -> None:
    seen = Counter()
    for name in ("table1", "table4"):
        for cell in page.one(name).all("td", "v-missing"):
            (link,) = cell.all("a", "mark")
            reason = page.one(link.attributes["href"][1:])
            assert reason.tag == "li" and reason.text
            seen[reason.text] += 1
    assert seen[REASON] == 1
    assert seen["x"] == 3
    assert seen["TV was not measured"] == 1
    assert seen["not in config.yaml's methods"] > 10
    assert "not in config.yaml's methods" in cells(page, "table1", "SAFI")[0].attributes["title"]
    lines = (folder / "tables" / "table1_vs_paper.csv").read_text().splitlines()
    rows = [line for line in lines if ",missing," in line]
    (listed,) = [t for t in page.one("table1").all("table", "sortable") if "Verdict" in t.text]
    marked = [row for row in listed.all("tr") if any(row.all("span", "v-missing"))]
    assert len(marked) == len(rows) > 20 and all(any(row.all("a", "mark")) for row in marked)


def test_reasons_are_escaped_and_long_addresses_short(page: Element, text: str) -> None:
    assert "<script>alert" not in text
    (item,) = [item for item in page.one("table1").all("li") if "alert(1)" in item.text]
    assert item.text == "no <script>alert(1)</script> & no https://example.org/…/w_1.pth : answered 404"
    assert next(item.all("span", "url")).attributes["title"] in NASTY
    assert "DRUNet & co_1" in page.one("missing").text


def test_the_summary_counts_and_says_what_was_run(page: Element) -> None:
    summary = page.one("summary").text
    assert "54 values of the paper in 2 tables: 4 match, 2 differs, 1 subset, 2 other hardware, 45 missing." in summary
    assert "Weights of DEAL shipped with this package" in summary
    assert "Extent the first 3 images of every task" in summary
    assert "Machine cpu, GPU A" in summary
    assert "29 of 30 reconstructions" in page.one("table1").text.partition("Converged: ")[2]
    assert "have converged" in summary
    (warned,) = page.one("table1").all("tr", "warn")
    assert warned.text == "DEAL BSD68 (gray), σ = 5 2 of 3 7 (7–7)"


def test_a_table_that_was_not_made_says_so(page: Element) -> None:
    assert re.search(r"Not made: \S+table2\.json is not there\. To make it: snakemake table2", page.one("table2").text)


def test_times_have_no_common_verdict(page: Element) -> None:
    (cell,) = cells(page, "table4", "WCRR")
    assert cell.attributes["class"] == "v-other-hardware"
    assert cell.text == "1.50 ÷ 1.50–1.50 12"
    assert "×0.5 of DEAL, paper ×0.857" in page.one("table4").text
    assert cells(page, "table4", "TV")[0].attributes["class"] == "v-missing"


def test_figures_have_captions_and_one_that_was_not_drawn_its_reason(page: Element) -> None:
    assert [figure.attributes["id"] for figure in page.one("figures").all("figure")] == ["fig03", "fig10", "error_time"]
    assert page.one("fig03").text == "Figure 3. Denoising. Noise σ = 25, ‖x_k‖ & <b>."
    assert "Not drawn: no MRI data here" in page.one("fig10").text
    assert page.one("error_time").text.startswith("Error against time. ε")


def test_only_the_figures_that_are_named_are_shown(folder: Path, tmp_path: Path) -> None:
    output = report.write(folder, tmp_path / "page.html", NAMES, [folder / "figures" / "error_time.png"])
    assert [f.attributes["id"] for f in Page(output.read_text()).root.one("figures").all("figure")] == ["error_time"]


def test_runtimes_and_provenance(page: Element) -> None:
    rows = [row.text for row in page.one("runtimes").all("tr")]
    assert "evaluate 2 2 min 2 min a/b/deal 400" in rows
    assert "fetch 1 1.0 s 1.0 s x" in rows
    provenance = page.one("provenance").text
    for fact in ("333333333333 bsd68", "Device cpu ; GPU A", "numpy 2.4.6", "2026-01-02 10:00 to 2026-01-02 10:01 UTC"):
        assert fact in provenance
    assert "Largest memory of a job 1.00 GiB" in provenance
    assert "weights: released" in provenance
    assert "denoise_gray/sigma5/bm3d.csv" in provenance


def test_equal_results_equal_bytes(text: str, folder: Path, tmp_path: Path) -> None:
    assert report.write(folder, tmp_path / "again.html", NAMES).read_text(encoding="utf-8") == text


def test_the_graph_is_drawn_downwards_without_implied_edges(page: Element) -> None:
    labels, following = rulegraph.parse(DOT)
    assert following["2"] == {"0", "1"}
    assert rulegraph.reduced(following)["2"] == {"1"}
    depth = rulegraph.layers(rulegraph.reduced(following))
    assert all(depth[first] < depth[second] for first, after in following.items() for second in after)
    drawing = ElementTree.fromstring(rulegraph.draw(DOT))
    names = [element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert sorted(names) == sorted(labels.values())
    edges = [e for e in drawing.iter("{http://www.w3.org/2000/svg}path") if e.get("class") == "edge"]
    assert len(edges) == 6
    for edge in edges:
        heights = [float(y) for y in re.findall(r",(-?[\d.]+)", edge.get("d"))]
        assert heights == sorted(heights) and heights[0] < heights[-1]
    boxes = drawing.iter("{http://www.w3.org/2000/svg}rect")
    spans = sorted((b.get("y"), float(b.get("x")), float(b.get("x")) + float(b.get("width"))) for b in boxes)
    assert all(a[0] != b[0] or a[2] < b[1] for a, b in pairwise(spans)), "boxes overlap"
    assert any(page.one("workflow").all("svg", "dag"))


def test_the_graph_of_a_run_is_read_as_it_was_written() -> None:
    labels, following = rulegraph.parse(rulegraph.dot(["a", "b", "b", "alone"], [("a", "b"), ("a", "b")]))
    assert sorted(labels.values()) == ["a", "alone", "b"]
    (edge,) = [(labels[first], labels[second]) for first, after in following.items() for second in after]
    assert edge == ("a", "b")


@pytest.mark.parametrize("dot", ["digraph {}", '0[label="a"]\n1[label="b"]\n0 -> 1\n1 -> 0'])
def test_what_is_no_graph_is_refused(dot: str) -> None:
    with pytest.raises(ValueError, match=r"no rules|cycle"):
        rulegraph.draw(dot)


def spoil(folder: Path, name: str, content: bytes | None) -> None:
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("tables/table1_per_image.csv", None, "table1_per_image.csv: no such file; make the table again"),
        ("tables/table1.json", b"{}", "table1.json: says nothing of the table's layout; make the table again"),
        ("figures/fig03.png", None, "fig03.png: no such file; draw the figure again"),
        ("figures/fig03.png", b"GIF", "fig03.png: not a PNG image"),
        ("figures/fig03.json", b'{"title": "x"}', "fig03.json: describes no figure (KeyError: 'caption')"),
        ("rulegraph.dot", b"digraph {}", "rulegraph.dot: no rules"),
    ],
)
def test_errors_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None, complaint: str
) -> None:
    folder = make(tmp_path / "results")
    spoil(folder, name, content)
    command = ["report", "--config", str(ROOT / "config.yaml"), "--from", str(folder)]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert complaint in error and error.startswith("error: ") and error.count("\n") == 1
    assert not (folder / "report.html").exists()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tables; make them first"):
        report.write(tmp_path, tmp_path / "report.html", NAMES)
    assert list(tmp_path.iterdir()) == []


def test_the_published_tables_can_be_shown(published: Path) -> None:
    page = Page(published.read_text(encoding="utf-8")).root
    for name in ("table1", "table2", "table3", "table4", "table5"):
        assert page.one(name).text
    shown = [path.stem for path in (ROOT / "results" / "published").glob("table?.json")]
    assert len(shown) >= 2
    for name in shown:
        assert any(page.one(name).all("table", "matrix"))
        values = (ROOT / "results" / "published" / f"{name}.csv").read_text(encoding="utf-8").splitlines()
        filled = [cell for cell in page.one(name).all("span", "value") if cell.text != "–"]
        assert len(filled) == sum(line.endswith(",") for line in values[1:])


def test_neither_page_nor_latex_needs_torch() -> None:
    code = "import sys, bench.report, bench.paper; sys.exit('torch' in sys.modules)"
    environment = {"PYTHONPATH": str(ROOT / "workflow"), "PATH": ""}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


@needs.BROWSER
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_without_a_network_has_no_complaint(path: Path, published: Path, tmp_path: Path, width: int) -> None:
    with browser.Browser(tmp_path / "profile", width) as chromium:
        for page in (path, published):
            chromium.open(page)
            wide = chromium.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, "the page, not only a table's box, scrolls sideways"
            assert chromium.evaluate("[...document.images].every((image) => image.naturalWidth > 20)")
        assert chromium.messages == []
        assert {request.partition(":")[0] for request in chromium.requests} <= {"file", "data"}
        assert sum(request.startswith("file:") for request in chromium.requests) == 2


@needs.BROWSER
def test_a_browser_sorts_prints_and_would_report_a_fault(path: Path, tmp_path: Path) -> None:
    with browser.Browser(tmp_path / "profile", 900) as chromium:
        chromium.open(path)
        column = "[...table.tBodies[0].rows].map((row) => row.cells[2].textContent)"
        click = f"table.tHead.rows[0].cells[2].click(); {column}"
        chromium.evaluate("void (table = document.querySelector('#table1 table.sortable'))")
        up, down = ([float(value) for value in chromium.evaluate(click)] for _ in range(2))
        assert up == sorted(up) and down == up[::-1] and len(up) == 38
        chromium.pdf(tmp_path / "page.pdf")
        assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
        assert chromium.messages == []
        chromium.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://example.org/x.png'}))")
        chromium.evaluate("new Promise((done) => setTimeout(done, 100))")
        assert "Content Security Policy" in " ".join(chromium.messages)
