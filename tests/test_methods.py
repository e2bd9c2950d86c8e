"""Conformance: what every registered method must do. A new method is tested here without being named."""

import ast
import importlib
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import small_items
import torch

import deal
from baselines import Hyperparameter, Method
from bench import datasets, registry, tasks
from bench.config import Config, evaluation_part
from bench.conventions import CONVENTIONS
from bench.errors import UserError
from bench.plan import Plan
from bench.provenance import module_path

METHODS = sorted(registry.catalogue())
PAIRS = [(m, t) for m in METHODS for t in tasks.TASKS if registry.entry(m).serves(t)]
SETTING = "sigma25"


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory, mirror_or_none: Path | None) -> Config:
    """A configuration whose weights are random models of DEAL and whose solver stops early."""
    folder = tmp_path_factory.mktemp("weights")
    for kind in ("gray", "color"):
        torch.manual_seed(0)
        deal.save(deal.DEAL(kind), folder / f"{kind}.safetensors")
    values = Config().model_dump()
    values |= {"weights": str(folder), "cache": str(folder), "mirror": str(mirror_or_none or folder)}
    values["solver"] |= {"algorithm": "fast", "tol": 1e-2, "tasks": {}}
    return Config.model_validate(values)


def ready(name: str, task: str, config: Config) -> tuple[Method, tasks.Item]:
    """The method, set up for `task`, and something to reconstruct; skips where weights are not to be had."""
    method = registry.create(name, config)
    item = small_items.item(task, config, SETTING if task.startswith("denoise") else None)
    method.task = task  # for `run`
    if reason := method.unavailable(task, item.sigma):
        pytest.skip(reason)
    try:
        weights = {w: without_network(w, config) for w in method.weights_for(task, item.sigma)}
    except registry.MissingWeights as error:
        pytest.skip(f"the weights of {name} are not here: {error}")
    method.setup(task, item.sigma, weights, torch.device("cpu"))
    return method, item


def without_network(name: str, config: Config) -> Path:
    """The file of the weights called `name`, if the mirror has it; trying to download it would take long."""
    known = datasets.registry().get(name)
    for file in known.files if known else ():
        if not (Path(config.mirror or "") / file.location).is_file():
            raise registry.MissingWeights("not in the mirror", file.url)
    return registry.locate(name, config)


def run(method: Method, y: torch.Tensor, item: tasks.Item) -> torch.Tensor:
    """One reconstruction with default hyperparameters."""
    given = {name: p.default for name, p in method.hyperparameters_for(method.task, item.sigma).items()}
    truth = {"truth": item.x} if method.oracle else {}
    with torch.no_grad():
        return method.reconstruct(y, item.operator, item.sigma, **given, **truth)


def test_the_expected_methods_are_there() -> None:
    assert {"truth", "measurement", "bm3d", "deal"} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_description(name: str, config: Config) -> None:
    entry, method = registry.entry(name), registry.create(name, config)
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert (method.name, method.label, tuple(method.tasks)) == (entry.name, entry.label, entry.tasks)
    assert method.tasks == ("*",) or set(method.tasks) <= set(CONVENTIONS)
    assert dict(entry.remarks) == method.remarks and all(map(entry.serves, method.remarks))
    for key, p in method.hyperparameters.items():
        assert isinstance(p, Hyperparameter), key
        assert p.low <= p.default <= p.high, key


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_hyperparameters_are_declared(name: str, task: str, config: Config) -> None:
    """The workflow learns from the source alone whether there is something to tune."""
    method, section = registry.create(name, config), config.task(task)
    every = [method.hyperparameters_for(task, section.sigma(setting)) for setting in section.settings()]
    assert registry.entry(name).tunes(task) == any(every)
    for found in every:
        assert len(found) <= 2, "the grid search takes two at most"
        for key, p in found.items():
            assert 0 <= p.low <= p.default <= p.high and p.default > 0, f"{key}: the search multiplies"


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_weights_are_declared(name: str, task: str, config: Config) -> None:
    """The workflow learns from the source alone whether a method needs weights."""
    method, section = registry.create(name, config), config.task(task)
    names = [n for s in section.settings() for n in method.weights_for(task, section.sigma(s))]
    assert registry.entry(name).needs_weights or not names
    assert all(isinstance(n, str) for n in names)


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_reconstruction(name: str, task: str, config: Config) -> None:
    method, item = ready(name, task, config)
    given = item.y.clone()
    estimate = run(method, item.y, item)
    assert torch.equal(item.y, given), "the measurement was changed in place"
    assert (estimate.shape, estimate.dtype, estimate.device) == (item.x.shape, torch.float32, item.y.device)
    assert torch.isfinite(estimate).all()
    assert torch.equal(run(method, item.y, item), estimate), "two calls, two results"
    iterations, converged = method.info.get("iterations"), method.info.get("converged")
    assert iterations is None or (isinstance(iterations, int) and iterations >= 0)
    assert converged is None or isinstance(converged, bool)
    json_ready = method.parameters()
    assert isinstance(json_ready, dict)


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_a_batch_is_its_images_one_by_one(name: str, task: str, config: Config) -> None:
    method, item = ready(name, task, config)
    if method.oracle:
        return  # an oracle is given one truth
    flipped = item.y.flip(-1)
    both = run(method, torch.cat([item.y, flipped]), item)
    assert both.shape[0] == 2
    # DEAL's solver stops anywhere within its tolerance, here 1e-2; all others end with the same step.
    loose = 2e-2 if name.startswith("deal") else 1e-3
    for row, y in enumerate((item.y, flipped)):
        assert torch.allclose(both[row : row + 1], run(method, y, item), atol=loose), "images of a batch mix"


@pytest.mark.parametrize(
    ("name", "task"), [pair for pair in PAIRS if pair[0] not in ("truth", "measurement", "deal", "deal_script")]
)
def test_a_baseline_improves_on_its_input(name: str, task: str, config: Config) -> None:
    """Denoising halves the squared error of y at least; elsewhere the estimate is nearer than Aᵀy or y is."""
    method, item = ready(name, task, config)
    measured, _ = ready("measurement", task, config)
    start = (run(measured, item.y, item) - item.x).square().mean()
    error = (run(method, item.y, item).clamp(0, 1) - item.x).square().mean()
    assert error < (0.5 if task.startswith("denoise") else 1.0) * start


def test_oracles(config: Config) -> None:
    for task in tasks.TASKS:
        method, item = ready("truth", task, config)
        assert torch.equal(run(method, item.y, item), item.x)
    for task in ("denoise_gray", "denoise_color"):
        method, item = ready("measurement", task, config)
        assert not method.clip
        noise = run(method, item.y, item) - item.x
        psnr = -10 * math.log10(noise.square().mean())
        assert psnr == pytest.approx(-20 * math.log10(25 / 255), abs=0.5)


def test_the_measurement_is_shown_as_it_is_where_it_is_an_image(config: Config) -> None:
    method, item = ready("measurement", "deblur_gray", config)
    assert torch.equal(run(method, item.y, item), item.y)
    method, item = ready("measurement", "superres_color", config)
    assert torch.equal(run(method, item.y, item), item.operator.A_adjoint(item.y))


def test_deal_takes_the_papers_hyperparameters(config: Config) -> None:
    method = registry.create("deal", config)
    assert not method.hyperparameters_for("denoise_gray", 5 / 255)
    for task, values in {
        "superres_color": {2.55: 0.28, 7.65: 2.5, 12.75: 5.5},
        "deblur_gray": {2.55: 0.5, 7.65: 2.5},
        "mri": {0.51: 0.05},
    }.items():
        for level, lmbda in values.items():
            found = method.hyperparameters_for(task, level / 255)
            assert {name: p.default for name, p in found.items()} == {"lmbda": lmbda, "sigma_255": 15}
    between = method.hyperparameters_for("superres_color", 5 / 255)["lmbda"].default
    assert 0.28 < between < 2.5


def test_deal_script_takes_the_scripts_lambda(config: Config) -> None:
    method, item = ready("deal_script", "superres_color", config)
    level = 255 * item.sigma
    assert method.parameters()["lmbda"] == pytest.approx(0.1 + 0.035 * level**2)
    plain, _ = ready("deal", "superres_color", config)
    with torch.no_grad():
        expected = plain.reconstruct(item.y, item.operator, item.sigma, lmbda=0.1 + 0.035 * level**2, sigma_255=15.0)
    assert torch.equal(run(method, item.y, item), expected)
    assert evaluation_part(config, "superres_color", "x2_sigma2.55", "deal_script")["solver"]["tol"] == 1e-2


def test_deal_solves_with_the_given_hyperparameters(config: Config) -> None:
    method, item = ready("deal", "deblur_gray", config)
    expected = method.model.solve(item.y, item.operator, 10 / 255, 0.7, tol=1e-2, algorithm="fast")
    found = method.reconstruct(item.y, item.operator, item.sigma, lmbda=0.7, sigma_255=10.0)
    assert torch.equal(found, expected.x)


def test_bm3d_is_the_packages(config: Config) -> None:
    from bm3d import bm3d, bm3d_rgb

    for task in ("denoise_gray", "denoise_color"):
        method, item = ready("bm3d", task, config)
        z = item.y[0].permute(1, 2, 0).double().numpy()
        expected = bm3d_rgb(z, item.sigma) if z.shape[2] == 3 else bm3d(z[:, :, 0], item.sigma)[..., None]
        found = run(method, item.y, item)[0].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_deal_takes_the_solvers_settings(config: Config) -> None:
    method, item = ready("deal", "denoise_gray", config)
    estimate = run(method, item.y, item)
    expected = method.model.solve(item.y, item.operator, sigma=item.sigma, tol=1e-2, algorithm="fast")
    assert torch.equal(estimate, expected.x)
    assert method.info == {"iterations": expected.outer_iterations, "converged": True}
    assert method.parameters()["tol"] == 1e-2


def test_weights_choices(config: Config, tmp_path: Path) -> None:
    def located(**values: str) -> Path:
        return registry.locate("deal_gray", config.model_copy(update={"results": str(tmp_path), **values}))

    assert located() == Path(config.weights) / "gray.safetensors"
    with pytest.raises(registry.MissingWeights, match="not trained yet"):
        located(weights="train")
    trained = tmp_path / "training" / "gray.safetensors"
    trained.parent.mkdir()
    trained.write_bytes(b"")
    assert located(weights="train") == trained
    assert registry.released("gray").parent.name == "released"
    with pytest.raises(UserError, match=r"holds neither gray\.safetensors nor deal_gray\.pth"):
        located(weights=str(trained.parents[1]))
    with pytest.raises(registry.MissingWeights, match="not in the data registry"):
        registry.locate("nothing", config)


def test_official_weights_are_converted(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    from deal.weights import write_official

    folder = tmp_path / "mirror"
    model = deal.load(Path(config.weights) / "gray.safetensors")
    for file in datasets.registry()["deal_official"].files:
        path = file.path(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_official(model if "gray" in file.name else deal.DEAL("color"), path)
    chosen = config.model_copy(update={"weights": "official", "cache": str(tmp_path / "cache"), "mirror": str(folder)})
    converted = registry.locate("deal_gray", chosen)
    assert converted.suffix == ".safetensors"
    ours, theirs = model.state_dict(), deal.load(converted).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_weights_that_cannot_be_downloaded_say_why(config: Config, tmp_path: Path) -> None:
    def fail(*arguments: object, **keywords: object) -> None:
        raise UserError("the host cannot be reached")

    chosen = config.model_copy(update={"weights": "official", "cache": str(tmp_path)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "fetch", fail)
        registry.prepare(chosen, "denoise_gray", "deal", tmp_path / "w.json")
    assert "the host cannot be reached" in (tmp_path / "w.json").read_text()
    assert registry.DEAL_URLS["gray"] in (tmp_path / "w.json").read_text()


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(UserError, match="unknown method 'bmd3'; did you mean 'bm3d'"):
        registry.entry("bmd3")


PlugIn = Callable[..., None]


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlugIn]:
    """Offers the class `value` of a module in the test's folder as the method `name` of another package."""

    def offer(value: str, name: str = "mine") -> None:
        point = importlib.metadata.EntryPoint(name, value, registry.GROUP)
        monkeypatch.setattr(registry, "entry_points", lambda group: [point])
        registry.catalogue.cache_clear()
        module_path.cache_clear()

    monkeypatch.syspath_prepend(str(tmp_path))
    yield offer
    registry.catalogue.cache_clear()
    module_path.cache_clear()


def test_a_plug_in_is_found(tmp_path: Path, plug_in: PlugIn) -> None:
    (tmp_path / "plugged.py").write_text(
        "from baselines import Method\n\n\nclass Mine(Method):\n    name = 'mine'\n    tasks = ('*',)\n"
    )
    plug_in("plugged:Mine")
    assert registry.entry("mine").module == "plugged"
    assert registry.create("mine", Config()).name == "mine"
    plug_in("plugged:Mine", "yours")
    with pytest.raises(UserError, match="no such class with name = 'yours'"):
        registry.catalogue()


def test_the_source_says_what_a_class_inherits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inherited.py").write_text(
        "from baselines import Method\n\n\n"
        "class One(Method):\n    name = 'one'\n    tasks = ('mri',)\n    tuned_tasks = ('mri',)\n"
        "    def weights_for(self, task, sigma):\n        return ()\n"
        "    def hyperparameters_for(self, task, sigma):\n        return {}\n\n\n"
        "class Two(One):\n    name = 'two'\n\n\n"
        "class Three(Method):\n    name = 'three'\n    tasks = ('*',)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module_path.cache_clear()
    one, two, three = registry._entries("inherited")
    assert [entry.name for entry in (one, two, three)] == ["one", "two", "three"]
    for entry in (one, two):
        assert (entry.tasks, entry.needs_weights, entry.tunes("mri"), entry.tunes("deblur_gray")) == (
            ("mri",), True, True, False,
        )  # fmt: skip
    assert not three.needs_weights
    assert not three.tunes("mri"), "nothing to tune is defined"
    module_path.cache_clear()


BORROWED = (
    ("from baselines.ffdnet import FFDNet", "FFDNet"),
    ("from baselines import ffdnet as theirs", "theirs.FFDNet"),
    ("import baselines.ffdnet", "baselines.ffdnet.FFDNet"),
    ("from .between import Between", "Between"),
)


@pytest.mark.parametrize(("line", "base"), BORROWED)
def test_a_base_of_another_module_counts_too(line: str, base: str, tmp_path: Path, plug_in: PlugIn) -> None:
    package = tmp_path / "lent"
    package.mkdir()
    (package / "__init__.py").touch()
    between = "from baselines.ffdnet import FFDNet\n\n\nclass Between(FFDNet):\n    label = 'Between'\n"
    (package / "between.py").write_text(between)
    (package / "mine.py").write_text(f"{line}\n\n\nclass Mine({base}):\n    name = 'mine'\n")
    plug_in("lent.mine:Mine")
    mine, lent = registry.entry("mine"), registry.entry("ffdnet")
    assert (mine.needs_weights, mine.tasks, mine.remarks) == (True, lent.tasks, lent.remarks)
    assert mine.label == ("Between" if base == "Between" else lent.label)


def test_names_of_deals_variants_are_kept_for_them(tmp_path: Path, plug_in: PlugIn) -> None:
    (tmp_path / "named.py").write_text(
        "from baselines import Method\n\n\nclass Mine(Method):\n    name = 'deal_plus'\n    tasks = ('*',)\n"
    )
    plug_in("named:Mine", "deal_plus")
    with pytest.raises(UserError, match="named: the method's name 'deal_plus' begins as DEAL's own; take another"):
        registry.catalogue()


@pytest.mark.parametrize(
    ("stated", "complaint"),
    [
        ('tasks = ("denoise_gray")', "tasks is 'denoise_gray', expected a tuple like ('denoise_gray',) of: "),
        ("tasks = {'mri': 1}", "tasks is {'mri': 1}, expected a tuple"),
        ("tasks = ()", "tasks is (), expected a tuple"),
        ("tasks = None", "tasks is None, expected a tuple"),
        ("label = 'Mine'", "tasks is not written out in its class, expected a tuple"),
        ("tasks = ALL", "tasks is not written out in its class, expected a tuple"),
        ('tasks = ("mri", "denoise_grey")', "tasks names an unknown task, 'denoise_grey'; known: "),
        ("tasks = (3,)", "tasks names an unknown task, 3; known: "),
        ('tasks = ("*",)\n    tuned_tasks = ("mri")', "tuned_tasks is 'mri', expected a tuple"),
        ('tasks = ("*",)\n    tuned_tasks = ALL', "tuned_tasks is not written out in its class, expected a tuple"),
        ('tasks = ("*",)\n    tuned_tasks = ("mir",)', "tuned_tasks names an unknown task, 'mir'; known: "),
    ],
)
def test_a_method_that_would_vanish_is_refused(stated: str, complaint: str, tmp_path: Path, plug_in: PlugIn) -> None:
    """A forgotten comma makes a text of a tuple, whose letters are no tasks: no table would show the method."""
    base = "from baselines import Method\n\nALL = ('mri',)\n\n\nclass Base(Method):\n    tasks = ('mri',)\n\n\n"
    above = "Base" if "ALL" in stated else "Method"  # what cannot be read is not what the base has
    (tmp_path / "vanishing.py").write_text(f"{base}class Mine({above}):\n    name = 'mine'\n    {stated}\n")
    plug_in("vanishing:Mine")
    with pytest.raises(UserError) as caught:
        Plan(Config())
    assert str(caught.value).startswith(f"vanishing: method 'mine': {complaint}")
    assert "*, denoise_gray, denoise_color, superres_color, deblur_gray, mri" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stated", ["'quoted'", "{'denoise_grey': 'quoted'}", "{'mri': 3}", "dict(mri='quoted')"])
def test_remarks_that_would_vanish_are_refused(stated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "remarking.py").write_text(
        "from baselines import Method\n\n\nclass Mine(Method):\n    name = 'mine'\n    tasks = ('mri',)\n"
        f"    remarks = {stated}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module_path.cache_clear()
    with pytest.raises(UserError, match=r"^remarking: method 'mine': remarks is .*, expected a literal like"):
        list(registry._entries("remarking"))
    module_path.cache_clear()


def test_a_list_of_tasks_and_nothing_to_tune_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "listed.py").write_text(
        "from baselines import Method\n\n\nclass Mine(Method):\n    name = 'mine'\n    tasks = ['mri', 'deblur_gray']\n"
        "    tuned_tasks = ()\n    hyperparameters = {}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module_path.cache_clear()
    (mine,) = registry._entries("listed")
    assert mine.tasks == ("mri", "deblur_gray") and not mine.tunes("mri")
    module_path.cache_clear()


def test_tuned_values_are_an_input_where_they_are_wanted(config: Config) -> None:
    plan = Plan(config.model_copy(update={"hyperparameters": "tuned", "results": "r"}))
    arguments = ("superres_color", "x2_sigma2.55", "deal")
    assert plan.evaluation_hyperparameters(*arguments) == ["r/tuning/superres_color/x2_sigma2.55/deal.json"]
    assert plan.evaluation_hyperparameters("denoise_gray", "sigma25", "deal") == []
    assert plan.evaluation_hyperparameters("superres_color", "x2_sigma2.55", "truth") == []
    assert Plan(config).evaluation_hyperparameters(*arguments) == []


def test_fewer_gpus_than_a_training_wants_are_refused(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake caps what a job asks for by --resources, and says nothing."""

    def run(gpu: int, rule: str = "train_deal") -> None:
        job = SimpleNamespace(rule=SimpleNamespace(name=rule, output=[]), resources={"gpu": gpu}, wildcards_dict={})
        plan.before_first_job(SimpleNamespace(needrun_jobs=lambda: [job], jobs=[job]))
        plan.after_last_job()

    monkeypatch.chdir(tmp_path)  # where the run's holder is written
    values = {"device": "cuda", "train_gpus": 4, "results": str(tmp_path)}
    plan = Plan(config.model_copy(update=values))
    run(4)
    run(0, rule="make_table")
    with pytest.raises(SystemExit):
        run(1)
    plan = Plan(config.model_copy(update=values | {"device": "cpu"}))
    run(0)


def test_the_example_in_the_interfaces_docstring_works(tmp_path: Path) -> None:
    import baselines

    example = re.search(r"    class Mean.*?\n(?=\nModules)", baselines.__doc__ or "", re.DOTALL)
    assert example is not None
    code = "\n".join(line[4:] for line in example.group().splitlines())
    names = {"Method": Method, "Hyperparameter": Hyperparameter, "torch": torch}
    exec(compile(ast.parse(code), "example", "exec"), names)
    method = names["Mean"]()
    y = torch.rand(2, 1, 9, 9)
    assert method.reconstruct(y, tasks.Identity(), 0.1, radius=1)[0, 0, 4, 4] == pytest.approx(
        y[0, 0, 3:6, 3:6].mean().item()
    )
