"""One page with everything, and the same as LaTeX: they read results only, so they are remade in seconds."""


rule report:
    """The page."""
    input:
        f"{plan.results}/report.html",


rule paper:
    """LaTeX sources; `make pdf` compiles them."""
    input:
        f"{plan.results}/paper/main.tex",


rule make_report:
    input:
        shown=plan.tables(),
        figures=plan.figures(),
    output:
        page=f"{plan.results}/report.html",
    log:
        f"{plan.results}/logs/report/page.log",
    benchmark:
        f"{plan.results}/benchmarks/report/page.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        config=plan.config_file,
        code=plan.code("bench.report"),
        ablations=plan.ablation_figure(),
        part=plan.shown_part("report.html.j2", "report.css", "report.js"),
    shell:
        "python -m bench report --output {output.page:q} --figures {input.figures:q} {params.ablations:q}"
        " --config {params.config:q} 2>&1 | tee {log:q}"


rule write_paper:
    input:
        shown=plan.tables(),
        figures=plan.figures(),
    output:
        tables=f"{plan.results}/paper/tables.tex",
        figures=f"{plan.results}/paper/figures.tex",
        main=f"{plan.results}/paper/main.tex",
    log:
        f"{plan.results}/logs/report/paper.log",
    benchmark:
        f"{plan.results}/benchmarks/report/paper.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        config=plan.config_file,
        code=plan.code("bench.paper"),
        ablations=plan.ablation_figure(),
        part=plan.shown_part(),
    shell:
        "python -m bench paper --figures {input.figures:q} {params.ablations:q} --config {params.config:q}"
        " 2>&1 | tee {log:q}"
