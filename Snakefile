# Type `snakemake --cores N`: the whole line, as config.yaml describes it, to results/report/index.html.
include: "workflow/Snakefile"
