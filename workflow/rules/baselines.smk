"""What baselines learn here, from training images only."""


rule train_epll:
    input:
        manifest=plan.manifest("bsd400"),
    output:
        prior=f"{plan.results}/training/epll_prior.npz",
        sidecar=f"{plan.results}/training/epll_prior.json",
    log:
        f"{plan.results}/logs/train/epll_prior.log",
    benchmark:
        f"{plan.results}/benchmarks/train/epll_prior.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=6000,
        runtime=240,
    params:
        config=plan.config_file,
        code=plan.code("bench.epll_prior"),
    shell:
        "python -m bench train_epll --output {output.prior:q} --threads {threads}"
        " --config {params.config:q} 2>&1 | tee {log:q}"
