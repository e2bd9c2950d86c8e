"""One job is one method on one setting of one task; what a killed job has done is kept in `.state`."""


rule evaluate_method:
    input:
        data=lambda wildcards: plan.evaluation_data(wildcards.task),
        weights=lambda wildcards: plan.evaluation_weights(wildcards.task, wildcards.method),
        hyperparameters=lambda wildcards: plan.evaluation_hyperparameters(**wildcards),
    output:
        csv=f"{plan.results}/evaluate/{{task}}/{{setting}}/{{method}}.csv",
        sidecar=f"{plan.results}/evaluate/{{task}}/{{setting}}/{{method}}.json",
    log:
        f"{plan.results}/logs/evaluate/{{task}}/{{setting}}/{{method}}.log",
    benchmark:
        f"{plan.results}/benchmarks/evaluate/{{task}}/{{setting}}/{{method}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        gpu=lambda wildcards: plan.gpu_of(wildcards.method),
        mem_mb=8000,
        runtime=720,
    params:
        config=plan.config_file,
        code=lambda wildcards: plan.evaluation_code(wildcards.method),
        part=lambda wildcards: plan.evaluation_part(**wildcards),
    shell:
        "python -m bench evaluate --task {wildcards.task:q} --setting {wildcards.setting:q}"
        " --method {wildcards.method:q} --output {output.csv:q} --threads {threads}"
        " --config {params.config:q} 2>&1 | tee {log:q}"
