"""DEAL and deepinv: by duck typing always, against deepinv itself where it is installed."""

import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

import deal
from deal import deepinv as interface

GOLDEN = Path(__file__).parent / "golden" / "random_gray.pth"


@pytest.fixture(scope="module")
def model():
    return deal.load(GOLDEN)


@pytest.fixture
def image():
    return torch.rand(2, 1, 16, 20, generator=torch.Generator().manual_seed(0))


class Denoising:
    """As deepinv's: the identity, with a noise model."""

    def __init__(self, sigma):
        self.noise_model = types.SimpleNamespace(sigma=sigma)

    def A(self, x, **_):
        return x

    def A_adjoint(self, y, **_):
        return y


class Complex:
    """As deepinv's MRI: images and data of two channels, here turned by a quarter and masked."""

    def A(self, x):
        y = torch.fft.fft2(torch.complex(x[:, :1], x[:, 1:]), norm="ortho")
        return torch.cat([y.real, y.imag], 1) * self.mask

    def A_adjoint(self, y):
        x = torch.fft.ifft2(torch.complex(*(y * self.mask).chunk(2, 1)), norm="ortho")
        return torch.cat([x.real, x.imag], 1)

    mask = (torch.arange(20) % 3 != 1).float()


@pytest.mark.parametrize("sigma", [0.1, torch.tensor(0.1), torch.tensor([0.1]), torch.full((2, 1, 1, 1), 0.1)])
def test_denoiser_takes_sigma_in_every_shape(model, image, sigma):
    found = interface.DenoiserCore(model, tol=1e-3)(image, sigma)
    assert torch.allclose(found, model.denoise(image, 0.1, tol=1e-3, clip=False), atol=1e-6)


def test_every_image_has_its_sigma(model, image):
    found = interface.DenoiserCore(model, tol=1e-4)(image, torch.tensor([0.05, 0.15]))
    for n, sigma in enumerate((0.05, 0.15)):
        alone = model.denoise(image[n : n + 1], sigma, tol=1e-4, clip=False)
        assert torch.allclose(found[n : n + 1], alone, atol=5e-3)


def test_a_gray_model_takes_channels_one_by_one(model, image):
    two = torch.cat([image, image.flip(-1)], 1)
    found = interface.DenoiserCore(model, tol=1e-4)(two, torch.tensor([0.1, 0.1]))
    assert found.shape == two.shape
    assert torch.allclose(found[:, 1:], model.denoise(image.flip(-1), 0.1, tol=1e-4, clip=False), atol=5e-3)


def test_reconstructor_takes_the_noise_level_of_denoising(model, image):
    found = interface.ReconstructorCore(model, None, None, tol=1e-3)(image, Denoising(torch.tensor([0.1])))
    assert torch.allclose(found, model.denoise(image, 0.1, tol=1e-3), atol=1e-6)


@pytest.mark.parametrize("noise", ["PoissonNoise", "UniformNoise"])
def test_noise_without_a_level_asks_for_one(model, image, noise):
    physics, reconstruct = Denoising(None), interface.ReconstructorCore(model, None, None, tol=1e-3)
    physics.noise_model = type(noise, (), {"gain": 0.1})()
    with pytest.raises(ValueError, match=f"the noise model {noise} has no sigma; give sigma="):
        reconstruct(image, physics)
    assert torch.allclose(reconstruct(image, physics, sigma=0.1), model.denoise(image, 0.1, tol=1e-3), atol=1e-6)


def test_reconstructor_is_the_solver(model, image):
    blur = deal.Blur(torch.tensor([[0.2, 0.5, 0.3]]))
    found = interface.ReconstructorCore(model, 0.5, None, tol=1e-3)(blur.A(image), blur)
    assert torch.allclose(found, model.solve(blur.A(image), blur, 15 / 255, 0.5, tol=1e-3).x)
    other = interface.ReconstructorCore(model, 0.5, None, tol=1e-3)(blur.A(image), blur, lmbda=1.0, sigma=0.1)
    assert torch.allclose(other, model.solve(blur.A(image), blur, 0.1, 1.0, tol=1e-3).x)


def test_complex_images_become_real_ones(model, image):
    physics = Complex()
    y = physics.A(torch.cat([image, torch.zeros_like(image)], 1))
    operator = interface.as_operator(physics, y, 1)
    ours = deal.MRI(physics.mask.expand(16, 20))
    assert torch.allclose(operator.A_adjoint(y), ours.A_adjoint(torch.complex(*y.chunk(2, 1))), atol=1e-6)
    u = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    assert torch.isclose((operator.A(image) * u).sum(), (image * operator.A_adjoint(u)).sum(), rtol=1e-4)
    found = interface.ReconstructorCore(model, 0.5, None, tol=1e-3)(y, physics)
    assert found.shape == image.shape


def test_what_does_not_fit_is_refused(model, image):
    with pytest.raises(ValueError, match="no A_adjoint; DEAL needs a linear physics"):
        interface.as_operator(types.SimpleNamespace(A=abs), image, 1)
    with pytest.raises(ValueError, match="have 1 channels, those of the model 3"):
        interface.as_operator(Denoising(0.1), image, 3)
    with pytest.raises(ValueError, match="needs a λ"):
        interface.ReconstructorCore(model, None, None)(image, deal.Blur(torch.ones(1, 3)))


@pytest.fixture
def fake_deepinv(monkeypatch):
    """A package with deepinv's two base classes."""
    package, models = types.ModuleType("deepinv"), types.ModuleType("deepinv.models")
    for name in ("Denoiser", "Reconstructor"):
        setattr(models, name, type(name, (nn.Module,), {}))
    package.models = models
    monkeypatch.setitem(sys.modules, "deepinv", package)
    monkeypatch.setitem(sys.modules, "deepinv.models", models)
    interface._joined.cache_clear()
    yield models
    interface._joined.cache_clear()


def test_the_classes_are_deepinvs(fake_deepinv, model, image):
    network = interface.denoiser(model, tol=1e-2)
    assert isinstance(network, fake_deepinv.Denoiser) and isinstance(network, interface.DenoiserCore)
    assert network(image, 0.1).shape == image.shape
    assert isinstance(interface.reconstructor("gray", lmbda=1.0), fake_deepinv.Reconstructor)
    assert len(network.state_dict()) == len(model.state_dict())


def test_an_unusable_deepinv_is_said(monkeypatch, model):
    interface._joined.cache_clear()
    monkeypatch.setitem(sys.modules, "deepinv", None)
    with pytest.raises(ImportError, match="deepinv cannot be imported"):
        interface.denoiser(model)


def test_deal_does_not_import_deepinv():
    code = "import sys, deal, deal.deepinv, deal.cli; sys.exit('deepinv' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_deepinv_itself():
    if importlib.util.find_spec("deepinv") is None:
        pytest.skip("deepinv, an optional dependency, is not installed: pip install --no-deps deepinv natsort einops")
    script = Path(__file__).parent / "deepinv_real.py"
    command, root = [sys.executable, "-W", "ignore", script], str(Path(deal.__file__).parents[1])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["is denoiser"] and found["is reconstructor"] and found["deblurred converged"]
    assert found["denoiser differs"] < 1e-6 and found["reconstructor differs"] < 1e-6
    assert found["blur differs"] < 1e-5 and found["deblurring differs"] < 1e-3
    for problem, gain in (("inpainting", 10), ("mri", 3), ("plug and play", 0.5)):
        before, after = found[problem]
        assert after > before + gain, problem
