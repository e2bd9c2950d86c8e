"""A table as text: CSV, LaTeX (booktabs), Markdown, and the JSON sidecar. No timing, no date."""

import json
import math
import operator
import os
import textwrap
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from tabulate import tabulate

from bench.cells import DIGITS, Table
from bench.files import write_text
from bench.results import TIMELESS, to_csv
from bench.stats import CLOSE

TABLE_COLUMNS = ["task", "setting", "method", "label", "images", "psnr", "ssim"]
TABLE_COLUMNS += ["psnr_low", "psnr_high", "missing"]
COMPARISON_COLUMNS = ["table", "method", "label", "setting", "metric", "unit", "paper", "ours", "difference"]
COMPARISON_COLUMNS += ["low", "high", "images", "images_expected", "tolerance", "verdict", "reason"]
PROVENANCE = ("code", "config_digest", "data", "weights", "seed", "packages", "device", "driver")
MANY_COLUMNS = 8  # more are scaled to the width of the page
DIGIT_MARKS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
TEX = str.maketrans(
    {c: f"\\{c}" for c in "&%$#_{}"}
    | {"[": "{[}"}  # at the start of a row it would be an argument of the `\\` before
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", '"': "''"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "–": "--", "…": r"\ldots{}"}
    | {"‡": r"\textsuperscript{\ddag}", "−": "$-$", "×": r"$\times$", "∞": r"$\infty$", "≤": r"$\leq$"}
    | {"/": r"/\allowbreak{}", "σ": r"$\sigma$", "λ": r"$\lambda$", "κ": r"$\kappa$", "φ": r"$\varphi$"}
    | {digit: rf"\textsuperscript{{{n}}}" for n, digit in enumerate(DIGIT_MARKS)}
)
LATEX = r"""% needs \usepackage{{booktabs{graphicx}}}
\begin{{table}}[t]
\centering
\setlength{{\belowcaptionskip}}{{4pt}}
\caption{{{caption}}}
\label{{tab:{name}}}
{fit}\begin{{tabular}}{{{alignment}}}
\toprule
{head}
\midrule
{body}
\bottomrule
\end{{tabular}}{fitted}
\par\smallskip
\begin{{minipage}}{{\linewidth}}\footnotesize\raggedright
{notes}
\end{{minipage}}
\end{{table}}
"""


def render_csv(table: Table) -> str:
    """The table, one line a cell; four decimals, `inf` spelled out, empty where missing."""
    rows, columns = [], TABLE_COLUMNS
    if any(column.image for column in table.columns):
        columns = [*TABLE_COLUMNS[:2], "image", *TABLE_COLUMNS[2:]]
    for column, method, cell in table.items():
        row = vars(column) | {"method": method.name, "label": method.label, "missing": cell.missing}
        row |= {"images": cell.psnr.images, "psnr": _fixed(cell.psnr.mean), "ssim": _fixed(cell.ssim)}
        rows.append(row | {"psnr_low": _fixed(cell.psnr.low), "psnr_high": _fixed(cell.psnr.high)})
    return to_csv(columns, rows)


def render_per_image(table: Table) -> str:
    """The rows behind the table, without their timing."""
    return to_csv(TIMELESS, (row for result in table.results for row in result.rows))


def render_comparison_csv(table: Table) -> str:
    """Every value of the paper's table beside ours."""
    keys = ("ours", "difference", "low", "high")
    ours = ({key: _fixed(row[key]) for key in keys if key in row} for row in table.comparison)
    return to_csv(COMPARISON_COLUMNS, map(operator.or_, table.comparison, ours))


def render_markdown(table: Table) -> str:
    """GitHub Markdown that also reads well in a terminal: **best**, _second_, footnotes below."""
    headers = [text for group, width in _groups(table) for text in (group, *[""] * (width - 1))]
    body = [
        [table.rows_are, *table.left, *(column.label for column in table.columns), *table.right],
        *_rows(table, ("**%s**", "_%s_", "%s"), {}),
    ]
    headers = [*[""] * len(table.left), *headers, *[""] * len(table.right)]
    grid = pipe(["", *headers], body, ["left"] + ["center"] * len(headers))
    return f"### {table.title}\n\n{grid}\n\n{bullets(_notes(table, '**best**, _second_'))}"


def render_comparison_markdown(table: Table) -> str:
    """The comparison for reading: a summary, a row for each value of the paper, reasons below."""
    places = {column.paper: f"{column.group}, {column.label}" for column in table.columns}
    reasons = list(dict.fromkeys(row["reason"] for row in table.comparison if row["reason"]))
    body = []
    for row in table.comparison:
        ours, difference, interval, images = "–", "", "", ""
        if "ours" in row:
            ours, images = _pretty(row["ours"]), str(row["images"])
            difference = f"{row['difference']:+.{DIGITS}f}".replace("-", "−")
            interval = f"{_pretty(row['low'])} … {_pretty(row['high'])}" if row["low"] < row["high"] else ""
        line = [row["label"], places.get(row["setting"], row["setting"]), row["paper"], ours, difference]
        body.append([*line, interval, images, row["verdict"] + mark(reasons, row["reason"])])
    head = ["Method", "Setting", "Paper (dB)", "Ours", "Difference", "95 % interval", "Images", "Verdict"]
    grid = pipe(head, body, ["left", "left", "right", "right", "right", "center", "right", "left"])
    verdicts = [row["verdict"] for row in table.comparison]
    count = [f"{word} {verdicts.count(word)}" for word in ("match", "close", "differs", "subset", "missing")]
    summary = f"{len(verdicts)} values of the paper: {', '.join(count)}."
    notes = [
        f"PSNR in dB: {table.convention}",
        f"match: |difference| ≤ {table.tolerance:g} dB; close: ≤ {CLOSE * table.tolerance:g}; differs: more; "
        "subset: over other images than the paper's mean, so no verdict.",
        "95 % interval: bootstrap over our images. It shows how the mean depends on the choice of images; "
        "the paper's mean is over the same ones, so a difference far smaller than it can be real.",
        *(note for note in table.notes if not note.startswith("‡")),  # here a subset has its footnote
        *table.per_image,
        *footnotes(reasons),
    ]
    return f"### {table.title}: ours and the paper's\n\n{summary}\n\n{grid}\n\n{bullets(notes)}"


def render_latex(table: Table) -> str:
    """A booktabs table with grouped headers; best bold, second underlined; notes in small print below."""
    spans, rules, first = " &" * len(table.left), "", 2 + len(table.left)  # column 1 holds the methods
    for group, width in _groups(table):
        spans += rf" & \multicolumn{{{width}}}{{c}}{{{group.translate(TEX)}}}"
        rules += rf"\cmidrule(lr){{{first}-{first + width - 1}}}"
        first += width
    labels = [*table.left, *(column.label for column in table.columns), *table.right]
    labels = [label.translate(TEX) for label in (table.rows_are, *labels)]
    styles = (r"\textbf{%s}", r"\underline{%s}", r"\rlap{%s}")  # a mark takes no width: numbers stay in line
    rows = [rf"{' & '.join(row)} \\" for row in _rows(table, styles, TEX)]
    wide = len(labels) - 1 > MANY_COLUMNS
    ranked = sum(not method.oracle for method in table.methods)
    convention, *notes = [note.translate(TEX) for note in _notes(table, "bold: best, underlined: second")]
    return LATEX.format(
        caption=f"{table.caption.translate(TEX)}. {convention}.",
        name=table.name,
        graphicx=",graphicx" if wide else "",
        fit="\\resizebox{\\linewidth}{!}{" if wide else "",
        fitted="}" if wide else "",
        alignment="l" + "c" * (len(labels) - 1),
        head=f"{spans}{' &' * len(table.right)} \\\\\n{rules}\n{' & '.join(labels)} \\\\",
        body="\n\\midrule\n".join("\n".join(part) for part in (rows[:ranked], rows[ranked:]) if part),
        notes="\n\\par\n".join(notes),
    )


def render_sidecar(table: Table) -> str:
    """JSON: how the table is laid out, hashes of its inputs, the distinct values of what their sidecars say."""
    inputs, provenance = {}, {}
    layout = {"title": table.title, "tolerance": table.tolerance, "columns": list(map(vars, table.columns))}
    layout |= {"methods": list(map(vars, table.methods)), "notes": [f"PSNR in dB: {table.convention}", *table.notes]}
    layout |= {key: columns for key in ("left", "right") if (columns := getattr(table, key))}
    for key in ("rank", "partial"):  # of each method's cells, from left to right
        layout[key] = {method.name: [getattr(cell, key) for cell in table.row(method)] for method in table.methods}
    for result in table.results:
        inputs["/".join(result.key) + ".csv"] = {"sha256": result.digest, "missing": result.missing}
    for key in PROVENANCE:
        values = [result.sidecar.get(key) for result in table.results]
        texts = {json.dumps(value, sort_keys=True) for value in values if value not in (None, {})}
        provenance[key] = [json.loads(text) for text in sorted(texts)]
    value = {"table": table.name, "sha256_of": "an input's rows without the column seconds", "inputs": inputs}
    value["layout"] = layout
    return json.dumps(value | {"provenance": provenance}, indent=2, ensure_ascii=False) + "\n"


def _groups(table: Table) -> list[tuple[str, int]]:
    """Headings over neighbouring columns, and how many columns each spans."""
    return [(group, len(list(run))) for group, run in groupby(table.columns, key=lambda c: c.group)]


def _rows(table: Table, styles: tuple[str, str, str], escape: Mapping[int, str]) -> list[list[str]]:
    """Label and numbers of every method, escaped; `styles` are those of best, second and a mark."""
    rows = []
    for number, method in enumerate(table.methods):
        row = [text.translate(escape) for text in (method.label, *(texts[number] for texts in table.left.values()))]
        for cell in table.row(method):
            style = styles[cell.rank - 1] if cell.rank else "%s"
            note = mark(table.reasons, cell.missing) + ("‡" if cell.partial else "")
            raised = styles[2] % note.translate(escape) if note else ""
            row.append(style % _pretty(cell.psnr.mean).translate(escape) + raised)
        rows.append(row + [texts[number].translate(escape) for texts in table.right.values()])
    return rows


def _notes(table: Table, styles: str) -> list[str]:
    """The convention, how best and second look where something is ranked, notes and footnotes."""
    notes = [f"PSNR in dB: {table.convention}"]
    if any(cell.rank for cell in table.cells.values()):
        oracles = ", ".join(method.label for method in table.methods if method.oracle)
        notes.append(f"In each column {styles}" + (f"; not ranked: {oracles}." if oracles else "."))
    return notes + table.notes + footnotes(table.reasons)


def mark(reasons: list[str], reason: str | None) -> str:
    """The number of a reason's footnote, raised."""
    return "".join(DIGIT_MARKS[int(digit)] for digit in str(reasons.index(reason) + 1)) if reason else ""


def footnotes(reasons: list[str]) -> list[str]:
    return [f"{mark(reasons, reason)} {reason}" for reason in reasons]


def pipe(headers: list[str], body: list[list[str]], align: list[str]) -> str:
    cells = [[text.replace("|", "\\|") for text in row] for row in [headers, *body]]
    return tabulate(cells[1:], cells[0], tablefmt="pipe", disable_numparse=True, colalign=align)


def bullets(notes: list[str]) -> str:
    style = {"initial_indent": "- ", "subsequent_indent": "  ", "break_on_hyphens": False}
    return "".join(textwrap.fill(note, 100, break_long_words=False, **style) + "\n" for note in notes)


def _fixed(value: float) -> str:
    """So many digits that what is rounded from them is what is rounded from the value."""
    return "" if math.isnan(value) else f"{value:.6f}"


def _pretty(value: float) -> str:
    return f"{value:.{DIGITS}f}".replace("inf", "∞").replace("nan", "–")


RENDERERS = {
    ".csv": render_csv,
    "_per_image.csv": render_per_image,
    ".tex": render_latex,
    ".md": render_markdown,
    "_vs_paper.csv": render_comparison_csv,
    "_vs_paper.md": render_comparison_markdown,
    ".json": render_sidecar,
}


def write(table: Table, folder: str | os.PathLike[str]) -> None:
    """Write all forms of the table into `folder`, each atomically."""
    for suffix, rendered in RENDERERS.items():
        write_text(Path(folder, table.name + suffix), rendered(table))
