"""What `bench.tables` is asked to show: columns and rows, and what they answer to in the paper."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import registry
from bench.config import LEVIN_SIZES, Config, Deblur, Denoise, Mri, Superres, TimingTable, is_deal
from bench.conventions import CONVENTIONS
from bench.errors import UserError

PAPER_ROWS = {("table3", "measurement"): "Zero-fill"}
"""(table, method) → the paper's name of a row, where it is not the method's label."""
SET3 = {"01": ("C.man", "cameraman"), "02": ("House", "house"), "05": ("Monarch", "monarch")}
"""Image of Set12 → its heading in Table 5, its name in paper_values.csv."""

OWN_WEIGHTS = "with weights of this project's own training, not the authors'"
ABLATED_TASK = "denoise_gray"


def results(config: Config, table: str) -> list[tuple[str, str, str]]:
    """The (task, setting, method) whose results `table` shows."""
    section = _section(config, table)
    return [
        (task, setting, method)
        for task in section.tasks
        for setting in config.task(task).settings()
        for method in _methods(config, section)
        if registry.entry(method).serves(task)
    ]


def layout(config: Config, table: str) -> dict[str, Any]:
    """The layout of `table` for `bench.tables.build`."""
    section = _section(config, table)
    remarks = [REMARKS[found.source] for task in section.tasks if isinstance(found := config.task(task), Mri)]
    columns = [column for task in section.tasks for column in _columns(task, config)]
    convention = "; ".join(dict.fromkeys([*(CONVENTIONS[t].text for t in section.tasks), *filter(None, remarks)]))
    if all("image" in column for column in columns):
        convention = convention.removeprefix(CONVENTIONS[section.tasks[0]].mean).removeprefix(", ")
    return {
        "table": table,
        "caption": section.caption,
        "convention": convention,
        "tolerance": section.tolerance,
        "columns": columns,
        "methods": [
            {
                "name": entry.name,
                "label": entry.label,
                "paper": PAPER_ROWS.get((table, entry.name), None if entry.oracle else entry.label),
                "oracle": entry.oracle,
                "tasks": None if "*" in entry.tasks else list(entry.tasks),
                "tunes": [task for task in section.tasks if entry.serves(task) and entry.tunes(task)],
                "remarks": _remarks(entry, section.tasks, config),
            }
            for entry in map(registry.entry, _methods(config, section))
        ],
    }


def _remarks(entry: registry.Entry, tasks: list[str], config: Config) -> list[tuple[str, str]]:
    """(task, what makes the method's rows another experiment than the paper's)."""
    if is_deal(entry.name):
        return [(task, OWN_WEIGHTS) for task in tasks if config.weights in ("train", "released")]
    return [(task, text) for task, text in entry.remarks if task in tasks]


def ablation_results(config: Config) -> dict[tuple[str, str, str], Path]:
    """(task, setting, variant) → the evaluation that the table of ablations shows."""
    return {
        (ABLATED_TASK, setting, name): Path(config.ablated(name).results, "evaluate", ABLATED_TASK, setting, "deal.csv")
        for name in config.ablations.names
        for setting in config.task(ABLATED_TASK).settings()
    }


def ablations(config: Config) -> dict[str, Any]:
    """The layout of the table of ablations: a row a variant."""
    return {
        "table": "ablations",
        "caption": config.ablations.caption,
        "convention": CONVENTIONS[ABLATED_TASK].text,
        "tolerance": None,
        "columns": _columns(ABLATED_TASK, config),
        "methods": [{"name": name, "label": name} for name in config.ablations.names],
    }


def is_timing(config: Config, table: str) -> bool:
    """Whether `table` shows times."""
    return isinstance(_section(config, table), TimingTable)


def timing_layout(config: Config, table: str) -> dict[str, Any]:
    """The layout of a table of times for `bench.timing_table.build`."""
    section = _section(config, table)
    entries = map(registry.entry, _methods(config, section))
    return {
        "table": table,
        "caption": section.caption,
        "columns": [column for task in section.tasks for column in _columns(task, config)],
        "methods": [
            {
                "name": entry.name,
                "label": entry.label,
                "paper": entry.label,
                "tasks": None if "*" in entry.tasks else list(entry.tasks),
            }
            for entry in entries
        ],
    }


def _section(config: Config, table: str) -> Any:
    known = type(config.tables).model_fields
    if table not in known:
        raise UserError(f"unknown table '{table}'; there are {', '.join(known)}")
    return getattr(config.tables, table)


def _methods(config: Config, section: Any) -> list[str]:
    """The rows of a table."""
    serving = [m for m in config.methods if any(registry.entry(m).serves(task) for task in section.tasks)]
    if isinstance(section, TimingTable):
        serving = [m for m in serving if not registry.entry(m).oracle]
    return section.methods or serving


def _columns(task: str, config: Config) -> list[dict[str, Any]]:
    """The columns of one task; `dataset` is the paper's, with what else differs from the paper's experiment."""
    section = config.task(task)
    describe = next(function for kind, function in COLUMNS.items() if isinstance(section, kind))
    shared = {"task": task, "variants": CONVENTIONS[task].variants, "tuned": config.tuned(task)}
    return [shared | column for column in describe(task, section)]


def _denoise(task: str, section: Denoise) -> Iterator[dict[str, Any]]:
    """A column a noise level."""
    heading, ours, dataset, crop = {
        "denoise_gray": ("Gray", "gray", "bsd68", None),
        "denoise_color": ("Colour", "color", "cbsd68", 256),
    }[task]
    same = section.dataset == dataset
    if same and section.crop != crop:
        dataset = f"{dataset} ({'whole images' if crop is None else f'centre crops of {crop} pixels'})"
    for setting in section.settings():
        sigma = section.sigma_255(setting)
        yield {
            "setting": setting,
            "group": heading,
            "label": f"σ = {sigma:g}",
            "paper": f"{ours}/sigma={sigma:g}",
            "images_expected": 68 if same else None,
            "dataset": dataset,
        }


def _superres(task: str, section: Superres) -> Iterator[dict[str, Any]]:
    """A column a factor and noise level: means over the kernels, then over the images."""
    same = section.dataset == "cbsd68"
    papers = section.crop == 256 and section.kernels == [0, 1, 2, 3]
    for setting, values in section.grid().items():
        factor, sigma = values["factor"], values["sigma_255"]
        yield {
            "setting": setting,
            "group": f"s = {factor}",
            "label": f"σ = {sigma:g}",
            "paper": f"s={factor}/sigma={sigma:g}",
            "images_expected": 68 if same else None,
            "dataset": "cbsd68" if papers or not same else "cbsd68 (centre crops of 256 pixels, four kernels)",
        }


def _deblur(task: str, section: Deblur) -> Iterator[dict[str, Any]]:
    """A column an image of Set3; of other images one for all of them."""
    ours = section.dataset == "set3_gray"
    papers = section.crop is None and section.kernel_source == "dpir_kernels" and section.measurement == "published"
    dataset = "set3_gray" if papers or not ours else "set3_gray (whole, Levin's kernels, 8-bit measurements)"
    for sigma in section.sigmas_255:
        for setting, values in section.grid().items():
            if values["sigma_255"] != sigma:
                continue
            side = LEVIN_SIZES[values["kernel"]]
            paper = f"sigma={sigma:g}/kernel={side}x{side}"
            column = {"setting": setting, "group": f"σ = {sigma:g}, {side}×{side}", "dataset": dataset}
            for image, (label, name) in SET3.items() if ours else ():
                yield column | {"label": label, "paper": f"{paper}/{name}", "images_expected": 1, "image": image}
            if not ours:
                yield column | {"label": "mean", "paper": paper, "images_expected": None}


REMARKS = {
    "zenodo": "",
    "fastmri": "masks and sensitivities are drawn and estimated anew, which shifts values by up to about 0.1 dB",
    "phantom": "the images are phantoms, so that nothing here can be compared with the paper",
}
"""Source of MRI data → what is to be said of it."""


PAPERS_SAMPLINGS = [(s.acceleration, s.center_fraction) for s in Mri().samplings.values()]


def _mri(task: str, section: Mri) -> Iterator[dict[str, Any]]:
    """A column a sampling and contrast."""
    real, paper = section.source != "phantom", Mri()
    dataset = section.data_name if real else "mri_zenodo"
    differs = {"noise of standard deviation 0.002": section.noise_std != paper.noise_std}
    differs["test volumes"] = section.split != paper.split
    if section.source == "fastmri":
        chosen = (section.validation, sorted(section.exclude)) != (paper.validation, sorted(paper.exclude))
        differs["volumes 11 to 60 of each contrast"] = chosen
    for setting, values in section.grid().items():
        sampled = section.samplings[values["sampling"]]
        missed = [text for text, wrong in differs.items() if wrong]
        if (sampled.acceleration, sampled.center_fraction) not in PAPERS_SAMPLINGS:
            missed.append("the paper's share of central columns")
        coils, contrast = values["sampling"].rstrip("0123456789"), values["contrast"].upper()
        yield {
            "setting": setting,
            "group": f"{values['acceleration']:g}-fold, {coils}-coil",
            "label": contrast,
            "paper": f"{coils}-coil/acceleration={values['acceleration']:g}/{contrast}",
            "images_expected": 50 if real else None,
            "dataset": dataset + (f" ({', '.join(missed)})" if missed else ""),
        }


COLUMNS: dict[type, Callable[[str, Any], Iterator[dict[str, Any]]]] = {
    Denoise: _denoise,
    Superres: _superres,
    Deblur: _deblur,
    Mri: _mri,
}
"""Kind of task → its columns."""
