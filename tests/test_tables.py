"""Building tables from results: cells, ranks, notes, and the comparison with the paper."""

import csv
import math
from collections import Counter

import pytest
from made_results import COLOR, GRAY, REASON, Maker, column, full, layout

from bench import config, layouts, per_image, tables
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


@pytest.mark.parametrize(
    ("name", "setting"),
    [("table1", "color/sigma=25"), ("table2", "s=3/sigma=12.75"), ("table5", "sigma=7.65/kernel=27x27/monarch")],
)
def test_the_papers_configuration_shows_all_its_values_before_anything_is_measured(name, setting):
    table = tables.build(layouts.layout(config.Config(), name), {})
    assert [row["paper"] for row in table.comparison] == [v["value"] for v in tables.paper_values(name)]
    assert {row["verdict"] for row in table.comparison} == {"missing"}
    assert compared(table, "DEAL", setting)["reason"] == "not evaluated: there is no results file"
    assert {column.paper for column in table.columns} == {row["setting"] for row in table.comparison}
    assert all(render(table) for render in RENDERERS.values())


def test_tables_name_their_conventions():
    texts = {name: layouts.layout(config.Config(), name)["convention"] for name in ("table1", "table2", "table5")}
    assert "clipped to [0, 1] and not rounded to 8 bits" in texts["table1"]
    assert "mean over its blur kernels" in texts["table2"]
    assert texts["table5"].startswith("peak 1"), "a column shows one image"
    assert "clipped to [0, 1] and rounded to 8 bits" in texts["table5"]
    assert [m["name"] for m in layouts.layout(config.Config(), "table5")["methods"]][:2] == ["truth", "measurement"]
    assert "bm3d" not in [m["name"] for m in layouts.layout(config.Config(), "table5")["methods"]]


def test_an_images_variants_count_as_one_image(maker):
    """The mean over kernels comes first, so that an interval is one over images."""
    values = {"0000_k0": 26.0, "0000_k1": 28.0, "0001_k0": 30.0, "0001_k1": 32.0}
    maker.put("superres_color", "x2_sigma2.55", "deal", values, dataset="cbsd68")
    shown = layouts.layout(config.Config(), "table2")
    table = maker.build(shown)
    (found,) = (c for c in table.row(next(m for m in table.methods if m.name == "deal")) if not c.missing)
    assert found.images == ["0000", "0001"]
    assert (found.psnr.mean, found.psnr.images) == (29.0, 2)
    assert (found.psnr.low, found.psnr.high) == (27.0, 31.0)
    assert compared(table, "DEAL", "s=2/sigma=2.55")["reason"] == "subset: 2 of 68 images"


def test_a_column_may_show_one_image(maker):
    maker.put("deblur_gray", "k17_sigma2.55", "deal", {"01": 31.7, "02": 35.0}, dataset="set3_gray")
    maker.put("deblur_gray", "k17_sigma2.55", "truth", {"01": math.inf, "02": math.inf}, dataset="set3_gray")
    table = maker.build(layouts.layout(config.Config(), "table5"))
    assert [column.label for column in table.columns] == ["C.man", "House", "Monarch"] * 4
    deal = next(m for m in table.methods if m.name == "deal")
    first, second, third = table.row(deal)[:3]
    assert (first.psnr.mean, second.psnr.mean, first.partial) == (31.7, 35.0, False)
    assert third.missing == "image 05 is not among those evaluated"
    assert compared(table, "DEAL", "sigma=2.55/kernel=17x17/cameraman")["verdict"] == "match"
    assert compared(table, "DEAL", "sigma=2.55/kernel=17x17/house")["verdict"] == "close"
    rows = RENDERERS[".csv"](table).splitlines()
    assert rows[0].startswith("task,setting,image,method,")
    assert "deblur_gray,k17_sigma2.55,01,deal,DEAL,1,31.700000," in "\n".join(rows)
    per_image = RENDERERS["_per_image.csv"](table).splitlines()
    assert len(per_image) == len(set(per_image)) == 5, "a results file behind several columns is listed once"
    tex = RENDERERS[".tex"](table)
    assert r"\multicolumn{3}{c}{$\sigma$ = 2.55, 17$\times$17}" in tex
    assert r"\resizebox{\linewidth}{!}{\begin{tabular}{l" + "c" * 12 + "}" in tex


@pytest.mark.parametrize(
    ("task", "change", "table"),
    [
        ("superres_color", {"crop": 128}, "table2"),
        ("superres_color", {"kernels": [1]}, "table2"),
        ("deblur_gray", {"measurement": "float"}, "table5"),
        ("deblur_gray", {"kernel_source": "generated"}, "table5"),
        ("mri", {"split": "validation"}, "table3"),
        ("mri", {"noise_std": 0.01}, "table3"),
        ("mri", {"samplings": {"single4": config.Sampling(acceleration=4, center_fraction=0.5)}}, "table3"),
        ("mri", {"source": "fastmri", "validation": 3}, "table3"),
        ("mri", {"source": "fastmri", "exclude": []}, "table3"),
    ],
)
def test_another_experiment_on_the_same_images_is_not_compared(maker, task, change, table):
    changed = config.Config().tasks.model_copy(update={task: config.Config().task(task).model_copy(update=change)})
    other = config.Config().model_copy(update={"tasks": changed})
    setting = other.task(task).settings()[0]
    dataset = other.task(task).data_name if task == "mri" else other.task(task).dataset
    maker.put(task, setting, "deal", {"01": 31.7}, dataset=dataset)
    built = maker.build(layouts.layout(other, table))
    reasons = {row["reason"] for row in built.comparison if row["method"] == "DEAL"}
    assert any(reason.startswith(f"measured on {dataset}, not on the paper's {dataset} (") for reason in reasons)
    assert not any("ours" in row for row in built.comparison)


def test_the_papers_volumes_are_compared_and_others_are_not(maker):
    fastmri = config.Config().task("mri").model_copy(update={"source": "fastmri"})
    other = config.Config().model_copy(update={"tasks": config.Config().tasks.model_copy(update={"mri": fastmri})})
    paper = "single-coil/acceleration=4/PD"
    for dataset, verdict in (("mri_fastmri", "subset"), ("mri_fastmri (not the paper's volumes)", "missing")):
        maker.put("mri", "single4_pd", "deal", {"a": 36.6}, dataset=dataset)
        row = compared(maker.build(layouts.layout(other, "table3")), "DEAL", paper)
        assert row["verdict"] == verdict, row


def test_rows_that_are_another_experiment_than_the_papers_say_why(maker):
    for method, setting in (("deal", "sigma25"), ("dncnn", "sigma25")):
        maker.put("denoise_color", setting, method, {str(n): 31.0 for n in range(68)}, seed=7 * (method == "deal"))
    shown = config.Config(weights="released")
    table = maker.build(layouts.layout(shown, "table1"))
    reason = compared(table, "DEAL", "color/sigma=25")["reason"]
    assert reason.startswith("with weights of this project's own training") and reason.endswith("the paper's, seed 7")
    assert "Hurault" in compared(table, "DnCNN", "color/sigma=25")["reason"]
    assert compared(table, "DnCNN", "color/sigma=25")["verdict"] == "close"
    official = maker.build(layouts.layout(config.Config(weights="official"), "table1"))
    assert (
        compared(official, "DEAL", "color/sigma=25")["reason"] == "another draw of the noise than the paper's, seed 7"
    )


def test_a_table_says_whether_hyperparameters_were_tuned(maker):
    for method in ("tv", "deal", "measurement"):
        maker.put("mri", "single4_pd", method, {"a": 36.6}, dataset="mri_zenodo", seed="stored")
        maker.put("superres_color", "x2_sigma2.55", method, {"0000_k0": 28.0}, dataset="cbsd68")
    tuned, paper = (maker.build(layouts.layout(config.Config(), name)).notes for name in ("table3", "table2"))
    assert "Hyperparameters chosen on validation images: TV, DEAL." in tuned
    assert any(note.startswith("Hyperparameters not tuned") and note.endswith(": TV, DEAL.") for note in paper)
    assert tuned[0].endswith("The noise is that of the data, the same for every method.")


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
    assert row["verdict"] == "subset"


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


def test_images_are_compared_one_by_one_where_the_authors_printed_them(maker):
    maker.put("denoise_gray", "sigma25", "deal", {"test001": 28.0, "test002": 29.0, "other": 1.0})
    shown = layout(column(GRAY, 25, images_expected=None), methods=("deal",))
    _, theirs = per_image.authors()["denoise_gray", "sigma25", "deal"]
    gaps = sorted([28 - theirs["test001"], 29 - theirs["test002"]])
    (note,) = maker.build(shown).per_image
    mean, low, high = (f"{gap:+.2f}".replace("-", "\u2212") for gap in (sum(gaps) / 2, *gaps))
    assert f"ours {mean} dB from the authors' on average, {low} to {high} (2 images, the same noise)." in note
    text = " ".join(RENDERERS["_vs_paper.md"](maker.build(shown)).split())
    assert note in text and note not in " ".join(RENDERERS[".md"](maker.build(shown)).split())
    maker.put("denoise_gray", "sigma25", "deal", {"test001": 28.0}, config={"crop": 128})
    assert not maker.build(shown).per_image, "crops of the images are other pixels"
