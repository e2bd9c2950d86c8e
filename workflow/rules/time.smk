"""Times: as an evaluation, but each job has the machine for itself, and a killed one starts anew."""


rule time_method:
    input:
        data=lambda wildcards: plan.evaluation_data(wildcards.task),
        weights=lambda wildcards: plan.evaluation_weights(wildcards.task, wildcards.method),
        hyperparameters=lambda wildcards: plan.evaluation_hyperparameters(**wildcards),
    output:
        csv=f"{plan.results}/timing/{{task}}/{{setting}}/{{method}}.csv",
        sidecar=f"{plan.results}/timing/{{task}}/{{setting}}/{{method}}.json",
    log:
        f"{plan.results}/logs/timing/{{task}}/{{setting}}/{{method}}.log",
    benchmark:
        f"{plan.results}/benchmarks/timing/{{task}}/{{setting}}/{{method}}.tsv"
    conda:
        "../../environment.yml"
    threads: workflow.cores
    resources:
        gpu=plan.gpu,
        timing=1,
        mem_mb=8000,
        runtime=720,
    params:
        config=plan.config_file,
        code=lambda wildcards: plan.timing_code(wildcards.method),
        part=lambda wildcards: plan.timing_part(**wildcards),
    shell:
        "python -m bench time --task {wildcards.task:q} --setting {wildcards.setting:q}"
        " --method {wildcards.method:q} --output {output.csv:q} --threads {threads}"
        " --config {params.config:q} 2>&1 | tee {log:q}"
