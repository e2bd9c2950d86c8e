"""Files and addresses that mean harm: no pickle is run, nothing is written or read elsewhere, no shell sees a name."""

import ast
import hashlib
import io
import pickle
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from tally import Tally

from baselines import epll
from baselines.networks import fdn, readers
from bench import archives, datasets, fetch, kernels, mri_brain, mri_data, mri_prepare, mri_zenodo, registry
from bench.config import Config, Mri
from bench.errors import UserError
from deal import training, weights

ROOT = Path(__file__).resolve().parents[1]
MESSAGES = (UserError, ValueError)  # WeightsError is a ValueError


class Payload:
    """Unpickling this makes the folder `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.mkdir, (self.path,)


def pickled(path: Path, payload: Payload) -> None:
    path.write_bytes(pickle.dumps({"state_dict": payload}))


def torch_zip(path: Path, payload: Payload) -> None:
    torch.save({"state_dict": {"W1": payload}, "params": payload}, path)


def torch_legacy(path: Path, payload: Payload) -> None:
    torch.save({"state_dict": payload}, path, _use_new_zipfile_serialization=False)


def npy(path: Path, payload: Payload) -> None:
    with path.open("wb") as handle:
        np.save(handle, np.array([payload, payload], dtype=object), allow_pickle=True)


def npz(path: Path, payload: Payload) -> None:
    content = np.array([payload], dtype=object)
    with path.open("wb") as handle:
        np.savez(handle, weights=content, covariances=content, kspace=content)


def hdf5(path: Path, payload: Payload) -> None:
    """The bytes of a pickle as opaque data, where h5py's users sometimes keep objects."""
    with h5py.File(path, "w") as handle:
        for key in ("kernels", "kspace", "x", "smaps", "model_1", "net"):
            handle[key] = np.void(pickle.dumps(payload))
        handle.attrs["layer_names"] = np.void(pickle.dumps(payload))
        handle.attrs["format"] = np.void(pickle.dumps(payload))


def mat(path: Path, payload: Payload) -> None:
    """MATLAB 5 with the pickle's bytes as values of all that is asked for."""
    content = np.frombuffer(pickle.dumps(payload), np.uint8)
    scipy.io.savemat(path, {"kernels": content, "GS": content, "net": content})


MAKERS = {
    "pickle": pickled,
    "torch zip": torch_zip,
    "torch legacy": torch_legacy,
    "npy": npy,
    "npz": npz,
    "hdf5": hdf5,
    "mat": mat,
}


def of_kernels(function: Callable) -> Callable[[Path], object]:
    """A reader of blur kernels, given the file itself."""

    def read(path: Path) -> object:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(kernels, "_file", lambda source, name, cache: path)
            return function(1, "dpir_kernels", path.parent)

    return read


def checkpoint(path: Path) -> None:
    """Resuming a training whose state is this file."""
    folder = path.parent / f"{path.name}.state"
    folder.mkdir()
    (folder / "state.pt").write_bytes(path.read_bytes())
    phase = training.Phase(steps=1, lr=(1e-3, 1e-4))
    run = training._Run(training.TrainConfig(kind="gray", phases=(phase,)), weights.DEAL("gray"), folder, 0)
    run.resume()


def brain(path: Path) -> object:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(datasets, "fetch", lambda *arguments, **more: [path])
        return mri_brain.load(path.parent)


def zenodo(path: Path) -> object:
    return mri_zenodo._tensor({"x": path.read_bytes}, "x", np.float32, str(path))


READERS: dict[str, Callable[[Path], object]] = {
    "deal .pth": weights.read_official,
    "deal .safetensors": weights._read_safetensors,
    "training state": checkpoint,
    "baseline .pth": readers.read_state_dict,
    "baseline .mat": readers.read_matconvnet,
    "fdn .h5": fdn.load,
    "epll .npz": epll.Prior.load,
    "epll .mat": epll.Prior.load,
    "gaussian kernels": of_kernels(kernels.gaussian),
    "motion kernels": of_kernels(kernels.motion),
    "brain .npy": brain,
    "mri sample": mri_data.read_sample,
    "mri raw": mri_prepare.middle_slice,
    "mri record": zenodo,
}


@pytest.mark.parametrize("made", MAKERS)
@pytest.mark.parametrize("reader", READERS)
def test_no_pickle_is_run(reader: str, made: str, tmp_path: Path, tally: Tally) -> None:
    """Every reader against every kind of file, whatever its name promises."""
    suffix = reader.split()[-1] if "." in reader else ".bin"
    path, harm = tmp_path / f"file{suffix}", tmp_path / "harm"
    MAKERS[made](path, Payload(harm))
    with pytest.raises(MESSAGES) as caught:
        READERS[reader](path)
    assert not harm.exists(), "code of the file ran"
    assert str(path.name) in str(caught.value) or "state.pt" in str(caught.value)
    tally("hostile", "pickles")


def test_the_payload_would_do_harm(tmp_path: Path) -> None:
    """Without the protection: so that the test above can fail."""
    pickled(tmp_path / "x", Payload(tmp_path / "harm"))
    pickle.loads((tmp_path / "x").read_bytes())
    assert (tmp_path / "harm").exists()
    (tmp_path / "harm").rmdir()
    npy(tmp_path / "x.npy", Payload(tmp_path / "harm"))
    np.load(tmp_path / "x.npy", allow_pickle=True)
    assert (tmp_path / "harm").exists()


# Archives

NAMES = ["../evil.png", "/evil.png", "a/../../evil.png", "a\\..\\..\\evil.png", "C:evil.png", "a/./../../evil.png"]


def tar_with(path: Path, *members: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w") as archive:
        for member in members:
            content = b"evil" if member.isreg() else b""
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def special(kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo("evil.png")
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_that_leave_the_folder(kind: str, name: str, tmp_path: Path, tally: Tally) -> None:
    path = tmp_path / "in" / f"a.{kind}"
    path.parent.mkdir()
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), b"evil")
    else:
        tar_with(path, tarfile.TarInfo(name))
    with pytest.raises(UserError, match=r"refused|no member like"):
        archives.unpack(path, ["*.png"], "hash")
    assert list(tmp_path.rglob("*evil*")) == []
    tally("hostile", "archives")


@pytest.mark.parametrize(
    "member",
    [
        special(tarfile.SYMTYPE, "/etc/passwd"),
        special(tarfile.LNKTYPE, "../../etc/passwd"),
        special(tarfile.FIFOTYPE),
        special(tarfile.CHRTYPE),
        special(tarfile.BLKTYPE),
    ],
    ids=["symbolic link", "hard link", "pipe", "character device", "block device"],
)
def test_members_that_are_no_files(member: tarfile.TarInfo, tmp_path: Path, tally: Tally) -> None:
    tar_with(tmp_path / "a.tar", member)
    with pytest.raises(UserError, match="refused"):
        archives.unpack(tmp_path / "a.tar", ["*.png"], "hash")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]
    tally("hostile", "archives")


def test_a_link_in_a_zip(tmp_path: Path, tally: Tally) -> None:
    link = zipfile.ZipInfo("evil.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match="refused"):
        archives.unpack(tmp_path / "a.zip", ["*.png"], "hash")
    tally("hostile", "archives")


# HDF5 can point to other files


def linked(handle: h5py.File, other: Path) -> None:
    handle["x"] = h5py.ExternalLink(str(other), "x")


def stored_elsewhere(handle: h5py.File, other: Path) -> None:
    handle.create_dataset("x", (8, 8), np.float32, external=[(str(other), 0, h5py.h5f.UNLIMITED)])


def virtual(handle: h5py.File, other: Path) -> None:
    layout = h5py.VirtualLayout((8, 8), np.float32)
    layout[:] = h5py.VirtualSource(str(other), "x", (8, 8))
    handle.create_virtual_dataset("x", layout)


@pytest.mark.parametrize("how", [linked, stored_elsewhere, virtual])
def test_hdf5_that_reads_other_files(how: Callable, tmp_path: Path, tally: Tally) -> None:
    secret, path = tmp_path / "secret.h5", tmp_path / "sample.h5"
    with h5py.File(secret, "w") as handle:
        handle["x"] = np.ones((8, 8), np.float32)
    with h5py.File(path, "w") as handle:
        handle.attrs.update(format=mri_data.FORMAT, volume="v", source="s", contrast="pd", split="test")
        handle["smaps"] = np.ones((1, 8, 8), np.complex64)
        how(handle, secret)
    with pytest.raises(UserError, match=r"x is (a link to another file|stored in other files): refused"):
        mri_data.read_sample(path)
    with h5py.File(path) as handle, pytest.raises(UserError, match="refused"):
        mri_data.array(handle, "x", np.float32, 2, path)
    tally("hostile", "HDF5 files that read others")


# Addresses

ADDRESSES = [
    "file:///etc/passwd",
    "ftp://example.org/x.png",
    "http://example.org/../x.png",
    "http://example.org/%2e%2e/x.png",
    "http://example.org/a/..",
    "http://user:word@example.org/x.png",
    "http://example.org/x.png?q=1",
    "http://example.org/x png",
    "http://example.org/$(touch evil).png",
    "http://example.org/`id`.png",
    "http://example.org/-rf",
    "javascript:alert(1)",
    "scikit-image:../x.png",
    "//example.org/x.png",
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_addresses_that_are_refused(url: str, tally: Tally) -> None:
    with pytest.raises(ValueError, match="url"):
        fetch.File(name="x.png", url=url)
    tally("hostile", "addresses")


BAD_NAMES = ["../x.png", "-x.png", ".x", "x y.png", "x;y.png", "$(id).png", "x\n.png", "a/b.png", ""]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_file_names_that_are_refused(name: str, tally: Tally) -> None:
    with pytest.raises(ValueError, match="name"):
        fetch.File(name=name, url="http://example.org/x.png")
    tally("hostile", "file names")


@pytest.mark.parametrize("mirror", ["ftp://example.org", "file:///tmp", "s3://bucket", "data:,x"])
def test_mirrors_that_are_refused(mirror: str, tmp_path: Path, tally: Tally) -> None:
    file = fetch.File(name="x.png", url="http://127.0.0.1:9/x.png", sha256="0" * 64)
    with pytest.raises(UserError, match=r"neither a folder nor an http\(s\) URL"):
        fetch.download([file], tmp_path, mirror=mirror)
    tally("hostile", "addresses")


# Shells


@pytest.mark.parametrize("name", ["x; id", "$(id)", "a b", "-x", "A", "x|y", "../x", ""])
def test_a_methods_name_is_no_shell_line(name: str, tally: Tally) -> None:
    """A plug-in names itself; its name is part of paths and of the rules' shell lines."""
    entry = registry.Entry(name, "plug.in", "M", "M", ("*",), False, False, ())
    with pytest.raises(UserError, match=r"plug\.in: the method's name"):
        registry._add({}, entry)
    tally("hostile", "names of methods")


@pytest.mark.parametrize("name", ["single; id", "multi$(id)", "single/../x", "multi 8", "-single"])
def test_a_samplings_name_is_no_shell_line(name: str, tally: Tally) -> None:
    with pytest.raises(ValueError, match="begin with single or multi"):
        Mri.model_validate({"samplings": {name: {"acceleration": 4.0, "center_fraction": 0.1}}})
    tally("hostile", "names of settings")


def test_settings_are_plain_names() -> None:
    config = Config()
    for task in type(config.tasks).model_fields:
        for setting in config.task(task).settings():
            assert set(setting) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-+"), setting


SHELL = ("{output", "{input", "{log", "{wildcards", "{params.config")


@pytest.mark.parametrize("path", sorted((ROOT / "workflow/rules").glob("*.smk")), ids=lambda p: p.name)
def test_shell_lines_quote_what_comes_from_outside(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if "python -m bench" in line or "--config" in line or "tee" in line:
            for start in SHELL:
                for found in line.split(start)[1:]:
                    assert found.split("}")[0].endswith(":q"), f"{path.name}:{number}: {start}{found}"


UNSAFE = {"eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "yaml.unsafe_load", "marshal.loads"}
NEEDS = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}


@pytest.mark.parametrize("folder", ["deal", "baselines", "workflow", "benchmarks"])
def test_no_call_could_run_data(folder: str) -> None:
    """Every call of the sources: nothing evaluates text, unpickles freely or starts a shell."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not isinstance(node, ast.Call):
                continue
            name, where = ast.unparse(node.func), f"{path.relative_to(ROOT)}:{node.lineno}"
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert name not in UNSAFE, f"{where} calls {name}"
            assert given.get("shell", "False") == "False", f"{where} starts a shell"
            if name in NEEDS:
                key, value = NEEDS[name]
                assert given.get(key) == str(value), f"{where}: {name} without {key}={value}"
            if name == "yaml.load":
                assert "Safe" in ast.unparse(node) or "_UniqueKeys" in ast.unparse(node), where


# Data are what the registry says, at every use


def test_swapped_data_are_noticed_at_every_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally) -> None:
    """Same name, same size, other bytes."""
    content = b"kernels" * 100
    file = fetch.File(
        name="Levin09.mat", url="http://example.org/Levin09.mat", sha256=hashlib.sha256(content).hexdigest()
    )
    entry = datasets.get("dpir_kernels").model_copy(update={"files": [file]})
    monkeypatch.setattr(datasets, "get", lambda name: entry)
    path = file.path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert kernels._file("dpir_kernels", "Levin09.mat", tmp_path) == path
    path.write_bytes(content[:-1] + b"!")
    with pytest.raises(UserError, match=r"Levin09\.mat is damaged: expected sha256"):
        kernels.motion(1, "dpir_kernels", tmp_path)
    with pytest.raises(UserError, match=r"is damaged: expected sha256"):
        datasets.manifest("dpir_kernels", tmp_path)
    tally("hostile", "swapped data", 2)


def test_swapped_samples_are_noticed(tmp_path: Path, tally: Tally) -> None:
    values = {"source": "phantom", "contrasts": ["pd"], "validation": 0, "test": 1}
    section = Mri.model_validate(values | {"phantom": {"height": 32, "width": 32, "coils": 2}})
    config = Config().model_copy(update={"cache": str(tmp_path)})
    config = config.model_copy(update={"tasks": config.tasks.model_copy(update={"mri": section})})
    listing = Path(section.samples(tmp_path))
    mri_prepare.prepare(config, listing)
    ((_, path),) = mri_data.samples(listing, "pd", "test")
    with h5py.File(path, "r+") as handle:
        handle["x"][0, 0] = 0.5
    with pytest.raises(UserError, match=r"is gone or not the file that .* lists"):
        mri_data.samples(listing, "pd", "test")
    path.unlink()
    with pytest.raises(UserError, match="is gone or not the file"):
        mri_data.samples(listing, "pd", "test")
    tally("hostile", "swapped data", 2)
