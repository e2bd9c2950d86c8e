"""The table of ablations from made-up evaluations: sizes, counts, and the reasons of what is missing."""

import csv
import io
import json
from pathlib import Path

import pytest
from made_results import Maker

from bench import ablations, configfile
from bench.config import Architecture, Config
from bench.errors import UserError
from bench.plan import Plan
from bench.render import render_latex, render_markdown


@pytest.mark.parametrize("values", [{}, {"filters": 32, "kernel_size": 5}, {"filters": 3, "non_decreasing": False}])
def test_parameters_are_those_of_the_model(values: dict) -> None:
    from deal import DEAL

    counted = sum(p.numel() for p in DEAL("gray", **values).parameters())
    assert ablations.parameters(Architecture(**values)) == counted


@pytest.fixture
def config(tmp_path: Path) -> Config:
    values = {"names": ["filters_32", "filters_128", "kernel_5"]}
    return configfile.check({"results": str(tmp_path), "ablations": values})


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


def test_values_and_reasons(config: Config) -> None:
    for number, variant in enumerate(config.ablations.names[:2]):
        trained(config, variant, 10)
        maker = Maker(Path(config.ablated(variant).results))
        for setting, psnr in (("sigma5", 38.0), ("sigma15", 32.0), ("sigma25", 29.0)):
            weights = {"deal_gray": f"{number}" * 64}
            maker.put("denoise_gray", setting, "deal", [psnr + number, psnr + 2 + number], weights=weights)
    trained(config, "kernel_5", 10)
    maker = Maker(Path(config.ablated("kernel_5").results))
    maker.put("denoise_gray", "sigma5", "deal", [], missing="weights are broken")
    table = ablations.build(config)
    found = rows(table)
    assert [found["filters_128"][f"psnr_sigma{sigma}"] for sigma in (5, 15, 25)] == ["40.0000", "34.0000", "31.0000"]
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
    with pytest.raises(UserError, match="run the evaluation again"):
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
