# The report: it reads what the manifests of all stages name, their run records and executed notebooks.


# Render the report, and a page for every executed notebook.
rule render_report:
    input:
        notebook=ancient("notebooks/11_report.ipynb"),
        manifests=line.finished,
    output:
        manifest="results/report/manifest.json",
        run="results/report/run.json",
        index="results/report/index.html",
    log:
        text="results/logs/report/11_report.log",
        notebook="results/logs/report/11_report.ipynb",
    conda:
        "../../envs/pileline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        *line.code("report"),
        *line.templates(),
        settings=line.settings("report"),
    shell:
        RUN
