"""Tables as CSV, Markdown, LaTeX and JSON, as a reader sees them; writing them."""

import json
import random
import re
import subprocess

import needs
import pytest
from made_results import GRAY, REASON, Maker, column, full, layout

from bench import render


@pytest.fixture
def maker(tmp_path):
    return Maker(tmp_path)


def squeezed(text):
    return re.sub(" +", " ", text)


def test_the_table_as_csv(maker):
    lines = render.render_csv(maker.build(full(maker))).splitlines()
    assert lines[0] == "task,setting,method,label,images,psnr,ssim,psnr_low,psnr_high,missing"
    assert len(lines) == 1 + 3 * 4
    assert lines[1].startswith("denoise_gray,sigma5,bm3d,BM3D,3,37.500000,0.500000,36.")
    assert lines[3] == f"denoise_gray,sigma5,drunet,DRUNet & co_1,0,,,,,{REASON}"
    assert lines[4] == "denoise_gray,sigma5,truth,Truth,3,inf,0.500000,inf,inf,"


def test_one_image_keeps_every_digit_and_has_no_interval_and_no_timing(maker):
    maker.put("denoise_gray", "sigma5", "deal", {"test001": 37.12345678901234})
    maker.put("denoise_gray", "sigma25", "deal", [1.0])  # not in the layout
    table = maker.build(layout(column(GRAY, 5, images_expected=1), methods=("deal",)))
    header, row = render.render_per_image(table).splitlines()
    assert header == "task,setting,dataset,image,method,seed,parameters,psnr,ssim,iterations,converged"
    assert row.endswith('test001,deal,0,"{""tol"":1e-05}",37.12345678901234,0.5,7,true')
    assert render.render_csv(table).splitlines()[1] == "denoise_gray,sigma5,deal,DEAL,1,37.123457,0.500000,,,"
    assert "| 37.85 | 37.12 | −0.73 | | 1 | differs |" in squeezed(render.render_comparison_markdown(table))


def test_markdown_to_the_byte(maker):
    expected = """\
### Table 1. Denoising

|               |  BSD68 (gray)  |           |  CBSD68_crop  |
|:--------------|:--------------:|:---------:|:-------------:|
| Method        |     σ = 5      |  σ = 15   |     σ = 5     |
| BM3D          |    _37.50_     |  _31.50_  |    41.10‡     |
| DEAL          |   **37.83**    | **31.83** |    _40.03_    |
| DRUNet & co_1 |       –¹       |    –¹     |   **40.17**   |
| Truth         |       ∞        |     ∞     |       ∞       |

- PSNR in dB: mean over images, range [0, 1]
- In each column **best**, _second_; not ranked: Truth.
- Images: BSD68 (gray) 3, CBSD68_crop 2 or 3. Noise seed 0, the same for every method.
- ‡ CBSD68_crop: 2 of 3 images (BM3D).
- ¹ weights f_1.pth: https://example.org/f_1.pth?x=50%&y=#1 answered 404
"""
    assert render.render_markdown(maker.build(full(maker))) == expected


def test_the_comparison_as_csv_and_markdown(maker):
    table = maker.build(full(maker))
    lines = render.render_comparison_csv(table).splitlines()
    assert len(lines) == 39
    assert lines[0].endswith("unit,paper,ours,difference,low,high,images,images_expected,tolerance,verdict,reason")
    assert lines[1].startswith("table1,BM3D,BM3D,gray/sigma=5,psnr,dB,37.54,37.500000,-0.040000,36.")
    assert lines[1].endswith(",3,3,0.05,match,")
    assert lines[7].endswith("gray/sigma=5,psnr,dB,37.65,,,,,,,0.05,missing,not in config.yaml's methods")
    text = squeezed(render.render_comparison_markdown(table))
    assert "38 values of the paper: match 4, close 0, differs 2, subset 1, missing 31." in text
    assert "| BM3D | BSD68 (gray), σ = 5 | 37.54 | 37.50 | −0.04 | 36." in text
    assert "mean over images, range [0, 1]" in text


def test_latex_says_it_all(maker):
    text = render.render_latex(maker.build(full(maker)))
    assert r" & \multicolumn{2}{c}{BSD68 (gray)} & \multicolumn{1}{c}{CBSD68\_crop} \\" in text
    assert r"\cmidrule(lr){2-3}\cmidrule(lr){4-4}" in text
    assert r"Method & $\sigma$ = 5 & $\sigma$ = 15 & $\sigma$ = 5 \\" in text
    assert r"BM3D & \underline{37.50} & \underline{31.50} & 41.10\rlap{\textsuperscript{\ddag}} \\" in text
    assert r"DRUNet \& co\_1 & --\rlap{\textsuperscript{1}} & --\rlap{\textsuperscript{1}} & \textbf{40.17} \\" in text
    assert "\\midrule\nTruth & $\\infty$ & $\\infty$ & $\\infty$ \\\\\n\\bottomrule" in text
    assert r"\textsuperscript{1} weights f\_1.pth" in text
    assert r"x=50\%\&y=\#1 answered 404" in text
    assert text.isascii()


@needs.LATEX
def test_latex_compiles_whatever_a_reason_contains(maker, tmp_path):
    plan = full(maker)
    maker.put("denoise_gray", "sigma5", "drunet", [], missing="".join(map(chr, range(32, 127))) + "é²→κ")
    maker.put("denoise_gray", "sigma15", "drunet", [], missing="[x] at the start")
    body = render.render_latex(maker.build(plan))
    text = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{body}\end{{document}}"
    (tmp_path / "t.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert outcome.returncode == 0, outcome.stdout.decode(errors="replace")[-1000:]


def test_the_sidecar_follows_the_numbers_and_merges_provenance(maker):
    plan = full(maker)
    before = json.loads(render.render_sidecar(maker.build(plan)))
    assert len(before["inputs"]) == 12
    assert before["inputs"]["denoise_gray/sigma5/drunet.csv"]["missing"] == REASON
    assert [data["dataset"] for data in before["provenance"]["data"]] == ["bsd68", "cbsd68"]
    assert before["provenance"]["packages"] == [{"numpy": "2.4.6"}]
    maker.put("denoise_gray", "sigma5", "bm3d", [36.6, 37.5, 38.5])
    after = json.loads(render.render_sidecar(maker.build(plan)))
    changed = [name for name, entry in after["inputs"].items() if entry != before["inputs"][name]]
    assert changed == ["denoise_gray/sigma5/bm3d.csv"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_same_bytes_whatever_the_order_of_files_the_place_and_the_timing(tmp_path):
    outcomes = []
    for run, seconds in (("one", 1.0), ("two", 2.5)):
        maker = Maker(tmp_path / run, seconds)
        plan = full(maker)
        random.Random(run).shuffle(maker.paths)
        render.write(maker.build(plan), tmp_path / run / "tables")
        outcomes.append(contents(tmp_path / run / "tables"))
    assert outcomes[0] == outcomes[1]
    suffixes = (".csv", "_per_image.csv", ".tex", ".md", "_vs_paper.csv", "_vs_paper.md", ".json")
    assert set(outcomes[0]) == {f"table1{suffix}" for suffix in suffixes}
