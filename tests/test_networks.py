"""Networks and their published file formats: stand-ins in each layout, and real weights where the mirror has them."""

import itertools
import os
import sys
import types
from collections import OrderedDict
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import conv2d

from baselines.dncnn import DnCNN as DnCNNMethod
from baselines.drunet import DRUNet as DRUNetMethod
from baselines.ffdnet import FFDNet as FFDNetMethod
from baselines.networks.dncnn import ConvStack, DnCNN, load_dncnn
from baselines.networks.drunet import DRUNet, GradientStep, in_four, load_drunet, load_prox_drunet, split
from baselines.networks.ffdnet import FFDNet, load_ffdnet
from baselines.networks.ircnn import IRCNNSet, level, load_ircnn
from baselines.networks.readers import read_matconvnet, read_pth, read_state_dict
from bench import datasets, evaluate
from bench.config import Config

KAIR = "raw.githubusercontent.com/cszn/KAIR/fc1732f4a4514e42ce15e5b3a1e18c828af47a1e/model_zoo/dncnn_25.pth"
Filters = list[tuple[np.ndarray, np.ndarray]]
"""(kh, kw, in, out) and (out,) of each convolution, as MATLAB has them."""


def filters(channels: list[int], seed: int = 0) -> Filters:
    """Random convolutions between these numbers of channels."""
    draw = np.random.default_rng(seed)
    return [
        (draw.normal(0, (9 * i / 2) ** -0.5, (3, 3, i, o)).astype("f4"), draw.normal(0, 0.1, o).astype("f4"))
        for i, o in itertools.pairwise(channels)
    ]


def write_hdf5(path: Path, convolutions: Filters, others: tuple[str, ...] = ()) -> Path:
    """A MatConvNet network as MATLAB 7.3 stores it: reversed axes, a trailing singleton dropped, references."""
    with h5py.File(path, "w") as file:
        references = []

        def add(kind: str, arrays: tuple[np.ndarray, ...] = ()) -> None:
            layer = file.create_group(f"#refs#/layer{len(references)}")
            layer["type"] = np.array([[ord(letter)] for letter in kind], dtype="u2")
            if arrays:
                held = [file.create_dataset(f"#refs#/w{len(references)}_{i}", data=a) for i, a in enumerate(arrays)]
                layer["weights"] = np.array([[h.ref] for h in held], dtype=h5py.ref_dtype)
            references.append([layer.ref])

        for kind in others:
            add(kind)
        for number, (weight, bias) in enumerate(convolutions):
            if number:
                add("relu")
            add("conv", (np.squeeze(weight, 3).T if weight.shape[3] == 1 else weight.T, bias[None]))
        file["net/layers"] = np.array(references, dtype=h5py.ref_dtype)
    return path


def write_matlab5(path: Path, convolutions: Filters) -> Path:
    """The same as MATLAB 5 stores it."""
    layers = np.empty((1, 2 * len(convolutions) - 1), dtype=object)
    for number, (weight, bias) in enumerate(convolutions):
        held = np.empty((1, 2), dtype=object)
        held[0, 0], held[0, 1] = weight, bias[None]
        layers[0, 2 * number] = {"type": "conv", "weights": held}
        if number:
            layers[0, 2 * number - 1] = {"type": "relu"}
    scipy.io.savemat(path, {"net": {"layers": layers}})
    return path


def forward(x: Tensor, convolutions: Filters) -> Tensor:
    """The stack itself: correlations with zero padding, ReLU between them."""
    for number, (weight, bias) in enumerate(convolutions):
        kernel = torch.from_numpy(weight.transpose(3, 2, 0, 1))
        x = conv2d(x.relu() if number else x, kernel, torch.from_numpy(bias), padding=1)
    return x


def noisy(channels: int, side: int = 48, sigma: float = 25 / 255) -> tuple[Tensor, Tensor]:
    """A smooth image with edges, (1, C, side, side), and the same with noise of seed 0."""
    rows, columns = np.mgrid[0:side, 0:side]
    base = 0.5 + 0.3 * np.sin(rows / 7) * np.cos(columns / 9) + 0.15 * (columns > side // 2)
    x = torch.from_numpy(np.stack([np.clip(base * (1 - 0.15 * c), 0, 1) for c in range(channels)])[None]).float()
    return x, x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("write", [write_hdf5, write_matlab5])
@pytest.mark.parametrize(("channels", "layers"), [(1, 17), (3, 20)])
def test_matconvnet_files(write, channels: int, layers: int, tmp_path: Path) -> None:
    held = filters([channels, *[64] * (layers - 1), channels])
    network = load_dncnn(write(tmp_path / "net.mat", held), channels, layers)
    _, y = noisy(channels, 12)
    with torch.no_grad():
        torch.testing.assert_close(network(y), y - forward(y, held))
    assert not any(p.requires_grad for p in network.parameters()) and not network.training


def test_the_axes_of_filters(tmp_path: Path) -> None:
    held = filters([2, 5, 4])
    for path in (write_hdf5(tmp_path / "a.mat", held), write_matlab5(tmp_path / "b.mat", held)):
        for (weight, bias), (expected, shift) in zip(read_matconvnet(path), held, strict=True):
            assert weight[1, 0, 2, 1] == expected[2, 1, 0, 1]
            np.testing.assert_array_equal(weight.numpy(), expected.transpose(3, 2, 0, 1))
            np.testing.assert_array_equal(bias.numpy(), shift)


def normalised(channels: int, layers: int) -> nn.Sequential:
    """A DnCNN with batch normalisation in the places of Provable Plug-and-Play, statistics drawn at random."""
    torch.manual_seed(0)
    parts: list[nn.Module] = [nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.ReLU()]
    for _ in range(layers - 2):
        norm = nn.BatchNorm2d(64)
        norm.running_mean.normal_(0, 0.1), norm.running_var.uniform_(0.5, 2)
        nn.init.uniform_(norm.weight, 0.5, 1.5), nn.init.normal_(norm.bias, 0, 0.1)
        parts += [nn.Conv2d(64, 64, 3, padding=1, bias=False), norm, nn.ReLU()]
    return nn.Sequential(*parts, nn.Conv2d(64, channels, 3, padding=1, bias=False)).eval()


@pytest.mark.parametrize("spectral", [False, True])
def test_normalisation_is_merged(spectral: bool, tmp_path: Path) -> None:
    stack = normalised(1, 17)
    tensors = {f"module.dncnn.{key}": value for key, value in stack.state_dict().items()}
    for key in [key for key in tensors if key.endswith("weight") and tensors[key].ndim == 4 and spectral]:
        tensors |= {f"{key}_orig": 7 * tensors[key], f"{key}_u": torch.ones(1, len(tensors[key]), 40, 40)}
    torch.save(tensors, tmp_path / "net.pth")
    _, y = noisy(1, 16)
    with torch.no_grad():
        torch.testing.assert_close(load_dncnn(tmp_path / "net.pth", 1, 17)(y), y - stack(y), rtol=1e-4, atol=1e-5)


def sub_images(x: np.ndarray) -> np.ndarray:
    """(C, H, W) → (4C, H/2, W/2) in MATLAB's order: down the columns of each block."""
    return np.stack([image[i::2, j::2] for image in x for j in (0, 1) for i in (0, 1)])


@pytest.mark.parametrize(("channels", "layers", "features"), [(1, 15, 64), (3, 12, 96)])
def test_ffdnet_takes_the_authors_sub_images(channels: int, layers: int, features: int, tmp_path: Path) -> None:
    held = filters([4 * channels + 1, *[features] * (layers - 1), 4 * channels])
    network = load_ffdnet(write_hdf5(tmp_path / "net.mat", held, ("SubP", "concat")), channels)
    _, y = noisy(channels, 16)
    parts = sub_images(y[0].numpy())
    level = np.full((1, 8, 8), 25 / 255, dtype="f4")
    with torch.no_grad():
        expected = forward(torch.from_numpy(np.concatenate([parts, level])[None]), held)[0].numpy()
        np.testing.assert_allclose(sub_images(network(y, 25 / 255)[0].numpy()), expected, rtol=1e-4, atol=1e-5)


def test_ffdnet_repeats_the_last_row_and_column_of_odd_sizes() -> None:
    torch.manual_seed(0)
    network = FFDNet(1).eval()
    y = torch.rand(2, 1, 15, 17)
    padded = torch.cat([y, y[:, :, -1:]], 2)
    padded = torch.cat([padded, padded[..., -1:]], 3)
    with torch.no_grad():
        torch.testing.assert_close(network(y, 0.1), network(padded, 0.1)[..., :15, :17])


def test_kairs_layouts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    _, y = noisy(3, 16)
    for network, load in ((DnCNN(3, 17), lambda p: load_dncnn(p, 3, 17)), (FFDNet(3), lambda p: load_ffdnet(p, 3))):
        network.eval()
        inner, more = (network.stack, (0.1,)) if isinstance(network, FFDNet) else (network, ())
        torch.save(inner.state_dict(), tmp_path / "net.pth")
        assert list(inner.state_dict())[:3] == ["model.0.weight", "model.0.bias", "model.2.weight"]
        with torch.no_grad():
            assert torch.equal(load(tmp_path / "net.pth")(y, *more), network(y, *more))


def test_ircnns_set(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sets = {str(index): denoiser.state_dict() for index, denoiser in enumerate(IRCNNSet(1).levels)}
    torch.save(sets, tmp_path / "ircnn_gray.pth")
    network = load_ircnn(tmp_path / "ircnn_gray.pth", 1)
    found = [level(s / 255) for s in (0.5, 2, 2.01, 2.55, 4, 7.65, 49, 50, 60)]
    assert found == [0, 0, 1, 1, 1, 3, 24, 24, 24]
    dilated = [(layer.dilation, layer.padding) for layer in network.levels[3].model if isinstance(layer, nn.Conv2d)]
    assert dilated == [((d, d), (d, d)) for d in (1, 2, 3, 4, 3, 2, 1)]
    _, y = noisy(1, 20)
    weights = list(sets["3"].values())
    x = y
    with torch.no_grad():
        for i, d in enumerate((1, 2, 3, 4, 3, 2, 1)):
            x = conv2d(x.relu() if i else x, weights[2 * i], weights[2 * i + 1], 1, d, d)
        torch.testing.assert_close(network(y, 7.65 / 255), y - x)
    del sets["24"]
    torch.save(sets, tmp_path / "short.pth")
    with pytest.raises(ValueError, match=r"short\.pth: '24' is no state dict"):
        load_ircnn(tmp_path / "short.pth", 1)


def test_drunet(tmp_path: Path) -> None:
    with torch.device("meta"):
        counts = [sum(p.numel() for p in DRUNet(channels).parameters()) for channels in (1, 3)]
        names = list(DRUNet(1).state_dict())
        light = sum(p.numel() for p in DRUNet(3, blocks=2, activation=nn.Softplus).parameters())
    assert [round(count / 1e6, 2) for count in counts] == [32.64, 32.64]
    assert round(light / 1e6) == 17
    assert {"m_head.weight", "m_down1.0.res.0.weight", "m_down3.4.weight", "m_body.3.res.2.weight"} <= set(names)
    assert {"m_up3.0.weight", "m_up1.4.res.2.weight", "m_tail.weight"} <= set(names) and len(names) == 2 + 3 * 18 + 8
    torch.manual_seed(0)
    network = DRUNet(1)
    torch.save(network.state_dict(), tmp_path / "drunet_gray.pth")
    method = DRUNetMethod()
    method.setup("denoise_gray", 0.1, {"drunet_gray": tmp_path / "drunet_gray.pth"}, torch.device("cpu"))
    _, y = noisy(1, 16)
    with torch.no_grad():
        assert torch.equal(method.reconstruct(y, None, 0.1), network(y, 0.1))
        shape = method.reconstruct(y[..., :13], None, 0.1).shape
    assert shape == (1, 1, 16, 13)
    with pytest.raises(ValueError, match=r"m_head\.weight has the shape \(64, 2, 3, 3\), expected \(64, 4, 3, 3\)"):
        load_drunet(tmp_path / "drunet_gray.pth", 3)


@pytest.mark.parametrize("size", [(64, 72), (130, 141), (321, 199), (40, 50), (70, 9)])
def test_parts_are_put_together_as_they_were(size: tuple[int, int]) -> None:
    seen = []

    def local(x: Tensor) -> Tensor:  # a denoiser whose receptive field is one pixel
        seen.append(tuple(x.shape[-2:]))
        return 2 * x + 1

    x = torch.rand(2, 3, *size)
    torch.testing.assert_close(in_four(local, x), 2 * x + 1)
    assert all(h % 8 == 0 and w % 8 == 0 for h, w in seen)
    if size == (321, 199):
        assert seen == 4 * [(192, 128)]
    torch.testing.assert_close(split(local, x, side=64), 2 * x + 1)
    assert all(h % 8 == 0 and w % 8 == 0 for h, w in seen)


def small() -> DRUNet:
    torch.manual_seed(1)
    return DRUNet(3, blocks=1, activation=nn.Softplus, widths=(4, 4, 6, 8))


def test_the_gradient_step_is_one() -> None:
    """D(x) = x − ∇g(x): against finite differences of g, in float64."""
    denoiser = GradientStep(small()).double()
    x, direction = torch.rand(2, 2, 3, 8, 16, dtype=torch.float64)
    with torch.no_grad():
        step = 1e-6 * direction
        slope = (denoiser(x + step, 0.1)[1] - denoiser(x - step, 0.1)[1]) / 2e-6
        gradient = x - denoiser(x, 0.1)[0]
    torch.testing.assert_close((gradient * direction).sum((1, 2, 3)), slope, rtol=1e-6, atol=0)
    assert not x.requires_grad


def lightning(path: Path, tensors: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint as Lightning writes them: hyper-parameters and callbacks of its own classes beside the weights."""
    module = types.ModuleType("pytorch_lightning.utilities.parsing")
    module.AttributeDict = type("AttributeDict", (dict,), {"__module__": module.__name__})
    with monkeypatch.context() as patch:
        for name in ("pytorch_lightning", "pytorch_lightning.utilities"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        hyper = module.AttributeDict(act_mode="s", DRUNET_nb=2, sigma_list_test=[0, 15, 25])
        torch.save({"epoch": 14, "state_dict": tensors, "hyper_parameters": hyper, "callbacks": {}}, path)
    return path


def test_prox_drunets_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = DRUNet(3, blocks=2, activation=nn.Softplus)
    tensors = OrderedDict((f"student_grad.model.{key}", value) for key, value in network.state_dict().items())
    found = load_prox_drunet(lightning(tmp_path / "Prox-DRUNet.ckpt", tensors, monkeypatch))
    x = torch.rand(1, 3, 16, 16)
    denoised, potential = found(x, 0.1)
    with torch.no_grad():
        assert potential.item() == pytest.approx(0.5 * (x - network(x, 0.1)).square().sum().item(), rel=1e-5)
    assert (denoised.shape, denoised.dtype) == (x.shape, torch.float32)
    del tensors["student_grad.model.m_tail.weight"]
    with pytest.raises(ValueError, match=r"bad\.ckpt: m_tail\.weight is missing"):
        load_prox_drunet(lightning(tmp_path / "bad.ckpt", tensors, monkeypatch))


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    path, victim = tmp_path / "hostile.pth", tmp_path / "victim"
    torch.save({"state_dict": {"m_head.weight": torch.zeros(1)}, "hyper_parameters": Hostile(victim)}, path)
    with pytest.raises(ValueError, match=r"hostile\.pth cannot be read .* objects other than tensors"):
        read_pth(path)
    assert not victim.exists()


def test_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    def refused(pattern: str, load=lambda path: load_dncnn(path, 1, 17)) -> None:
        with pytest.raises(ValueError, match=pattern) as raised:
            load(path)
        assert path.name in str(raised.value) and "\n" not in str(raised.value)

    path = tmp_path / "absent.pth"
    refused("no such file")
    path = tmp_path / "absent.mat"
    refused("no such file")
    path = tmp_path / "text.pth"
    path.write_text("<html>not found</html>")
    refused("cannot be read as PyTorch weights")
    path = tmp_path / "text.mat"
    path.write_text("<html>not found</html>")
    refused(r"no MatConvNet network net\.layers")
    path = tmp_path / "list.pth"
    torch.save([torch.zeros(1)], path)
    refused("holds a list, expected a dictionary")
    path = tmp_path / "number.pth"
    torch.save({"model.0.weight": 3}, path)
    refused(r"model\.0\.weight is a int, expected a tensor")
    path = tmp_path / "short.mat"
    write_hdf5(path, filters([1, *[64] * 9, 1]))
    refused(r"model\.18\.weight has the shape \(1, 64, 3, 3\), expected \(64, 64, 3, 3\)")
    path = tmp_path / "long.mat"
    write_hdf5(path, filters([1, *[64] * 17, 1]))
    refused(r"model\.32\.weight has the shape")
    path = tmp_path / "nan.mat"
    held = filters([1, *[64] * 16, 1])
    held[3][1][5] = np.nan
    write_hdf5(path, held)
    refused(r"model\.6\.bias contains NaN")
    path = tmp_path / "bnorm.mat"
    write_hdf5(path, held, ("bnorm",))
    refused("layer 0 is a batch normalisation")
    path = tmp_path / "more.pth"
    torch.save(DnCNN(1, 17).state_dict() | {"model.99.weight": torch.zeros(1)}, path)
    refused(r"model\.99\.weight has no place in DnCNN")
    refused("begins with 'student_grad", lambda path: read_state_dict(path, "student_grad.model."))


def real(mirror: Path, name: str) -> Path:
    (file,) = datasets.get(name).files
    return file.path(mirror)


def test_the_same_network_in_two_formats(mirror: Path) -> None:
    """KAIR's dncnn_25.pth is the authors' sigma=25.mat."""
    ours, theirs = load_dncnn(real(mirror, "dncnn_gray_25"), 1, 17), load_dncnn(mirror / KAIR, 1, 17)
    for key, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[key], rtol=1e-5, atol=1e-7)


def crop(mirror: Path, task: str) -> Tensor:
    """48×48 pixels of a real image, (1, C, 48, 48)."""
    name, channels = ("bsd68", 1) if task == "denoise_gray" else ("cbsd68", 3)
    with Image.open(datasets.get(name).files[2].path(mirror)) as image:
        pixels = np.asarray(image).reshape(*image.size[::-1], channels)[100:148, 150:198]
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]


@pytest.mark.parametrize("kind", [DnCNNMethod, FFDNetMethod])
@pytest.mark.parametrize("task", ["denoise_gray", "denoise_color"])
@pytest.mark.parametrize("sigma_255", [5, 15, 25])
def test_denoising_with_the_published_weights(kind, task: str, sigma_255: int, mirror: Path) -> None:
    method, sigma = kind(), sigma_255 / 255
    if method.unavailable(task, sigma):
        assert (kind, task, sigma_255) == (DnCNNMethod, "denoise_gray", 5)
        return
    method.setup(task, sigma, {n: real(mirror, n) for n in method.weights_for(task, sigma)}, torch.device("cpu"))
    x = crop(mirror, task)
    y = x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        z = method.reconstruct(y, None, sigma)
        both = method.reconstruct(torch.cat([y, y.flip(2)]), None, sigma)
        assert torch.equal(z, method.reconstruct(y, None, sigma))
        torch.testing.assert_close(both[1:], method.reconstruct(y.flip(2), None, sigma), atol=1e-5, rtol=0)
    assert (z.shape, z.dtype) == (x.shape, torch.float32)
    gain = 10 * torch.log10((y - x).square().mean() / (z - x).square().mean())
    assert gain > {5: 2, 15: 5, 25: 6}[sigma_255]


def test_a_noise_level_without_a_network_is_missing_and_says_so(tmp_path: Path) -> None:
    values = Config().model_dump() | {"results": str(tmp_path / "results"), "cache": str(tmp_path / "cache")}
    values["tasks"]["denoise_gray"] |= {"dataset": "embedded_gray", "crop": 24}
    output = tmp_path / "dncnn.csv"
    evaluate.evaluate(Config.model_validate(values), "denoise_gray", "sigma5", "dncnn", output)
    assert len(output.read_text().splitlines()) == 1
    assert "DnCNN has no gray network for σ = 5" in output.with_suffix(".json").read_text(encoding="utf-8")
    assert not (tmp_path / "cache").exists()


def test_a_share_link_is_cached_under_the_files_name() -> None:
    (file,) = datasets.get("prox_drunet").files
    assert file.url.endswith("/?dl=1")
    assert file.location == "plmbox.math.cnrs.fr/f/faf7d62213e449fa9c8a/Prox-DRUNet.ckpt"


def test_stacks_keep_their_input() -> None:
    stack, x = ConvStack([1, 4, 1]), torch.rand(1, 1, 9, 9)
    kept = x.clone()
    with torch.no_grad():
        stack(x)
    assert torch.equal(x, kept)
