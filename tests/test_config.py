"""The configuration: what it accepts, and the one line with which it refuses."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from bench import checks, config, config_docs, configfile, datasets
from bench.errors import UserError
from bench.plan import Plan

ROOT = Path(__file__).resolve().parents[1]


def refused(values: dict, source: str = "config.yaml") -> str:
    with pytest.raises(UserError) as caught:
        configfile.check(values, {source: values})
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_config_yaml_states_every_key_with_its_default() -> None:
    content = configfile.read(ROOT / "config.yaml")
    assert configfile.check(content) == config.Config()

    def keys(value: object, path: str = "") -> set[str]:
        if isinstance(value, dict):
            return {p for key, part in value.items() for p in {f"{path}.{key}"} | keys(part, f"{path}.{key}")}
        if isinstance(value, list):
            return {p for part in value for p in keys(part, f"{path}[]")}
        return set()

    defaults = keys(config.Config().model_dump())
    # An override states only what it overrides.
    assert defaults - keys(content) == {p for p in defaults if p.count(".") == 4 and "solver.tasks" in p} - keys(
        content
    )


def test_paper_values() -> None:
    paper = configfile.load([ROOT / "config.yaml"])
    gray, color = paper.training.gray, paper.training.color
    assert [(p.steps, p.lr) for p in gray.phases] == [(70000, [5e-4, 4e-4]), (10000, [2e-4, 1e-7])]
    assert [(p.steps, p.lr) for p in color.phases] == [(40000, [5e-4, 4e-4]), (5000, [2e-4, 1e-7])]
    for training in (gray, color):
        assert (training.batch, training.patch, training.sigma_max_255) == (16, 128, 50)
        assert (training.gamma, training.outer) == (1e-4, [15, 60])
        assert (training.cg_tol, training.cg_iterations, training.validate_every) == (1e-4, 50, 1000)
    assert (gray.validation, color.validation) == ("set12", "set3c")
    assert paper.solver.for_task("denoise_gray") == {
        "algorithm": "reference",
        "tol": 1e-5,
        "cg_tol": 1e-6,
        "max_outer": 1000,
        "max_cg": 1000,
    }
    assert paper.tasks.denoise_gray.crop is None
    assert paper.tasks.denoise_color.crop == 256
    assert paper.weights == "train"


@pytest.mark.parametrize("overlay", ["demo", "quick"])
def test_overlays_are_valid(overlay: str) -> None:
    path = ROOT / "workflow" / "config" / f"{overlay}.yaml"
    checked = configfile.load([ROOT / "config.yaml", path])
    assert checked.results == f"results/{overlay}"
    assert checked.weights == "released"


def test_unknown_key_is_named_with_the_nearest() -> None:
    message = refused({"tasks": {"denoise_gray": {"dataset": "bsd68", "crop": None, "sigma": 5}}})
    assert message == "config.yaml: unknown key 'tasks.denoise_gray.sigma'; did you mean 'sigmas_255'?"
    assert refused({"metods": []}) == "config.yaml: unknown key 'metods'; did you mean 'methods'?"
    nested = {"training": {"gray": {"phases": [{"steps": 1, "lr": [1.0, 1.0], "warmp": 3}]}}}
    assert "'training.gray.phases[0].warmp'; did you mean 'warmup'?" in refused(nested)
    assert "did you mean 'max_outer'?" in refused({"solver": {"tasks": {"denoise_gray": {"max_iter": 3}}}})


def test_unknown_key_without_a_near_one_lists_the_known() -> None:
    assert "known: tol, " in refused({"solver": {"tasks": {"denoise_gray": {"zzz": 3}}}}).replace("algorithm, ", "")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"subset": "four"}, "subset is 'four', expected a whole number"),
        ({"subset": 2.5}, "subset is 2.5, expected a whole number"),
        ({"subset": 0}, "subset is 0, expected greater than or equal to 1"),
        ({"device": "gpu"}, "device is 'gpu', expected one of 'auto', 'cpu' or 'cuda'"),
        ({"methods": "deal"}, "methods is 'deal', expected a list, like [5, 15]"),
        ({"methods": [3]}, "methods[0] is 3, expected text"),
        ({"tasks": 3}, "tasks is 3, expected a section (indented `key: value` lines)"),
        ({"solver": {"tol": -1}}, "solver.tol is -1.0, expected greater than 0"),
        ({"solver": {"tol": True}}, "solver.tol is True, expected a number"),
        ({"methods": []}, "methods is [], expected at least 1 in the list"),
        ({"tasks": {"denoise_gray": {"crop": 3}}}, "tasks.denoise_gray.dataset is missing"),
    ],
)  # fmt: skip
def test_wrong_values_name_key_value_and_expectation(values: dict, sentence: str) -> None:
    assert refused(values) == f"config.yaml: {sentence}"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"solver": {"tasks": {"deblur": {}}}}, "solver.tasks: unknown task 'deblur'; did you mean 'deblur_gray'?"),
        (
            {"tables": {"table1": {"caption": "", "tasks": ["denoise_gray"], "methods": ["mine"]}}},
            "tables.table1.methods: 'mine' is not one of `methods`",
        ),
    ],
)
def test_names_must_agree(values: dict, sentence: str) -> None:
    assert refused(values).startswith(f"configuration: {sentence}")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("methods=[deal, tv, deal]", "methods: 'deal' is named twice; name it once"),
        ("figures.names=[fig03, fig03]", "figures.names: 'fig03' is named twice; name it once"),
        ("figures.methods=[tv, tv]", "figures.methods: 'tv' is named twice; name it once"),
        ("tables.table1.tasks=[denoise_gray, denoise_gray]", "tables.table1.tasks: 'denoise_gray' is named twice"),
        ("tables.table1.methods=[tv, tv]", "tables.table1.methods: 'tv' is named twice"),
        ("tuning.tasks.mri={dataset: set12}", "tuning.tasks.mri: MRI is tuned on validation volumes of its own"),
    ],
)  # fmt: skip
def test_what_would_be_ignored_is_refused(setting: str, sentence: str) -> None:
    base = config.Config().model_dump()
    assert refused(configfile.merge(base, configfile.assignments([setting]))).startswith(f"configuration: {sentence}")


GRAY = "set12, bsd68, bsd400, embedded_gray, embedded_val_gray, embedded_train_gray, set3_gray, set9_gray"


@pytest.fixture
def shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry without data sets that were registered on this machine."""
    known = {name: dataset for name, dataset in datasets.registry().items() if dataset.source != "local"}
    monkeypatch.setattr(datasets, "registry", lambda: known)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            ["tasks.denoise_gray.dataset=mydata"],
            f"tasks.denoise_gray.dataset: unknown data set 'mydata'; known: {GRAY}; `python -m bench register` "
            "adds your own",
        ),
        (
            ["tasks.superres_color.dataset=cbds68"],
            "tasks.superres_color.dataset: unknown data set 'cbds68'; did you mean 'cbsd68'; `python -m "
            "bench register` adds your own",
        ),
        (
            ["tasks.denoise_color.dataset=bsd68"],
            "tasks.denoise_color.dataset: the data set 'bsd68' holds gray images, expected colour images; did you mean "
            "'cbsd68'?",
        ),
        (
            ["tasks.deblur_gray.dataset=dpir_kernels"],
            "tasks.deblur_gray.dataset: the data set 'dpir_kernels' holds no images, expected gray images; known: "
            f"{GRAY}",
        ),
        (
            ["tuning.tasks.deblur_gray.dataset=set3c"],
            "tuning.tasks.deblur_gray.dataset: the data set 'set3c' holds colour images, expected gray images; did you "
            "mean 'set12'?",
        ),
        (
            ["training.color.datasets=[bsds500_color, bsd400]"],
            "training.color.datasets[1]: the data set 'bsd400' holds gray images, expected colour images; did you mean "
            "'bsds500_color'?",
        ),
        (["training.gray.validation=fdn"], "training.gray.validation: the data set 'fdn' holds no images, expected "),
        (["figures.names=[fig99]"], "figures.names: unknown figure 'fig99'; did you mean 'fig09'?"),
        (["methods=[bmd3]"], "methods: unknown method 'bmd3'; did you mean 'bm3d'?"),
        (["tasks.mri.source=fastmri"], "tasks.mri.path is null, expected the folder of fastMRI's multicoil_val/*.h5"),
        (
            ["hyperparameters=tuned", "tasks.deblur_gray.dataset=a\nb"],
            "tasks.deblur_gray.dataset: unknown data set 'a\\nb'; known: ",
        ),
    ],
)  # fmt: skip
def test_a_plan_names_the_key_that_cannot_be(settings: list[str], sentence: str, shipped: None) -> None:
    checked = configfile.load([ROOT / "config.yaml"], configfile.assignments(settings))
    with pytest.raises(UserError) as caught:
        Plan(checked)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("dataset", "wanted"), [("bsd68", 1), ("set12", 0)])
def test_the_authors_castle_is_fetched_only_where_it_is_shown(dataset: str, wanted: int) -> None:
    settings = configfile.assignments([f"tasks.denoise_gray.dataset={dataset}"])
    plan = Plan(configfile.load([ROOT / "config.yaml"], settings))
    assert len(plan.published_noise()) == wanted
    asked = [path for path in plan.figure_inputs("castle") if path.endswith("found/castle_noisy.json")]
    assert len(asked) == wanted, "figures follow when it can be had at last"
    assert plan.figure_is_timed("error_time") and not plan.figure_is_timed("castle")


def test_the_command_config_makes_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    from bench.__main__ import main

    arguments = ["config", "--config", str(ROOT / "config.yaml"), "--set", "tasks.denoise_color.dataset=bsd68"]
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: tasks.denoise_color.dataset: ") and printed.err.count("\n") == 1
    assert printed.out == ""


@pytest.mark.parametrize(
    "settings",
    [
        ["tasks.mri.source=fastmri", "tasks.mri.path=knee/multicoil_val"],
        ["training.gray.datasets=[bsd400, bsds500_color, embedded_train_color]"],
        ["training.color.datasets=[embedded_train_gray]"],  # its files are in colour
        ["tasks.deblur_gray.dataset=embedded_gray", "tuning.tasks.deblur_gray.dataset=bsd400"],
    ],
)
def test_a_plan_takes_what_can_be(settings: list[str]) -> None:
    Plan(configfile.load([ROOT / "config.yaml"], configfile.assignments(settings)))


def test_the_plan_knows_which_images_a_task_takes() -> None:
    from bench import tasks

    found = {key: checks.CHANNELS[kind] for key, _, kind, _ in checks.image_sets(config.Config())}
    for name, task in tasks.TASKS.items():
        if name != "mri":
            assert found[f"tasks.{name}.dataset"] == found[f"tuning.tasks.{name}.dataset"] == task.channels


def test_a_figure_of_a_setting_that_is_left_out_names_its_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Only where that figure is planned: tables and other figures do not ask for it."""
    values = {"weights": "released", "tasks": {"denoise_gray": {"sigmas_255": "[5,15]"}}}
    plan = Plan(configfile.load([ROOT / "config.yaml"], values))
    assert plan.table("table1") and plan.figures() and plan.figure_part("fig09")
    line = "error: figures.denoising.setting: unknown setting 'sigma25'; tasks.denoise_gray has sigma5, sigma15\n"
    for asked in (plan.figure_inputs, plan.figure_part, plan.figure_data_code):
        with pytest.raises(SystemExit) as caught:
            asked("fig03")
        assert caught.value.code == 2
        assert capsys.readouterr().err == line


def test_quick_needs_no_mri_record_and_no_search() -> None:
    quick = configfile.load([ROOT / "config.yaml", ROOT / "workflow" / "config" / "quick.yaml"])
    assert quick.tasks.mri.source == "phantom"
    assert not any(quick.tuned(task) for task in type(quick.tasks).model_fields)
    assert set(Plan(quick).datasets()) >= {"bsd68", "cbsd68", "set3_gray"}, "images are real"


def test_ranges_must_rise() -> None:
    values = config.Config().model_dump()
    values["training"]["gray"]["outer"] = [9, 3]
    assert refused(values) == "configuration: training.gray: outer is [9, 3], the first number is the larger"


def test_weights_must_be_a_word_or_an_existing_folder(tmp_path: Path) -> None:
    assert refused({"weights": "offical"}).endswith("or a folder that exists; did you mean 'official'?")
    assert configfile.check({"weights": str(tmp_path)}).weights == str(tmp_path)


def test_the_file_with_the_mistake_is_named(tmp_path: Path) -> None:
    base, over = tmp_path / "base.yaml", tmp_path / "over.yaml"
    base.write_text("subset: 4\n")
    over.write_text("solver: {tol: small}\n")
    with pytest.raises(UserError, match=r"^.*over\.yaml: solver\.tol is 'small', expected a number$"):
        configfile.load([base, over])
    with pytest.raises(UserError, match=r"^--config: subset is 'x'"):
        configfile.load([base], {"subset": "x"})


def test_text_from_the_command_line_is_read_as_yaml() -> None:
    values = configfile.assignments(["tasks.denoise_gray.sigmas_255=[5,15]", "subset=4", "solver.tol=1e-4"])
    checked = configfile.load([ROOT / "config.yaml"], values)
    assert checked.tasks.denoise_gray.settings() == ["sigma5", "sigma15"]
    assert (checked.subset, checked.solver.tol) == (4, 1e-4)
    # Snakemake reads `{a: {b: c}}` with every leaf as text.
    nested = {"tasks": {"denoise_color": {"crop": "null", "subset": "2"}}}
    assert configfile.load([ROOT / "config.yaml"], nested).tasks.denoise_color.crop is None


def test_a_section_given_as_text_is_laid_on_the_file_key_by_key() -> None:
    settings = ["solver={tol: 1e-3}", "solver.max_outer=7", "tasks={denoise_gray: {subset: 2}}"]
    checked = configfile.load([ROOT / "config.yaml"], configfile.assignments(settings))
    plain = configfile.load([ROOT / "config.yaml"])
    expected = plain.model_dump()
    expected["solver"] |= {"tol": 1e-3, "max_outer": 7}
    expected["tasks"]["denoise_gray"]["subset"] = 2
    assert checked.model_dump() == expected
    assert "tasks.denoise_gray is 3" in refused(configfile.assignments(["tasks={denoise_gray: 3}"]))


def test_subset_at_the_top_wins() -> None:
    checked = configfile.load([ROOT / "config.yaml"], {"subset": 3})
    assert checked.subset_of("denoise_gray") == 3
    own = configfile.load([ROOT / "config.yaml"], {"tasks": {"denoise_gray": {"subset": 5}}})
    assert (own.subset_of("denoise_gray"), own.subset_of("denoise_color")) == (5, None)


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    for text, complaint in [("a: [", "not valid YAML in line"), ("- a\n", "expected `key: value` lines")]:
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(UserError, match=complaint) as caught:
            configfile.read(tmp_path / "c.yaml")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        configfile.read(tmp_path / "absent.yaml")
    (tmp_path / "c.yaml").write_text("# nothing\n")
    assert configfile.read(tmp_path / "c.yaml") == {}


def test_resolved_configuration_is_written_only_when_it_changed(tmp_path: Path) -> None:
    first = configfile.load([ROOT / "config.yaml"], {"results": str(tmp_path)})
    path = configfile.write_resolved(first)
    before = path.stat().st_mtime_ns
    assert configfile.load([path]) == first
    assert configfile.write_resolved(first).stat().st_mtime_ns == before
    second = configfile.load([path], {"subset": 2})
    configfile.write_resolved(second)
    assert configfile.load([path]) == second
    assert [p.name for p in tmp_path.iterdir()] == ["config.resolved.yaml"]


def test_an_evaluation_depends_on_its_own_keys_only() -> None:
    base = config.Config()

    def part(values: dict, task: str = "denoise_gray", setting: str = "sigma15", method: str = "bm3d") -> str:
        merged = configfile.merge(base.model_dump(), values)
        return config.digest(config.evaluation_part(configfile.check(merged), task, setting, method))

    same = part({})
    for values in [
        {"methods": ["bm3d"]},
        {"tasks": {"denoise_color": {"seed": 9}}},
        {"tasks": {"denoise_gray": {"sigmas_255": [15.0, 50.0], "subset": 2}}},
        {"solver": {"tol": 1e-3}},
        {"training": {"gray": {"batch": 2}}},
        {"subset": 2},
    ]:
        assert part(values) == same, values
    assert part({"tasks": {"denoise_gray": {"seed": 1}}}) != same
    assert part({"tasks": {"denoise_gray": {"crop": 8}}}) != same
    assert part({}, method="deal") != part({"solver": {"tol": 1e-3}}, method="deal")
    assert part({}, setting="sigma5") != same


def test_mirror_key_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEAL_MIRROR", "from-environment")
    assert config.Config().mirror_in_use() == "from-environment"
    assert config.Config(mirror="from-config").mirror_in_use() == "from-config"
    monkeypatch.delenv("DEAL_MIRROR")
    assert config.Config().mirror_in_use() is None


def test_settings_are_named_after_their_noise_level() -> None:
    task = config.Denoise(dataset="bsd68", crop=None, sigmas_255=[5.0, 2.55])
    assert task.settings() == ["sigma5", "sigma2.55"]
    assert task.sigma_255("sigma2.55") == 2.55
    with pytest.raises(UserError, match="unknown setting 'sigma6'; did you mean 'sigma5'"):
        task.sigma_255("sigma6")


def test_training_keys_are_those_of_the_training() -> None:
    from bench import training_job
    from deal.training import Phase, TrainConfig

    ours = set(config.Training.model_fields) - {"datasets", "validation"}
    assert ours == {field.name for field in dataclasses.fields(TrainConfig)} - {"kind"}
    assert set(config.Phase.model_fields) == {field.name for field in dataclasses.fields(Phase)}
    assert training_job.train_config(config.Config(), "gray") == TrainConfig()
    assert training_job.train_config(config.Config(), "color").steps == 45_000


def test_architecture_keys_are_those_of_the_model() -> None:
    from bench import training_job
    from deal.model import PUBLISHED, Architecture

    assert config.Architecture().model_dump() == dataclasses.asdict(PUBLISHED)
    values = configfile.merge(config.Config().model_dump(), {"training": {"gray": {"architecture": {"filters": 32}}}})
    changed = configfile.check(values)
    assert training_job.train_config(changed, "gray").architecture == Architecture(filters=32)
    assert config.training_part(changed, "gray")["architecture"]["filters"] == 32
    assert "architecture" not in config.training_part(changed, "color"), "states from before there was a choice stay"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"names": ["filters_23"]}, "ablations.names: unknown variant 'filters_23'; did you mean 'filters_32'?"),
        ({"names": ["kernel_5", "kernel_5"]}, "ablations.names: a variant is named twice"),
        ({"variants": {"k8": {"kernel_size": 8}}}, "ablations.variants.k8: kernel_size is 8, expected an odd number"),
        ({"variants": {"a/b": {}}}, "ablations.variants: 'a/b' is not lower-case letters, digits and _"),
        (
            {"schedule": {"phases": [{"steps": 1, "lr": [1.0, 1.0]}], "outer": [9, 3]}},
            "ablations.schedule: outer is [9, 3], the first number is the larger",
        ),
    ],
)
def test_ablations_that_cannot_be_are_refused(values: dict, sentence: str) -> None:
    assert (
        refused(configfile.merge(config.Config().model_dump(), {"ablations": values})) == f"configuration: {sentence}"
    )


def test_a_variant_is_the_main_training_but_for_its_architecture() -> None:
    values = configfile.merge(config.Config().model_dump(), {"training": {"gray": {"init": "gray", "batch": 3}}})
    base = configfile.check(values)
    ablated = base.ablated("kernel_5")
    assert (ablated.results, ablated.weights) == ("results/ablations/kernel_5", "train")
    architecture = config.Architecture(kernel_size=5)
    expected = base.training.gray.model_copy(update={"init": None, "architecture": architecture})
    assert ablated.training.gray == expected and ablated.training.color == base.training.color
    schedule = {"phases": [{"steps": 7, "lr": [1.0, 1.0]}], "batch": 5}
    short = configfile.check(configfile.merge(values, {"ablations": {"schedule": schedule}})).ablated("filters_32")
    gray = short.training.gray
    assert (gray.phases[0].steps, gray.batch, gray.datasets) == (7, 5, base.training.gray.datasets)
    assert configfile.check(short.model_dump()) == short
    with pytest.raises(UserError, match="unknown variant 'kernel_6'; did you mean"):
        base.ablated("kernel_6")


def test_solver_keys_are_those_of_the_solver() -> None:
    import inspect

    from deal.solver import solve

    known = set(inspect.signature(solve).parameters)
    assert set(config.Solver().for_task("denoise_gray")) <= known


def test_generated_files_are_up_to_date() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == config_docs.render()
    assert (ROOT / "workflow" / "config.schema.json").read_text(encoding="utf-8") == config.schema()


def test_every_key_is_documented() -> None:
    page = config_docs.render()
    for model in (config.Config, config.Training, config.Phase, config.Solver, config.Denoise, config.Table):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            assert f"| `{name}` |" in page


def test_yaml_anchors_work_in_overlays() -> None:
    text = (ROOT / "workflow" / "config" / "demo.yaml").read_text()
    assert yaml.safe_load(text)["training"]["color"]["batch"] == yaml.safe_load(text)["training"]["gray"]["batch"]
