"""DEAL bench: from images to the paper's tables. `snakemake table1`; what is run is said in config.yaml."""

import os
import sys

ROOT = str(workflow.basedir)
# This copy of the library, and this Python, for all jobs: whatever else is installed or first on the path.
sys.path[:0] = [ROOT, os.path.join(ROOT, "workflow")]
os.environ.update(
    PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
    PYTHONPATH=os.pathsep.join([*sys.path[:2], os.environ.get("PYTHONPATH", "")]),
)

from bench import plan as planning


configfile: "config.yaml"


plan = planning.make(config, workflow.configfiles)
os.environ.update(DEAL_MIRROR=plan.config.mirror_in_use() or "")


wildcard_constraints:
    dataset="[a-z0-9_]+",
    kind="gray|color",
    task="[a-z0-9_]+",
    setting="[^/]+",
    method="[^/]+",
    table="table[0-9]+",
    variant="[a-z0-9_]+",
    figure="[a-z_0-9]+",


include: "workflow/rules/download.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/baselines.smk"
include: "workflow/rules/tune.smk"
include: "workflow/rules/mri.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/time.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/ablations.smk"


rule all:
    default_target: True
    input:
        plan.tables(),
        rules.report.input,
        rules.paper.input,


onstart:
    plan.before_first_job(workflow.dag)


onsuccess:
    plan.after_last_job()


onerror:
    plan.after_last_job()
