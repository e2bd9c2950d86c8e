"""Data sets and weights: everything that needs a network."""


rule data:
    """All that the configuration needs from the network."""
    input:
        plan.manifests(),
        plan.published_noise(),
        plan.mri_samples(),
        plan.prepared(),


# Of the configuration only the cache counts here, since runs with other configurations share it.
rule fetch_dataset:
    output:
        manifest=f"{plan.cache}/{{dataset}}.json",
    log:
        f"{plan.results}/logs/fetch/{{dataset}}.log",
    benchmark:
        f"{plan.results}/benchmarks/fetch/{{dataset}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        network=1,
        mem_mb=1000,
        runtime=240,
    params:
        registry=lambda wildcards: plan.dataset_digest(wildcards.dataset),
    shell:
        "python -m bench fetch {wildcards.dataset:q} --manifest {output.manifest:q} 2>&1 | tee {log:q}"


# Soft: what cannot be had leaves the reason, and figures do without.
rule find_file:
    output:
        found=f"{plan.results}/found/{{name}}.json",
    log:
        f"{plan.results}/logs/found/{{name}}.log",
    benchmark:
        f"{plan.results}/benchmarks/found/{{name}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        network=1,
        mem_mb=1000,
        runtime=60,
    params:
        config=plan.config_file,
        registry=lambda wildcards: plan.dataset_digest(wildcards.name),
    shell:
        "python -m bench find {wildcards.name:q} --output {output.found:q} --config {params.config:q}"
        " 2>&1 | tee {log:q}"


rule find_weights:
    input:
        files=lambda wildcards: plan.weights_inputs(wildcards.task, wildcards.method),
    output:
        found=f"{plan.results}/weights/{{task}}/{{method}}.json",
    log:
        f"{plan.results}/logs/weights/{{task}}/{{method}}.log",
    benchmark:
        f"{plan.results}/benchmarks/weights/{{task}}/{{method}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        network=1,
        mem_mb=2000,
        runtime=60,
    params:
        config=plan.config_file,
        chosen=lambda wildcards: plan.weights_key(wildcards.task, wildcards.method),
    shell:
        "python -m bench weights --task {wildcards.task:q} --method {wildcards.method:q}"
        " --output {output.found:q} --config {params.config:q} 2>&1 | tee {log:q}"
