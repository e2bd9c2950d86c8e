"""Building tables from results: cells, ranks, notes, and the comparison with the paper."""

import csv
import math
from collections import Counter

import pytest
from made_results import COLOR, GRAY, REASON, Maker, column, full, layout

from bench import config, layouts, tables
from bench.render import RENDERERS


@pytest.fixture
def maker(tmp_path):
    return Maker(tmp_path)


def cell(table, method, number=0):
    return table.row(next(m for m in table.methods if m.name == method))[number]


def ranks(table, number=0):
    return {m.name: table.row(m)[number].rank for m in table.methods}


def compared(table, method, setting):
    return next(row for row in table.comparison if (row["method"], row["setting"]) == (method, setting))


def test_transcription_of_the_paper():
    with tables.PAPER_VALUES.open(newline="") as handle:
        values = list(csv.DictReader(handle))
    counts = Counter(row["table"] for row in values)
    assert counts == {"table1": 38, "table2": 24, "table3": 32, "table4": 16, "table5": 60}
    assert len({(row["table"], row["method"], row["setting"]) for row in values}) == 170
    assert {(row["metric"], row["unit"]) for row in values if row["table"] != "table4"} == {("psnr", "dB")}
    assert all(20 < float(row["value"]) < 45 for row in values if row["metric"] == "psnr")
    deal = [row["value"] for row in tables.paper_values("table1") if row["method"] == "DEAL"]
    assert deal == ["37.85", "31.61", "29.16", "40.04", "33.61", "30.93"]


def test_the_papers_configuration_shows_all_its_values_before_anything_is_measured():
    table = tables.build(layouts.layout(config.Config(), "table1"), {})
    assert [row["paper"] for row in table.comparison] == [v["value"] for v in tables.paper_values("table1")]
    assert {row["verdict"] for row in table.comparison} == {"missing"}
    assert compared(table, "DEAL", "color/sigma=25")["reason"] == "not evaluated: there is no results file"
    assert all(render(table) for render in RENDERERS.values())


def test_cells_hold_means_intervals_ranks_and_reasons(maker):
    table = maker.build(full(maker))
    assert [m.name for m in table.methods] == ["bm3d", "deal", "drunet", "truth"]
    bm3d = cell(table, "bm3d")
    assert bm3d.psnr.mean == pytest.approx(37.5)
    assert bm3d.psnr.low < 37.5 < bm3d.psnr.high
    assert bm3d.ssim == 0.5
    assert ranks(table) == {"bm3d": 2, "deal": 1, "drunet": None, "truth": None}
    assert cell(table, "truth").psnr.mean == math.inf
    assert cell(table, "drunet").missing == REASON
    assert table.reasons == [REASON]


def test_a_subset_is_marked_and_not_ranked_against_the_whole(maker):
    table = maker.build(full(maker))
    assert cell(table, "bm3d", 2).partial
    assert ranks(table, 2) == {"bm3d": None, "deal": 2, "drunet": 1, "truth": None}
    assert "‡ CBSD68_crop: 2 of 3 images (BM3D)." in table.notes
    row = compared(table, "BM3D", "color/sigma=5")
    assert (row["images"], row["images_expected"], row["reason"]) == (2, 3, "subset: 2 of 3 images")


@pytest.mark.parametrize(
    ("psnr", "expected", "note"),
    [
        ({"bm3d": [37.001] * 3, "deal": [37.0, 37.0, 37.002], "wcrr": [36.0] * 3}, [1, 1, 2], ""),
        ({"deal": [37.0, 37.1, 37.2], "truth": [math.inf] * 3}, [None, None], ""),
        ({"bm3d": [36.0, 37.0], "deal": [36.5, 37.5]}, [2, 1], "‡ BSD68 (gray): 2 of 3 images."),
        (
            {"bm3d": [36.0, 37.0, 38.0], "deal": {"1": 36.0, "2": 37.0, "4": 39.0}},
            [None, None],
            "‡ BSD68 (gray): 3 images, not those of the other methods (DEAL).",
        ),
    ],
)
def test_ranks_and_marks_of_one_column(maker, psnr, expected, note):
    for method, values in psnr.items():
        maker.put("denoise_gray", "sigma5", method, values)
    table = maker.build(layout(column(GRAY, 5), methods=tuple(psnr)))
    assert list(ranks(table).values()) == expected
    assert [text for text in table.notes if "‡" in text] == ([note] if note else [])


def test_cells_without_results_say_why(maker):
    maker.put("denoise_gray", "sigma5", "deal", [37.0, 37.1, 37.2])
    table = maker.build(layout(column(GRAY, 5), column(COLOR, 5), methods=("deal", "wcrr")))
    assert cell(table, "deal", 1).missing == "not evaluated: there is no results file"
    assert cell(table, "wcrr", 1).missing == "WCRR does not serve the task denoise_color"


def test_every_value_of_the_paper_is_compared(maker):
    table = maker.build(full(maker))
    bm3d = compared(table, "BM3D", "gray/sigma=5")
    assert (bm3d["verdict"], bm3d["reason"], bm3d["images"]) == ("match", "", 3)
    assert bm3d["difference"] == pytest.approx(37.5 - 37.54)
    assert bm3d["low"] < bm3d["ours"] < bm3d["high"]
    assert compared(table, "DEAL", "gray/sigma=15")["verdict"] == "differs"
    assert compared(table, "DRUNet", "gray/sigma=5")["reason"] == REASON
    assert compared(table, "SARR", "gray/sigma=5")["reason"] == "not in config.yaml's methods"
    assert compared(table, "DEAL", "gray/sigma=25")["reason"] == "no column for gray/sigma=25"
    assert all(("ours" in row) == (row["verdict"] != "missing") for row in table.comparison)
    lenient = maker.build(full(maker) | {"tolerance": 0.5})
    assert compared(lenient, "DEAL", "gray/sigma=15")["verdict"] == "match"


def test_other_images_than_the_papers_are_not_compared(maker):
    maker.put("denoise_gray", "sigma5", "deal", [37.85], dataset="embedded_gray")
    table = maker.build(layout(column(GRAY, 5, images_expected=None), methods=("deal",)))
    row = compared(table, "DEAL", "gray/sigma=5")
    assert row["reason"] == "measured on embedded_gray, not on the paper's bsd68"
    assert "ours" not in row
    assert not cell(table, "deal").partial
    assert any(note.startswith("Caution: BSD68 (gray) was measured on embedded_gray") for note in table.notes)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"data": {"dataset": "bsd68", "digest": "9" * 64}}, "2 versions of the data set bsd68"),
        ({"weights": {"deal_gray": "9" * 64}}, "2 files of the weights deal_gray"),
        ({"code": {"digest": "9" * 16}}, "2 versions of the code of DEAL"),
    ],
)
def test_inputs_that_changed_between_settings_are_named(maker, change, note):
    maker.put("denoise_gray", "sigma5", "bm3d", [36.0, 37.0, 38.0])  # every method has its own code
    maker.put("denoise_gray", "sigma5", "deal", [36.0, 37.0, 39.0], weights={"deal_gray": "4" * 64})
    columns = column(GRAY, 5), column(GRAY, 15)
    assert "Caution" not in " ".join(maker.build(layout(*columns)).notes)
    maker.put("denoise_gray", "sigma15", "deal", [30.0, 31.0, 32.0], **change)
    assert f"Caution: the numbers come from {note}." in maker.build(layout(*columns)).notes


def test_different_noise_is_named(maker):
    maker.put("denoise_gray", "sigma5", "bm3d", [36.0, 37.0, 38.0], seed=1)
    maker.put("denoise_gray", "sigma5", "deal", [36.0, 37.0, 39.0], seed=0)
    notes = maker.build(layout(column(GRAY, 5))).notes
    assert "Caution: the methods saw different noise, seed 1: BM3D; seed 0: DEAL." in notes
