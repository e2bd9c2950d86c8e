"""Tables and figures of a run as LaTeX, with a main file that compiles on Debian's TeX. It reads results; no torch."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import report_record, report_tables
from bench.errors import UserError
from bench.files import atomic, write_text
from bench.latex_text import ascii_tex, tex
from bench.report import total_counts
from bench.report_record import FigureView
from bench.report_tables import VERDICTS, TableView

INSTALL = "apt-get install texlive-latex-recommended latexmk (Debian, Ubuntu)"
MAIN = r"""% Made by `python -m bench paper`; compile with latexmk -pdf or pdflatex (twice).
\documentclass[10pt,a4paper]{{article}}
\usepackage[margin=21mm]{{geometry}}
\usepackage{{booktabs,longtable,graphicx,caption}}
\usepackage[hidelinks]{{hyperref}}
\captionsetup{{font=small,labelfont=bf}}
\graphicspath{{{{{figures}/}}}}
\setlength{{\tabcolsep}}{{4pt}}
\renewcommand{{\topfraction}}{{0.95}}
\renewcommand{{\textfraction}}{{0.05}}
\renewcommand{{\floatpagefraction}}{{0.6}}
\setcounter{{topnumber}}{{3}}
\setcounter{{totalnumber}}{{4}}
\raggedbottom
\makeatletter
\setlength{{\@fptop}}{{0pt}} % pages of figures and tables begin at the top
\setlength{{\@fpsep}}{{24pt}}
\makeatother
\title{{DEAL bench: tables and figures}}
\author{{}}
\date{{}}
\begin{{document}}
\maketitle
\noindent {summary}
\input{{tables}}
\input{{figures}}
\end{{document}}
"""
FIGURES = r"""% \usepackage{graphicx,caption}; \graphicspath leads to the folder of the figures
\makeatletter
% the natural size, or as much as fits
\def\fittedwidth{\ifdim\Gin@nat@width>\linewidth\linewidth\else\Gin@nat@width\fi}
\def\fittedheight{\ifdim\Gin@nat@height>0.8\textheight 0.8\textheight\else\Gin@nat@height\fi}
\makeatother
"""
FIGURE = r"""\setcounter{{figure}}{{{before}}}
\begin{{figure}}[!htbp]
\centering
{picture}
\caption{star}{{{caption}}}
\label{{fig:{name}}}
\end{{figure}}
"""
PICTURE = r"\includegraphics[width=\fittedwidth,height=\fittedheight,keepaspectratio]{%s}"
APART = r"""\begingroup % numbers of their own, Table A1, whatever the paper's are
\renewcommand{{\thetable}}{{A{number}}}\def\theHtable{{A{number}}}
{table}\endgroup
"""
COMPARISON = r"""\begin{{longtable}}{{llrrr@{{\quad}}crl}}
\caption*{{\textbf{{{caption[0]}}} {caption[1]}}}\\
\toprule
Method & Setting & Paper & Ours & {difference} & {interval} & Images & Verdict \\
\midrule
\endfirsthead
\toprule
Method & Setting & Paper & Ours & {difference} & {interval} & Images & Verdict \\
\midrule
\endhead
\bottomrule
\endlastfoot
{rows}
\end{{longtable}}
"""


def write(
    results: str | os.PathLike[str],
    output: str | os.PathLike[str],
    names: Mapping[str, str],
    figures: Sequence[str | os.PathLike[str]] | None = None,
) -> Path:
    """Write tables.tex, figures.tex and main.tex into the folder `output`, each atomically; returns main.tex.

    The arguments are those of `bench.report.write`. Raises a UserError where there is no table.
    """
    folder, target = Path(results), Path(output)
    tables = report_tables.read(folder, names)
    if all(table.absent for table in tables):
        raise UserError(f"{report_tables.folder_of(folder)}: no tables; make them first, e.g. `snakemake table1`")
    files = report_record.figure_files(folder) if figures is None else [Path(path) for path in figures]
    ablations = report_tables.ablations(folder)
    write_text(target / "tables.tex", render_tables(report_tables.folder_of(folder), tables, ablations))
    write_text(target / "figures.tex", render_figures(report_record.figures(files), files))
    where = Path(os.path.relpath(files[0].parent if files else folder / "figures", target)).as_posix()
    write_text(target / "main.tex", MAIN.format(figures=where, summary=_summary(tables)))
    return target / "main.tex"


def render_tables(folder: Path, tables: Sequence[TableView], ablations: Sequence[TableView] = ()) -> str:
    """All tables, as `bench.render` made them, then every value of the paper beside ours."""
    parts = ["% \\usepackage{booktabs,longtable,graphicx}\n\\section*{Tables}\n"]
    for table in tables:
        if table.absent:
            parts.append(rf"\paragraph{{{tex(table.title)}}} {tex(table.absent)}" + "\n")
        else:
            number = int(table.name.removeprefix("table"))  # the paper's, although some are not made
            parts.append(rf"\setcounter{{table}}{{{number - 1}}}" + "\n" + _source(folder, table))
    parts += [APART.format(number=n, table=_source(folder, table)) for n, table in enumerate(ablations, start=1)]
    parts.append("\\clearpage\n\\section*{Ours and the paper's}\n\\begingroup\\small\\setlength{\\tabcolsep}{5pt}\n")
    parts += [_comparison(table) for table in tables if table.comparison]
    return "\n".join(parts) + "\\endgroup\n"


def _source(folder: Path, table: TableView) -> str:
    path = folder / f"{table.name}.tex"
    if not path.is_file():
        raise UserError(f"{path}: no such file; make the table again")
    source = path.read_text(encoding="utf-8").replace(r"\begin{table}[t]", r"\begin{table}[!htb]", 1)
    return ascii_tex(source)


def _comparison(table: TableView) -> str:
    reasons = [reason for reason in table.all_reasons if any(row["reason"] == reason for row in table.comparison)]
    lines = []
    for row in table.comparison:
        raised = rf"\textsuperscript{{{reasons.index(row['reason']) + 1}}}" if row["reason"] else ""
        difference, interval = (tex(row[key]) for key in ("difference_shown", "interval"))
        if table.timed:
            difference, interval = _ratio(row["our_ratio"]), _ratio(row["paper_ratio"])
        shown = [*map(tex, (row["label"], row["place"], row["paper"], row["ours_shown"] or "–")), difference, interval]
        shown += [row["images"] if row["ours"] else "", row["verdict"] + raised]
        lines.append(" & ".join(shown) + r" \\")
    if table.timed:
        caption = "Seconds, and ratios to DEAL's, ours and the paper's: machines differ, so compare these."
    else:
        caption = f"PSNR in dB. Match: a difference of at most {table.tolerance:g} dB; close: four times as much. "
        caption += "The 95 % interval is a bootstrap over our images."
    notes = [rf"\noindent\textsuperscript{{{n}}} {tex(reason)}\par" for n, reason in enumerate(reasons, start=1)]
    heads = ("Ratio", "the paper's") if table.timed else ("Difference", r"95\,\% interval")
    captions = [tex(f"{table.title}: ours and the paper's."), tex(caption)]
    text = COMPARISON.format(caption=captions, rows="\n".join(lines), difference=heads[0], interval=heads[1])
    small = "\n".join(["{\\footnotesize\\raggedright", *notes, "}"]) if notes else ""
    return f"{text}{small}\n\\medskip\n"


def _ratio(text: str) -> str:
    return f"{float(text):.3g}" if text else ""


def render_figures(views: Sequence[FigureView], files: Sequence[Path]) -> str:
    """All figures, each as PDF where there is one, else as PNG; one that was not drawn says why."""
    parts = [FIGURES, "\\clearpage\n\\section*{Figures}\n" if views else ""]
    for view, path in zip(views, files, strict=True):
        suffix = ".pdf" if path.with_suffix(".pdf").is_file() else ".png"
        picture = rf"\emph{{Not drawn: {tex(view.missing)}}}" if view.missing else PICTURE % (view.name + suffix)
        caption = rf"\textbf{{{tex(view.title)}.}} {tex(view.caption)}"
        star, before = ("", view.number - 1) if view.number else ("*", 0)  # the paper's numbers, none for others
        parts.append(FIGURE.format(picture=picture, caption=caption, name=view.name, star=star, before=before))
        if len(parts) % 8 == 0:
            parts.append("\\clearpage\n")  # LaTeX keeps only so many floats
    return "\n".join(parts)


def _summary(tables: Sequence[TableView]) -> str:
    made = [table for table in tables if not table.absent]
    counts = total_counts(made)
    listed = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    return tex(f"{sum(counts.values())} values of the paper in {len(made)} tables: {listed}.")


def compile_pdf(main: Path) -> Path:
    """Compile `main` to a PDF beside it, which appears whole or not at all; the log stays only where it fails.

    Raises a UserError where there is no LaTeX, saying what to install, or where it finds an error.
    """
    with tempfile.TemporaryDirectory() as build:
        options = ["-interaction=nonstopmode", "-halt-on-error", f"-output-directory={build}", main.name]
        if shutil.which("latexmk"):
            commands = [["latexmk", "-pdf", "-norc", *options]]
        elif shutil.which("pdflatex"):
            commands = 3 * [["pdflatex", *options]]  # references, and the columns of long tables
        else:
            raise UserError(f"neither latexmk nor pdflatex is here; install them: {INSTALL}")
        clock = {"SOURCE_DATE_EPOCH": "0", "FORCE_SOURCE_DATE": "1"}  # equal sources, equal bytes
        for command in commands:
            done = subprocess.run(command, cwd=main.parent, env=os.environ | clock, capture_output=True)
            if done.returncode:
                raise UserError(_complaint(Path(build, "main.log"), main))
        target = main.with_suffix(".pdf")
        with atomic(target) as partial:
            shutil.copyfile(Path(build, target.name), partial)
    return target


def _complaint(log: Path, main: Path) -> str:
    """The first error of a log, which is kept beside `main`."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    write_text(main.with_suffix(".log"), text)
    found = re.search(r"^! (.*)", text, re.MULTILINE)
    lacking = re.search(r"File `([^']+)' not found", text)
    hint = f"; if {lacking[1]} belongs to LaTeX: {INSTALL}" if lacking else ""
    return f"{main}: LaTeX stopped: {found[1] if found else 'no reason given'} (see {main.with_suffix('.log')}){hint}"
