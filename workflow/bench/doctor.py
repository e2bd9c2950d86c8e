"""Whether this machine can run the benchmark: its packages, its tools, its data, and room for what is missing."""

import importlib.metadata
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import datasets, registry
from bench.config import Config, is_deal
from bench.devices import cuda_devices
from bench.plan import Plan

PACKAGES = {
    "snakemake": "the workflow",
    "pandas": "tables",
    "pydantic": "the configuration",
    "pyyaml": "the configuration",
    "requests": "downloads",
    "scikit-image": "SSIM, the demo's photographs",
    "scipy": "blur kernels",
    "scikit-learn": "EPLL's prior",
    "bm3d": "BM3D and CBM3D",
    "fastmri": "masks of raw MRI files",
    "sigpy": "sensitivities of raw MRI files",
    "matplotlib": "figures",
}
Finding = tuple[str, str]
"""One of ok, warn, FAIL, and what was found; after " → " what to do."""


def examine(config: Config, say: Callable[[str], None] = print) -> int:
    """Say what was found; returns how many things keep the benchmark from running."""
    failed = 0
    for check in (packages, archives, computing, data):
        for state, text in check(config):
            failed += state == "FAIL"
            say(f"{state:4}  {text}")
    say("all well" if not failed else f"{failed} thing{'s' if failed > 1 else ''} to mend")
    say("the method itself: deal doctor")
    return failed


def packages(config: Config) -> Iterator[Finding]:
    """What the extra `bench` brings."""
    found = []
    for name, purpose in PACKAGES.items():
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            yield "FAIL", f"{name} ({purpose}) is missing → make env"
    if found:
        yield "ok", ", ".join(found)


def archives(config: Config) -> Iterator[Finding]:
    """A program that unpacks RAR, where an archive needs it."""
    wanted = [n for n in Plan(config).datasets() if any(f.name.endswith(".rar") for f in datasets.get(n).files)]
    tool = next((tool for tool in ("bsdtar", "unrar", "7z") if shutil.which(tool)), None)
    if wanted and tool is None:
        yield "FAIL", f"{', '.join(wanted)} comes as RAR → install bsdtar (libarchive-tools), unrar or 7z"


def computing(config: Config) -> Iterator[Finding]:
    """Whether the configuration asks for a GPU that is not there."""
    devices = cuda_devices()
    if devices:
        yield (
            "ok",
            f"{devices} CUDA device{'s' if devices > 1 else ''}; python -m bench cuda says what torch sees",
        )
    elif config.device == "cuda":
        yield "FAIL", "device is cuda, but there is no CUDA device → device=cpu"
    elif config.weights == "train" and config.device == "auto":
        yield "warn", "no CUDA device, and weights are to be trained → weights=released or weights=official"
    else:
        yield "warn", "no CUDA device: the processor computes"


def data(config: Config) -> Iterator[Finding]:
    """Data sets of the configuration and weights of its methods: in the cache, in the mirror, or to be downloaded."""
    cache, mirror = Path(config.cache), config.mirror_in_use()
    if mirror and "://" not in mirror and not Path(mirror).is_dir():
        yield "FAIL", f"the mirror {mirror} is no folder → mend DEAL_MIRROR or the key mirror"
        mirror = None
    missing_bytes, lacking = 0, []
    for name in wanted(config):
        dataset = datasets.get(name)
        absent = [file for file in dataset.files if not _is_there(file, cache, mirror)]
        count = len(dataset.files)
        if not absent:
            yield "ok", f"{name}: {count} file{'s' if count > 1 else ''}"
            continue
        if dataset.local:
            again = f"python -m bench register FOLDER --name {name}"
            yield "FAIL", f"{name}: {len(absent)} of {count} files are neither in the cache nor in a mirror → {again}"
            continue
        size = sum(file.bytes or 0 for file in absent)
        missing_bytes += size
        known = f"{size / 1e6:.1f} MB" if all(file.bytes for file in absent) else "size unknown"
        lacking.append(name)
        yield "warn", f"{name}: {len(absent)} of {count} files to download ({known}) from {dataset.source}"
    yield from _mri(config)
    if lacking:
        yield (
            "warn",
            f"to download all that is missing → snakemake --cores 2 data   (one: python -m bench fetch {lacking[0]})",
        )
    place = next(folder for folder in (cache.absolute(), *cache.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    text = f"{free / 2**30:.1f} GB of disk free for the cache {cache}"
    enough = free > 3 * missing_bytes + 2**30  # archives are kept beside what was unpacked from them
    yield (
        ("ok", text) if enough else ("FAIL", f"{text}; {missing_bytes / 2**30:.1f} GB are to be downloaded → make room")
    )
    if not os.access(place, os.W_OK):
        yield "FAIL", f"{place} cannot be written to → set the key cache to another folder"


def _mri(config: Config) -> Iterator[Finding]:
    """The prepared MRI samples, and what they are made from."""
    section = config.tasks.mri
    if Path(section.samples(config.cache)).is_file():
        yield "ok", f"MRI samples from the source {section.source}"
    elif section.source == "phantom":
        yield "ok", "MRI samples are made when they are needed (phantom)"
    elif section.path is not None and not Path(section.path).is_dir():
        yield (
            "FAIL",
            f"tasks.mri.path is {section.path}, which is no folder → name the folder of the {section.source} data",
        )
    elif section.path is not None or section.source == "zenodo":
        where = section.path or "a record of many GB, which is downloaded first"
        yield "warn", f"MRI samples are not prepared yet, from {where} → snakemake --cores 2 mri_samples"
    else:
        yield "FAIL", "tasks.mri.source is fastmri, but path is null → set tasks.mri.path, or source to phantom"


def wanted(config: Config) -> list[str]:
    """Names in the data registry that the configuration's tasks, training and methods use."""
    names, known = Plan(config).datasets(), datasets.registry()
    for method in config.methods:
        if not registry.entry(method).needs_weights or is_deal(method) or method == "epll":
            continue
        instance = registry.create(method, config)
        for task in type(config.tasks).model_fields:
            if registry.entry(method).serves(task):
                section = config.task(task)
                names += [n for s in section.settings() for n in instance.weights_for(task, section.sigma(s))]
    names += ["deal_official"] if config.weights == "official" else []
    names += ["bsd400"] if "epll" in config.methods else []  # its prior is trained here
    return [name for name in dict.fromkeys(names) if name in known]


def _is_there(file, cache: Path, mirror: str | None) -> bool:
    """Whether a file is embedded, cached with the right size, or in a mirror folder."""
    if file.embedded:
        return True
    places = [cache, *([Path(mirror)] if mirror and "://" not in mirror else [])]
    paths = [place / file.location for place in places]
    return any(path.is_file() and file.bytes in (None, path.stat().st_size) for path in paths)
