"""Train EPLL's prior: a mixture of 200 Gaussians on 8×8 patches of BSD400, their mean removed.

A reduced stand-in for the authors' prior of two million patches: so many patches and steps of expectation
maximisation that one core needs minutes. Components are fitted with their means, which then join the covariances.
"""

import warnings
from pathlib import Path

import numpy as np

from bench import datasets
from bench.config import Config
from bench.errors import UserError
from bench.files import atomic
from bench.provenance import Record

DATASET = "bsd400"
SIDE, COMPONENTS, PATCHES, STEPS, SEED = 8, 200, 60_000, 12, 0
REGULARISATION = 1e-6  # added to every variance, in squared units of images in [0, 1]


def sample_patches(images: list[np.ndarray], count: int, seed: int) -> np.ndarray:
    """`count` patches without their mean at random places of random images (1, H, W) in [0, 1]: (count, 64)."""
    random = np.random.RandomState(seed)
    patches = np.empty((count, SIDE * SIDE))
    for row, number in enumerate(random.randint(len(images), size=count)):
        image = images[number][0]
        top, left = (random.randint(size - SIDE + 1) for size in image.shape)
        patches[row] = image[top : top + SIDE, left : left + SIDE].ravel()
    return patches - patches.mean(1, keepdims=True)


def fit(patches: np.ndarray, components: int, steps: int, seed: int) -> dict[str, np.ndarray]:
    """Weights (K,) and second moments about zero (K, 64, 64) of the mixture, most frequent component first."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    if len(patches) < 2 * components:
        raise UserError(f"{components} components need at least {2 * components} patches, not {len(patches)}")
    mixture = GaussianMixture(
        components, max_iter=steps, tol=1e-3, reg_covar=REGULARISATION, init_params="k-means++", random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the steps are limited on purpose
        mixture.fit(patches)
    order = np.argsort(-mixture.weights_)
    moments = mixture.covariances_ + mixture.means_[:, :, None] * mixture.means_[:, None, :]
    return {"weights": mixture.weights_[order], "covariances": moments[order].astype(np.float32)}


def train(config: Config, output: Path) -> None:
    """Train the prior on BSD400 and write it as .npz, with its sidecar."""
    record = Record(["bench.epll_prior"], config.digest())
    images = [image for _, image in datasets.load(DATASET, Path(config.cache))]
    found = fit(sample_patches(images, PATCHES, SEED), COMPONENTS, STEPS, SEED)
    with atomic(output) as part, part.open("wb") as handle:
        np.savez(handle, **found)
    record.write(output, seed=SEED, data={"dataset": DATASET, "digest": datasets.get(DATASET).digest})
