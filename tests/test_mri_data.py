"""MRI samples: what is read is what was written, bad files are told apart, and the sources give the same format."""

import dataclasses
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from bench import datasets, layouts, metrics, mri, mri_brain, mri_prepare, mri_zenodo, phantom, tasks
from bench.config import Config, Mri
from bench.conventions import CONVENTIONS
from bench.errors import UserError
from bench.mri_data import Sample, read_sample, samples, write_sample
from deal.operators import MRI

SMALL = {"source": "phantom", "validation": 1, "test": 1, "phantom": {"height": 64, "width": 48, "coils": 4}}


def configured(tmp_path: Path, **section: object) -> Config:
    values = Config().model_dump() | {"results": str(tmp_path / "results"), "cache": str(tmp_path / "cache")}
    values["tasks"]["mri"] |= section
    return Config.model_validate(values)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The list of the samples of small phantoms, made by the steps for raw fastMRI files."""
    folder = tmp_path_factory.mktemp("mri")
    mri_prepare.prepare(configured(folder, **SMALL), folder / "phantom.json")
    return folder / "phantom.json"


@pytest.fixture
def sample(prepared: Path, tmp_path: Path) -> Path:
    """A copy of a prepared sample, for breaking."""
    (_, path), *_ = samples(prepared, "pd", "test")
    copy = tmp_path / "sample.h5"
    copy.write_bytes(path.read_bytes())
    return copy


def replace(path: Path, key: str, change: Callable[[np.ndarray], np.ndarray] | None) -> None:
    with h5py.File(path, "r+") as handle:
        value = handle[key][()]
        del handle[key]
        if change is not None:
            handle[key] = change(value)


# The format


def test_what_is_written_is_read(tmp_path: Path) -> None:
    rng = np.random.RandomState(0)
    x = rng.uniform(0, 1, (12, 10)).astype(np.float32)
    x /= x.max()
    maps = (rng.normal(size=(3, 12, 10)) + 1j * rng.normal(size=(3, 12, 10))).astype(np.complex64)
    mask = (rng.uniform(size=(12, 10)) < 0.5).astype(np.uint8)
    masks, measured = {"single4": mask, "multi8": 1 - mask}, {"multi8": maps * (1 - mask)}
    write_sample(tmp_path / "a.h5", Sample("file1", "pd", "test", "zenodo", x, maps, masks, measured))
    found = read_sample(tmp_path / "a.h5")
    assert (found.volume, found.contrast, found.split, found.source) == ("file1", "pd", "test", "zenodo")
    for a, b in [(found.x, x), (found.smaps, maps), *((found.masks[k], masks[k]) for k in masks)]:
        assert a.dtype == b.dtype and np.array_equal(a, b)
    assert list(found.measured) == ["multi8"] and np.array_equal(found.measured["multi8"], measured["multi8"])
    assert list(read_sample(tmp_path / "a.h5", ["single4"]).masks) == ["single4"]
    assert found.sensitivities("single4") is None and found.sensitivities("multi8") is found.smaps


def nan(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[..., 1, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("key", "change", "complaint"),
    [
        ("x", None, "the key x is missing; there are multi8, single4, smaps"),
        ("x", lambda x: x.astype(np.float64), "x has the dtype float64, expected float32"),
        ("x", lambda x: x[None], "x has 3 dimensions, expected 2"),
        ("x", nan, "x contains NaN or infinite values"),
        ("x", lambda x: x - 0.5, "x has negative values; it is the root of a sum of squares"),
        ("x", lambda x: 255 * x, "x has the maximum 255, expected 1"),
        ("x", lambda x: x[:0], "x is empty"),
        ("smaps", None, "the key smaps is missing; there are multi8, single4, x"),
        ("smaps", lambda s: s.real.copy(), "smaps has the dtype float32, expected complex64"),
        ("smaps", lambda s: s[:, 1:], "smaps are maps of 63×48, but x has 64×48"),
        ("smaps", lambda s: 0 * s, "smaps are all zero"),
        ("smaps", nan, "smaps contains NaN or infinite values"),
        ("multi8/mask", None, "the key multi8/mask is missing; there are "),
        ("multi8/mask", lambda m: 0 * m, "multi8/mask is all zero: nothing would be measured"),
        ("multi8/mask", lambda m: 2 * m, "multi8/mask has values other than 0 and 1"),
        ("multi8/mask", lambda m: m.astype(np.float32), "multi8/mask has the dtype float32, expected uint8"),
        ("single4/mask", lambda m: m[:, 1:], "single4/mask is a mask of 64×47, but x has 64×48"),
    ],
)
def test_a_bad_sample_names_file_and_key(sample: Path, key: str, change: Callable | None, complaint: str) -> None:
    replace(sample, key, change)
    with pytest.raises(UserError) as caught:
        read_sample(sample, ["single4", "multi8"])
    assert str(caught.value).startswith(f"{sample}: {complaint}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("y", "complaint"),
    [
        (lambda m: np.ones((5, *m.shape), np.complex64) * m, "multi8/y has 5 coils, expected 4"),
        (lambda m: np.ones((4, *m.shape), np.complex64), "multi8/y has samples where its mask is 0"),
        (lambda m: np.ones((4, 3, 3), np.complex64), "multi8/y is k-space of 3×3, but x has 64×48"),
        (lambda m: np.ones((4, *m.shape), np.complex128) * m, "multi8/y has the dtype complex128, expected complex64"),
    ],
)
def test_bad_measurements_are_refused(sample: Path, y: Callable, complaint: str) -> None:
    with h5py.File(sample, "r+") as handle:
        handle["multi8/y"] = y(handle["multi8/mask"][()])
    with pytest.raises(UserError) as caught:
        read_sample(sample)
    assert str(caught.value) == f"{sample}: {complaint}"


def test_what_is_no_sample_is_refused(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.h5: no such file; make the samples again"):
        read_sample(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(UserError, match=r"text\.h5: not a readable HDF5 file"):
        read_sample(tmp_path / "text.h5")
    sample.write_bytes(sample.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"sample\.h5: not a readable HDF5 file"):
        read_sample(sample)


def test_attributes_are_checked(sample: Path) -> None:
    with h5py.File(sample, "r+") as handle:
        handle.attrs["contrast"] = "t2"
    with pytest.raises(UserError, match="the attribute contrast is 't2', expected pd or pdfs"):
        read_sample(sample)
    with h5py.File(sample, "r+") as handle:
        del handle.attrs["format"]
    with pytest.raises(UserError, match="the attribute format is missing"):
        read_sample(sample)


@pytest.mark.parametrize(("shape", "top", "left", "side"), [((640, 368), 160, 24, 320), ((64, 49), 7, 0, 49)])
def test_the_scored_square(shape: tuple[int, int], top: int, left: int, side: int) -> None:
    x = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(CONVENTIONS["mri"].scored(x), x[top : top + side, left : left + side])


# Raw files


def test_samples_from_raw_files(prepared: Path) -> None:
    listed = json.loads(prepared.read_text())["samples"]
    assert [(s["contrast"], s["split"], s["volume"]) for s in listed] == [
        ("pd", "validation", "file1000000"),
        ("pd", "test", "file1000002"),
        ("pdfs", "validation", "file1000001"),
        ("pdfs", "test", "file1000003"),
    ]
    for s in listed:
        found = read_sample(prepared.with_suffix("") / s["file"])
        assert (found.x.shape, found.smaps.shape, found.x.max()) == ((64, 48), (4, 64, 48), 1)
        np.testing.assert_allclose((np.abs(found.smaps) ** 2).sum(0), 1, atol=1e-4)
        (raw,) = prepared.with_suffix("").glob(f"raw-*/{s['volume']}.h5")
        with h5py.File(raw) as handle:
            truth = handle["reconstruction_rss"][1]  # of two slices, n//2
        np.testing.assert_allclose(CONVENTIONS["mri"].scored(found.x), truth / truth.max(), atol=1e-5)


def test_samples_count_by_what_they_hold(prepared: Path, tmp_path: Path) -> None:
    """Another folder, another name of one, and keys that made nothing different leave data and results the same."""
    first = json.loads(prepared.read_text())
    moved = configured(tmp_path, **SMALL, path="elsewhere", exclude=["file7"])
    mri_prepare.prepare(moved, tmp_path / "moved.json")
    second = json.loads((tmp_path / "moved.json").read_text())
    assert second["preparation"] != first["preparation"]
    assert second["digest"] == first["digest"]
    here = configured(tmp_path, **SMALL).tasks.mri
    setting = here.settings()[0]
    assert moved.tasks.mri.part(setting) == here.part(setting)
    other = configured(tmp_path, **SMALL, calibration_width=8)
    mri_prepare.prepare(other, tmp_path / "other.json")
    assert json.loads((tmp_path / "other.json").read_text())["digest"] != first["digest"]


@pytest.mark.parametrize(("source", "counts"), [("zenodo", False), ("phantom", True)])
def test_the_seed_counts_where_noise_is_drawn(source: str, counts: bool) -> None:
    parts = [Mri(source=source, seed=seed).part("single4_pd") for seed in (0, 1)]
    assert (parts[0] != parts[1]) == counts
    assert Mri(source=source, noise_std=0.1).part("single4_pd") != parts[0]
    assert Mri(source=source, split="validation").part("single4_pd") != parts[0]


def test_sensitivities_explain_the_coil_images(prepared: Path) -> None:
    (volume, path), *_ = samples(prepared, "pd", "test")
    maps = read_sample(path).smaps
    (raw,) = prepared.with_suffix("").glob(f"raw-*/{volume}.h5")
    images = phantom.centred_ifft(mri_prepare.middle_slice(raw))
    residual = images - maps * (maps.conj() * images).sum(0)
    assert np.linalg.norm(residual) < 0.1 * np.linalg.norm(images)


def test_masks_follow_fastmri_and_the_volumes_name() -> None:
    from fastmri.data.subsample import RandomMaskFunc

    found = mri_prepare.sampling_mask((320, 368), 4, 0.08, "file1000182")
    assert (found.shape, found.dtype) == ((320, 368), np.uint8)
    assert (found == found[0]).all(), "columns are measured as a whole"
    low = round(368 * 0.08)
    centred = np.fft.fftshift(found[0])
    assert centred[(368 - low + 1) // 2 :][:low].all()
    assert 368 / 4 - 30 < centred.sum() < 368 / 4 + 30
    again = mri_prepare.sampling_mask((320, 368), 4, 0.08, "file1000182")
    assert np.array_equal(found, again)
    assert not np.array_equal(found, mri_prepare.sampling_mask((320, 368), 4, 0.08, "file1000183"))
    expected, _ = RandomMaskFunc([0.08], [4])((320, 368, 1), seed=tuple(map(ord, "file1000182")))
    assert np.array_equal(centred, expected.numpy().ravel())


def test_prepared_samples_are_kept_and_remade_when_they_must(tmp_path: Path) -> None:
    output, config = tmp_path / "mri.json", configured(tmp_path, **(SMALL | {"contrasts": ["pd"]}))
    mri_prepare.prepare(config, output)
    files = sorted((tmp_path / "mri" / "pd").rglob("*.h5"))
    before, text = [f.stat().st_mtime_ns for f in files], output.read_text()
    files[0].unlink()
    mri_prepare.prepare(config, output)
    assert files[1].stat().st_mtime_ns == before[1], "a finished sample was made again"
    assert files[0].is_file()
    assert output.read_text() == text, "equal inputs gave another sample"
    mri_prepare.prepare(configured(tmp_path, **(SMALL | {"contrasts": ["pd"], "calibration_width": 16})), output)
    assert files[1].stat().st_mtime_ns > before[1]
    assert json.loads(output.read_text())["digest"] != json.loads(text)["digest"]


def raw(folder: Path, name: str, contrast: str = "pd") -> Path:
    path = folder / f"{name}.h5"
    phantom.write_volume(path, (2, 2, 32, 32), contrast, 0)
    return path


def test_volumes_are_chosen_by_name_without_the_noisy_ones(tmp_path: Path) -> None:
    for name in ("file1000009", "file1000007", "file1000003", "file1000001", "file1000000"):
        raw(tmp_path, name)
    raw(tmp_path, "file1000002", "pdfs")
    section = Mri(source="fastmri", path=str(tmp_path), validation=2, test=1, contrasts=["pd"])
    found = mri_prepare.select(tmp_path, section, section.exclude)
    names = [("validation", "file1000000"), ("validation", "file1000001"), ("test", "file1000003")]
    assert [(split, path.stem) for split, _, path in found] == names
    with pytest.raises(UserError, match=r"has 1 volumes of CORPDFS_FBK, but tasks\.mri asks for validation: 2 and"):
        mri_prepare.select(tmp_path, section.model_copy(update={"contrasts": ["pdfs"]}), [])


def test_the_authors_split_is_recognised() -> None:
    section = Mri(source="fastmri")
    names = [f"file1{n:06}" for n in range(100, 160)]
    chosen = [
        ("test" if n >= 10 else "validation", c, Path(f"{v}.h5")) for c in ("pd", "pdfs") for n, v in enumerate(names)
    ]
    first, second = mri_prepare.strangers(chosen, section)
    assert first.startswith("test volume 0 of pd is file1000110, in the paper file1000182") and "of pdfs" in second
    known = {("pd", 10): "file1000182", ("pdfs", 45): "file1001191"}
    theirs = [(split, c, Path(f"{known.get((c, n % 60), path.stem)}.h5")) for n, (split, c, path) in enumerate(chosen)]
    assert not mri_prepare.strangers(theirs, section)
    assert not mri_prepare.strangers(chosen, section.model_copy(update={"validation": 1})), "another split on purpose"


def test_fastmri_needs_a_path(tmp_path: Path) -> None:
    for path in (None, str(tmp_path / "absent")):
        with pytest.raises(UserError, match=r"tasks\.mri\.path is .*, expected the folder of fastMRI's"):
            mri_prepare.prepare(configured(tmp_path, source="fastmri", path=path), tmp_path / "x.json")


@pytest.mark.parametrize(
    ("key", "change", "complaint"),
    [
        ("kspace", None, "the key kspace is missing; there are ismrmrd_header, reconstruction_rss"),
        ("kspace", lambda k: k.astype(np.complex128), "kspace has the dtype complex128, expected complex64"),
        ("kspace", lambda k: k[:, 0], "kspace has 3 dimensions, expected (slices, coils, height, width)"),
        ("kspace", lambda k: 0 * k, "kspace is all zero in the middle slice"),
        ("kspace", nan, "kspace contains NaN or infinite values in the middle slice"),
        ("reconstruction_rss", lambda r: r[:1], "kspace has 2 slices, reconstruction_rss has 1"),
    ],
)
def test_a_bad_raw_file_names_file_and_key(tmp_path: Path, key: str, change: Callable | None, complaint: str) -> None:
    path = raw(tmp_path, "file1")
    replace(path, key, change)
    with pytest.raises(UserError) as caught:
        mri_prepare.middle_slice(path)
    assert str(caught.value) == f"{path}: {complaint}"


def test_an_unknown_acquisition_is_refused(tmp_path: Path) -> None:
    path = raw(tmp_path, "file1")
    with h5py.File(path, "r+") as handle:
        handle.attrs["acquisition"] = "AXT2"
    with pytest.raises(UserError, match="the attribute acquisition is 'AXT2', expected CORPD_FBK or CORPDFS_FBK"):
        mri_prepare.acquisition(path)


# The operator of a sample


@pytest.mark.parametrize("sampling", ["single4", "multi8"])
def test_operator_of_a_sample_is_adjoint_and_zero_filling_is_sane(prepared: Path, sampling: str) -> None:
    (_, path), *_ = samples(prepared, "pd", "test")
    found = read_sample(path)
    maps = found.sensitivities(sampling)
    operator = MRI(torch.from_numpy(found.masks[sampling]), None if maps is None else torch.from_numpy(maps))
    torch.manual_seed(0)
    x = torch.rand(1, 1, 64, 48)
    y = torch.randn(1, 1 if maps is None else 4, 64, 48, dtype=torch.complex64)
    left, right = (operator.A(x).conj() * y).sum().real, (x * operator.A_adjoint(y)).sum()
    assert left == pytest.approx(right.item(), rel=1e-4)
    truth = torch.from_numpy(found.x)[None, None]
    zero_filled = operator.A_adjoint(operator.A(truth))
    psnr = metrics.psnr(zero_filled[0, 0].numpy(), found.x, clip=False)
    assert 12 < psnr < 30
    assert psnr > metrics.psnr(np.zeros_like(found.x), found.x, clip=False) + 3


# Zenodo


def archive(folder: Path, volumes: dict[str, int], **changes: object) -> dict[str, np.ndarray]:
    """Write the record's layout below `folder`; returns the tensors of the last image."""
    rng = np.random.RandomState(0)
    for contrast, split in [(c, s) for c in ("pd", "pdfs") for s in ("val_images", "test_images")]:
        for volume in volumes:
            x = rng.uniform(0, 1, (1, 1, 16, 12))
            x /= x.max()
            maps = rng.normal(size=(1, 3, 16, 12)) + 1j * rng.normal(size=(1, 3, 16, 12))
            mask = np.ones((1, 1, 16, 12)) * (np.arange(12) % 2)
            for kind in ("singlecoil_acc_4_cf_0.08", "multicoil_acc_8_cf_0.04"):
                single = kind.startswith("single")
                y = (np.fft.fft2(x * (1 if single else maps), norm="ortho") * mask).astype(np.complex64)
                tensors = {"x": x, "y": y, "mask": mask} | ({} if single else {"smaps": maps}) | changes
                place = folder / f"{kind}_noisesd_0.002" / contrast / split / volume
                place.mkdir(parents=True)
                for key, value in tensors.items():
                    torch.save(torch.from_numpy(value) if isinstance(value, np.ndarray) else value, place / f"{key}.pt")
    return tensors


ZENODO = {"source": "zenodo", "validation": 1, "test": 1}


def test_the_record_becomes_samples(tmp_path: Path) -> None:
    last = archive(tmp_path / "data_sets", {"file1000182": 0})
    config = configured(tmp_path, **ZENODO, path=str(tmp_path / "data_sets"))
    mri_prepare.prepare(config, tmp_path / "z.json")
    ((volume, path),) = samples(tmp_path / "z.json", "pdfs", "test")
    found = read_sample(path)
    assert (volume, found.source, set(found.masks)) == ("file1000182", "zenodo", {"single4", "multi8"})
    np.testing.assert_allclose(found.x, last["x"][0, 0], atol=1e-6)
    np.testing.assert_allclose(found.measured["multi8"], last["y"][0], atol=1e-6)
    operator = MRI(torch.from_numpy(found.masks["multi8"]), torch.from_numpy(found.smaps))
    y = operator.A(torch.from_numpy(found.x)[None, None])
    np.testing.assert_allclose(y[0].numpy(), found.measured["multi8"], atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"x": np.ones((16, 12))}, r"file1: x\.pt is \(16, 12\), expected a tensor \(1, C, H, W\)"),
        ({"y": np.ones((1, 1, 16, 12))}, r"y\.pt has the dtype torch\.float64, expected complex numbers"),
        ({"mask": np.zeros((1, 1, 16, 12))}, r"single4/mask is all zero"),
        ({"y": {"a": 1}}, r"y\.pt is dict, expected a tensor"),
        ({"y": Path("code")}, r"y\.pt cannot be read \(UnpicklingError"),
    ],
)
def test_bad_tensors_of_the_record_are_refused(tmp_path: Path, changes: dict, complaint: str) -> None:
    archive(tmp_path / "data_sets", {"file1": 0}, **changes)
    config = configured(tmp_path, **ZENODO, path=str(tmp_path / "data_sets"))
    with pytest.raises(UserError, match=complaint):
        mri_prepare.prepare(config, tmp_path / "z.json")


def test_a_folder_that_is_not_the_record_says_what_is_there(tmp_path: Path) -> None:
    archive(tmp_path / "d", {"file1": 0})
    samplings = {"single2": {"acceleration": 2.0, "center_fraction": 0.16}}
    config = configured(tmp_path, **ZENODO, path=str(tmp_path / "d"), samplings=samplings)
    with pytest.raises(
        UserError, match=r"single2 \(singlecoil_acc_2_cf_0\.16_noisesd_0\.002\); there is multicoil_acc_8"
    ):
        mri_prepare.prepare(config, tmp_path / "z.json")
    config = configured(tmp_path, **(ZENODO | {"test": 5}), path=str(tmp_path / "d"))
    with pytest.raises(UserError, match=r"has 1 test images of pd, tasks\.mri asks for 5"):
        mri_prepare.prepare(config, tmp_path / "z.json")


def test_the_archive_comes_from_the_listing(tmp_path: Path, no_network: None) -> None:
    """From a mirror, with Zenodo's listing; a wrong md5 is refused."""
    import hashlib

    archive(tmp_path / "data_sets", {"file1": 0})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as handle:
        for path in sorted((tmp_path / "data_sets").rglob("*.pt")):
            handle.write(path, path.relative_to(tmp_path))
    mirror = tmp_path / "mirror"
    archived = mirror / "zenodo.org/records/8302121/files/data_sets.zip"
    listing = datasets.get("mri_zenodo").files[0].path(mirror)
    for path in (archived, listing):
        path.parent.mkdir(parents=True)
    archived.write_bytes(packed.getvalue())
    entry = {"key": "data_sets.zip", "size": len(packed.getvalue())}
    entry["checksum"] = f"md5:{hashlib.md5(packed.getvalue()).hexdigest()}"
    listing.write_text(json.dumps({"files": [entry]}))
    config = configured(tmp_path, **ZENODO).model_copy(update={"mirror": str(mirror)})
    mri_prepare.prepare(config, tmp_path / "z.json")
    assert len(json.loads((tmp_path / "z.json").read_text())["samples"]) == 4
    listing.write_text(json.dumps({"files": [entry | {"checksum": "md5:0"}]}))
    other = config.model_copy(update={"cache": str(tmp_path / "other")})
    with pytest.raises(UserError, match=r"data_sets\.zip: its md5 is .*, Zenodo says 0\."):
        mri_zenodo.archives(other)
    listing.write_text("{}")
    third = config.model_copy(update={"cache": str(tmp_path / "third")})
    with pytest.raises(UserError, match="not the listing of a Zenodo record"):
        mri_zenodo.archives(third)


def test_zenodo_without_a_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def offline(*arguments: object, **keywords: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    monkeypatch.delenv("DEAL_MIRROR", raising=False)
    with pytest.raises(UserError) as caught:
        mri_prepare.prepare(configured(tmp_path, **ZENODO), tmp_path / "z.json")
    assert "zenodo.org/api/records/8302121" in str(caught.value)
    assert "DEAL_MIRROR" in str(caught.value) and "tasks.mri.source" in str(caught.value)
    assert "\n" not in str(caught.value)


# The real acquisition


def test_brain_is_explained_by_a_real_image(mirror: Path, tmp_path: Path) -> None:
    found = mri_brain.load(tmp_path, str(mirror))
    assert (found.y.shape, found.y.dtype) == ((8, 230, 180), np.complex64)
    assert found.mask.mean() == pytest.approx(0.12, abs=0.01)
    assert not found.y[:, found.mask == 0].any()
    assert 0 < found.sigma < 0.02
    operator = MRI(torch.from_numpy(found.mask), torch.from_numpy(found.smaps))
    y = torch.from_numpy(found.y)[None]
    x = operator.prox(torch.zeros(1, 1, 230, 180), y, 1e-2)
    assert (operator.A(x) - y).norm() < 0.15 * y.norm()
    assert 0.7 < x.max() < 1.6
    assert x.clamp(max=0).norm() < 0.15 * x.norm()


def test_brain_file_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "k.npy", np.zeros((8, 4)))
    monkeypatch.setattr(datasets, "fetch", lambda *arguments, **keywords: [tmp_path / "k.npy"])
    with pytest.raises(UserError, match=r"k\.npy: expected finite complex k-space"):
        mri_brain.load(tmp_path)


# The task


def test_measurements_are_the_formula_with_seeded_noise(prepared: Path) -> None:
    (_, path), *_ = samples(prepared, "pd", "test")
    found = read_sample(path)
    for sampling, coils in (("single4", 1), ("multi8", 4)):
        y = mri.measure(found, sampling, 0.002, 0)
        assert (y.shape, y.dtype) == ((1, coils, 64, 48), torch.complex64)
        assert torch.equal(y, mri.measure(found, sampling, 0.002, 0))
        maps = found.sensitivities(sampling)
        mask = torch.from_numpy(found.masks[sampling])
        operator = MRI(mask, None if maps is None else torch.from_numpy(maps))
        noise = (y - operator.A(torch.from_numpy(found.x)[None, None]))[..., mask == 1]
        assert not y[..., mask == 0].any()
        count = noise.numel()
        for part in (noise.real, noise.imag):
            assert part.std().item() == pytest.approx(0.002, rel=4 / np.sqrt(2 * count))
        assert abs((noise.real * noise.imag).mean()) < 4 * 0.002**2 / np.sqrt(count)
        assert not torch.equal(y, mri.measure(found, sampling, 0.002, 1))


def test_stored_measurements_are_used(prepared: Path) -> None:
    (_, path), *_ = samples(prepared, "pd", "test")
    found = read_sample(path)
    stored = np.full((1, 64, 48), 1j, np.complex64) * found.masks["single4"]
    known = dataclasses.replace(found, measured={"single4": stored})
    assert np.array_equal(mri.measure(known, "single4", 0.002, 0)[0].numpy(), stored)


def test_items_of_the_task(tmp_path: Path) -> None:
    config = configured(tmp_path, **(SMALL | {"contrasts": ["pdfs"], "test": 2}))
    kind, section, cache = tasks.get("mri"), config.tasks.mri, Path(config.cache)
    with pytest.raises(UserError, match="no such file; make it: snakemake mri_samples"):
        kind.items(section, "multi8_pdfs", cache)
    mri_prepare.prepare(config, Path(section.samples(cache)))
    items = kind.items(section, "multi8_pdfs", cache)
    assert [name for name, _ in items] == ["file1000003", "file1000005"]
    assert [name for name, _ in kind.items(section, "multi8_pdfs", cache, 1)] == ["file1000003"]
    item = items[0][1]()
    assert (item.image, item.sigma, tuple(item.x.shape)) == ("file1000003", 0.002, (1, 1, 64, 48))
    assert torch.equal(item.operator.A(item.x) != 0, item.y != 0)
    assert kind.data(section, cache)["dataset"] == "mri_phantom"
    validation = config.for_tuning("mri").tasks.mri
    assert [name for name, _ in kind.items(validation, "multi8_pdfs", cache)] == ["file1000001"]
    assert not set(kind.hashes(section, cache)) & set(kind.hashes(validation, cache))
    assert len(kind.hashes(section, cache)) == 2


def test_samples_of_other_preparations_lie_elsewhere() -> None:
    section = Mri(**SMALL)
    same = [section.model_copy(update=u) for u in ({"seed": 3}, {"noise_std": 0.1}, {"subset": 1}, {"split": "test"})]
    assert {s.samples("data") for s in same} == {section.samples("data")}
    others = [Mri(**SMALL | u) for u in ({"test": 2}, {"calibration_width": 16}, {"source": "fastmri"})]
    assert len({s.samples("data") for s in [section, *others]}) == 4


def test_columns_are_those_of_the_paper() -> None:
    from bench.tables import paper_values

    layout = layouts.layout(Config(), "table3")
    assert {column["paper"] for column in layout["columns"]} == {row["setting"] for row in paper_values("table3")}
    assert {column["dataset"] for column in layout["columns"]} == {"mri_zenodo"}
    names = {method["name"]: method["paper"] for method in layout["methods"]}
    assert (names["measurement"], names["deal"]) == ("Zero-fill", "DEAL")
    assert "centred 320×320" in layout["convention"]


def test_sampling_names_say_how_many_coils() -> None:
    with pytest.raises(ValueError, match="'double4' does not begin with single or multi"):
        Mri(samplings={"double4": {"acceleration": 4.0, "center_fraction": 0.08}})
