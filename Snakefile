# Type `snakemake --cores N`: the whole line, as config.yaml describes it, to results/report/index.html.
include: "workflow/Snakefile"


# What is made when nothing is named. (Targets of included files do not count as the default.)
rule default:
    default_target: True
    input:
        rules.all.input,
