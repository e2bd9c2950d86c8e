"""Training of DEAL. Its state lies in `.state`, which no rule declares: Snakemake deletes outputs of killed jobs."""


rule train:
    """Both models."""
    input:
        plan.trained(),


rule pack_images:
    input:
        manifests=lambda wildcards: plan.training_manifests(wildcards.kind),
    output:
        images=f"{plan.results}/training/{{kind}}_images.safetensors",
    log:
        f"{plan.results}/logs/pack/{{kind}}.log",
    benchmark:
        f"{plan.results}/benchmarks/pack/{{kind}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        config=plan.config_file,
        code=plan.code("deal.patches"),
    shell:
        "python -m bench pack --kind {wildcards.kind:q} --output {output.images:q}"
        " --config {params.config:q} 2>&1 | tee {log:q}"


rule train_deal:
    input:
        images=rules.pack_images.output.images,
        validation=lambda wildcards: plan.validation_manifest(wildcards.kind),
    output:
        weights=f"{plan.results}/training/{{kind}}.safetensors",
        sidecar=f"{plan.results}/training/{{kind}}.json",
        history=f"{plan.results}/training/{{kind}}.log.csv",
    log:
        f"{plan.results}/logs/train/{{kind}}.log",
    benchmark:
        f"{plan.results}/benchmarks/train/{{kind}}.tsv"
    conda:
        "../../environment.yml"
    threads: workflow.cores
    resources:
        gpu=plan.train_gpus,
        mem_mb=16000,
        runtime=2880,
    params:
        config=plan.config_file,
        code=plan.code("bench.training_job"),
        part=lambda wildcards: plan.training_part(wildcards.kind),
    shell:
        "python -m bench train --kind {wildcards.kind:q} --images {input.images:q} --output {output.weights:q}"
        " --threads {threads} --processes {resources.gpu} --config {params.config:q} 2>&1 | tee {log:q}"
