"""Training: gradients, determinism, resuming."""

import copy
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from skimage import data as photographs

import deal
from deal.model import DEAL
from deal.patches import PackedImages, pack
from deal.training import Phase, TrainConfig, _Run, conjugate_gradients, contraction, loss_backward, make_batch, train
from deal.weights import sha256

TINY = TrainConfig(
    phases=(Phase(4, (1e-3, 5e-4), warmup=2), Phase(3, (2e-4, 1e-7), outer=(3, 4))),
    batch=2,
    patch=24,
    outer=(2, 3),
    algorithm="fast",
    cg_tol=1e-2,
    mask_every=2,
    noise_lr=5.0,
    grad_clip=3.0,
    ema=0.9,
    validate_every=3,
    validation_crop=32,
    validation_tol=1e-2,
    checkpoint_every_s=0,
)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "gray.safetensors"
    pack((image[None] for image in (photographs.camera()[:200, :150], photographs.coins()[:90, :120])), path)
    return path


@pytest.fixture(scope="module")
def validation():
    return [photographs.camera()[None, 200:260, 200:270].astype(np.float32) / 255]


def losses(state_dir):
    with (state_dir / "log.csv").open() as handle:
        return [(row["step"], row["loss"], row["psnr"]) for row in csv.DictReader(handle)]


@pytest.mark.parametrize("kind", ["gray", "color"])
@pytest.mark.parametrize(("algorithm", "tol"), [("reference", 1e-22), ("fast", 1e-11)])
def test_gradient_is_that_of_the_implicit_formula(kind, algorithm, tol, monkeypatch):
    """One update from a fixed start: c = A(y)⁻¹ y is differentiable, so finite differences apply to every parameter."""
    monkeypatch.setattr("deal.filters._SUPPORT", 21)  # a smaller grid for L: float64 convolutions are slow
    monkeypatch.setattr("deal.training.iterate", lambda system, b, *_: b)  # the Wiener start moves with the parameters
    torch.manual_seed(0)
    config = TrainConfig(kind=kind, gamma=0.05, algorithm=algorithm, cg_tol=tol, cg_iterations=400)
    model = DEAL(kind).double()
    with torch.no_grad():
        for phi in (model.phi1, model.phi2, model.phi3):
            phi.coefficients += 0.05 * torch.randn_like(phi.coefficients)
        model.M3.weight *= 8
    sigma = torch.tensor([2 / 255, 4 / 255]).double()  # small λ: few CG iterations in slow float64
    x = torch.rand(2, model.channels, 9, 10).double()
    y = x + 0.1 * torch.randn_like(x)
    loss_backward(model, x, y, sigma, 1, config)
    groups = {}
    for name, parameter in model.named_parameters():
        group = name.split(".")[0] if kind == "gray" else "all"  # colour in float64 is slow
        groups.setdefault(group, []).append((name, parameter))
    for group, members in groups.items():
        directions = {n: torch.randn_like(p) * (p.detach().abs().mean() + 1e-3) for n, p in members}
        ends = []
        for step in (1e-7, -1e-7):  # larger steps cross kinks of the splines, which a derivative does not see
            moved = copy.deepcopy(model)
            with torch.no_grad():
                for name, direction in directions.items():
                    moved.get_parameter(name).add_(step * direction)
            ends.append(loss_backward(moved, x, y, sigma, 1, config).loss)
        numeric = (ends[0] - ends[1]) / 2e-7
        analytic = sum((p.grad * directions[n]).sum().item() for n, p in members)
        assert analytic == pytest.approx(numeric, rel=1e-3, abs=1e-6), group


def test_bfloat16_gradient_is_close(packed):
    torch.manual_seed(0)
    model = DEAL("gray")
    grads = []
    for precision in ("float32", "bfloat16"):
        model.zero_grad()
        loss_backward(model, *make_batch(PackedImages(packed), TINY, 0, 0, 1), replace(TINY, precision=precision))
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    cosine = torch.nn.functional.cosine_similarity(*grads, dim=0)
    assert cosine > 0.98


def test_a_few_steps_learn(packed, validation, tmp_path):
    config = replace(TINY, phases=(Phase(12, (2e-3, 1e-3)),), mask_every=1, ema=0.0, validate_every=12)
    train(config, packed, validation, tmp_path / "w.safetensors", tmp_path / "s", progress=False)
    torch.manual_seed(0)
    untrained, trained = DEAL("gray").requires_grad_(False), deal.load(tmp_path / "w.safetensors")
    x = torch.from_numpy(validation[0])[None]
    y = x + 25 / 255 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    error = [float((m.denoise(y, 25 / 255, tol=1e-3) - x).norm()) for m in (trained, untrained)]
    assert error[0] < error[1]


def test_same_seed_same_run(packed, validation, tmp_path):
    for name in ("a", "b"):
        assert train(TINY, packed, validation, tmp_path / f"{name}.safetensors", tmp_path / name, progress=False)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert len(losses(tmp_path / "a")) == TINY.steps
    assert deal.load(tmp_path / "a.safetensors").state_dict().keys() == DEAL("gray").state_dict().keys()
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    other = replace(TINY, seed=1)
    train(other, packed, validation, tmp_path / "c.safetensors", tmp_path / "c", progress=False)
    assert losses(tmp_path / "c") != losses(tmp_path / "a")


SCRIPT = """
import sys, json, numpy as np
from deal.training import TrainConfig, train
config = TrainConfig.from_dict(json.loads(sys.argv[1]))
train(config, sys.argv[2], [np.load(sys.argv[3])], sys.argv[4], sys.argv[5], progress=False, minutes=30)
"""


def test_kill_and_resume_gives_the_same_losses_and_weights(packed, validation, tmp_path):
    np.save(tmp_path / "val.npy", validation[0])
    config = json.dumps(asdict(TINY))

    def start(name):
        arguments = [config, packed, tmp_path / "val.npy", tmp_path / f"{name}.safetensors", tmp_path / name]
        return subprocess.Popen([sys.executable, "-c", SCRIPT, *map(str, arguments)])

    assert start("whole").wait() == 0
    victim = start("killed")
    log = tmp_path / "killed" / "log.csv"
    while victim.poll() is None and not (log.is_file() and 3 <= len(log.read_text().splitlines()) < TINY.steps):
        time.sleep(0.01)
    os.kill(victim.pid, signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed.safetensors").exists()
    assert start("killed").wait() == 0
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert (tmp_path / "killed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def test_time_limit_stops_and_resumes(packed, validation, tmp_path):
    arguments = (TINY, packed, validation, tmp_path / "w.safetensors", tmp_path / "s")
    assert not train(*arguments, minutes=0, progress=False)
    assert train(*arguments, progress=False)


def test_initial_weights_continue_a_training(packed, validation, tmp_path):
    train(TINY, packed, validation, tmp_path / "first.safetensors", tmp_path / "a", progress=False)
    more = replace(TINY, phases=(Phase(1, (0.0, 0.0)),), init=str(tmp_path / "first.safetensors"), ema=0.0)
    train(more, packed, validation, tmp_path / "second.safetensors", tmp_path / "b", progress=False)
    first, second = (deal.load(tmp_path / f"{n}.safetensors").state_dict() for n in ("first", "second"))
    assert all(torch.equal(first[k], second[k]) for k in first)
    block = deal.metadata(tmp_path / "second.safetensors")
    assert block["initial"]["steps"] == deal.metadata(tmp_path / "first.safetensors")["steps"]


def test_another_configuration_is_not_resumed(packed, validation, tmp_path):
    train(TINY, packed, validation, tmp_path / "w.safetensors", tmp_path / "s", minutes=0, progress=False)
    with pytest.raises(ValueError, match="another training configuration"):
        train(replace(TINY, seed=9), packed, validation, tmp_path / "w.safetensors", tmp_path / "s", progress=False)


def test_other_images_are_not_gone_on_with(packed, validation, tmp_path):
    images, state = tmp_path / "images.safetensors", tmp_path / "s"
    shutil.copy(packed, images)
    config = replace(TINY, phases=(Phase(3, (1e-3, 1e-3)),))

    def go_on(held=validation, **options):
        return train(config, images, held, tmp_path / "w.safetensors", state, progress=False, **options)

    go_on(minutes=0)
    with pytest.raises(ValueError, match=r"state\.pt: begun with other validation images"):
        go_on([image + 1 / 255 for image in validation])
    old = sha256(images)
    pack([photographs.coins()[None, :90, :120]], images)
    with pytest.raises(ValueError, match="begun with other training images") as caught:
        go_on()
    message = str(caught.value)
    assert str(state) in message and old[:12] in message and sha256(images)[:12] in message and "\n" not in message
    held = torch.load(state / "state.pt", weights_only=True)
    assert held.pop("images")["training images"] == old
    torch.save(held, state / "state.pt")  # as states were before they kept it
    assert go_on()
    assert torch.load(state / "state.pt", weights_only=True)["images"]["training images"] == sha256(images)
    assert deal.metadata(tmp_path / "w.safetensors")["training_file_sha256"] == sha256(images)


def test_metadata_that_cannot_be_saved_are_refused_before_training(packed, validation, tmp_path):
    with pytest.raises(ValueError, match="metadata: 'kind' is 'mine'"):
        train(TINY, packed, validation, tmp_path / "w", tmp_path / "s", progress=False, metadata={"kind": "mine"})
    assert list(tmp_path.iterdir()) == []


def test_the_contraction_is_measured_in_full_precision(validation, monkeypatch):
    seen = []

    def watched(*arguments):
        seen.append(torch.backends.cudnn.allow_tf32)
        return conjugate_gradients(*arguments)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr("deal.training.conjugate_gradients", watched)
    assert contraction(DEAL("gray"), validation[0], 25.0, crop=12, steps=1) > 0
    assert seen == [False, False] and torch.backends.cudnn.allow_tf32


def test_checkpoints_from_before_a_setting_existed_stay_valid():
    assert TrainConfig().digest() == "4745cf088d4c"  # of 0.1.0 without `architecture` and `noise_lr`
    assert TrainConfig(noise_lr=2.0).digest() != TrainConfig().digest()


def test_broken_checkpoint_is_named(packed, validation, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "state.pt").write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"state\.pt: unreadable checkpoint"):
        train(TINY, packed, validation, tmp_path / "w.safetensors", tmp_path / "s", progress=False)


def test_channels_must_agree(packed, validation, tmp_path):
    with pytest.raises(ValueError, match="1-channel images cannot train the color model"):
        train(replace(TINY, kind="color"), packed, validation, tmp_path / "w", tmp_path / "s", progress=False)


def test_schedule():
    config = TrainConfig()
    assert config.steps == 80_000
    assert config.at(0)[1] == pytest.approx(5e-4)
    assert config.at(69_999)[:2] == (0, pytest.approx(4e-4))
    assert config.at(35_000)[1] == pytest.approx(4.5e-4, rel=1e-3)
    assert config.at(70_000)[:2] == (1, pytest.approx(2e-4))
    assert config.at(79_999)[1] == pytest.approx(1e-7)
    assert TINY.at(0)[1] == pytest.approx(5e-4) and TINY.at(1)[1] > 8e-4  # warm-up over two steps


def test_config_from_plain_data():
    assert TrainConfig.from_dict(asdict(TINY)) == TINY
    with pytest.raises(TypeError):
        TrainConfig.from_dict({"stepz": 3})


def test_a_variant_is_trained_saved_and_gone_on_with(packed, validation, tmp_path):
    values = asdict(TINY) | {"architecture": {"filters": 8, "kernel_size": 5, "non_decreasing": False}}
    config = TrainConfig.from_dict(values)
    assert asdict(config) == values and config.digest() != TINY.digest()
    config = replace(config, phases=(Phase(2, (1e-3, 1e-3)),), validate_every=2, validation_crop=16, validation_tol=0.1)
    train(config, packed, validation, tmp_path / "w.safetensors", tmp_path / "s", progress=False)
    model = deal.load(tmp_path / "w.safetensors")
    assert model.architecture == config.architecture and model.M2.weight.shape == (8, 8, 3, 3)
    assert train(config, packed, validation, tmp_path / "w.safetensors", tmp_path / "s", progress=False)
    started = replace(TINY, init=str(tmp_path / "w.safetensors"))
    with pytest.raises(ValueError, match="has 8 filters, 5×5 kernels, unconstrained φ1 and φ2, to be trained are 128"):
        train(started, packed, validation, tmp_path / "x.safetensors", tmp_path / "x", progress=False)


def test_states_from_before_there_were_architectures_stay_valid():
    assert TrainConfig().digest() == "4745cf088d4c"


def test_batches_depend_on_seed_step_and_rank_only(packed):
    data = PackedImages(packed)
    first, again = make_batch(data, TINY, 5, 0, 1), make_batch(data, TINY, 5, 0, 1)
    assert all(torch.equal(a, b) for a, b in zip(first[:3], again[:3], strict=True)) and first[3] == again[3]
    assert not torch.equal(first[0], make_batch(data, TINY, 6, 0, 1)[0])
    assert not torch.equal(first[0][:1], make_batch(data, TINY, 5, 1, 2)[0])
    assert first[3] == make_batch(data, TINY, 5, 1, 2)[3]  # K_out is the same on every GPU
    x, y, sigma, _ = make_batch(data, replace(TINY, batch=64), 0, 0, 1)
    assert float(sigma.min()) >= 0 and float(sigma.max()) <= 50 / 255 and float(sigma.std()) > 0.03
    torch.testing.assert_close((y - x).flatten(1).std(1), sigma, rtol=0.2, atol=1e-3)


WATCH = """
import copy, torch
from deal import training
update = training._Run.update
def flat(model, what):
    return torch.cat([what(p).flatten() for p in model.parameters()]).detach().clone()
def watched(self, x, y, sigma, outer, world):
    alone = copy.deepcopy(self.model)
    alone.zero_grad()
    training.loss_backward(alone, x, y, sigma, outer, self.config)
    record = update(self, x, y, sigma, outer, world)
    seen = {"alone": flat(alone, lambda p: p.grad), "used": flat(self.model, lambda p: p.grad)}
    seen["weights"] = flat(self.model, lambda p: p)
    torch.save(seen, f"{self.dir}/seen-{self.step}-{self.rank}.pt")
    return record
training._Run.update = watched
"""


def test_two_processes_share_gradients_and_write_one_result(packed, validation, tmp_path):
    """Under torchrun: both ranks step along the mean of their gradients, one log and one file of weights."""
    np.save(tmp_path / "val.npy", validation[0])
    script = tmp_path / "job.py"
    script.write_text(WATCH + SCRIPT)
    settings = {"phases": (Phase(2, (1e-3, 1e-3)),), "validate_every": 2, "mask_every": 1, "grad_clip": 0.0}
    config = json.dumps(asdict(replace(TINY, **settings)))
    arguments = [config, packed, tmp_path / "val.npy", tmp_path / "w.safetensors", tmp_path / "s"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(losses(tmp_path / "s")) == 2
    assert deal.load(tmp_path / "w.safetensors").channels == 1
    for step in (1, 2):
        ranks = [torch.load(tmp_path / "s" / f"seen-{step}-{rank}.pt") for rank in (0, 1)]
        first, second = (rank["alone"] for rank in ranks)
        assert (first - second).norm() > 0.1 * first.norm()  # of different patches
        for rank in ranks:
            torch.testing.assert_close(
                rank["used"], (first + second) / 2, rtol=1e-3, atol=1e-4 * float(first.abs().max())
            )
        assert torch.equal(ranks[0]["weights"], ranks[1]["weights"])


def test_one_of_the_processes_that_resume_rewrites_the_log(packed, validation, tmp_path):
    config = replace(TINY, phases=(Phase(2, (1e-3, 1e-3)),), validate_every=2)
    train(config, packed, validation, tmp_path / "w.safetensors", tmp_path / "s", progress=False)
    log = tmp_path / "s" / "log.csv"
    written = log.read_text()
    longer = written + written.splitlines()[-1].replace("2,", "3,", 1) + "\n"  # a step that the checkpoint has not
    log.write_text(longer)
    for rank, expected in ((1, longer), (0, written)):
        _Run(config, DEAL("gray"), tmp_path / "s", rank).resume()
        assert log.read_text() == expected


def test_a_batch_must_be_shared_evenly(packed, validation, tmp_path, monkeypatch):
    monkeypatch.setattr("deal.training._init_distributed", lambda device: (0, 3))
    uneven = replace(TINY, batch=4)
    with pytest.raises(ValueError, match="a batch of 4 patches cannot be shared evenly by 3 processes"):
        train(uneven, packed, validation, tmp_path / "w.safetensors", tmp_path / "s", progress=False)


def test_packed_images_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (3, h, w), dtype=np.uint8) for h, w in ((9, 7), (12, 20))]
    pack(images, tmp_path / "p.safetensors", {"dataset": "random"})
    stored = PackedImages(tmp_path / "p.safetensors")
    assert len(stored) == 2 and stored.channels == 3 and stored.metadata == {"dataset": "random"}
    for i, image in enumerate(images):
        np.testing.assert_array_equal(stored.image(i).transpose(2, 0, 1), image)
    tensors = load_file(tmp_path / "p.safetensors")  # an ordinary file of that format
    assert tensors["shapes"].tolist() == [[3, 9, 7], [3, 12, 20]]
    np.testing.assert_array_equal(tensors["pixels"][: 3 * 9 * 7], images[0].transpose(1, 2, 0).ravel())
    crops = stored.sample(np.random.default_rng(1), 50, 8)
    assert crops.shape == (50, 3, 8, 8)
    windows = {
        np.rot90(w if not flip else w[:, ::-1], k).tobytes()
        for w in (images[1].transpose(1, 2, 0)[r : r + 8, c : c + 8] for r in range(5) for c in range(13))
        for k in range(4)
        for flip in (False, True)
    }
    assert all(np.ascontiguousarray(crop.transpose(1, 2, 0)).tobytes() in windows for crop in crops)
    with pytest.raises(ValueError, match="no training image is 13 x 13"):
        stored.sample(np.random.default_rng(0), 1, 13)


def test_bad_packs(tmp_path):
    with pytest.raises(ValueError, match="cannot pack 0"):
        pack([], tmp_path / "p")
    with pytest.raises(ValueError, match="expected uint8"):
        pack([np.zeros((1, 4, 4))], tmp_path / "p")
    with pytest.raises(ValueError, match=r"channel counts \[1, 3\]"):
        pack([np.zeros((1, 4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8)], tmp_path / "p")
    assert list(tmp_path.iterdir()) == [], "nothing half-written"
    pack([np.zeros((1, 4, 4), np.uint8)], tmp_path / "p", {"dataset": "zeros"})
    whole = (tmp_path / "p").read_bytes()
    for content in (b"not packed", whole.replace(b'zeros\\"}', b'zeros\\"]'), whole.replace(b'{"deal"', b'["deal"')):
        assert content != whole
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(ValueError, match="bad: not a file of packed training images"):
            PackedImages(tmp_path / "bad")


def test_weights_of_the_loss():
    from deal.training import _loss_weights

    sigma = torch.tensor([0.0, 3, 12.5, 25, 50]) / 255
    assert _loss_weights(sigma, 0.0).tolist() == [1] * 5
    torch.testing.assert_close(_loss_weights(sigma, 2.0), torch.tensor([69.444, 69.444, 4, 1, 0.25]), rtol=1e-4, atol=0)


def test_a_power_draws_low_noise_levels_more_often(packed):
    data, many = PackedImages(packed), replace(TINY, phases=(Phase(1, (1e-3, 1e-3), batch=400, patch=8),))
    uniform = make_batch(data, many, 0, 0, 1)[2]
    low = make_batch(data, replace(many, sigma_power=1.5), 0, 0, 1)[2]
    highest = TINY.sigma_max_255 / 255
    torch.testing.assert_close(low, highest * (uniform / highest) ** 1.5)
