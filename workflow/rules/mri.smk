"""MRI data: from the chosen source to samples in one format. They lie in the cache, as other data do."""


rule mri_samples:
    """The samples of the configuration."""
    input:
        plan.mri_samples(),


# Samples that are made stay, so that an interrupted preparation goes on; only the list of them is an output.
rule prepare_mri:
    output:
        listing=plan.mri_samples(),
    log:
        f"{plan.results}/logs/mri/prepare.log",
    benchmark:
        f"{plan.results}/benchmarks/mri/prepare.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        network=1,
        mem_mb=8000,
        runtime=720,
    params:
        config=plan.config_file,
        code=plan.code("bench.mri_prepare"),
        part=plan.mri_part(),
    shell:
        "python -m bench prepare_mri --output {output.listing:q} --threads {threads}"
        " --config {params.config:q} 2>&1 | tee {log:q}"
