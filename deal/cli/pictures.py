"""`deal denoise`, `deal deblur`, `deal superres`: image file in, image file out."""

import argparse
import contextlib
import math
from pathlib import Path

import numpy as np

from deal import defaults
from deal.cli import files, kernels, solving

INPUT = "image: PNG or TIFF of 8 or 16 bits, JPEG, WebP or BMP, gray or RGB; or .npy, (H, W) or (H, W, 3) in [0, 1]"
OUTPUT = (
    "file to write, by its suffix; depth, alpha and colour profile as the input's; .npy: floats, not clipped or rounded"
)
SIMULATE = "take the input as the clean image: {} first (--seed), then reconstruct, and print both PSNRs"
LIMIT = 255.0


class Denoise:
    """Denoise an image: y = x + noise."""

    epilog = """examples:
  deal denoise photo.png -o clean.png --sigma 25
  deal denoise photo.png -o try.png --sigma 25 --simulate --save-input noisy.png
  deal denoise scan.tif -o clean.tif --sigma 8 --tol 1e-5 --device cuda

--sigma is the standard deviation of the noise where pixels go from 0 to 255, also for 16-bit files. λ is learned as a
function of it. Gray files take the gray model, RGB files the colour model."""

    @staticmethod
    def arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        _files(parser)
        parser.add_argument("--sigma", type=float, required=True, help="standard deviation of the noise, 0-255 units")
        _simulation(parser, "add such noise")
        solving.arguments(parser, "κ(σ), learned", denoising=True)

    @staticmethod
    def run(options: argparse.Namespace) -> int:
        """Carry it out; returns the exit status."""
        import deal

        if not 0 < options.sigma <= 50:
            raise ValueError(
                f"--sigma {options.sigma:g}: the models are trained for noise levels in (0, 50], 0-255 units"
            )
        picture = _begin(options)
        return _reconstruct(options, picture, lambda shape: deal.Identity(), options.sigma, options.sigma, None)


class Deblur:
    """Deblur an image: y = k ∗ x + noise, with a known kernel k."""

    epilog = """examples:
  deal deblur blurred.png -o sharp.png --kernel kernel.png --noise 2.55
  deal deblur photo.png -o sharp.png --kernel Levin09.mat:1 --noise 2.55 --simulate --save-input blurred.png
  deal deblur made.png -o sharp.png --kernel kernel.npy --noise 5 --boundary circular

λ is the paper's: 0.5 for --noise 2.55 and 2.5 for 7.65, interpolated between on logarithmic scales, constant outside;
the mask is told σ = 15. What lies beyond the edges is estimated too; --boundary circular is for pictures that were
blurred circularly, as the benchmark's are. The kernel's centre is [h//2, w//2]; its sum is scaled to 1."""

    @staticmethod
    def arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        _files(parser)
        _noise_and_kernel(parser)
        _boundary(parser)
        _simulation(parser, "blur it circularly and add noise")
        solving.arguments(parser)

    @staticmethod
    def run(options: argparse.Namespace) -> int:
        """Carry it out; returns the exit status."""
        import torch

        import deal
        from deal.boundary import CroppedBlur

        circular = _is_circular(options)
        picture = _begin(options)
        kernel, notes = kernels.read(options.kernel)
        picture.notes += notes
        k = torch.from_numpy(kernel)

        def operator(shape):
            return deal.Blur(k) if circular else CroppedBlur(k, shape)

        return _reconstruct(options, picture, operator, options.noise, options.mask_sigma, "deblur")


class Superres:
    """Super-resolve an image: y = every s-th pixel of k ∗ x, + noise, with a known kernel k."""

    epilog = """examples:
  deal superres small.png -o large.png --factor 2 --kernel gaussian:1.2 --noise 2.55
  deal superres photo.png -o again.png --factor 3 --kernel kernels_12.mat:0 --noise 7.65 --simulate

The image comes out --factor times as high and as wide. The kernel is that of the large image, before every s-th pixel
is kept, from the upper left one on. What lies beyond the edges is estimated too; --boundary circular is for pictures
that were blurred circularly, as the benchmark's are. λ is the paper's: 0.28, 2.5, 5.5 for --noise 2.55, 7.65, 12.75,
interpolated between on logarithmic scales, constant outside; the mask is told σ = 15."""

    @staticmethod
    def arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        _files(parser)
        parser.add_argument("--factor", type=int, required=True, help="s, a whole number")
        _noise_and_kernel(parser)
        _boundary(parser)
        _simulation(parser, "blur it circularly, decimate it and add noise")
        solving.arguments(parser)

    @staticmethod
    def run(options: argparse.Namespace) -> int:
        """Carry it out; returns the exit status."""
        import torch

        import deal
        from deal.boundary import CroppedBlur

        if not 1 <= options.factor <= 16:
            raise ValueError(f"--factor {options.factor}: must be 1 to 16")
        circular = _is_circular(options)
        picture = _begin(options)
        if picture.alpha is not None:
            raise ValueError(
                f"{options.image}: is transparent, which cannot be super-resolved; remove its alpha channel"
            )
        kernel, notes = kernels.read(options.kernel)
        picture.notes += notes
        s = options.factor
        if options.simulate:
            height, width = (side - side % s for side in picture.pixels.shape[1:])
            if not height or not width:
                raise ValueError(f"{options.image}: smaller than --factor {s}")
            picture.pixels = picture.pixels[:, :height, :width]

        k = torch.from_numpy(kernel)

        def operator(shape):
            height, width = shape[-2:] if options.simulate else (s * side for side in shape[-2:])
            return deal.Downsampling(k, s, (height, width)) if circular else CroppedBlur(k, shape, s)

        return _reconstruct(options, picture, operator, options.noise, options.mask_sigma, "superres")


def _files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", type=Path, help=INPUT)
    parser.add_argument("-o", "--output", type=Path, required=True, help=OUTPUT)


def _noise_and_kernel(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kernel", required=True, help=kernels.HELP)
    parser.add_argument("--noise", type=float, required=True, help="standard deviation of the noise, 0-255 units")


def _boundary(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--boundary",
        choices=("unknown", "circular"),
        help="beyond the edges: estimated, or the opposite edge (default: unknown; circular with --simulate)",
    )


def _is_circular(options: argparse.Namespace) -> bool:
    """Whether the blur is; ValueError where that contradicts --simulate."""
    if options.simulate and options.boundary == "unknown":
        raise ValueError("--simulate blurs circularly, which --boundary unknown is not for")
    return options.simulate or options.boundary == "circular"


def _simulation(parser: argparse.ArgumentParser, what: str) -> None:
    group = parser.add_argument_group("to try it on a clean image")
    group.add_argument("--simulate", action="store_true", help=SIMULATE.format(what))
    group.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    group.add_argument("--save-input", type=Path, metavar="FILE", help="write what was simulated, too (.npy: as it is)")


def _begin(options: argparse.Namespace) -> files.Picture:
    """Check the options and read the image."""
    solving.check(options)
    noise = getattr(options, "noise", 1.0)
    if not 0 < noise <= LIMIT:
        raise ValueError(f"--noise {noise:g}: must be in (0, 255], 0-255 units")
    if options.save_input and not options.simulate:
        raise ValueError("--save-input: nothing is simulated; add --simulate, or leave it out")
    files.check_distinct({"the input": options.image, "--output": options.output, "--save-input": options.save_input})
    outputs = [options.output, *([options.save_input] if options.save_input else [])]
    for path in outputs:
        files.check_output(path)
    picture = files.read(options.image)
    for path in outputs:
        files.check_output(path, picture.alpha is not None)
    return picture


def _reconstruct(options, picture: files.Picture, make, noise: float, mask_sigma: float, problem: str | None) -> int:
    """Solve for the image that `picture` is the measurement of (or is, if it is to be simulated), and write it."""
    import torch

    where = solving.device(options.device)
    if options.threads:
        torch.set_num_threads(options.threads)
    given = torch.from_numpy(picture.pixels)[None].to(where)
    operator = make(given.shape)
    y, truth = given, None
    if options.simulate:
        truth = given
        y = operator.A(truth)
        draw = np.random.default_rng(options.seed).normal(0, noise / 255, tuple(y.shape))
        y = y + torch.from_numpy(draw).to(y)
    lmbda = options.lmbda
    if lmbda is None and problem is not None:
        lmbda, inside = defaults.paper_lambda(problem, noise)
        if not inside:
            picture.notes.append(
                f"--noise {noise:g}: beyond the paper's levels; λ = {lmbda:g} is the nearest's, try others by --lambda"
            )
    shape = tuple(operator.A_adjoint(y).shape[1:])
    network = solving.model(options, shape[0], where)
    x0 = solving.start(options.x0, shape, where)
    if x0 is None and hasattr(operator, "extend"):
        x0 = operator.extend(y)
    clip = options.output.suffix.lower() != ".npy"
    solution = solving.solve(options, network, y, operator, mask_sigma / 255, lmbda, shape, x0, clip=clip)
    x = operator.crop(solution.x) if hasattr(operator, "crop") else solution.x
    notes = list(picture.notes)
    with contextlib.ExitStack() as both:  # or none
        for path, image in ((options.save_input, y), (options.output, x)):
            if path:
                notes += both.enter_context(files.writing(path, image[0].cpu().numpy(), picture))
    return solving.report(options, options.output, solution, notes, _psnrs(truth, y, x))


def _psnrs(truth, y, x) -> str:
    """PSNRs of what was simulated, where it has the size of the image, and of the result, both clipped to [0, 1]."""
    if truth is None:
        return ""
    before = f"PSNR {_psnr(truth, y):.2f} → " if y.shape == truth.shape else "PSNR "
    return f", {before}{_psnr(truth, x):.2f} dB"


def _psnr(truth, x) -> float:
    error = float((truth.clamp(0, 1) - x.clamp(0, 1)).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)
