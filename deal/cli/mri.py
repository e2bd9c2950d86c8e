"""`deal mri`: k-space in, image out."""

import argparse
import math
from pathlib import Path

import numpy as np

from deal.cli import files, kspace, solving
from deal.defaults import MRI_LAMBDA

NOISE_STD = 0.002


class Mri:
    """Reconstruct an image from k-space: y = mask · F(S x) + noise."""

    epilog = """examples:
  deal mri file1000052.h5 -o knee.h5                         a slice of a file of fastMRI's challenge
  deal mri file1000007.h5 -o knee.png --mask mask.npy --maps espirit.npy --slice 17
  deal mri data/mri-….h5 -o x.png --sampling multi8 --simulate     a sample that the benchmark prepared

Raw files hold kspace, (slices, coils, H, W) with the zero frequency in the centre, and may hold mask and smaps;
without a mask what is zero counts as not measured. Samples are those of `python -m bench prepare_mri`. x is real and
not negative in the data this model is for: the phase is taken from the sensitivities. λ = 0.05 and σ = 15 are where
the authors' search begins; the values that it found are not published, so try others by --lambda."""

    @staticmethod
    def arguments(parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("file", type=Path, help="HDF5 file")
        parser.add_argument(
            "-o", "--output", type=Path, required=True,
            help="file to write: .h5 (reconstruction, in the file's units), .npy, or an image scaled to its maximum",
        )  # fmt: skip
        parser.add_argument("--slice", type=int, help="slice of a volume, from 0 (default: the middle one)")
        parser.add_argument("--sampling", help="which sampling of a prepared sample, e.g. multi8")
        parser.add_argument(
            "--mask", type=Path, help=".npy: (W,) or (H, W), 1 where measured, zero frequency in the centre"
        )
        parser.add_argument("--maps", type=Path, help=".npy: (C, H, W) complex sensitivities of the coils")
        parser.add_argument("--crop", type=int, help="side of the central square that is written (default: all)")
        group = parser.add_argument_group("for prepared samples, which hold the true image")
        group.add_argument("--simulate", action="store_true", help=f"measure it with noise {NOISE_STD} (--seed)")
        group.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
        solving.arguments(parser, f"{MRI_LAMBDA:g}, where the authors' search begins")

    @staticmethod
    def run(options: argparse.Namespace) -> int:
        """Carry it out; returns the exit status."""
        import torch

        import deal

        solving.check(options)
        files.check_output(options.output, suffixes=(*files.SUFFIXES, ".h5"))
        if options.crop is not None and options.crop < 1:
            raise ValueError(f"--crop {options.crop}: must be at least 1")
        given = {"the input": options.file, "--mask": options.mask, "--maps": options.maps}
        files.check_distinct({**given, "--output": options.output})
        data = kspace.read(options.file, options.slice, options.sampling, options.mask, options.maps)
        if options.simulate:
            if data.truth is None:
                raise ValueError(f"{options.file}: raw k-space, no true image to simulate from; leave --simulate out")
            data.y = simulate(data, options.seed)
        elif data.y is None:
            raise ValueError(f"{options.file}: holds the true image but no measurement; add --simulate")
        where = solving.device(options.device)
        if options.threads:
            torch.set_num_threads(options.threads)
        smaps = None if data.smaps is None else torch.from_numpy(data.smaps)
        operator = deal.MRI(torch.from_numpy(data.mask), smaps)
        y = torch.from_numpy(data.y)[None].to(where)
        shape = (1, *data.mask.shape)
        network = solving.model(options, 1, where)
        x0 = solving.start(options.x0, shape, where)
        lmbda = MRI_LAMBDA if options.lmbda is None else options.lmbda
        solution = solving.solve(options, network, y, operator, options.mask_sigma / 255, lmbda, shape, x0, clip=False)
        x, zero_filled = (_crop(image[0].cpu().numpy(), options.crop) for image in (solution.x, operator.A_adjoint(y)))
        data.notes += write(options.output, x, data)
        psnrs = ""
        if data.truth is not None:
            truth = _crop(data.truth[None], options.crop)
            psnrs = f", PSNR {_psnr(truth, zero_filled):.2f} (zero-filled) → {_psnr(truth, x):.2f} dB"
        share = 100 * float(data.mask.mean())
        data.notes.append(f"{len(data.y)} coil{'s' if len(data.y) > 1 else ''}, {share:.1f} % of k-space measured")
        if data.side and options.crop is None:
            data.notes.append(
                f"the whole field of view; fastMRI's own images are its central square: --crop {data.side}"
            )
        return solving.report(options, options.output, solution, data.notes, psnrs)


def simulate(data: kspace.Measurement, seed: int) -> np.ndarray:
    """The measurement of a sample's true image, (C, H, W), as the benchmark makes it: real parts drawn first."""
    coils = data.truth[None] if data.smaps is None else data.smaps * data.truth
    real, imaginary = np.random.RandomState(seed).normal(0.0, NOISE_STD, (2, *coils.shape))
    return ((np.fft.fft2(coils, norm="ortho") + real + 1j * imaginary) * data.mask).astype(np.complex64)


def write(path: Path, x: np.ndarray, data: kspace.Measurement) -> list[str]:
    """Write (1, H, W), .h5 and .npy in the units of the file, images with a white maximum; returns notes."""
    if path.suffix.lower() == ".h5":
        import h5py

        with files.replacing(path) as partial, h5py.File(partial, "w") as handle:
            handle["reconstruction"] = (x[0] * data.scale).astype(np.float32)
        return []
    array = path.suffix.lower() == ".npy"
    scaled = x * data.scale if array else x / max(float(x.max()), 1e-12)
    return files.write(path, scaled.astype(np.float32), files.Picture(scaled, 32 if array else 8))


def _crop(x: np.ndarray, side: int | None) -> np.ndarray:
    if side is None:
        return x
    height, width = x.shape[-2:]
    rows, columns = min(side, height), min(side, width)
    top, left = (height - rows) // 2, (width - columns) // 2
    return x[..., top : top + rows, left : left + columns]


def _psnr(truth: np.ndarray, x: np.ndarray) -> float:
    error = float(((truth - x) ** 2).mean())
    return math.inf if error == 0 else -10 * math.log10(error)
