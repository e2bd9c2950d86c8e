"""What figures show: problems, estimates that are kept, solution paths, wrong assumptions, traces."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small_items
import torch

from bench import mri_brain, registry, tasks
from bench.config import Config
from bench.errors import UserError
from bench.figure_data import brain, compared, entry, error_time, fig05, part, paths, problems, robustness
from bench.figure_data.runs import Run

SOLVER = {"algorithm": "fast", "tol": 1e-3, "max_outer": 60}


def config(tmp_path: Path, **more) -> Config:
    """Released weights, a quick solver, results below `tmp_path`."""
    methods = ["truth", "measurement", "bm3d", "deal"]
    base = {"results": str(tmp_path), "cache": str(tmp_path), "device": "cpu", "weights": "released"}
    return Config.model_validate(base | {"methods": methods, "solver": SOLVER} | more)


class Small(problems.Problem):
    """A problem whose data need no file."""

    data = {"dataset": "small", "digest": "0"}  # noqa: RUF012


def small(task: str, tmp_path: Path, **more) -> problems.Problem:
    """The small item of a task as a problem."""
    made = config(tmp_path, **more)
    setting = made.task(task).settings()[-1]
    return Small(made, task, setting, (small_items.item(task, made, setting),))


def test_a_turned_kernel_keeps_its_mass_and_its_centre() -> None:
    kernel = np.zeros((9, 9))
    kernel[2, 2:6] = kernel[2:7, 5] = 1.0
    kernel /= kernel.sum()
    centre = np.array([(np.arange(9) * kernel.sum(1 - axis)).sum() for axis in (0, 1)])
    same = robustness.turned(kernel, 0.0)
    assert np.array_equal(same[4:-4, 4:-4], kernel) and same.sum() == pytest.approx(1)
    half = robustness.turned(kernel, 180.0)
    turned = robustness.turned(kernel, 30.0)
    for found in (half, turned):
        where = [(np.arange(17) * found.sum(1 - axis)).sum() for axis in (0, 1)]
        assert found.min() >= 0 and found.sum() == pytest.approx(1)
        assert where == pytest.approx(centre + 4, abs=0.05)
    assert abs(turned - same).sum() > 0.3


def test_a_kernel_turned_by_nothing_is_the_same_operator(tmp_path: Path) -> None:
    item = small_items.item("deblur_gray", config(tmp_path))
    told = robustness._blur(item, 0.0)["operator"]
    assert torch.allclose(told.A(item.x), item.operator.A(item.x), atol=1e-6)


def test_estimates_are_kept_and_told_levels_are_not_mixed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = small("denoise_gray", tmp_path)
    run, item = Run(found, "deal"), found.items[0]
    first, other = run.estimate(item), run.estimate(item, sigma=2 * item.sigma)
    assert np.abs(first.x - other.x).max() > 0.01
    assert len(list((tmp_path / ".state" / "figures").glob("deal-*.npz"))) == 2
    monkeypatch.setattr(Run, "_compute", lambda *_: pytest.fail("computed again"))
    again = Run(found, "deal").estimate(item)
    assert np.array_equal(again.x, first.x) and again.psnr == first.psnr
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        run.estimate(replace(item, y=item.y + 0.1))


def test_the_oracles_give_what_is_known(tmp_path: Path) -> None:
    found = small("denoise_gray", tmp_path)
    measured = Run(found, "measurement").estimate(found.items[0])
    assert np.array_equal(measured.x, found.items[0].y[0].numpy())
    assert compared(found.config, "denoise_gray") == ["bm3d", "deal"]
    assert compared(found.config, "mri") == ["deal"]


def test_weights_that_cannot_be_had_are_a_reason(tmp_path: Path) -> None:
    run = Run(small("denoise_gray", tmp_path, weights="train"), "deal")
    assert run.missing is not None and "not trained yet" in run.missing
    with pytest.raises(UserError, match="the figure shows DEAL alone"):
        paths.deal(run.problem)


def test_captions_say_whose_kernel_it_is(tmp_path: Path) -> None:
    for source, what in (("dpir_kernels", "motion kernel 1 of Levin et al."), ("generated", "made-up motion kernel 1")):
        section = config(tmp_path).tasks.deblur_gray.model_copy(update={"kernel_source": source})
        assert problems.describe(section, section.settings()[0]).startswith(what)


def test_a_path_leads_from_its_start_to_the_fixed_point(tmp_path: Path) -> None:
    found = small("denoise_gray", tmp_path, solver=SOLVER | {"tol": 1e-4})
    run, item = Run(found, "deal"), found.items[0]
    path = paths.follow(run, item, torch.zeros_like(item.x))
    assert path.converged and path.residual <= 1e-4
    assert len(path.psnr) == len(path.iterates) == len(path.change) + 1
    assert path.psnr[0] == pytest.approx(-10 * np.log10(float((item.x**2).mean())), abs=1e-4)
    # from 0 as well: another start may lead to another fixed point
    model, start = run.ready.model, torch.zeros_like(item.x)
    again = model.solve(item.y, item.operator, run.sigma, x0=start, tol=1e-5).x
    assert path.psnr[-1] == pytest.approx(-10 * np.log10(float((again - item.x).square().mean())), abs=0.05)
    assert np.isnan(path.change[0]) and path.change[-1] < 0.05
    last, before = path.iterates[-1], path.iterates[-2]
    assert path.change[-1] == pytest.approx(float((last - before).norm() / before.norm()), rel=1e-5)


def test_all_starts_lead_to_one_solution(tmp_path: Path) -> None:
    found = small("superres_color", tmp_path)
    run, item = paths.deal(found), found.items[0]
    starts = fig05.starts(item)
    assert list(starts) == ["0", "U[0, 1]", "N(0, I)", "Hᵀy", "original"]
    assert all(x.shape == item.x.shape for x in starts.values())
    chosen = [paths.follow(run, item, starts[label]) for label in ("0", "original")]
    assert all(path.converged for path in chosen)
    first, second = (path.iterates[-1] for path in chosen)
    assert float((first - second).norm() / first.norm()) < 0.02
    assert np.isinf(chosen[1].psnr[0])


def test_the_iterates_shown_are_spread_out() -> None:
    assert paths.chosen(3) == [0, 1, 2, 3]
    assert paths.chosen(20) == [0, 1, 2, 4, 9, 20]
    assert paths.chosen(68) == [0, 1, 2, 10, 40, 68], "those of Figure 4"


def test_a_watched_method_does_what_it_does_unwatched(tmp_path: Path) -> None:
    found = small("deblur_gray", tmp_path)
    item = found.items[0]
    trace = error_time.Trace(torch.device("cpu"))
    watched = error_time.Watched(item.operator, item.x.shape, trace)
    v = torch.rand_like(item.x)
    assert torch.equal(watched.A(v), item.operator.A(v))
    assert torch.equal(watched.prox(v, item.y, 0.1), item.operator.prox(v, item.y, 0.1))
    assert torch.equal(watched.A_adjoint(item.y), item.operator.A_adjoint(item.y))
    assert watched.squared_norm == item.operator.squared_norm
    assert [torch.equal(x, v) for x in trace.estimates] == [True, True]
    assert trace.seconds == sorted(trace.seconds)


def test_deals_trace_comes_ever_closer_to_its_solution(tmp_path: Path) -> None:
    found = small("deblur_gray", tmp_path)
    run, item = Run(found, "deal"), found.items[0]
    x, residual = error_time.solution(run, item)
    assert residual <= 1e-3 / error_time.TIGHTER
    trace = error_time.watch_deal(run, item, "fast", 60)
    distances = [float((z - x).norm() / x.norm()) for z in trace.estimates]
    assert distances[-1] < 0.3 * distances[0]
    assert distances[-1] < 0.02


def test_the_published_noise_is_used_where_it_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    item = replace(small_items.item("denoise_gray", config(tmp_path), "sigma25"), image="test003")
    found = problems.Problem(config(tmp_path), "denoise_gray", "sigma25", (item,))
    y = np.random.RandomState(0).rand(*item.x.shape[2:])
    np.save(tmp_path / "img_noisy.npy", y)
    monkeypatch.setattr(registry, "locate", lambda *_: tmp_path / "img_noisy.npy")
    used = problems._castle(found)
    assert np.allclose(used.items[0].y[0, 0], y) and "authors'" in used.notes[0]

    def cannot(*_):
        raise registry.MissingWeights("no network", "https://host/img_noisy.npy")

    monkeypatch.setattr(registry, "locate", cannot)
    kept = problems._castle(found)
    assert torch.equal(kept.items[0].y, item.y) and "that of the tables" in kept.notes[0]
    assert "no network" in capsys.readouterr().err
    other = replace(found, items=(replace(item, image="test004"),))
    assert problems._castle(other) is other


def test_wrong_choices_end_in_one_line(tmp_path: Path) -> None:
    from bench import datasets

    datasets.fetch("embedded_gray", tmp_path, progress=False)
    gray = {"dataset": "embedded_gray", "crop": 32}
    made = config(tmp_path, tasks={"denoise_gray": gray}, figures={"denoising": {"image": "camra"}})
    with pytest.raises(UserError, match=r"figures.denoising.image: unknown image 'camra'; did you mean 'camera'"):
        problems.problem(made, "denoising")
    made = config(tmp_path, tasks={"denoise_gray": gray}, figures={"denoising": {"setting": "sigma52"}})
    with pytest.raises(UserError, match=r"figures.denoising.setting: unknown setting 'sigma52'"):
        problems.problem(made, "denoising")
    with pytest.raises(UserError, match="unknown figure data 'fig3'"):
        entry("fig3")


def test_a_figure_depends_on_its_own_keys_alone(tmp_path: Path) -> None:
    def keys(name: str, **figures) -> dict:
        return part(config(tmp_path, figures=figures), name)

    assert keys("fig03") == keys("fig03", superres={"image": "0007_k1"})
    assert keys("fig03") == keys("fig03", denoising={"zoom": [0, 0, 20, 20]}), "a zoom is drawn, not computed"
    assert keys("fig03") != keys("fig03", denoising={"noise": "task"})
    assert keys("robustness") != keys("robustness", robustness={"images": 1})
    assert keys("fig04") == keys("fig04", methods=["deal"])
    assert keys("fig03") != keys("fig03", methods=["deal"])


def test_the_blur_of_tasks_is_that_of_deal() -> None:
    kernel = torch.zeros(3, 3, dtype=torch.float64)
    kernel[0, 1] = 1
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert torch.equal(tasks.Blur(kernel).A(x).round(), x.roll(-1, 2))


def test_held_out_measurements_are_no_one_elses() -> None:
    mask = (np.random.default_rng(1).random((60, 50)) < 0.3).astype(np.uint8)
    given, choosing, scoring = brain.split(mask, 0.2, seed=0)
    assert np.array_equal(given + choosing + scoring, mask), "each measured position is in one part"
    assert np.array_equal(given[:12, :12], mask[:12, :12]) and np.array_equal(given[-11:, -11:], mask[-11:, -11:])
    outside = mask.sum() - mask[np.ix_(np.r_[0:12, 49:60], np.r_[0:12, 39:50])].sum()
    assert choosing.sum() + scoring.sum() == pytest.approx(0.2 * outside, abs=1)
    assert abs(int(choosing.sum()) - int(scoring.sum())) <= 1
    assert not np.array_equal(brain.split(mask, 0.2, seed=1)[1], choosing)


def test_too_few_measurements_to_hold_out_end_in_one_line() -> None:
    with pytest.raises(UserError, match=r"figures\.brain: 0 measurements outside the central square of 24 pixels"):
        brain.split(np.ones((16, 20), np.uint8), 0.2, seed=0)


def test_a_method_that_diverges_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = {"height": 40, "width": 40, "coils": 2, "slices": 1, "seed": 0}
    made = config(tmp_path, tasks={"mri": {"phantom": size}}, figures={"brain": {"source": "phantom"}})
    made = made.model_copy(update={"methods": ["tv"]})
    monkeypatch.setattr(
        "baselines.tv.TV.reconstruct", lambda self, y, operator, sigma, lmbda: operator.A_adjoint(y) / 0
    )
    arrays, meta = brain.collect(made)
    assert meta["missing"] == {"TV": "diverges"} and meta["labels"] == []
    assert arrays["choosing"].shape == (0, 5) and arrays["estimates"].shape == (0, 40, 40)


def test_a_method_predicts_measurements_it_was_not_given(tmp_path: Path) -> None:
    size = {"height": 64, "width": 48, "coils": 4, "slices": 1, "seed": 0}
    figure = {"source": "phantom", "factors": [1e-3, 1.0, 1e3]}
    made = config(tmp_path, tasks={"mri": {"phantom": size}}, figures={"brain": figure})
    made = made.model_copy(update={"methods": ["measurement", "tv", "prox_drunet"]})
    arrays, meta = brain.collect(made)
    assert meta["labels"] == ["TV"] and "Prox-DRUNet" in meta["missing"]
    assert arrays["estimates"].shape == (1, 64, 48) and arrays["choosing"].shape == (1, 3)
    assert arrays["choosing"][0].argmin() == 1, "far too weak and far too strong are worse"
    assert arrays["scores"][1] < 0.5 * arrays["scores"][0], "better than the zeros of the zero-filled image"


PHANTOM = {"tasks": {"mri": {"phantom": {"coils": 3}}}}


def test_the_acquisition_is_asked_for_where_it_is_shown(tmp_path: Path) -> None:
    found = entry("brain")
    assert found.datasets(config(tmp_path)) == ["mri_brain"]
    assert found.datasets(config(tmp_path, figures={"brain": {"source": "phantom"}})) == []
    assert found.own_pairs(config(tmp_path)) == [("mri", "multi8_pd", "deal")]
    for other in ({"solver": SOLVER | {"tol": 1e-4}}, {"tasks": {"mri": {"seed": 1}}}, PHANTOM):
        assert part(config(tmp_path), "brain") != part(config(tmp_path, **other), "brain")
    with pytest.raises(UserError, match=r"figures\.brain\.setting: unknown setting 'multi7'"):
        found.own_pairs(config(tmp_path, figures={"brain": {"setting": "multi7"}}))


def test_a_phantom_is_measured_as_the_acquisition_is() -> None:
    found = mri_brain.phantom(4, 64, 48, 0)
    assert found.y.shape == (4, 64, 48) and 0.1 < found.mask.mean() < 0.5
    assert found.mask[:12, :12].all() and not found.y[:, found.mask == 0].any()
