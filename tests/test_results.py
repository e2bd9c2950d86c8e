"""Reading results files: what a good one yields, and what is refused."""

import pytest
from made_results import Maker, seal

from bench import evaluate
from bench.errors import UserError
from bench.results import RESULT_COLUMNS, Result


@pytest.fixture
def maker(tmp_path):
    return Maker(tmp_path)


def test_columns_are_those_that_evaluate_writes():
    assert list(evaluate.COLUMNS) == RESULT_COLUMNS


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda p: p.unlink(), r"deal\.csv: no such file; run its job"),
        (lambda p: p.with_suffix(".json").unlink(), r"no sidecar deal\.json"),
        (lambda p: p.with_suffix(".json").write_text("{"), r"deal\.json: not a sidecar"),
        (lambda p: p.write_text(p.read_text()[:-20]), r"deal\.csv: sha256 \w+, but its sidecar says"),
        (lambda p: p.write_text(p.read_text().replace("6.9", "7.9")), r"sha256 \w+, but its sidecar says"),
    ],
)
def test_absent_cut_and_edited_files_are_refused(maker, breakage, message):
    path = maker.put("denoise_gray", "sigma5", "deal", [36.9, 37.8])
    breakage(path)
    with pytest.raises(UserError, match=message):
        Result.read([path])


def test_a_file_in_the_place_of_another_is_refused(maker):
    path = maker.put("denoise_gray", "sigma5", "deal", [36.9])
    for file in (path, path.with_suffix(".json")):
        file.rename(file.with_stem("bm3d"))
    with pytest.raises(UserError, match=r"holds denoise_gray/sigma5/deal, but its path says .*bm3d"):
        Result.read([path.with_stem("bm3d")])


@pytest.mark.parametrize(("psnr", "missing"), [([], None), ([36.9], "because")])
def test_rows_and_the_reason_for_having_none_exclude_each_other(maker, psnr, missing):
    path = maker.put("denoise_gray", "sigma5", "deal", psnr, missing=missing)
    with pytest.raises(UserError, match=f"has {len(psnr)} rows, but its sidecar says missing"):
        Result.read([path])


def test_other_columns_are_refused(maker):
    path = maker.put("denoise_gray", "sigma5", "deal", [36.9])
    path.write_text(path.read_text().replace(",psnr,", ",PSNR,"))
    with pytest.raises(UserError, match=r"the columns are .*,PSNR,.*, expected .*,psnr,"):
        Result.read([seal(path)])
