"""`python -m bench <verb>`: what every rule calls, and what can be pasted to do one step by hand."""

import argparse
import os
import sys
from pathlib import Path

from bench.errors import UserError
from bench.files import is_disk

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit status. What the user can mend is one line on stderr."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        if options.debug:
            raise
        print("error: interrupted; run the same command again to go on", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug or not _is_users(error):
            raise
        _end_progress_bars()
        print(f"error: {_line(error)}", file=sys.stderr)
        return 2


def _end_progress_bars() -> None:
    """So that the error is a line of its own, not the end of a bar's."""
    if (module := sys.modules.get("tqdm")) is not None:
        for bar in list(getattr(module.tqdm, "_instances", ())):
            bar.close()


def _is_users(error: Exception) -> bool:
    kinds: tuple[type[Exception], ...] = (UserError, FileNotFoundError, PermissionError)
    if (module := sys.modules.get("deal.weights")) is not None:
        kinds += (module.WeightsError,)
    return isinstance(error, kinds) or is_disk(error)


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {(error.strerror or type(error).__name__).lower()}"
    return " ".join(str(error).split()) or type(error).__name__


def _config(options: argparse.Namespace):
    from bench.configfile import assignments, load

    return load(options.config or ["config.yaml"], assignments(options.set))


def _threads(options: argparse.Namespace) -> None:
    """Keep torch and the OpenMP libraries to the cores that the job was given; before they are imported."""
    if options.threads:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(options.threads)


def fetch(options: argparse.Namespace) -> None:
    from bench import datasets
    from bench.files import write_json

    if options.manifest is None:
        config = _config(options)
        manifest, mirror = Path(config.cache, f"{options.dataset}.json"), config.mirror_in_use()
    else:
        manifest, mirror = Path(options.manifest), os.environ.get("DEAL_MIRROR")
    datasets.fetch(options.dataset, manifest.parent, mirror, jobs=options.jobs)
    write_json(manifest, datasets.manifest(options.dataset, manifest.parent))


def register(options: argparse.Namespace) -> None:
    from bench.register import About, register

    about = About(options.title, options.split, options.licence, options.source, options.gray)
    print(register(Path(options.folder), options.name, Path(_config(options).cache), about, options.replace))


def pack(options: argparse.Namespace) -> None:
    from bench.training_job import pack

    pack(_config(options), options.kind, Path(options.output))


def train(options: argparse.Namespace) -> None:
    _threads(options)
    from bench.training_job import train

    train(_config(options), options.kind, Path(options.images), Path(options.output), options.processes)


def parcel(options: argparse.Namespace) -> None:
    from bench import parcel

    parcel.write(_config(options), options.kind, Path(options.output), options.max_mb * 10**6)


def train_epll(options: argparse.Namespace) -> None:
    _threads(options)
    from bench import epll_prior

    epll_prior.train(_config(options), Path(options.output))


def convert(options: argparse.Namespace) -> None:
    from deal.weights import convert_official

    convert_official(options.checkpoint, options.output)


def weights(options: argparse.Namespace) -> None:
    from bench.registry import prepare

    prepare(_config(options), options.task, options.method, Path(options.output))


def find(options: argparse.Namespace) -> None:
    from bench.registry import look_for

    look_for([options.name], _config(options), Path(options.output))


def evaluate(options: argparse.Namespace) -> None:
    _threads(options)
    from bench.evaluate import evaluate

    found = [Path(path) if path else None for path in (options.weights, options.hyperparameters)]
    evaluate(_config(options), options.task, options.setting, options.method, Path(options.output), *found)


def time(options: argparse.Namespace) -> None:
    _threads(options)
    from bench.timing import measure

    found = [Path(path) if path else None for path in (options.weights, options.hyperparameters)]
    measure(_config(options), options.task, options.setting, options.method, Path(options.output), *found)


def prepare_mri(options: argparse.Namespace) -> None:
    _threads(options)
    from bench.mri_prepare import prepare

    config = _config(options)
    prepare(config, Path(options.output or config.tasks.mri.samples(config.cache)))


def tune(options: argparse.Namespace) -> None:
    _threads(options)
    from bench.tune import tune

    found = Path(options.weights) if options.weights else None
    tune(_config(options), options.task, options.setting, options.method, Path(options.output), found)


def draw_tuning(options: argparse.Namespace) -> None:
    from bench import registry, tuning_figure

    trace = Path(options.trace)
    (*_, task, setting), method = trace.resolve().parent.parts, trace.stem
    label = registry.catalogue()[method].label if method in registry.catalogue() else method
    tuning_figure.draw(trace, [trace.with_suffix(".png"), trace.with_suffix(".pdf")], f"{label}: {task}, {setting}")


def table(options: argparse.Namespace) -> None:
    from bench import layouts, results, tables

    config = _config(options)
    if options.table == "ablations":
        from bench import ablations

        built = ablations.build(config)
        ablations.write(built, config.results)
        print(tables.render_markdown(built))
        return
    keys = layouts.results(config, options.table)
    timed = layouts.is_timing(config, options.table)
    folder = Path(config.results, "timing" if timed else "evaluate")
    paths = [folder / task / setting / f"{method}.csv" for task, setting, method in keys]
    if timed:
        from bench import timing_table

        times = timing_table.build(layouts.timing_layout(config, options.table), timing_table.Timing.read(paths))
        timing_table.write(times, config.results)
        print(timing_table.render_markdown(times))
        return
    built = tables.build(layouts.layout(config, options.table), results.Result.read(paths))
    tables.write(built, Path(config.results, "tables"))
    print(tables.render_markdown(built))


def figure_data(options: argparse.Namespace) -> None:
    _threads(options)
    from bench import figure_data, figures

    name = figures.data_of(options.data) if options.data in figures.names() else options.data
    figure_data.write(_config(options), name, Path(options.output))


def figure(options: argparse.Namespace) -> None:
    from bench import figures

    figures.write(options.figure, Path(options.data), Path(options.output), options.zoom)


def report(options: argparse.Namespace) -> None:
    from bench import report

    folder, captions = _made(options)
    print(report.write(folder, options.output or folder / "report.html", captions, options.figures))


def paper(options: argparse.Namespace) -> None:
    from bench import paper

    folder, captions = _made(options)
    main = paper.write(folder, options.output or folder / "paper", captions, options.figures)
    print(paper.compile_pdf(main) if options.pdf else main)


def _made(options: argparse.Namespace) -> tuple[Path, dict[str, str]]:
    """The folder of results to show, and the captions of the configuration's tables."""
    config = _config(options)
    captions = {name: getattr(config.tables, name).caption for name in type(config.tables).model_fields}
    return Path(options.source or config.results), captions


def publish(options: argparse.Namespace) -> None:
    from bench.configfile import load
    from bench.publish import publish

    print(publish(_config(options), options.to, load(options.reference)))


def schema(options: argparse.Namespace) -> None:
    from bench import config

    _generated(ROOT / "workflow" / "config.schema.json", config.schema(), options.check)


def docs(options: argparse.Namespace) -> None:
    from bench import config_docs

    _generated(ROOT / "docs" / "configuration.md", config_docs.render(), options.check)


def _generated(path: Path, text: str, check: bool) -> None:
    from bench.files import write_text

    if not check:
        write_text(path, text)
    elif not path.is_file() or path.read_text(encoding="utf-8") != text:
        raise UserError(f"{path.relative_to(ROOT)} is out of date; run the same command without --check")


def config(options: argparse.Namespace) -> None:
    import yaml

    from bench.plan import Plan

    checked = _config(options)
    Plan(checked)  # methods and data sets are known
    print(yaml.safe_dump(checked.model_dump(mode="json"), sort_keys=False, allow_unicode=True), end="")


def cuda(options: argparse.Namespace) -> None:
    from bench.devices import cuda_devices
    from bench.provenance import driver

    count = cuda_devices()
    print(f"CUDA devices of the driver: {count}; driver: {driver() or 'none'}")
    import torch

    print(f"torch {torch.__version__}, built for CUDA {torch.version.cuda or '(no)'}")
    if torch.cuda.is_available():
        print(f"torch computes on {torch.cuda.get_device_name()}")
    else:
        raise UserError("torch finds no CUDA device" + (", although the driver does" if count else ""))


def doctor(options: argparse.Namespace) -> int:
    from bench.doctor import examine

    return int(examine(_config(options)) > 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    verbs = parser.add_subparsers(required=True, metavar="verb")

    def verb(run, help: str, configured: bool = True) -> argparse.ArgumentParser:
        added = verbs.add_parser(run.__name__.replace("figure_data", "figure-data"), help=help, description=help)
        added.set_defaults(run=run)
        if configured:
            added.add_argument("--config", nargs="+", metavar="YAML", help="files, each laid on the last (config.yaml)")
            added.add_argument(
                "--set", nargs="+", default=[], metavar="KEY=VALUE", help="e.g. tasks.denoise_gray.subset=4"
            )
        return added

    def kind(added: argparse.ArgumentParser) -> None:
        added.add_argument("--kind", required=True, choices=("gray", "color"), help="which model")

    def job(added: argparse.ArgumentParser, *names: str) -> None:
        for name in names:
            added.add_argument(f"--{name}", required=True)

    def threads(added: argparse.ArgumentParser) -> None:
        added.add_argument("--threads", type=int, help="cores to use (all)")

    def shown(added: argparse.ArgumentParser, output: str) -> None:
        added.add_argument("--from", dest="source", metavar="FOLDER", help="folder of results (the configuration's)")
        added.add_argument("--output", help=output)
        added.add_argument("--figures", nargs="*", metavar="PNG", help="figures, their JSON beside them (all there)")

    added = verb(fetch, "download a data set, verified")
    added.add_argument("dataset", help="a name in workflow/data/datasets.yaml")
    added.add_argument("--jobs", type=int, default=8, help="downloads at a time")
    added.add_argument("--manifest", help="file to write; then its folder is the cache, and no config is read")
    added = verb(register, "make a folder of .png and .jpg images a data set of the registry")
    added.add_argument("folder", help="its images are copied into the cache")
    added.add_argument("--name", required=True, help="of the data set: lower-case letters, digits and _")
    added.add_argument("--title", help="what captions call it (its name)")
    added.add_argument("--split", choices=("test", "validation", "train"), help="what it is for (test)")
    added.add_argument("--licence", help="terms of the images (not stated)")
    added.add_argument("--source", metavar="URL", help="where they come from, https://… (local)")
    added.add_argument("--gray", action="store_true", help="colour images become gray, by MATLAB's rgb2gray")
    added.add_argument("--replace", action="store_true", help="change a data set that was registered before")
    added = verb(pack, "pack training images into one file")
    kind(added)
    job(added, "output")
    added = verb(train, "train DEAL, or go on with a training")
    kind(added)
    job(added, "images", "output")
    added.add_argument("--processes", type=int, default=1, help="that share every batch, one a GPU; 0 is 1")
    threads(added)
    added = verb(parcel, "put code, schedule and images of a training into a folder for another machine")
    kind(added)
    job(added, "output")
    added.add_argument("--max-mb", type=int, default=56, help="megabytes of training images (56)")
    added = verb(train_epll, "train the patch prior of EPLL on BSD400")
    job(added, "output")
    threads(added)
    added = verb(convert, "convert a checkpoint of the authors to safetensors", configured=False)
    added.add_argument("checkpoint")
    added.add_argument("output")
    added = verb(weights, "find the weights that a method needs for a task")
    job(added, "task", "method", "output")
    added = verb(find, "look for one file of the registry, and say where it is or why it cannot be had")
    added.add_argument("name", help="castle_noisy")
    job(added, "output")
    added = verb(evaluate, "run one method on one setting of one task")
    job(added, "task", "setting", "method", "output")
    added.add_argument("--weights", help="file written by the verb weights")
    added.add_argument("--hyperparameters", help="file written by the tuning (that beside the results)")
    threads(added)
    added = verb(time, "measure the seconds of a reconstruction; leave the machine alone meanwhile")
    job(added, "task", "setting", "method", "output")
    added.add_argument("--weights", help="file written by the verb weights")
    added.add_argument("--hyperparameters", help="file written by the tuning (that beside the results)")
    threads(added)
    added = verb(prepare_mri, "turn the source of MRI data into samples")
    added.add_argument("--output", help="JSON file that lists them (in the cache)")
    threads(added)
    added = verb(tune, "choose a method's hyperparameters on validation images")
    job(added, "task", "setting", "method", "output")
    added.add_argument("--weights", help="file written by the verb weights")
    threads(added)
    added = verb(draw_tuning, "draw a tuning from its trace, as .png and .pdf beside it", configured=False)
    added.add_argument("trace", help="the CSV file that the verb tune wrote")
    added = verb(table, "make a table from results")
    added.add_argument("table", help="table1, or ablations")
    added = verb(figure_data, "compute what figures show")
    added.add_argument("data", help="fig03, or the name of the data: castle is what 7, 8 and 16 show")
    job(added, "output")
    threads(added)
    added = verb(figure, "draw a figure from its data, as .png and .pdf", configured=False)
    added.add_argument("figure", help="fig03")
    job(added, "data", "output")
    where = ("TOP", "LEFT", "HEIGHT", "WIDTH")
    added.add_argument("--zoom", nargs=4, type=int, metavar=where, help="region shown enlarged (where most happens)")
    added = verb(report, "write one page with all tables and figures, for a browser without a network")
    shown(added, "file to write (report.html in that folder)")
    added = verb(paper, "write tables and figures as LaTeX, with a main file")
    shown(added, "folder to write (paper in that folder)")
    added.add_argument("--pdf", action="store_true", help="compile it, with latexmk or pdflatex")
    added = verb(publish, "add results to those published, and remake the published tables from all of them")
    added.add_argument("--to", default="results/published", help="folder (results/published)")
    added.add_argument(
        "--reference", nargs="+", metavar="FILE", default=[str(ROOT / "config.yaml")],
        help="the configuration whose tables the folder holds, files laid over each other (config.yaml)",
    )  # fmt: skip
    for run, help in ((schema, "write workflow/config.schema.json"), (docs, "write docs/configuration.md")):
        added = verb(run, help, configured=False)
        added.add_argument("--check", action="store_true", help="write nothing; fail if the file is out of date")
    verb(config, "check the configuration and print it with all its values")
    verb(doctor, "check packages, tools, data and disk for a configuration, and say how to get what is missing")
    verb(cuda, "say whether torch can compute on a GPU here", configured=False)
    return parser


if __name__ == "__main__":
    sys.exit(main())
