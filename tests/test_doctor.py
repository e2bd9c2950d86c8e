"""`deal doctor` and `python -m bench doctor`: what they find missing, and what they return."""

import importlib.metadata
import shutil

import pytest

import deal.weights
from bench import __main__ as bench_command
from bench import doctor as bench_doctor
from bench.config import Config
from bench.configfile import load
from deal.cli import doctor, machine, main


def states(check) -> list[str]:
    return [state for state, _ in check()]


def test_all_is_well_here(capsys):
    assert main(["doctor", "--no-solve"]) == 0
    said = capsys.readouterr().out
    assert "all well" in said and "FAIL" not in said and "weights gray.safetensors, sha256" in said
    assert "python -m bench doctor" in said


def test_the_test_reconstruction():
    ((state, text),) = list(doctor.reconstruction())[:1]
    assert state == "ok" and "converged" in text and " dB in " in text


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The released weights in a folder that may be harmed."""
    shutil.copytree(deal.weights.RELEASED, tmp_path / "released")
    monkeypatch.setattr(deal.weights, "RELEASED", tmp_path / "released")
    return tmp_path / "released"


def test_harmed_weights_are_found(copied, capsys):
    assert set(states(doctor.weights)) == {"ok"}
    content = bytearray((copied / "gray.safetensors").read_bytes())
    content[-1] ^= 1
    (copied / "gray.safetensors").write_bytes(content)
    (copied / "color.safetensors").unlink()
    found = dict(zip(("color", "gray"), doctor.weights(), strict=True))
    assert found["color"][0] == "FAIL" and "is missing → git checkout" in found["color"][1]
    assert found["gray"][0] == "FAIL" and "its sha256 is" in found["gray"][1]
    assert main(["doctor", "--no-solve"]) == 1 and "2 things to mend" in capsys.readouterr().out


def test_weights_without_their_hashes_are_not_trusted(copied):
    (copied / "SHA256SUMS").unlink()
    assert states(doctor.weights) == ["FAIL"]


def test_the_hashes_are_those_of_the_released_files():
    lines = (deal.weights.RELEASED / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in map(str.split, lines)}
    files = sorted(deal.weights.RELEASED.glob("*.safetensors"))
    assert sums == {path.name: deal.weights.sha256(path) for path in files}


def test_missing_and_old_packages_are_found(monkeypatch):
    def version(name):
        if name == "h5py":
            raise importlib.metadata.PackageNotFoundError(name)
        return {"torch": "1.13.1"}.get(name, "99.0")

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = [text for state, text in doctor.packages() if state == "FAIL"]
    assert any(text.startswith("h5py is missing → pip install") for text in found)
    assert any(text.startswith("torch 1.13.1 is too old → pip install 'torch>=2.4'") for text in found)
    assert len(found) == 2


def test_the_minimum_versions_are_those_of_the_package():
    for requirement in importlib.metadata.requires("deal-bench"):
        if "extra" not in requirement:
            name, _, least = requirement.partition(">=")
            assert doctor.MINIMUM[name] == tuple(map(int, least.split("."))) + (0,) * (2 - len(least.split(".")))


def test_little_memory_and_disk_are_found(monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
    assert states(doctor.memory) == ["FAIL"] and states(doctor.disk)[:2] == ["FAIL", "FAIL"]


def test_a_broken_installation_is_a_finding(capsys):
    def broken():
        raise RuntimeError("operator x does not exist")
        yield

    assert doctor.show([broken]) == 1
    assert capsys.readouterr().out.startswith("FAIL  broken: RuntimeError: operator x does not exist")


def config(tmp_path, **keys) -> Config:
    """The paper's configuration with the released weights, few methods and an empty cache."""
    few = {
        "device": "cpu",
        "weights": "released",
        "methods": ["truth", "dncnn", "deal"],
        "cache": str(tmp_path / "data"),
    }
    return load([str(bench_command.ROOT / "config.yaml")]).model_copy(update={**few, **keys})


def test_missing_data_and_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("DEAL_MIRROR", raising=False)
    found = list(bench_doctor.data(config(tmp_path)))
    text = "\n".join(f"{state} {line}" for state, line in found)
    assert "warn bsd68: 68 of 68 files to download" in text and "warn dncnn_gray_15: 1 of 1 files" in text
    assert "→ snakemake --cores 2 data" in text and "python -m bench fetch" in text
    assert "MRI samples are not prepared yet" in text
    assert not (tmp_path / "data").exists()


def test_data_of_a_mirror_are_there(tmp_path, mirror):
    found = list(bench_doctor.data(config(tmp_path, mirror=str(mirror))))
    assert ("ok", "bsd68: 68 files") in found and ("ok", "set3_gray: 3 files") in found


def test_what_keeps_the_benchmark_from_running(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr(bench_doctor, "cuda_devices", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    training = config(tmp_path).training
    training = training.model_copy(update={"gray": training.gray.model_copy(update={"datasets": ["waterloo"]})})
    asked = config(tmp_path, device="cuda", mirror=str(tmp_path / "nowhere"), training=training)
    assert bench_doctor.examine(asked, lines.append) == 3
    text = "\n".join(lines)
    assert "device is cuda, but there is no CUDA device" in text and "is no folder → mend DEAL_MIRROR" in text
    assert "waterloo comes as RAR" in text and "3 things to mend" in text


def test_the_verb_returns_the_status(monkeypatch):
    seen = []
    monkeypatch.setattr(bench_doctor, "examine", lambda config: seen.append(config) or 1)
    path = str(bench_command.ROOT / "workflow" / "config" / "demo.yaml")
    assert bench_command.main(["doctor", "--config", str(bench_command.ROOT / "config.yaml"), path]) == 1
    assert seen[0].weights == "released"
