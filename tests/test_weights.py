"""Weights files: formats, round trips, and what must be refused."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import deal
from deal import weights

GOLDEN = Path(__file__).parent / "golden" / "random_gray.pth"


@pytest.fixture(params=["gray", "color"])
def model(request):
    torch.manual_seed(3)
    return deal.DEAL(request.param)


def same(a, b):
    assert a.state_dict().keys() == b.state_dict().keys()
    assert all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_safetensors_round_trip(model, tmp_path):
    weights.save(model, tmp_path / "w.safetensors", {"steps": 7})
    same(model, deal.load(tmp_path / "w.safetensors"))
    block = weights.metadata(tmp_path / "w.safetensors")
    assert block["kind"] == model.kind and block["steps"] == 7
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_official_layout_round_trip(model, tmp_path):
    weights.write_official(model, tmp_path / "w.pth")
    same(model, deal.load(tmp_path / "w.pth"))


def test_official_layout_names_and_shapes(model, tmp_path):
    """protocol: the authors' state dict, key by key."""
    weights.write_official(model, tmp_path / "w.pth")
    shapes = {k: tuple(v.shape) for k, v in torch.load(tmp_path / "w.pth", weights_only=True)["state_dict"].items()}
    c, a, b = (1, 4, 8) if model.kind == "gray" else (3, 12, 24)
    expected = {
        **{f"{block}.conv_layers.0.parametrizations.weight.original": (a, c, 9, 9) for block in ("W1", "M1")},
        **{f"{block}.conv_layers.1.weight": (b, a, 9, 9) for block in ("W1", "M1")},
        **{f"{block}.conv_layers.2.weight": (128, b, 9, 9) for block in ("W1", "M1")},
        **{f"{block}.weight": (128, 128, 3, 3) for block in ("M2", "M3")},
        **{f"spline{i}.coefficients": (1, 31) for i in (1, 2, 3)},
        "spline_lambda.coefficients": (1, 53),
        "spline_scaling.coefficients": (128, 14),
        **{f"spline{i}.D2_filter": (1, 1, 3) for i in (1, 2, 3, "_lambda", "_scaling")},
    }
    assert shapes == expected


def test_conversion_keeps_every_value_and_names_its_source(tmp_path):
    weights.convert_official(GOLDEN, tmp_path / "gray.safetensors")
    same(deal.load(GOLDEN), deal.load(tmp_path / "gray.safetensors"))
    assert weights.metadata(tmp_path / "gray.safetensors")["source_sha256"] == weights.sha256(GOLDEN)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_a_pickle_cannot_run_code(tmp_path, writer):
    victim, bad = tmp_path / "victim", tmp_path / "bad.pth"
    content = {"state_dict": Hostile(victim)}
    if writer == "torch":
        torch.save(content, bad)
    else:
        bad.write_bytes(pickle.dumps(content))
    with pytest.raises(deal.WeightsError, match=r"bad\.pth: (refused|not a readable)"):
        deal.load(bad)
    assert not victim.exists()
    pickle.loads(pickle.dumps(Hostile(victim)))
    assert victim.exists(), "the file would have run code, had it been trusted"


def corrupt(tmp_path, name, change):
    state = weights.read_official(GOLDEN)
    path = tmp_path / name
    change(state)
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("M2.weight"), "'M2.weight' is missing"),
        (lambda s: s.update(extra=torch.zeros(1)), "'extra' is unknown"),
        (lambda s: s.update({"M2.weight": torch.zeros(2, 2)}), r"M2.weight is \(2, 2\), expected \(128, 128, 3, 3\)"),
        (lambda s: s["M3.weight"].fill_(float("nan")), "M3.weight contains NaN"),
        (lambda s: s.pop("W.weights.0"), "not weights of DEAL"),
    ],
)
def test_wrong_content_is_named(tmp_path, change, message):
    with pytest.raises(deal.WeightsError, match=message):
        deal.load(corrupt(tmp_path, "w.safetensors", change))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x80\x02}q\x00."])
def test_files_that_are_no_weights(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(deal.WeightsError, match=name):
        deal.load(tmp_path / name)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.99])
def test_truncated_files(tmp_path, fraction):
    data = GOLDEN.read_bytes()
    (tmp_path / "w.pth").write_bytes(data[: int(fraction * len(data))])
    weights.save(deal.load(GOLDEN), tmp_path / "whole.safetensors")
    data = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(data[: int(fraction * len(data))])
    for name in ("w.pth", "w.safetensors"):
        with pytest.raises(deal.WeightsError, match=name):
            deal.load(tmp_path / name)


KEY = "W1.conv_layers.0.parametrizations.weight.original"
COMPLAINTS = {  # of what `malformed` makes
    "text": "not a readable torch checkpoint",
    "empty": "not a readable torch checkpoint",
    "zip cut off": "not a readable torch checkpoint",
    "pickled list": "refused, it holds other objects than tensors or is broken",
    "a list": "no 'state_dict' entry",
    "state dict is a list": "no 'state_dict' entry",
    "missing key": "lacks 1 of 13 keys, first 'M2.weight'",
    "key is a number": "unknown key 3",
    "scalar": r"W.weights.0 is \(\), expected",
    "vector": r"W.weights.0 is \(4,\), expected",
    "other shape": r"M2.weight is \(2, 2\), expected \(128, 128, 3, 3\)",
    "no tensors": "is a float, expected a tensor",
    "sparse": "'M2.weight' is not an ordinary tensor of real numbers",
    "without data": "'M2.weight' is not an ordinary tensor of real numbers",
    "quantised": "'M2.weight' is not an ordinary tensor of real numbers",
    "complex": "'M2.weight' is not an ordinary tensor of real numbers",
    "too large": "M2.weight contains NaN or infinite values",
    "folder": "a folder, not a file",
}


def malformed(kind, path):
    """Something that is no checkpoint of the authors."""
    state = torch.load(GOLDEN, weights_only=True)["state_dict"]
    weight = state["M2.weight"]
    raw = {"text": b"hello world\n", "empty": b"", "zip cut off": GOLDEN.read_bytes()[:5000]}
    raw["pickled list"] = pickle.dumps([1, 2])
    contents = {
        "a list": lambda: [1, 2],
        "state dict is a list": lambda: {"state_dict": [weight]},
        "missing key": lambda: {"state_dict": {k: v for k, v in state.items() if k != "M2.weight"}},
        "key is a number": lambda: {"state_dict": {**state, 3: weight}},
        "scalar": lambda: {"state_dict": {**state, KEY: torch.tensor(1.0)}},
        "vector": lambda: {"state_dict": {**state, KEY: torch.zeros(4)}},
        "no tensors": lambda: {"state_dict": dict.fromkeys(state, 1.0)},
    }
    weights_of = {
        "other shape": lambda: torch.zeros(2, 2),
        "sparse": lambda: weight.to_sparse(),
        "without data": lambda: weight.to("meta"),
        "quantised": lambda: torch.ops.aten.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "complex": lambda: weight.to(torch.complex64),
        "too large": lambda: weight.double().clamp(min=0.1) * 1e300,
    }
    if kind == "folder":
        path.mkdir()
    elif kind in raw:
        path.write_bytes(raw[kind])
    elif kind in contents:
        torch.save(contents[kind](), path)
    else:
        torch.save({"state_dict": {**state, "M2.weight": weights_of[kind]()}}, path)


@pytest.mark.filterwarnings("ignore:.*quantize")
@pytest.mark.parametrize("kind", COMPLAINTS)
def test_malformed_checkpoints_are_one_line(kind, tmp_path):
    path = tmp_path / "w.pth"
    malformed(kind, path)
    with pytest.raises(deal.WeightsError, match=COMPLAINTS[kind]) as caught:
        deal.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert message.endswith(
        ("; give a path, 'gray' or 'color'", "; give a file of deal.save, or a checkpoint (.pth) of the authors")
    )


def test_missing_file():
    with pytest.raises(deal.WeightsError, match=r"nowhere\.pth: no such file"):
        deal.load("nowhere.pth")


def test_checkpoint_of_something_else(tmp_path):
    torch.save({"state_dict": {"layer.weight": torch.zeros(2)}}, tmp_path / "w.pth")
    with pytest.raises(deal.WeightsError, match="lacks 13 of 13 keys"):
        deal.load(tmp_path / "w.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(deal.WeightsError, match="no 'state_dict'"):
        deal.load(tmp_path / "list.pth")


def test_a_failed_save_leaves_nothing(tmp_path, monkeypatch):
    def fail(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(weights, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        weights.save(deal.DEAL("gray"), tmp_path / "w.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["gray", "color"])
def test_released_weights(kind):
    """Shipped weights load, say where they come from, and keep the constraints of the architecture."""
    path = weights.RELEASED / f"{kind}.safetensors"
    model, block = deal.load(kind), weights.metadata(path)
    assert block["kind"] == kind and block["steps"] > 0 and block["training"]["phases"]
    assert load_file(path).keys() == model.state_dict().keys()
    for phi in (model.phi1, model.phi2):
        assert (phi.values().diff() >= -1e-6).all()
    assert (model.lmbda(torch.arange(1, 51) / 255) > 0).all()


VARIANT = {"filters": 6, "kernel_size": 5, "non_decreasing": False}


@pytest.mark.parametrize("kind", ["gray", "color"])
def test_another_architecture_is_recorded_and_built_again(kind, tmp_path):
    model, path = deal.DEAL(kind, **VARIANT), tmp_path / "w.safetensors"
    weights.save(model, path, {"steps": 7})
    loaded = deal.load(path)
    same(model, loaded)
    assert loaded.architecture == model.architecture and not loaded.phi1.non_decreasing
    assert weights.describe(path)["architecture"] == VARIANT
    weights.save(loaded, path, weights.metadata(path))  # its own metadata are no contradiction
    assert deal.load(path).architecture == model.architecture and weights.metadata(path)["steps"] == 7
    with pytest.raises(ValueError, match=r"no place for a model with 6 filters, 5×5 kernels, unconstrained"):
        weights.write_official(model, tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("key", "value"), [("kind", "color"), ("kind", None), ("format", "other"), ("architecture", VARIANT)]
)
def test_metadata_cannot_contradict_the_model(key, value, tmp_path):
    path = tmp_path / "folder" / "w.safetensors"
    with pytest.raises(ValueError, match=f"^metadata: '{key}' is .*, but deal.save writes the model's; leave it out$"):
        deal.save(deal.DEAL("gray"), path, metadata={"steps": 7, key: value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"filters": 8}, r"M2.weight is \(6, 6, 3, 3\), expected \(8, 8, 3, 3\) of a model with 8 filters"),
        ({"filters": "many"}, "unknown architecture .filters must be a positive whole number, not 'many'"),
        ({"kernel_size": 4}, "unknown architecture .kernel_size must be odd"),
        ({"layers": 4}, "unknown architecture .*unexpected keyword argument 'layers'"),
        (7, "unknown architecture"),
    ],
)
def test_an_architecture_that_does_not_fit_is_one_line(named, message, tmp_path):
    path = tmp_path / "w.safetensors"
    weights.save(deal.DEAL("gray", **VARIANT), path)
    block = weights.metadata(path)
    block["architecture"] = {**VARIANT, **named} if isinstance(named, dict) else named
    save_file(load_file(path), path, metadata={"deal": json.dumps(block)})
    with pytest.raises(deal.WeightsError, match=message) as caught:
        deal.load(path)
    assert "\n" not in str(caught.value)


def test_entries_that_are_no_tensors_and_metadata_that_are_no_table(tmp_path):
    content = torch.load(GOLDEN, weights_only=True)
    key = next(iter(content["state_dict"]))
    content["state_dict"][key] = "text"
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(deal.WeightsError, match=rf"w\.pth: {key} is a str, expected a tensor"):
        deal.load(tmp_path / "w.pth")
    state = deal.load(GOLDEN).state_dict()
    save_file(state, tmp_path / "w.safetensors", metadata={"deal": "[]"})
    with pytest.raises(deal.WeightsError, match="its metadata are a list"):
        deal.load(tmp_path / "w.safetensors")


def test_converting_onto_the_source_is_refused(tmp_path):
    source = tmp_path / "w.pth"
    source.write_bytes(GOLDEN.read_bytes())
    with pytest.raises(deal.WeightsError, match=r"w\.pth: the file to write is a \.safetensors"):
        weights.convert_official(source, source)
    assert source.read_bytes() == GOLDEN.read_bytes()
