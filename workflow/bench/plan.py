"""What the Snakefile asks of the configuration: file names, inputs, digests. No torch: dry runs are quick."""

import os
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from bench import checks, configfile, datasets, figure_data, figures, holder, layouts, registry, rulegraph
from bench import config as cfg
from bench.devices import cuda_devices, refuse_cpu_by_accident
from bench.errors import UserError
from bench.figure_config import ABLATION_SIZES, CASTLE, PUBLISHED_NOISE
from bench.files import write_text
from bench.provenance import code_digest, sha256

KINDS = ("gray", "color")
KIND_TASKS = {"gray": "denoise_gray", "color": "denoise_color"}
"""A task of each of DEAL's models, for figures that need the model alone."""
TEMPLATES = Path(__file__).parents[1] / "report"


class Plan:
    """The plan of one run. Raises UserError for a configuration that cannot be run."""

    def __init__(self, config: cfg.Config) -> None:
        self.config = config
        self._codes: dict[tuple[str, ...], str] = {}
        self._ablated: dict[str, Plan] = {}
        self.results, self.cache = config.results, config.cache
        self.config_file = str(configfile.resolved_path(config))
        checks.check(config)
        self.datasets()  # raises where a task is to be tuned and has no validation images
        for kind in KINDS:
            if config.weights not in cfg.WEIGHTS:
                registry.local_weights(config, kind)

    def datasets(self) -> list[str]:
        """Data sets that the configuration names."""
        config, sets = self.config, []
        for task in type(config.tasks).model_fields:
            sets += config.task(task).datasets()
            sets += config.for_tuning(task).task(task).datasets() if config.tuned(task) else []
        for kind in KINDS:
            training = getattr(config.training, kind)
            sets += [*training.datasets, training.validation]
        for figure in config.figures.names:
            sets += figure_data.entry(figures.data_of(figure)).datasets(config)
        return list(dict.fromkeys(sets))

    def manifest(self, dataset: str) -> str:
        """The file that says a data set is there."""
        return f"{self.cache}/{dataset}.json"

    def manifests(self) -> list[str]:
        """Manifests of all data sets of the configuration."""
        return [self.manifest(name) for name in self.datasets()]

    def dataset_digest(self, dataset: str) -> str:
        """Changes when the registry's hashes of `dataset` do."""
        return datasets.get(dataset).digest[:16]

    def training_manifests(self, kind: str) -> list[str]:
        """Manifests of the data sets that patches are cut from."""
        return [self.manifest(name) for name in getattr(self.config.training, kind).datasets]

    def validation_manifest(self, kind: str) -> str:
        """Manifest of the validation set."""
        return self.manifest(getattr(self.config.training, kind).validation)

    def training_part(self, kind: str) -> str:
        """Digest of what the training of `kind` depends on in the configuration."""
        return cfg.digest(cfg.training_part(self.config, kind))

    def trained(self) -> list[str]:
        """Weights made by the target `train`."""
        return [str(registry.trained(self.config, kind)) for kind in KINDS]

    def training_log(self, kind: str) -> str:
        """What the training of `kind` recorded on its way."""
        return str(registry.trained(self.config, kind).with_suffix(".log.csv"))

    def table(self, table: str) -> list[str]:
        """Results shown in `table`."""
        keys = layouts.results(self.config, table)
        folder = "timing" if layouts.is_timing(self.config, table) else "evaluate"
        return [f"{self.results}/{folder}/{task}/{setting}/{method}.csv" for task, setting, method in keys]

    def tables(self) -> list[str]:
        """All tables of the configuration."""
        return [f"{self.results}/tables/{table}.md" for table in type(self.config.tables).model_fields]

    def table_part(self, table: str) -> str:
        """Digest of the layout of `table`."""
        make = layouts.timing_layout if layouts.is_timing(self.config, table) else layouts.layout
        return cfg.digest(make(self.config, table))

    def ablated(self, variant: str) -> "Plan":
        """The plan of one variant of the ablations, whose results are in a folder of their own."""
        if variant not in self._ablated:
            with ending_in_one_line():
                self._ablated[variant] = Plan(self.config.ablated(variant))
        return self._ablated[variant]

    def ablations(self) -> list[str]:
        """Results shown in the table of ablations."""
        return [str(path) for path in layouts.ablation_results(self.config).values()]

    def ablations_part(self) -> str:
        """Digest of its layout, and of how the variants are built."""
        built = [self.config.ablations.variants[name].model_dump() for name in self.config.ablations.names]
        return cfg.digest([layouts.ablations(self.config), built])

    def figures(self) -> list[str]:
        """All figures of the configuration; those of trainings only where they are to be shown."""
        with ending_in_one_line():
            wanted = [figures.checked(name) for name in self.config.figures.names]
            if not self.config.shows_training():
                wanted = [name for name in wanted if not figure_data.entry(figures.data_of(name)).trainings]
        return [f"{self.results}/figures/{name}.png" for name in wanted]

    def figure_data(self, figure: str) -> str:
        """The data that a figure draws."""
        with ending_in_one_line():
            return f"{self.results}/figures/data/{figures.data_of(figure)}.npz"

    def figure_inputs(self, name: str) -> list[str]:
        """What the data of a figure are made from: manifests, weights, tuned hyperparameters."""
        with ending_in_one_line():
            entry = figure_data.entry(name)
            found = [path for kind in entry.models for path in self.evaluation_weights(KIND_TASKS[kind], "deal")]
            found += [path for table in entry.tables for path in self.table(table)]
            found += [self.training_log(kind) for kind in entry.trainings]
            found += [f"{self.results}/{path}" for path in entry.files]
            for problem in entry.problems:
                found += self.evaluation_data(getattr(self.config.figures, problem).task)
            if "denoising" in entry.problems and self.shows_published_noise:
                found.append(f"{self.results}/found/{PUBLISHED_NOISE}.json")
            found += [self.manifest(dataset) for dataset in entry.datasets(self.config)]
            for task, _, method in entry.own_pairs(self.config):
                found += self.evaluation_weights(task, method)
            for task, setting, method in entry.pairs(self.config):
                found += self.evaluation_weights(task, method)
                found += self.evaluation_hyperparameters(task, setting, method)
        return list(dict.fromkeys(found))

    @property
    def shows_published_noise(self) -> bool:
        """Whether figures show the authors' noisy castle; where it cannot be had they take the task's noise."""
        wanted = self.config.figures.denoising.noise == "published"
        return wanted and self.config.tasks.denoise_gray.dataset == CASTLE[0]

    def published_noise(self) -> list[str]:
        """Its manifest, where figures show it."""
        return [self.manifest(PUBLISHED_NOISE)] if self.shows_published_noise else []

    def figure_is_timed(self, name: str) -> bool:
        """Whether the data of a figure are seconds, measured while nothing else runs."""
        with ending_in_one_line():
            return figure_data.entry(name).timed

    def figure_zoom(self, name: str) -> str:
        """The option that says which region is enlarged in a figure; it is drawn, so the data do not depend on it."""
        with ending_in_one_line():
            entry = figure_data.entry(figures.data_of(name))
            problems = [*entry.problems, *entry.own]
        zooms = [getattr(self.config.figures, problem).zoom for problem in problems][:1]
        return " ".join(["--zoom", *map(str, zooms[0])]) if zooms and zooms[0] else ""

    def figure_part(self, name: str) -> str:
        """Digest of what the data of a figure depend on in the configuration."""
        with ending_in_one_line():
            return cfg.digest(figure_data.part(self.config, name))

    def figure_data_code(self, name: str) -> str:
        """Digest of the code that computes the data of a figure."""
        with ending_in_one_line():
            entry = figure_data.entry(name)
            used = [*entry.pairs(self.config), *entry.own_pairs(self.config)]
            methods = {registry.entry(method).module for *_, method in used}
            return self.code(entry.module, *sorted(methods))

    def figure_code(self, name: str) -> str:
        """Digest of the code that draws a figure."""
        with ending_in_one_line():
            return self.code(f"bench.figures.{figures.checked(name)}")

    def shown_part(self, *templates: str) -> str:
        """Digest of which tables are shown under which titles, and of the files in `workflow/report` that say how.

        Ablations count where they are there: as inputs they would be brought up to date, that is trained.
        """
        tables = self.config.tables
        captions = {name: getattr(tables, name).caption for name in type(tables).model_fields}
        ablations = [Path(self.results, f"tables/ablations{suffix}") for suffix in (".json", ".csv", ".tex")]
        there = [path for path in ablations if path.is_file()] + [Path(path) for path in self.ablation_figure()]
        return cfg.digest([captions, *map(sha256, [*(TEMPLATES / name for name in templates), *there])])

    def ablation_figure(self) -> list[str]:
        """The figure of the ablations where it is there and not asked for by name."""
        path = f"{self.results}/figures/{ABLATION_SIZES}.png"
        return [path] if Path(path).is_file() and ABLATION_SIZES not in self.config.figures.names else []

    def evaluation_data(self, task: str) -> list[str]:
        """Manifests of the data sets that `task` reads, or the list of its prepared samples."""
        return self._data(self.config.task(task))

    def _data(self, section: cfg.TaskSection) -> list[str]:
        if isinstance(section, cfg.Mri):
            return [self.mri_samples()]
        return [self.manifest(name) for name in section.datasets()]

    def mri_samples(self) -> str:
        """The list of the prepared MRI samples."""
        return self.config.tasks.mri.samples(self.cache)

    def mri_part(self) -> str:
        """Digest of what they depend on in the configuration."""
        return cfg.digest(self.config.tasks.mri.preparation())

    def timing_part(self, task: str, setting: str, method: str) -> str:
        """Digest of what one measurement of times depends on in the configuration."""
        limits = self.config.timing.model_dump(mode="json")
        return cfg.digest([self.evaluation_part(task, setting, method), limits, self.config.device])

    def timing_code(self, method: str) -> str:
        """Digest of the code that is timed, and of that which times."""
        return self.code("bench.timing", registry.entry(method).module)

    def evaluation_weights(self, task: str, method: str) -> list[str]:
        """The file that says where the weights of `method` are, if it needs any."""
        needed = registry.entry(method).needs_weights
        return [f"{self.results}/weights/{task}/{method}.json"] if needed else []

    def evaluation_hyperparameters(self, task: str, setting: str, method: str) -> list[str]:
        """The file with the tuned hyperparameters, where they are wanted and the method has some."""
        wanted = self.config.tuned(task) and registry.entry(method).tunes(task)
        return [f"{self.results}/tuning/{task}/{setting}/{method}.json"] if wanted else []

    def evaluation_part(self, task: str, setting: str, method: str) -> str:
        """Digest of what one evaluation depends on in the configuration."""
        part = cfg.evaluation_part(self.config, task, setting, method)
        return cfg.digest([part, self.config.subset_of(task), self.config.task(task).selection()])

    def evaluation_code(self, method: str) -> str:
        """Digest of the code that decides the result of `method`."""
        return self.code("bench.evaluate", registry.entry(method).module)

    def tunings(self) -> list[str]:
        """Pictures of all tunings: one for each setting of each task that a method has something to tune for."""
        pairs = [(task, m) for task in type(self.config.tasks).model_fields for m in self.config.methods]
        return [
            f"{self.results}/tuning/{task}/{setting}/{method}.png"
            for task, method in pairs
            if registry.entry(method).tunes(task)
            for setting in self.config.task(task).settings()
        ]

    def tuning_data(self, task: str) -> list[str]:
        """Manifests of the data sets that the tuning for `task` reads."""
        with ending_in_one_line():
            return self._data(self.config.for_tuning(task).task(task))

    def tuning_part(self, task: str, setting: str, method: str) -> str:
        """Digest of what one tuning depends on in the configuration."""
        return cfg.digest(cfg.tuning_part(self.config, task, setting, method))

    def tuning_code(self, method: str) -> str:
        """Digest of the code that decides what is found for `method`."""
        return self.code("bench.tune", "bench.evaluate", registry.entry(method).module)

    def prepared(self) -> list[str]:
        """What `data` makes ready besides data sets: all weights, for machines without a network."""
        methods = [m for m in self.config.methods if not cfg.is_deal(m) or self.config.weights != "train"]
        pairs = [(task, m) for task in type(self.config.tasks).model_fields for m in methods]
        return [f for task, m in pairs if registry.entry(m).serves(task) for f in self.evaluation_weights(task, m)]

    def weights_inputs(self, task: str, method: str) -> list[str]:
        """Local files that DEAL's weights come from, so that replacing them is noticed."""
        if method == "epll":
            return [str(registry.epll_prior(self.config))]
        if not cfg.is_deal(method) or self.config.weights == "official":
            return []
        path = registry.local_weights(self.config, registry.deal_kind(task))
        return [str(path)] if self.config.weights == "train" or (path and path.is_file()) else []

    def weights_key(self, task: str, method: str) -> str:
        """Digest of what the list of weights of `method` depends on: settings, places, known hashes, its own code."""
        section = self.config.task(task)
        settings = {setting: section.sigma(setting) for setting in section.settings()}
        chosen = self.config.weights if cfg.is_deal(method) else ""
        known = {name: entry.digest for name, entry in datasets.registry().items() if entry.split == "other"}
        return cfg.digest([settings, chosen, self.cache, known, self.code(registry.entry(method).module)])

    def code(self, *modules: str) -> str:
        """Digest of the code of `modules` and what they import."""
        if modules not in self._codes:
            with ending_in_one_line():  # a source with a syntax error
                self._codes[modules] = code_digest(modules)
        return self._codes[modules]

    @cached_property
    def gpu(self) -> int:
        """GPUs that a job which computes with torch takes: 1 or 0."""
        wanted = self.config.device
        return int(wanted == "cuda" or (wanted == "auto" and cuda_devices() > 0))

    def gpu_of(self, method: str) -> int:
        """GPUs that an evaluation or tuning of `method` takes: 1 or 0."""
        return self.gpu * registry.entry(method).gpu

    @property
    def train_gpus(self) -> int:
        """GPUs that one training takes: 0 where there is none."""
        return self.gpu * self.config.train_gpus

    def before_first_job(self, dag: Any) -> None:
        """Check what only a real run needs, then write the resolved configurations that the jobs read.

        The rules of `dag`, Snakemake's graph of jobs, are left in the dot language for the report.
        """
        with ending_in_one_line():
            trainings = [job for job in dag.needrun_jobs() if job.rule.name in ("train_deal", "train_ablation")]
            if trainings:
                refuse_cpu_by_accident(self.config)
            if any(job.resources.get("gpu", 0) < self.train_gpus for job in trainings):  # Snakemake caps it silently
                raise UserError(
                    f"train_gpus is {self.config.train_gpus}, but this run may use fewer GPUs at a time; "
                    f"add --resources gpu={self.config.train_gpus} timing=1"
                )
            variants = {job.wildcards_dict["variant"] for job in dag.jobs if "variant" in job.wildcards_dict}
            for plan in (self, *map(self.ablated, sorted(variants))):
                configfile.write_resolved(plan.config)
            jobs = [job for job in dag.jobs if job.rule.output]  # the others are names of targets
            needed = {(other.rule.name, job.rule.name) for job in jobs for other in dag.dependencies[job]}
            graph = rulegraph.dot((job.rule.name for job in jobs), needed)
            write_text(Path(self.results, "rulegraph.dot"), graph)
            holder.take()

    def after_last_job(self) -> None:
        """The run ends by itself, well or not: its lock is Snakemake's to remove."""
        holder.give_back()


class ending_in_one_line:
    """Turns a UserError in the Snakefile into one line and exit status 2, without Snakemake's traceback."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UserError):
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)


def make(values: Mapping[str, Any], files: Sequence[str | os.PathLike[str]]) -> Plan:
    """The plan of Snakemake's `config`; `files` are the configuration files it was merged from."""
    with ending_in_one_line():
        holder.release_dead()
        sources = {_short(path): configfile.read(path) for path in files}
        return Plan(configfile.check(values, sources))


def _short(path: str | os.PathLike[str]) -> str:
    inside = Path(path).is_absolute() and Path(path).is_relative_to(Path.cwd())
    return str(Path(path).relative_to(Path.cwd()) if inside else path)
