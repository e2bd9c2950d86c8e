"""Results of several runs gathered in one folder, and the tables that they make together."""

import csv
import hashlib
import json
from pathlib import Path

import pytest
from made_results import REASON, Maker, seal

from bench import configfile
from bench.__main__ import main
from bench.config import Config, evaluation_part
from bench.errors import UserError
from bench.publish import publish
from bench.results import Result

PLAIN = Path(__file__).resolve().parents[1] / "config.yaml"
REFERENCE = configfile.load([PLAIN], {"methods": ["bm3d", "deal", "drunet"]})


def run(folder: Path, **values: object) -> tuple[Maker, Config]:
    return Maker(folder), configfile.load([PLAIN], {"results": str(folder), "methods": ["deal"], **values})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def psnr(folder: Path, method: str, setting: str = "sigma5") -> str:
    with (folder / "table1.csv").open(newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if (row["method"], row["setting"]) == (method, setting)]
    return next(row["psnr"] or row["missing"] for row in rows if row["task"] == "denoise_gray")


def test_two_runs_make_one_table(tmp_path: Path) -> None:
    first, config = run(tmp_path / "first")
    first.put("denoise_gray", "sigma5", "bm3d", [37.0, 38.0], command="python -m bench evaluate", wall_s=3.0)
    first.put("denoise_gray", "sigma5", "drunet", [], missing=REASON)
    manifest = json.loads(publish(config, tmp_path / "all", REFERENCE).read_text())
    second, config = run(tmp_path / "second")
    second.put("denoise_gray", "sigma5", "deal", [38.0, 39.0])
    publish(config, tmp_path / "all", REFERENCE)
    assert [psnr(tmp_path / "all", name) for name in ("bm3d", "deal", "drunet")] == ["37.500000", "38.500000", REASON]
    assert psnr(tmp_path / "all", "deal", "sigma15") == "not evaluated: there is no results file"
    made = contents(tmp_path / "all")
    assert not any(name.startswith("table5") for name in made), "nothing was measured for it"
    assert list(manifest["tables"]) == ["table1"]
    entry = json.loads(made["manifest.json"])["tables"]["table1"]
    assert entry["files"]["table1.md"] == hashlib.sha256(made["table1.md"]).hexdigest()
    assert entry["provenance"]["config_digest"] == ["2" * 16]
    publish(config, tmp_path / "all", REFERENCE)
    assert contents(tmp_path / "all") == made


def test_what_is_stored_can_be_read_and_has_no_times(tmp_path: Path) -> None:
    maker, config = run(tmp_path / "run")
    maker.put("denoise_gray", "sigma5", "deal", [38.0], command="python -m bench evaluate", wall_s=3.0)
    publish(config, tmp_path / "all", REFERENCE)
    (result,) = Result.read([tmp_path / "all/evaluate/denoise_gray/sigma5/deal.csv"]).values()
    assert (result.rows[0]["psnr"], result.rows[0]["seconds"]) == ("38.0", "")
    assert result.sidecar["command"] == "python -m bench evaluate" and result.sidecar["code"] == {"digest": "1" * 16}
    assert "wall_s" not in result.sidecar and "started" not in result.sidecar


def test_a_measurement_gives_way_to_one_over_as_many_images_only(tmp_path: Path, capsys) -> None:
    maker, config = run(tmp_path / "run")
    for values, shown in (([38.0, 39.0], "38.500000"), ([30.0], "38.500000"), ([38.5, 39.5], "39.000000")):
        maker.put("denoise_gray", "sigma5", "deal", values)
        publish(config, tmp_path / "all", REFERENCE)
        assert psnr(tmp_path / "all", "deal") == shown
    assert capsys.readouterr().out.count("deal.csv: kept, it is over more images") == 1
    maker.put("denoise_gray", "sigma5", "deal", [], missing=REASON)
    publish(config, tmp_path / "all", REFERENCE)
    assert psnr(tmp_path / "all", "deal") == "39.000000"


def test_a_file_left_half_written_is_written_again(tmp_path: Path) -> None:
    maker, config = run(tmp_path / "run")
    maker.put("denoise_gray", "sigma5", "deal", [38.0, 39.0])
    publish(config, tmp_path / "all", REFERENCE)
    before = contents(tmp_path / "all")
    (tmp_path / "all/evaluate/denoise_gray/sigma5/deal.csv").write_text("task\n")
    publish(config, tmp_path / "all", REFERENCE)
    assert contents(tmp_path / "all") == before


def test_nothing_is_written_of_what_cannot_be_published(tmp_path: Path) -> None:
    maker, config = run(tmp_path / "run")
    with pytest.raises(UserError, match="no results to publish; make some first"):
        publish(config, tmp_path / "all", REFERENCE)
    path = maker.put("denoise_gray", "sigma5", "deal", [38.0])
    _, other = run(tmp_path / "run", tasks={"denoise_gray": {"dataset": "set12"}})
    with pytest.raises(UserError, match=r'denoise_gray\.dataset is "set12" in this run and "bsd68" in the reference'):
        publish(other, tmp_path / "all", REFERENCE)
    _, tuned = run(tmp_path / "run", tasks={"denoise_gray": {"hyperparameters": "tuned"}})
    with pytest.raises(UserError, match=r'denoise_gray\.hyperparameters is "tuned" in this run and "paper"'):
        publish(tuned, tmp_path / "all", REFERENCE)
    _, part = run(tmp_path / "run", tasks={"denoise_gray": {"subset": 1}})
    path.write_text(path.read_text().replace("38.0", "39.0"))
    with pytest.raises(UserError, match="run its job again"):
        publish(part, tmp_path / "all", REFERENCE)
    assert not (tmp_path / "all").exists()
    seal(path)
    assert publish(part, tmp_path / "all", REFERENCE).is_file(), "fewer images are no other experiment"


def test_results_are_held_against_what_they_were_computed_for(tmp_path: Path, capsys) -> None:
    """The sidecar counts, not the configuration that happens to be given; fewer settings are no other experiment."""
    maker, few = run(tmp_path / "run", tasks={"denoise_gray": {"sigmas_255": [5]}})
    part = evaluation_part(few, "denoise_gray", "sigma5", "deal")
    maker.put("denoise_gray", "sigma5", "deal", [38.0], config=part, weights={"deal_gray": "a"})
    publish(few, tmp_path / "all", REFERENCE)
    maker.put("denoise_gray", "sigma5", "deal", [39.0], config={**part, "solver": {"tol": 0.1}}, weights={})
    publish(few, tmp_path / "all", REFERENCE)
    printed = capsys.readouterr().out
    assert 'deal.csv: weights was {"deal_gray": "a"}, is now {}' in printed and '"tol": 0.1' in printed
    before = contents(tmp_path / "all")
    maker.put("denoise_gray", "sigma5", "deal", [40.0], config={**part, "seed": 7})
    with pytest.raises(UserError, match=r"denoise_gray\.seed is 7 in this run and 0 in the reference"):
        publish(few, tmp_path / "all", REFERENCE)
    assert contents(tmp_path / "all") == before
    maker, config = run(tmp_path / "other")
    maker.put("denoise_gray", "sigma50", "deal", [25.0])
    maker.put("denoise_gray", "sigma15", "deal", [32.0])
    publish(config, tmp_path / "all", REFERENCE)
    assert "sigma50/deal: left out, tasks.denoise_gray of the reference has no such setting" in capsys.readouterr().out
    assert not (tmp_path / "all/evaluate/denoise_gray/sigma50").exists()


def test_a_damaged_manifest_stops_it_before_anything_is_written(tmp_path: Path) -> None:
    maker, config = run(tmp_path / "run")
    maker.put("denoise_gray", "sigma5", "deal", [38.0])
    publish(config, tmp_path / "all", REFERENCE).write_text("{")
    maker.put("denoise_gray", "sigma5", "deal", [39.0])
    before = contents(tmp_path / "all")
    with pytest.raises(UserError, match=r"manifest\.json: is no list of tables"):
        publish(config, tmp_path / "all", REFERENCE)
    assert contents(tmp_path / "all") == before


def test_a_damaged_file_among_those_published_stops_it_first(tmp_path: Path) -> None:
    maker, config = run(tmp_path / "run")
    maker.put("denoise_gray", "sigma5", "deal", [38.0])
    publish(config, tmp_path / "all", REFERENCE)
    stored = tmp_path / "all/evaluate/denoise_gray/sigma5/deal.csv"
    stored.write_text(stored.read_text().replace("38.0", "39.0"))
    before = contents(tmp_path / "all")
    maker, config = run(tmp_path / "other")
    maker.put("denoise_gray", "sigma15", "deal", [32.0])
    with pytest.raises(UserError, match=r"sigma5/deal\.csv: sha256 .* run its job again"):
        publish(config, tmp_path / "all", REFERENCE)
    assert contents(tmp_path / "all") == before


def test_from_the_shell(tmp_path: Path, capsys) -> None:
    maker, _ = run(tmp_path / "run")
    maker.put("denoise_gray", "sigma5", "deal", [38.0])
    assert main(["publish", "--to", str(tmp_path / "all"), "--set", f"results={tmp_path / 'run'}"]) == 0
    assert capsys.readouterr().out.strip().endswith("manifest.json")
    assert main(["publish", "--to", str(tmp_path / "all"), "--set", f"results={tmp_path / 'none'}"]) == 2
    assert "no results to publish" in capsys.readouterr().err


def test_what_was_tuned_says_so_itself(tmp_path: Path) -> None:
    maker, config = run(tmp_path / "run")
    maker.put("deblur_gray", "k17_sigma2.55", "deal", {"01": 31.0}, dataset="set3_gray", tuned=True)
    with pytest.raises(UserError, match=r'deblur_gray\.hyperparameters is "tuned" in this run and "paper"'):
        publish(config, tmp_path / "all", REFERENCE)


def test_fewer_kernels_are_another_mean(tmp_path: Path, capsys) -> None:
    maker, config = run(tmp_path / "run")
    key = ("superres_color", "x2_sigma2.55", "deal")
    maker.put(*key, {f"000{n}_k1": 28.0 for n in range(9)}, dataset="cbsd68")
    with pytest.raises(UserError, match=r"superres_color\.kernels is \[1\] in this run and \[0, 1, 2, 3\] in the ref"):
        publish(config, tmp_path / "all", REFERENCE)
    whole = {f"0000_k{n}": 28.0 for n in range(4)}
    maker.put(*key, whole, dataset="cbsd68", hyperparameters={"lmbda": 0.28})
    publish(config, tmp_path / "all", REFERENCE)
    maker.put(*key, whole, dataset="cbsd68", hyperparameters={"lmbda": 0.3})
    publish(config, tmp_path / "all", REFERENCE)
    assert 'hyperparameters was {"lmbda": 0.28}, is now {"lmbda": 0.3}' in capsys.readouterr().out


def test_tuned_results_go_beside_the_others(tmp_path: Path, capsys) -> None:
    maker, _ = run(tmp_path / "run")
    maker.put("denoise_gray", "sigma5", "deal", [38.0])
    options = ["publish", "--set", f"results={tmp_path / 'run'}", "hyperparameters=tuned", "--to"]
    assert main([*options, str(tmp_path / "all")]) == 2
    assert "--reference" in capsys.readouterr().err
    tuned = str(PLAIN.parent / "workflow/config/tuned_cpu.yaml")
    assert main([*options, str(tmp_path / "tuned"), "--reference", str(PLAIN), tuned]) == 0
    assert (tmp_path / "tuned/table1.md").is_file() and not (tmp_path / "all").exists()
