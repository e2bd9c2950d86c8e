"""Tables: read results only, so they are remade in seconds."""


rule table1:
    """Denoising, gray and colour."""
    input:
        f"{plan.results}/tables/table1.md",


rule table2:
    """Colour super-resolution."""
    input:
        f"{plan.results}/tables/table2.md",


rule table3:
    """MRI."""
    input:
        f"{plan.results}/tables/table3.md",


rule table4:
    """MRI, times."""
    input:
        f"{plan.results}/tables/table4.md",


rule table5:
    """Gray deblurring."""
    input:
        f"{plan.results}/tables/table5.md",


rule make_table:
    input:
        results=lambda wildcards: plan.table(wildcards.table),
    output:
        csv=f"{plan.results}/tables/{{table}}.csv",
        per_image=f"{plan.results}/tables/{{table}}_per_image.csv",
        tex=f"{plan.results}/tables/{{table}}.tex",
        md=f"{plan.results}/tables/{{table}}.md",
        versus_csv=f"{plan.results}/tables/{{table}}_vs_paper.csv",
        versus_md=f"{plan.results}/tables/{{table}}_vs_paper.md",
        sidecar=f"{plan.results}/tables/{{table}}.json",
    log:
        f"{plan.results}/logs/tables/{{table}}.log",
    benchmark:
        f"{plan.results}/benchmarks/tables/{{table}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        config=plan.config_file,
        code=plan.code("bench.tables", "bench.timing_table", "bench.layouts"),
        part=lambda wildcards: plan.table_part(wildcards.table),
    shell:
        "python -m bench table {wildcards.table:q} --config {params.config:q} 2>&1 | tee {log:q}"
