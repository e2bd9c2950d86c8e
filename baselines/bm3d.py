"""BM3D and CBM3D (Dabov et al., 2007), by Tampere's package `bm3d`: non-commercial, never part of this one.

Default profile "np" and known σ. Colour goes through the package's opponent colour space, blocks being
matched on luminance.
"""

import numpy as np
import torch

from baselines import Method, Operator


class BM3D(Method):
    """Block matching and 3-D filtering."""

    name = "bm3d"
    label = "BM3D"
    tasks = ("denoise_gray", "denoise_color")
    gpu = False

    def reconstruct(self, y: torch.Tensor, operator: Operator, sigma: float) -> torch.Tensor:
        from bm3d import BM3DProfile, bm3d, bm3d_rgb

        profile = BM3DProfile()
        profile.num_threads = 1  # more threads sum in another order: results would differ from run to run
        estimates = []
        for image in y.permute(0, 2, 3, 1).double().cpu().numpy():
            if image.shape[2] == 3:
                estimate = bm3d_rgb(image, sigma, profile)
            else:
                estimate = np.atleast_3d(bm3d(image[:, :, 0], sigma, profile))
            estimates.append(estimate.transpose(2, 0, 1))
        return torch.from_numpy(np.stack(estimates)).to(y)
