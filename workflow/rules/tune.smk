"""Hyperparameters, chosen on validation images. What a killed job has done is kept in `.state`."""


rule tune:
    """Search them for every method that has some, whatever the configuration evaluates with."""
    input:
        plan.tunings(),


rule tune_method:
    input:
        data=lambda wildcards: plan.tuning_data(wildcards.task),
        weights=lambda wildcards: plan.evaluation_weights(wildcards.task, wildcards.method),
    output:
        trace=f"{plan.results}/tuning/{{task}}/{{setting}}/{{method}}.csv",
        chosen=f"{plan.results}/tuning/{{task}}/{{setting}}/{{method}}.json",
    log:
        f"{plan.results}/logs/tune/{{task}}/{{setting}}/{{method}}.log",
    benchmark:
        f"{plan.results}/benchmarks/tune/{{task}}/{{setting}}/{{method}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=lambda wildcards: plan.gpu_of(wildcards.method),
        mem_mb=8000,
        runtime=1440,
    params:
        config=plan.config_file,
        code=lambda wildcards: plan.tuning_code(wildcards.method),
        part=lambda wildcards: plan.tuning_part(**wildcards),
    shell:
        "python -m bench tune --task {wildcards.task:q} --setting {wildcards.setting:q}"
        " --method {wildcards.method:q} --output {output.trace:q} --threads {threads}"
        " --config {params.config:q} 2>&1 | tee {log:q}"


rule draw_tuning:
    input:
        trace=rules.tune_method.output.trace,
    output:
        png=f"{plan.results}/tuning/{{task}}/{{setting}}/{{method}}.png",
        pdf=f"{plan.results}/tuning/{{task}}/{{setting}}/{{method}}.pdf",
    log:
        f"{plan.results}/logs/draw_tuning/{{task}}/{{setting}}/{{method}}.log",
    benchmark:
        f"{plan.results}/benchmarks/draw_tuning/{{task}}/{{setting}}/{{method}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        code=plan.code("bench.tuning_figure"),
    shell:
        "python -m bench draw_tuning {input.trace:q} 2>&1 | tee {log:q}"
