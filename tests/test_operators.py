"""Forward operators: adjoints, norms, spectra and proximal maps, each against an independent dense computation."""

import numpy as np
import pytest
import scipy.ndimage
import torch

import deal
from deal.operators import MRI, Blur, Downsampling, Identity

H, W = 6, 8


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def kernel(h: int, w: int, signed: bool = False) -> torch.Tensor:
    k = random(h, w, seed=h * w)
    return k if signed else k.abs() / k.abs().sum()


def mask(*shape: int) -> torch.Tensor:
    drawn = (torch.rand(*shape, generator=torch.Generator().manual_seed(1)) < 0.5).double()
    drawn[..., 0, 0] = 1
    return drawn


def maps(*shape: int) -> torch.Tensor:
    return torch.complex(random(*shape, seed=2), random(*shape, seed=3)) / 2


OPERATORS = {
    "identity": (Identity, 2),
    "blur 3x5": (lambda: Blur(kernel(3, 5)), 2),
    "blur larger than the image": (lambda: Blur(kernel(9, 11)), 2),
    "blur of even size": (lambda: Blur(kernel(4, 4)), 2),
    "blur with negative values": (lambda: Blur(kernel(3, 3, signed=True)), 2),
    "downsampling by 2": (lambda: Downsampling(kernel(5, 5), 2, (H, W)), 3),
    "downsampling with negative values": (lambda: Downsampling(kernel(3, 5, signed=True), 2, (H, W)), 3),
    "downsampling by 1": (lambda: Downsampling(kernel(3, 3), 1, (H, W)), 1),
    "mri, one coil": (lambda: MRI(mask(H, W)), 1),
    "mri, one coil, weights": (lambda: MRI(mask(H, W) * random(H, W).abs()), 1),
    "mri, one coil, a mask an image": (lambda: MRI(mask(2, 1, H, W)), 1),
    "mri, coils": (lambda: MRI(mask(H, W), maps(3, H, W)), 1),
    "mri, coils of each image": (lambda: MRI(mask(2, 1, H, W), maps(2, 3, H, W)), 1),
}
EXACT_NORM = [
    name for name in OPERATORS if name not in ("blur with negative values", "mri, coils", "mri, coils of each image")
]
every = pytest.mark.parametrize("name", OPERATORS)


def made(name: str):
    """The operator and a batch of two images for it, float64."""
    create, channels = OPERATORS[name]
    return create(), random(2, channels, H, W, seed=5)


def dense(operator, x: torch.Tensor) -> np.ndarray:
    """Matrix of A on one channel of each image, (B, rows, H·W), complex data as real ones; column by column."""
    unit = torch.eye(H * W, dtype=x.dtype).reshape(H * W, 1, 1, H, W).expand(-1, len(x), -1, -1, -1)
    columns = [operator.A(e) for e in unit]
    columns = [torch.view_as_real(y) if y.is_complex() else y for y in columns]
    return torch.stack([y.flatten(1) for y in columns], -1).numpy()


def per_channel(z: torch.Tensor) -> torch.Tensor:
    return z.reshape(-1, 1, *z.shape[-2:])


@every
def test_adjoint(name: str) -> None:
    operator, x = made(name)
    y = operator.A(x)
    z = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(7))
    left = (y.conj() * z).real.sum()
    right = (x * operator.A_adjoint(z)).sum()
    assert operator.A_adjoint(z).shape == x.shape
    assert left == pytest.approx(float(right), rel=1e-12)


@every
def test_squared_norm(name: str) -> None:
    """‖A‖² by power iteration; a bound where the docstring promises no more."""
    operator, x = made(name)
    for _ in range(500):
        x = operator.A_adjoint(operator.A(x / x.flatten(1).norm(dim=1)[:, None, None, None]))
    found = float(x.flatten(1).norm(dim=1).max())
    assert isinstance(operator.squared_norm, float)
    if name in EXACT_NORM:
        assert operator.squared_norm == pytest.approx(found, rel=1e-3)
    assert found <= operator.squared_norm * (1 + 1e-9)


@every
@pytest.mark.parametrize("rho", [1e-4, 0.3])
def test_prox_against_a_dense_solve(name: str, rho: float) -> None:
    operator, x = made(name)
    channels = x.shape[1]
    y, v = operator.A(x) + 0.1 * operator.A(random(*x.shape, seed=9)), random(*x.shape, seed=8)
    found = operator.prox(v, y, rho)
    assert (found.shape, found.dtype) == (v.shape, v.dtype)
    matrices = dense(operator, x)
    data = torch.view_as_real(y) if y.is_complex() else y
    for b in range(2):
        for c in range(channels):
            a = matrices[b]
            given = data[b].reshape(channels, -1)[c].numpy() if channels > 1 else data[b].flatten().numpy()
            right = a.T @ given + rho * v[b, c].flatten().numpy()
            expected = np.linalg.solve(a.T @ a + rho * np.eye(H * W), right)
            np.testing.assert_allclose(found[b, c].flatten().numpy(), expected, atol=2e-5 if "coils" in name else 1e-9)


@every
def test_prox_takes_a_weight_for_each_image(name: str) -> None:
    operator, x = made(name)
    y, v = operator.A(x), random(*x.shape, seed=8)
    both = operator.prox(v, y, torch.tensor([0.1, 2.0]))
    for b, rho in enumerate((0.1, 2.0)):
        torch.testing.assert_close(both[b], operator.prox(v, y, rho)[b], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="rho must be positive"):
        operator.prox(v, y, 0.0)


@every
def test_spectrum_of_the_normal_matrix(name: str) -> None:
    operator, x = made(name)
    spectrum = operator.normal_spectrum(x.shape, x.device)
    expected = operator.A_adjoint(operator.A(x))
    if spectrum is None:
        assert "coils" in name or "downsampling" in name
        return
    assert spectrum.shape[-2:] == (H, W // 2 + 1)
    found = torch.fft.irfft2(torch.fft.rfft2(x) * spectrum, s=(H, W))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@every
def test_nearest_circulant_spectrum(name: str) -> None:
    """Its entries are the diagonal of F AᵀA F⁻¹, made symmetric in k since x is real: computed here densely."""
    operator, x = made(name)
    found = operator.approximate_normal_spectrum(x.shape, x.device)
    rows, columns = np.mgrid[0:H, 0:W]
    matrices = dense(operator, x)
    for b in range(2):
        half = found[b, 0] if found.ndim == 4 else found
        normal = matrices[b].T @ matrices[b]
        for k, q in ((0, 0), (1, 2), (3, 4), (5, 1)):
            wave = np.exp(2j * np.pi * (k * rows / H + q * columns / W)).ravel() / np.sqrt(H * W)
            assert float(half[k, q]) == pytest.approx((wave.conj() @ normal @ wave).real, abs=1e-6)


@every
def test_float32_and_a_batch(name: str) -> None:
    operator, x = made(name)
    y, low = operator.A(x), operator.A(x.float())
    assert low.real.dtype == torch.float32
    torch.testing.assert_close(low.to(y.dtype), y, atol=1e-5, rtol=0)
    assert operator.A_adjoint(low).dtype == torch.float32
    if "each" in name or "a mask" in name:
        return
    for b in range(2):
        torch.testing.assert_close(operator.A(x[b : b + 1]), y[b : b + 1], atol=1e-12, rtol=0)


@every
def test_gradients_after_use_in_inference_mode(name: str) -> None:
    """What an operator keeps of its first use serves autograd later."""
    with torch.inference_mode():
        used, x = made(name)
        used.prox(x, used.A(x), 0.3)
        used.approximate_normal_spectrum(x.shape)
    gradients = []
    for operator in (used, made(name)[0]):
        x = made(name)[1].requires_grad_()
        spectrum = operator.approximate_normal_spectrum(x.shape)
        z = operator.prox(x, operator.A(x), 0.3) + operator.A_adjoint(operator.A(x))
        total = z.square().sum() + (spectrum * torch.fft.rfft2(x)).abs().square().sum()
        gradients += torch.autograd.grad(total, x)
    assert gradients[1].any() and torch.equal(*gradients)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every
def test_on_a_gpu(name: str) -> None:
    operator, x = made(name)
    there = x.cuda()
    y = operator.A(there)
    torch.testing.assert_close(y.cpu(), operator.A(x), atol=1e-10, rtol=0)
    torch.testing.assert_close(operator.A_adjoint(y).cpu(), operator.A_adjoint(operator.A(x)), atol=1e-10, rtol=0)
    v = random(*x.shape, seed=8)
    torch.testing.assert_close(
        operator.prox(v.cuda(), y, 0.3).cpu(), operator.prox(v, operator.A(x), 0.3), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("size", [(3, 3), (5, 3), (5, 7)])
def test_blur_is_scipys_convolution(size: tuple[int, int]) -> None:
    k, x = kernel(*size), random(1, 2, 12, 9)
    expected = [scipy.ndimage.convolve(channel.numpy(), k.numpy(), mode="wrap") for channel in x[0]]
    np.testing.assert_allclose(Blur(k).A(x)[0].numpy(), expected, atol=1e-12)


def test_downsampling_keeps_the_upper_left_pixels() -> None:
    k, x = kernel(5, 5), random(1, 3, 12, 9)
    expected = [scipy.ndimage.convolve(channel.numpy(), k.numpy(), mode="wrap")[::3, ::3] for channel in x[0]]
    np.testing.assert_allclose(Downsampling(k, 3, x.shape).A(x)[0].numpy(), expected, atol=1e-12)


def test_mri_is_numpys_orthonormal_fft() -> None:
    m, s, x = mask(H, W), maps(3, H, W), random(1, 1, H, W)
    expected = [m.numpy() * np.fft.fft2(c.numpy() * x[0, 0].numpy(), norm="ortho") for c in s]
    np.testing.assert_allclose(MRI(m, s).A(x)[0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("name", ["blur 3x5", "downsampling by 2", "mri, one coil", "mri, coils"])
def test_deal_solves_with_it(name: str) -> None:
    """Both solvers reach one fixed point, whatever the operator knows of itself."""
    torch.manual_seed(0)
    operator, x = made(name)
    model = deal.DEAL("color" if x.shape[1] == 3 else "gray")
    x = torch.rand(1, model.channels, H, W)
    y = operator.A(x)
    fast = model.solve(y, operator, 0.1, 0.1, tol=1e-5)
    slow = model.solve(y, operator, 0.1, 0.1, tol=1e-6, algorithm="reference", cg_tol=1e-12, max_outer=100)
    assert fast.converged.all()
    torch.testing.assert_close(fast.x, slow.x, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("create", "complaint"),
    [
        (lambda: Blur(torch.zeros(3, 3)), "a blur kernel is a finite matrix other than 0"),
        (lambda: Blur(torch.ones(3)), "a blur kernel is a finite matrix"),
        (lambda: Downsampling(torch.ones(1, 1), 3, (6, 8)), "6×8 pixels cannot be decimated by 3"),
        (lambda: Downsampling(torch.ones(1, 1), 2, (0, 8)), "0×8 pixels cannot be decimated by 2"),
        (lambda: Downsampling(torch.ones(1, 1), 2, (6, 8)).A(torch.zeros(1, 1, 8, 8)), "takes images of 6×8"),
        (lambda: MRI(torch.zeros(4, 4)), "must not be zero everywhere"),
        (lambda: MRI(-torch.ones(4, 4)), "real, finite and not negative"),
        (lambda: MRI(torch.ones(4)), r"mask must have 2 to 4 dimensions, not the shape \(4,\)"),
        (lambda: MRI(torch.ones(4, 4), torch.ones(2, 4, 5)), "differ in size"),
    ],
)
def test_what_cannot_be_is_refused(create, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        create()
