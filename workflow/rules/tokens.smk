# Tokens: a tokenizer learned from a corpus, and the corpus as shards of token ids.


# Learn the pieces from a sample of the mixed training text.
rule train_tokenizer:
    input:
        notebook=ancient("notebooks/05_tokenizer.ipynb"),
        manifests=["results/corpora/{corpus}/manifest.json"],
    output:
        manifest="results/tokenizers/{corpus}/{tokenizer}/manifest.json",
        run="results/tokenizers/{corpus}/{tokenizer}/run.json",
        model="results/tokenizers/{corpus}/{tokenizer}/tokenizer.model",
        exported="results/tokenizers/{corpus}/{tokenizer}/tokenizer.json",
    log:
        text="results/logs/tokenizers/{corpus}/{tokenizer}/05_tokenizer.log",
        notebook="results/logs/tokenizers/{corpus}/{tokenizer}/05_tokenizer.ipynb",
    priority: line.priority
    conda:
        "../../envs/pileline.yaml"
    threads: 1
    resources:
        mem_mb=line.tokenizer_memory,
        runtime=120,
    params:
        *line.code("tokenizer"),
        settings=line.settings("tokenizer"),
    shell:
        RUN


# Encode the corpus once, into Arrow files that training maps into memory.
rule write_shards:
    input:
        notebook=ancient("notebooks/06_shards.ipynb"),
        manifests=[
            "results/corpora/{corpus}/manifest.json",
            "results/tokenizers/{corpus}/{tokenizer}/manifest.json",
        ],
    output:
        manifest="results/shards/{corpus}/{tokenizer}/manifest.json",
        run="results/shards/{corpus}/{tokenizer}/run.json",
    log:
        text="results/logs/shards/{corpus}/{tokenizer}/06_shards.log",
        notebook="results/logs/shards/{corpus}/{tokenizer}/06_shards.ipynb",
    priority: line.priority
    conda:
        "../../envs/pileline.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=120,
    params:
        *line.code("shards"),
        settings=line.settings("shards"),
    shell:
        RUN
