"""Gray models of other architectures (Appendix A of the paper), trained alike; not part of `all`.

The rules are those of the main model. A variant's folder is laid out as the results folder, with a configuration of its
own, so that every step can be done by hand with `--config <results>/ablations/<variant>/config.resolved.yaml`.
"""


rule ablations:
    """Train all variants, denoise with each, and make their table and its figure."""
    input:
        f"{plan.results}/tables/ablations.md",
        f"{plan.results}/figures/ablation_sizes.png",


use rule train_deal as train_ablation with:
    input:
        images=f"{plan.results}/training/{{kind}}_images.safetensors",
        validation=lambda wildcards: plan.validation_manifest(wildcards.kind),
    output:
        weights=f"{plan.results}/ablations/{{variant}}/training/{{kind}}.safetensors",
        sidecar=f"{plan.results}/ablations/{{variant}}/training/{{kind}}.json",
        history=f"{plan.results}/ablations/{{variant}}/training/{{kind}}.log.csv",
    log:
        f"{plan.results}/logs/ablations/{{variant}}/train/{{kind}}.log",
    benchmark:
        f"{plan.results}/benchmarks/train_ablation/{{variant}}/{{kind}}.tsv"
    params:
        config=lambda wildcards: plan.ablated(wildcards.variant).config_file,
        code=plan.code("bench.training_job"),
        part=lambda wildcards: plan.ablated(wildcards.variant).training_part(wildcards.kind),


use rule find_weights as find_ablation_weights with:
    input:
        files=lambda wildcards: plan.ablated(wildcards.variant).weights_inputs(
            wildcards.task, wildcards.method
        ),
    output:
        found=f"{plan.results}/ablations/{{variant}}/weights/{{task}}/{{method}}.json",
    log:
        f"{plan.results}/logs/ablations/{{variant}}/weights/{{task}}/{{method}}.log",
    benchmark:
        f"{plan.results}/benchmarks/weights_ablation/{{variant}}/{{task}}/{{method}}.tsv"
    params:
        config=lambda wildcards: plan.ablated(wildcards.variant).config_file,
        chosen=lambda wildcards: plan.ablated(wildcards.variant).weights_key(wildcards.task, wildcards.method),


use rule evaluate_method as evaluate_ablation with:
    input:
        data=lambda wildcards: plan.evaluation_data(wildcards.task),
        weights=lambda wildcards: plan.ablated(wildcards.variant).evaluation_weights(
            wildcards.task, wildcards.method
        ),
    output:
        csv=f"{plan.results}/ablations/{{variant}}/evaluate/{{task}}/{{setting}}/{{method}}.csv",
        sidecar=f"{plan.results}/ablations/{{variant}}/evaluate/{{task}}/{{setting}}/{{method}}.json",
    log:
        f"{plan.results}/logs/ablations/{{variant}}/evaluate/{{task}}/{{setting}}/{{method}}.log",
    benchmark:
        f"{plan.results}/benchmarks/evaluate_ablation/{{variant}}/{{task}}/{{setting}}/{{method}}.tsv"
    params:
        config=lambda wildcards: plan.ablated(wildcards.variant).config_file,
        code=lambda wildcards: plan.evaluation_code(wildcards.method),
        part=lambda wildcards: plan.evaluation_part(wildcards.task, wildcards.setting, wildcards.method),


rule make_ablation_table:
    input:
        results=plan.ablations(),
    output:
        csv=f"{plan.results}/tables/ablations.csv",
        per_image=f"{plan.results}/tables/ablations_per_image.csv",
        tex=f"{plan.results}/tables/ablations.tex",
        md=f"{plan.results}/tables/ablations.md",
        sidecar=f"{plan.results}/tables/ablations.json",
    log:
        f"{plan.results}/logs/tables/ablations.log",
    benchmark:
        f"{plan.results}/benchmarks/tables/ablations.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        config=plan.config_file,
        code=plan.code("bench.ablations"),
        part=plan.ablations_part(),
    shell:
        "python -m bench table ablations --config {params.config:q} 2>&1 | tee {log:q}"
