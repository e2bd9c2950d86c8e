"""What `bench.tables` is asked to show: columns and rows, and what they answer to in the paper."""

from typing import Any

from bench import registry
from bench.config import Config, Denoise
from bench.errors import UserError

CONVENTION = (
    "mean over images of each image's PSNR, peak 1, all pixels and channels, estimates clipped to [0, 1] "
    "and not rounded to 8 bits, no border removed; the noisy image is scored unclipped"
)
# Our task → (heading, the task's name in paper_values.csv, data set, crop, images) of the paper's experiment.
PAPER = {
    "denoise_gray": ("Gray", "gray", "bsd68", None, 68),
    "denoise_color": ("Colour", "color", "cbsd68", 256, 68),
}


def results(config: Config, table: str) -> list[tuple[str, str, str]]:
    """The (task, setting, method) whose results `table` shows."""
    section = _section(config, table)
    return [
        (task, setting, method)
        for task in section.tasks
        for setting in config.task(task).settings()
        for method in section.methods or config.methods
        if registry.entry(method).serves(task)
    ]


def layout(config: Config, table: str) -> dict[str, Any]:
    """The layout of `table` for `bench.tables.build`."""
    section = _section(config, table)
    entries = [registry.entry(name) for name in section.methods or config.methods]
    return {
        "table": table,
        "caption": section.caption,
        "convention": CONVENTION,
        "tolerance": section.tolerance,
        "columns": [column for task in section.tasks for column in _columns(task, config.task(task))],
        "methods": [
            {
                "name": entry.name,
                "label": entry.label,
                "paper": None if entry.oracle else entry.label,
                "oracle": entry.oracle,
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


def _columns(task: str, section: Denoise) -> list[dict[str, Any]]:
    heading, ours, dataset, crop, images = PAPER[task]
    if section.dataset == dataset and section.crop != crop:
        dataset = f"{dataset} ({'whole images' if crop is None else f'centre crops of {crop} pixels'})"
    return [
        {
            "task": task,
            "setting": setting,
            "group": heading,
            "label": f"σ = {section.sigma_255(setting):g}",
            "paper": f"{ours}/sigma={section.sigma_255(setting):g}",
            "images_expected": images if section.dataset == PAPER[task][2] else None,
            "dataset": dataset,
        }
        for setting in section.settings()
    ]
