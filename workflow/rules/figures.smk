"""Figures: what they show is computed once and saved; drawing reads that alone, so it takes seconds."""


rule figures:
    """All figures of the configuration."""
    input:
        lambda wildcards: plan.figures(),


rule figure1:
    """The method as a diagram."""
    input:
        f"{plan.results}/figures/fig01.png",


rule figure2:
    """The mask's network as a diagram."""
    input:
        f"{plan.results}/figures/fig02.png",


rule figure3:
    """Denoising, methods compared."""
    input:
        f"{plan.results}/figures/fig03.png",


rule figure4:
    """Solution path of denoising."""
    input:
        f"{plan.results}/figures/fig04.png",


rule figure5:
    """Super-resolution, methods compared and five initialisations."""
    input:
        f"{plan.results}/figures/fig05.png",


rule figure6:
    """Impulse response of WᵀW and its spectrum."""
    input:
        f"{plan.results}/figures/fig06.png",


rule figure7:
    """Two filters and their masks."""
    input:
        f"{plan.results}/figures/fig07.png",


rule figure8:
    """Averaging weights of three pixels."""
    input:
        f"{plan.results}/figures/fig08.png",


rule figure9:
    """Deblurring, methods compared."""
    input:
        f"{plan.results}/figures/fig09.png",


rule figure10:
    """MRI, methods compared."""
    input:
        f"{plan.results}/figures/fig10.png",


rule figure11:
    """Solution path of MRI."""
    input:
        f"{plan.results}/figures/fig11.png",


rule figure12:
    """Convergence from the five initialisations of Figure 5."""
    input:
        f"{plan.results}/figures/fig12.png",


rule figure13:
    """Kernels of W, both models."""
    input:
        f"{plan.results}/figures/fig13.png",
        f"{plan.results}/figures/fig13_color.png",


rule figure14:
    """Kernels of W_mask, both models."""
    input:
        f"{plan.results}/figures/fig14.png",
        f"{plan.results}/figures/fig14_color.png",


rule figure15:
    """Splines."""
    input:
        f"{plan.results}/figures/fig15.png",


rule figure16:
    """Averages over the channels."""
    input:
        f"{plan.results}/figures/fig16.png",


rule training_figure:
    """Curves of the trainings, which it asks for."""
    input:
        f"{plan.results}/figures/training.png",


rule collect_figure:
    input:
        data=lambda wildcards: plan.figure_inputs(wildcards.figure),
    output:
        data=f"{plan.results}/figures/data/{{figure}}.npz",
        sidecar=f"{plan.results}/figures/data/{{figure}}.json",
    log:
        f"{plan.results}/logs/figure_data/{{figure}}.log",
    benchmark:
        f"{plan.results}/benchmarks/figure_data/{{figure}}.tsv"
    conda:
        "../../environment.yml"
    threads: lambda wildcards: workflow.cores if plan.figure_is_timed(wildcards.figure) else 1
    resources:
        gpu=plan.gpu,
        timing=lambda wildcards: int(plan.figure_is_timed(wildcards.figure)),
        mem_mb=8000,
        runtime=720,
    params:
        config=plan.config_file,
        code=lambda wildcards: plan.figure_data_code(wildcards.figure),
        part=lambda wildcards: plan.figure_part(wildcards.figure),
    shell:
        "python -m bench figure-data {wildcards.figure:q} --output {output.data:q} --threads {threads}"
        " --config {params.config:q} 2>&1 | tee {log:q}"


rule draw_figure:
    input:
        data=lambda wildcards: plan.figure_data(wildcards.figure),
    output:
        pdf=f"{plan.results}/figures/{{figure}}.pdf",
        png=f"{plan.results}/figures/{{figure}}.png",
        sidecar=f"{plan.results}/figures/{{figure}}.json",
    log:
        f"{plan.results}/logs/figures/{{figure}}.log",
    benchmark:
        f"{plan.results}/benchmarks/figures/{{figure}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        code=lambda wildcards: plan.figure_code(wildcards.figure),
        zoom=lambda wildcards: plan.figure_zoom(wildcards.figure),
    shell:
        "python -m bench figure {wildcards.figure:q} --data {input.data:q} --output {output.png:q} {params.zoom}"
        " 2>&1 | tee {log:q}"
