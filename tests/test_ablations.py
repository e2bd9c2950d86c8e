"""The table of ablations from made-up evaluations: sizes, counts, reasons; where it is shown, and never made."""

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import browser
import needs
import numpy as np
import pytest
from made_report import NAMES, make
from made_results import Maker
from test_report import Element, Page, cells

from bench import ablations, configfile, figure_data, figures, paper, publish, report
from bench.__main__ import main
from bench.config import Architecture, Config
from bench.errors import UserError
from bench.figure_data import ablation_sizes
from bench.plan import Plan
from bench.render import render_latex, render_markdown

ROOT = Path(__file__).resolve().parents[1]
VALUES = {"names": ["filters_32", "filters_128", "kernel_5"]}


@pytest.mark.parametrize("values", [{}, {"filters": 32, "kernel_size": 5}, {"filters": 3, "non_decreasing": False}])
def test_parameters_are_those_of_the_model(values: dict) -> None:
    from deal import DEAL

    counted = sum(p.numel() for p in DEAL("gray", **values).parameters())
    assert ablations.parameters(Architecture(**values)) == counted


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configfile.check({"results": str(tmp_path), "ablations": VALUES})


def rows(table) -> dict[str, dict[str, str]]:
    return {row["variant"]: row for row in csv.DictReader(io.StringIO(ablations.render_csv(table)))}


def trained(config: Config, variant: str, steps: int) -> None:
    """What a training leaves that the table reads."""
    folder = Path(config.ablated(variant).results, "training")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gray.safetensors").touch()
    architecture = config.ablations.variants[variant].model_dump()
    record = {"training": {"phases": [{"steps": steps}], "seed": 0, "architecture": architecture}}
    (folder / "gray.json").write_text(json.dumps(record))


def test_before_anything_is_trained_every_row_says_so(config: Config) -> None:
    table = ablations.build(config)
    found = rows(table)
    assert list(found) == config.ablations.names
    assert found["kernel_5"]["missing"] == f"not trained: there is no {config.results}/ablations/kernel_5/training/" + (
        "gray.safetensors"
    )
    assert (found["filters_32"]["psnr_sigma5"], found["filters_32"]["converged"]) == ("", "")
    assert (found["filters_128"]["parameters"], found["filters_32"]["filters"]) == ("468570", "32")
    text = render_markdown(table)
    assert "not trained" in text and "The published architecture: filters_128." in text and "schedule" not in text


def evaluated(config: Config) -> None:
    """Two variants with values, a third whose weights are broken at one noise level and which lacks the others."""
    for number, variant in enumerate(config.ablations.names[:2]):
        trained(config, variant, 10)
        maker = Maker(Path(config.ablated(variant).results))
        for setting, psnr in (("sigma5", 38.0), ("sigma15", 32.0), ("sigma25", 29.0)):
            weights = {"deal_gray": f"{number}" * 64}
            maker.put("denoise_gray", setting, "deal", [psnr + number, psnr + 2 + number], weights=weights)
    trained(config, "kernel_5", 10)
    maker = Maker(Path(config.ablated("kernel_5").results))
    maker.put("denoise_gray", "sigma5", "deal", [], missing="weights are broken")


def test_values_and_reasons(config: Config) -> None:
    evaluated(config)
    table = ablations.build(config)
    found = rows(table)
    assert [found["filters_128"][f"psnr_sigma{sigma}"] for sigma in (5, 15, 25)] == [
        "40.000000",
        "34.000000",
        "31.000000",
    ]
    assert (found["filters_32"]["updates_median"], found["filters_32"]["converged"]) == ("7", "6")
    assert found["kernel_5"]["missing"] == "weights are broken; not evaluated: there is no results file"
    text = render_markdown(table)
    assert "**40.00**" in text and "_39.00_" in text and "7 (7–7)" in text and "6 of 6" in text
    assert "by one schedule: 10 steps from random weights, seed 0." in " ".join(text.split())
    assert "files of the weights" not in text, "every variant has weights of its own"
    lines = ablations.render_per_image(table).splitlines()
    assert lines[1].startswith("filters_32,denoise_gray,sigma5,bsd68,1,deal,") and len(lines) == 13
    assert r"N\_C" in render_latex(table) and "φ" not in render_latex(table)
    trained(config, "kernel_5", 11)
    assert "Caution: the variants were trained by 2 different schedules." in ablations.build(config).notes


def test_an_evaluation_that_was_edited_is_refused(config: Config) -> None:
    maker = Maker(Path(config.ablated("filters_32").results))
    path = maker.put("denoise_gray", "sigma5", "deal", [38.0])
    path.write_text(path.read_text().replace("38.0", "39.0"))
    with pytest.raises(UserError, match="run its job again"):
        ablations.build(config)


def test_the_plan_asks_for_every_variant_and_setting(config: Config) -> None:
    plan = Plan(config)
    assert len(plan.ablations()) == 9
    assert plan.ablations()[0] == f"{config.results}/ablations/filters_32/evaluate/denoise_gray/sigma5/deal.csv"
    inner = plan.ablated("kernel_5")
    assert inner.weights_inputs("denoise_gray", "deal") == [
        f"{config.results}/ablations/kernel_5/training/gray.safetensors"
    ]
    assert inner.training_part("gray") != plan.training_part("gray")
    assert plan.ablated("filters_128").training_part("gray") == plan.training_part("gray")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with tables of the paper, and with ablations, their figure and the page."""
    root = make(tmp_path_factory.mktemp("results"))
    report.write(root, root / "before.html", NAMES)
    config = configfile.check({"results": str(root), "ablations": VALUES})
    evaluated(config)
    ablations.write(ablations.build(config), root)
    data = root / "figures" / "data" / "ablation_sizes.npz"
    figure_data.write(config, "ablation_sizes", data)
    figures.write("ablation_sizes", data, root / "figures" / "ablation_sizes.png")
    report.write(root, root / "report.html", NAMES)
    return root


def opened(path: Path) -> Element:
    return Page(path.read_text(encoding="utf-8")).root


def test_the_report_shows_them_after_the_papers_tables(folder: Path) -> None:
    page = opened(folder / "report.html")
    section = page.one("ablations")
    heads = [head.text for head in next(section.all("thead")).all("th")]
    assert heads[:6] == ["Gray", "Variant", "N_C", "Kernel size", "φ1, φ2", "Parameters"]
    assert heads[6:] == ["σ = 5", "σ = 15", "σ = 25", "Mask updates", "Converged"]
    best, second, missing = (cells(page, "ablations", name) for name in VALUES["names"][1::-1] + VALUES["names"][2:])
    assert [cell.text for cell in best[:4]] == ["128", "9", "non-decreasing", "468570"]
    assert [cell.text for cell in best[7:]] == ["7 (7–7)", "6 of 6"] and best[4].text.startswith("40.00")
    assert all(any(cell.all("span", "best")) for cell in best[4:7])
    assert all(any(cell.all("span", "second")) for cell in second[4:7]) and second[4].attributes["title"] == "2 images"
    reasons = [page.one(next(cell.all("a", "mark")).attributes["href"][1:]).text for cell in missing[4:7]]
    assert reasons == ["weights are broken", *2 * ["not evaluated: there is no results file"]]
    assert [cell.text for cell in missing[7:]] == ["–", "–"]
    assert "The published architecture: filters_128." in section.text and "paper" not in section.text
    sections = [element.attributes["id"] for element in page.all("section")]
    assert sections[sections.index("ablations") - 1 :][:3] == ["table4", "ablations", "missing"]
    assert "ablations" in [link.attributes["href"][1:] for nav in page.all("nav") for link in nav.all("a")]
    assert page.one("ablation_sizes").text.startswith("Ablations: quality against parameters.")


def test_they_do_not_count_among_the_papers_values_but_have_their_provenance(folder: Path) -> None:
    before, page = opened(folder / "before.html"), opened(folder / "report.html")
    assert page.one("summary").text == before.one("summary").text
    provenance = page.one("provenance").text
    assert "000000000000 deal_gray of filters_32" in provenance and "denoise_gray/sigma15/filters_128.csv" in provenance
    assert "kernel_5 (Gray, σ = 15)" in page.one("missing").text


def test_where_they_were_not_made_nothing_is_shown(folder: Path) -> None:
    assert "ablation" not in (folder / "before.html").read_text(encoding="utf-8")


def test_times_of_their_evaluations_are_found(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "results"
    shutil.copytree(folder, copy)
    path = copy / "ablations" / "filters_32" / "evaluate" / "denoise_gray" / "sigma5" / "deal.json"
    about = {"started": "2026-03-04T10:00:00+00:00", "ended": "2026-03-04T11:00:00+00:00", "wall_s": 3600.0}
    path.write_text(json.dumps(json.loads(path.read_text()) | about))
    page = opened(report.write(copy, copy / "report.html", NAMES))
    assert "2026-01-02 10:00 to 2026-03-04 11:00 UTC" in page.one("provenance").text
    assert "2026-03-04" not in page.one("summary").text


@needs.BROWSER
@pytest.mark.parametrize("width", [1280, 390])
def test_the_table_scrolls_in_its_box_and_names_stay_in_their_cells(folder: Path, tmp_path: Path, width: int) -> None:
    with browser.Browser(tmp_path / "profile", width) as chromium:
        chromium.open(folder / "report.html")
        assert chromium.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        names = "[...document.querySelectorAll('#ablations th[scope=row]')]"
        assert chromium.evaluate(f"{names}.every((cell) => cell.scrollWidth <= cell.clientWidth)")
        long = f"{names}[0].textContent = 'unconstrained_splines'"
        chromium.evaluate(long)
        assert chromium.evaluate(f"{names}[0].scrollWidth <= {names}[0].clientWidth")
        assert chromium.messages == []


def test_latex_numbers_them_apart_before_the_comparison(folder: Path, tmp_path: Path) -> None:
    paper.write(folder, tmp_path / "paper", NAMES)
    text = (tmp_path / "paper" / "tables.tex").read_text(encoding="ascii")
    papers, apart, comparison = map(text.index, (r"\label{tab:table4}", r"{A1}", "{Ours and the paper's}"))
    assert papers < apart < text.index(r"\label{tab:ablations}") < text.index(r"\endgroup") < comparison
    assert text.count(r"\setcounter{table}") == 2, "the paper's numbers are left as they were"
    assert "ablation" not in text[comparison:]
    assert "{ablation_sizes.pdf}" in (tmp_path / "paper" / "figures.tex").read_text(encoding="ascii")


@needs.LATEX
def test_their_latex_compiles(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "figures", tmp_path / "figures")
    made = paper.compile_pdf(paper.write(folder, tmp_path / "paper", NAMES))
    assert made.read_bytes().startswith(b"%PDF")
    if shutil.which("pdftotext"):
        words = subprocess.run(["pdftotext", "-layout", made, "-"], capture_output=True, text=True, check=True).stdout
        assert "Table A1:" in words and "Table 4:" in words and "Table 5:" not in words


def test_publishing_takes_them_along(folder: Path, tmp_path: Path) -> None:
    config = configfile.check({"results": str(folder)})
    manifest = json.loads(publish.publish(config, tmp_path / "published", config).read_text())
    files = {f"ablations{suffix}" for suffix in ablations.RENDERERS}
    assert set(manifest["tables"]["ablations"]["files"]) == files
    assert {path.name for path in (tmp_path / "published").glob("ablations*")} == files
    assert {"deal_gray of filters_32": "0" * 64} in manifest["tables"]["ablations"]["provenance"]["weights"]
    page = opened(report.write(tmp_path / "published", tmp_path / "page.html", NAMES))
    assert cells(page, "ablations", "filters_128")[4].text.startswith("40.00")


@pytest.mark.parametrize(
    ("suffix", "content", "complaint"),
    [
        (".json", "{", "ablations.json: Expecting property name"),
        (".json", "{}", "layout; make the table again: `snakemake ablations`"),
        (".csv", "variant\nfilters_32\n", "ablations.json: not of the table beside it; make it again"),
        (".csv", None, "ablations.csv: no such file; make the table again"),
        (".tex", None, "ablations.tex: no such file; make the table again"),
    ],
)
def test_files_that_are_not_theirs_end_in_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture, suffix: str, content: str | None, complaint: str
) -> None:
    copy = tmp_path / "results"
    shutil.copytree(folder, copy)
    path = copy / "tables" / f"ablations{suffix}"
    path.unlink() if content is None else path.write_text(content)
    assert main(["paper", "--config", str(ROOT / "config.yaml"), "--from", str(copy)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and complaint in error and error.count("\n") == 1


def test_the_figure_draws_what_the_table_says(folder: Path, config: Config, tmp_path: Path) -> None:
    data, meta, _ = figures.load(folder / "figures" / "data" / "ablation_sizes.npz")
    assert (meta["labels"], meta["columns"]) == (VALUES["names"][:2], ["σ = 5", "σ = 15", "σ = 25"])
    assert data["parameters"].tolist() == [66330, 468570]
    np.testing.assert_allclose(data["psnr"], [[39, 33, 30], [40, 34, 31]])
    about = json.loads((folder / "figures" / "ablation_sizes.json").read_text())
    assert "Not shown: kernel_5 (weights are broken; not evaluated" in about["caption"]
    last = figures.draw("ablation_sizes", data, meta).axes[2]
    assert [line.get_xydata().tolist() for line in last.lines] == [[[66330, 30]], [[468570, 31]]]
    table = tmp_path / "tables" / "ablations.csv"
    for number, text in enumerate(("variant\na\n", "")):
        table.parent.mkdir(exist_ok=True)
        table.write_text(text)
        with pytest.raises(UserError, match=["KeyError: 'parameters'", "no variant has a PSNR"][number]):
            ablation_sizes.collect(config)


def test_the_page_is_made_anew_with_them_but_never_asks_for_them(config: Config) -> None:
    def asked() -> tuple:
        plan = Plan(config)
        return plan.tables(), plan.figures()

    def part() -> str:
        return Plan(config).shown_part("report.css")

    before, parts = asked(), [part()]
    evaluated(config)
    ablations.write(ablations.build(config), config.results)
    parts.append(part())
    figure = Path(config.results, "figures", "ablation_sizes.png")
    figure.parent.mkdir()
    figure.write_bytes(b"1")
    parts.append(part())
    figure.write_bytes(b"2")
    parts.append(part())
    assert len(set(parts)) == 4 and asked() == before
    assert Plan(config).ablation_figure() == [str(figure)]
    named = config.model_copy(update={"figures": config.figures.model_copy(update={"names": ["ablation_sizes"]})})
    assert (Plan(named).ablation_figure(), Plan(named).figures()) == ([], [str(figure)]), "shown once"
    assert Plan(config).figure_inputs("ablation_sizes") == [f"{config.results}/tables/ablations.csv"]
