"""Checks against deepinv itself; a program of its own, so that a stand-in for torchvision harms no other test.

deepinv imports torchvision, whose operators are missing where torch and torchvision are of different builds. Nothing
that is used here needs them: an empty torchvision then takes its place. Prints one JSON object of measured numbers.
"""

import importlib.abc
import importlib.machinery
import json
import sys
import types

import torch

import deal
from deal.deepinv import denoiser, reconstructor

STAND_IN = "an empty torchvision"


class EmptyTorchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Any module of torchvision, holding an empty class under every name."""

    def find_spec(self, name, path=None, target=None):
        mine = name.split(".")[0] == "torchvision"
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if mine else None

    def create_module(self, spec):
        class Empty(types.ModuleType):
            def __getattr__(self, attribute):
                if attribute.startswith("__"):
                    raise AttributeError(attribute)
                return type(attribute, (), {})

        return Empty(spec.name)

    def exec_module(self, module):
        module.__path__ = []


def imported() -> str:
    """Import deepinv; returns what had to be replaced for that, or an empty string."""
    try:
        import deepinv
    except ModuleNotFoundError:
        raise
    except Exception:
        for name in [n for n in sys.modules if n.split(".")[0] in ("torchvision", "deepinv")]:
            del sys.modules[name]
        sys.meta_path.insert(0, EmptyTorchvision())
        import deepinv  # noqa: F401

        return STAND_IN
    return ""


def psnr(x: torch.Tensor, truth: torch.Tensor) -> float:
    return float(-10 * (x.clamp(0, 1) - truth).square().mean().log10())


def main() -> None:
    replaced = imported()
    import deepinv as dinv

    torch.manual_seed(0)
    model = deal.load("gray")
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    x = (0.5 + 0.3 * torch.sin(rows / 5) * (columns > 12) - 0.3 * (rows > columns))[None, None].clamp(0, 1)
    found = {"deepinv": dinv.__version__, "replaced": replaced}

    noisy = x + 25 / 255 * torch.randn_like(x)
    network = denoiser(model, tol=1e-3)
    found["is denoiser"] = isinstance(network, dinv.models.Denoiser)
    expected = model.denoise(noisy, 25 / 255, tol=1e-3, clip=False)
    found["denoiser differs"] = float((network(noisy, torch.tensor([25 / 255])) - expected).abs().max())

    physics = dinv.physics.Denoising(dinv.physics.GaussianNoise(25 / 255))
    restorer = reconstructor(model, tol=1e-3)
    found["is reconstructor"] = isinstance(restorer, dinv.models.Reconstructor)
    found["reconstructor differs"] = float((restorer(noisy, physics) - expected.clamp(0, 1)).abs().max())

    # a physics as operator: the same data by both, then the same reconstruction
    kernel = torch.outer(*(torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1])))
    theirs = dinv.physics.BlurFFT(img_size=(1, 32, 32), filter=kernel[None, None])
    ours = deal.Blur(kernel)
    found["blur differs"] = float((theirs.A(x) - ours.A(x)).abs().max())
    y = ours.A(x) + 2.55 / 255 * torch.randn_like(x)
    options = {"sigma": 15 / 255, "lmbda": 0.5, "tol": 1e-4}
    a, b = model.solve(y, theirs, **options), model.solve(y, ours, **options)
    found["deblurring differs"] = float((a.x - b.x).norm() / b.x.norm())
    found["deblurred converged"] = bool(a.converged.all())

    # a mask on pixels, and MRI, whose images deepinv keeps as two channels
    inpainting = dinv.physics.Inpainting(img_size=(1, 32, 32), mask=0.6)
    y = inpainting.A(x)
    filled = reconstructor(model, lmbda=0.05, tol=1e-3)(y, inpainting)
    found["inpainting"] = [psnr(y, x), psnr(filled, x)]
    mask = torch.zeros(1, 2, 32, 32)
    mask[..., ::2] = mask[..., 12:20] = 1
    mri = dinv.physics.MRI(mask=mask, img_size=(32, 32))
    y = mri.A(torch.cat([x, torch.zeros_like(x)], 1))
    found["mri"] = [psnr(mri.A_adjoint(y)[:, :1], x), psnr(reconstructor(model, lmbda=0.05, tol=1e-3)(y, mri), x)]

    # plug-and-play of deepinv with this denoiser
    y = theirs.A(x) + 2.55 / 255 * torch.randn_like(x)
    prior = dinv.optim.prior.PnP(denoiser=denoiser(model, tol=1e-3))
    optimiser = dinv.optim.optim_builder(
        iteration="HQS", prior=prior, data_fidelity=dinv.optim.L2(), max_iter=4,
        params_algo={"stepsize": 10.0, "g_param": 8 / 255, "lambda": 1.0},
    )  # fmt: skip
    found["plug and play"] = [psnr(y, x), psnr(optimiser(y, theirs), x)]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
