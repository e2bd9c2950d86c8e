"""Tables and figures as LaTeX: complete, in ASCII, compiled where there is a LaTeX."""

import re
import shutil
import subprocess
from pathlib import Path

import needs
import pytest
from made_report import NAMES, make

from bench import paper
from bench.__main__ import main
from bench.errors import UserError
from bench.latex_text import SIGNS, ascii_tex, tex

ROOT = Path(__file__).resolve().parents[1]
UNUSUAL = f"{''.join(SIGNS)}⁰¹²⁻ᵀ₀₁ₙ–—…‘’“”−‡°\u00a0é²κ漢"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made results, with their LaTeX beside them in `paper`."""
    root = make(tmp_path_factory.mktemp("results"))
    paper.write(root, root / "paper", NAMES)
    return root


def source(folder: Path, name: str) -> str:
    text = (folder / "paper" / name).read_text(encoding="utf-8")
    assert text.isascii()
    return text


def test_tables_keep_their_numbers_captions_and_footnotes(folder: Path) -> None:
    text = source(folder, "tables.tex")
    assert "\\setcounter{table}{0}\n" in text and "\\setcounter{table}{3}\n" in text
    assert r"\caption{Denoising. PSNR in dB: mean over images, range {[}0, 1].}" in text
    assert r"\caption{MRI, seconds. Seconds of one reconstruction, median (quartiles) over the measured calls." in text
    assert r"\paragraph{Table 2. Colour super-resolution} Not made:" in text
    assert r"--\rlap{\textsuperscript{1}}" in text and r"\textsuperscript{1} weights f\_1.pth" in text
    assert "TV was not measured" in text


def test_every_value_of_the_paper_stands_beside_ours(folder: Path) -> None:
    text = source(folder, "tables.tex")
    assert text.count(r"\begin{longtable}") == text.count(r"\end{longtable}") == 2
    line = r"BM3D & BSD68 (gray), $\sigma$ = 5 & 37.54 & 37.50 & $-$0.04 & 36"
    assert line in text and re.search(re.escape(line) + r".* & 3 & match \\\\", text)
    tables = [folder / "tables" / f"{name}_vs_paper.csv" for name in ("table1", "table4")]
    values = sum(path.read_text().count("\n") - 1 for path in tables)
    assert sum(line.endswith(r" \\") and line.count(" & ") == 7 for line in text.splitlines()) == values + 4
    assert re.search(r"WCRR & 4-fold, PD & 12 & 1.50 & 0.5 & 0.857 & 1 & other hardware", text)


def test_figures_have_the_papers_numbers_and_say_why_one_is_not_drawn(folder: Path) -> None:
    text = source(folder, "figures.tex")
    assert "\\setcounter{figure}{2}\n" in text
    assert r"keepaspectratio]{fig03.png}" in text
    assert (
        r"\caption{\textbf{Denoising.} Noise $\sigma$ = 25, \ensuremath{\|}x\_k\ensuremath{\|} \& \textless{}b" in text
    )
    assert r"\emph{Not drawn: no MRI data here}" in text
    assert r"\caption*{\textbf{Error against time.}" in text
    assert "\\graphicspath{{../figures/}}" in source(folder, "main.tex")


def test_a_pdf_figure_is_preferred(folder: Path, tmp_path: Path) -> None:
    (folder / "figures" / "fig03.pdf").write_bytes(b"%PDF")
    try:
        paper.write(folder, tmp_path / "paper", NAMES, [folder / "figures" / "fig03.png"])
    finally:
        (folder / "figures" / "fig03.pdf").unlink()
    text = (tmp_path / "paper" / "figures.tex").read_text()
    assert "{fig03.pdf}" in text and "error" not in text


def test_text_of_any_kind_becomes_ascii() -> None:
    assert tex("50 % of σ² ≤ λ₁") == r"50 \% of $\sigma$\textsuperscript{2} $\leq$ $\lambda$\ensuremath{_{1}}"
    assert ascii_tex("é 漢") == r"e \texttt{U+6F22}"
    assert tex(UNUSUAL).isascii()


def test_without_latex_one_line_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert main(["paper", "--config", str(ROOT / "config.yaml"), "--from", str(folder), "--pdf"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: neither latexmk nor pdflatex is here; install them: apt-get install texlive")
    assert error.count("\n") == 1


@needs.LATEX
def test_all_of_it_compiles(folder: Path, tmp_path: Path) -> None:
    paper.write(folder, tmp_path / "results" / "paper", NAMES)
    shutil.copytree(folder / "figures", tmp_path / "results" / "figures")
    main_file = tmp_path / "results" / "paper" / "main.tex"
    text = main_file.read_text().replace(r"\graphicspath", rf"\newcommand\unusual{{{tex(UNUSUAL)}}}\graphicspath")
    main_file.write_text(text.replace(r"\noindent", r"\noindent\unusual{}"))
    made = paper.compile_pdf(main_file)
    assert made.read_bytes().startswith(b"%PDF")
    assert {path.name for path in made.parent.iterdir()} == {"main.pdf", "main.tex", "tables.tex", "figures.tex"}
    if shutil.which("pdftotext"):
        words = subprocess.run(["pdftotext", "-layout", made, "-"], capture_output=True, text=True, check=True).stdout
        expected = ["Table 1:", "Table 4:", "Figure 3:", "31.83", "not in config.yaml", "Not drawn: no MRI data here"]
        assert [text for text in expected if text not in words] == []
        assert "Table 2:" not in words and "Figure 4:" not in words


@needs.LATEX
def test_an_error_of_latex_is_one_line_and_leaves_its_log(tmp_path: Path) -> None:
    (tmp_path / "main.tex").write_text(r"\documentclass{article}\usepackage{nowhere}\begin{document}x\end{document}")
    with pytest.raises(UserError, match=r"main\.tex: LaTeX stopped: LaTeX Error: File `nowhere\.sty' not found"):
        paper.compile_pdf(tmp_path / "main.tex")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["main.log", "main.tex"]


def test_no_tables_no_latex(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tables; make them first"):
        paper.write(tmp_path, tmp_path / "paper", NAMES)
    assert list(tmp_path.iterdir()) == []
