"""The phantom: deterministic, in fastMRI's file layout, and MRI-like enough to calibrate coils on."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from bench import phantom

SHAPE = (2, 4, 48, 40)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phantom") / "file1000000.h5"
    phantom.write_volume(path, SHAPE, "pd", seed=3)
    return path


def test_file_has_the_layout_of_fastmri(volume: Path) -> None:
    with h5py.File(volume) as handle:
        assert (handle["kspace"].shape, handle["kspace"].dtype) == (SHAPE, np.complex64)
        rss = handle["reconstruction_rss"][()]
        assert (rss.shape, rss.dtype) == ((2, 40, 40), np.float32)
        assert set(handle.attrs) == {"acquisition", "max", "norm", "patient_id"}
        assert handle.attrs["acquisition"] == "CORPD_FBK"
        assert handle.attrs["max"] == rss.max()
        assert handle.attrs["norm"] == pytest.approx(np.linalg.norm(rss))
        images = phantom.centred_ifft(handle["kspace"][()])
    np.testing.assert_allclose(rss, np.sqrt((np.abs(images) ** 2).sum(1))[:, 4:44], rtol=1e-5)


@pytest.mark.filterwarnings("ignore")  # the package brings Lightning along
def test_fastmri_reads_it(volume: Path) -> None:
    from fastmri.data import SliceDataset

    found = SliceDataset(root=volume.parent, challenge="multicoil")
    assert len(found) == 2
    kspace, mask, target, about, name, number = found[1]
    assert (kspace.shape, mask, name, number) == (SHAPE[1:], None, volume.name, 1)
    assert target.shape == (40, 40)
    assert (about["encoding_size"], about["recon_size"]) == ((48, 40, 1), (40, 40, 1))
    assert (about["padding_left"], about["padding_right"]) == (0, 40)


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_images() -> None:
    first = phantom.kspace(SHAPE, "pd", 3)
    assert np.array_equal(first, phantom.kspace(SHAPE, "pd", 3))
    assert not np.allclose(first, phantom.kspace(SHAPE, "pd", 4))
    assert not np.allclose(first[0], first[1]), "slices are the same"


def test_image_is_in_range_and_inside() -> None:
    for contrast in ("pd", "pdfs"):
        x = phantom.image(96, 80, contrast, np.random.RandomState(0))
        assert (x.min(), x.max()) == (0.0, 1.0)
        assert 0.2 < (x > 0.05).mean() < 0.8
        assert not x[:6].any() and not x[-6:].any(), "the object leaves the central square"


def test_fat_suppression_darkens_the_rim_and_costs_signal_to_noise() -> None:
    pd, pdfs = (phantom.image(96, 96, c, np.random.RandomState(0)) for c in ("pd", "pdfs"))
    row = 48
    rim, inside = slice(12, 20), slice(40, 56)
    assert pdfs[row, rim].max() / pdfs[row, inside].max() < 0.7 * pd[row, rim].max() / pd[row, inside].max()
    corner = [np.abs(phantom.centred_ifft(phantom.kspace(SHAPE, c, 0)))[..., :4, :4].std() for c in ("pd", "pdfs")]
    assert corner[1] == pytest.approx(2 * corner[0], rel=0.2)


def test_sensitivities_are_smooth_and_normalised() -> None:
    maps = phantom.sensitivities(64, 48, 8, np.random.RandomState(0))
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(0), 1)
    assert np.abs(np.diff(maps, axis=-1)).max() < 0.1
    assert len({tuple(np.unravel_index(np.abs(m).argmax(), m.shape)) for m in maps}) == 8, "coils look at one place"


@pytest.mark.parametrize("size", [(6, 8), (7, 5)])
def test_centred_transforms_are_unitary_and_inverse(size: tuple[int, int]) -> None:
    x = np.random.RandomState(0).normal(size=(2, 2, *size)) @ np.eye(size[1])
    np.testing.assert_allclose(phantom.centred_ifft(phantom.centred_fft(x)), x, atol=1e-12)
    assert np.linalg.norm(phantom.centred_fft(x)) == pytest.approx(np.linalg.norm(x))
    centre = phantom.centred_fft(np.ones(size))
    assert np.unravel_index(np.abs(centre).argmax(), size) == (size[0] // 2, size[1] // 2)


def test_volumes_alternate_and_are_not_made_twice(tmp_path: Path) -> None:
    paths = phantom.write_volumes(tmp_path, 1, (1, 2, 32, 32), seed=0)
    assert [p.name for p in paths] == ["file1000000.h5", "file1000001.h5"]
    with h5py.File(paths[0]) as first, h5py.File(paths[1]) as second:
        assert (first.attrs["acquisition"], second.attrs["acquisition"]) == ("CORPD_FBK", "CORPDFS_FBK")
    before = [p.stat().st_mtime_ns for p in paths]
    assert [p.stat().st_mtime_ns for p in phantom.write_volumes(tmp_path, 1, (1, 2, 32, 32), seed=0)] == before
