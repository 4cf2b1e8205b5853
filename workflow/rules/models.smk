# Models: trained on shards, scored on the common holdout, used for a task, exported.


# Train a model; its kind is found by name, so the notebook and code of that kind alone are part of the fingerprint.
rule train_model:
    input:
        notebook=ancient(line.train_notebook),
        manifests=[
            "results/shards/{corpus}/{tokenizer}/manifest.json",
            "results/tokenizers/{corpus}/{tokenizer}/manifest.json",
        ],
    output:
        manifest="results/models/{corpus}/{tokenizer}/{model}/manifest.json",
        run="results/models/{corpus}/{tokenizer}/{model}/run.json",
    log:
        text="results/logs/models/{corpus}/{tokenizer}/{model}/07_train.log",
        notebook="results/logs/models/{corpus}/{tokenizer}/{model}/07_train.ipynb",
    priority: line.priority
    conda:
        "../../envs/pileline.yaml"
    threads: line.train_threads
    resources:
        mem_mb=line.train_memory,
        runtime=1440,
        gpu=line.train_gpus,
    params:
        *line.train_code(),
        model_code=line.model_code,
        worker_code=line.worker_code,
        settings=line.settings("train"),
    shell:
        RUN


# Bits per byte of the holdout, by source, and samples of the model's own text.
rule evaluate_model:
    input:
        notebook=ancient("notebooks/08_evaluate.ipynb"),
        manifests=[
            "results/models/{corpus}/{tokenizer}/{model}/manifest.json",
            "results/tokenizers/{corpus}/{tokenizer}/manifest.json",
        ],
        holdout=line.holdout,
    output:
        manifest="results/evaluations/{corpus}/{tokenizer}/{model}/manifest.json",
        run="results/evaluations/{corpus}/{tokenizer}/{model}/run.json",
        documents="results/evaluations/{corpus}/{tokenizer}/{model}/documents.parquet",
    log:
        text="results/logs/evaluations/{corpus}/{tokenizer}/{model}/08_evaluate.log",
        notebook="results/logs/evaluations/{corpus}/{tokenizer}/{model}/08_evaluate.ipynb",
    conda:
        "../../envs/pileline.yaml"
    threads: line.model_threads
    resources:
        mem_mb=line.model_memory,
        runtime=240,
        gpu=line.model_gpus,
    params:
        *line.code("evaluate"),
        model_code=line.model_code,
        settings=line.settings("evaluate"),
    shell:
        RUN


# A downstream task on the model's features, against baselines that know nothing of language models.
rule solve_task:
    input:
        notebook=ancient("notebooks/09_task.ipynb"),
        manifests=[
            "results/models/{corpus}/{tokenizer}/{model}/manifest.json",
            "results/tokenizers/{corpus}/{tokenizer}/manifest.json",
        ],
        labelled=line.labelled,
    output:
        manifest="results/tasks/{corpus}/{tokenizer}/{model}/{task}/manifest.json",
        run="results/tasks/{corpus}/{tokenizer}/{model}/{task}/run.json",
        predictions="results/tasks/{corpus}/{tokenizer}/{model}/{task}/predictions.parquet",
    log:
        text="results/logs/tasks/{corpus}/{tokenizer}/{model}/{task}/09_task.log",
        notebook="results/logs/tasks/{corpus}/{tokenizer}/{model}/{task}/09_task.ipynb",
    conda:
        "../../envs/pileline.yaml"
    threads: line.model_threads
    resources:
        mem_mb=line.model_memory,
        runtime=240,
        gpu=line.model_gpus,
    params:
        *line.code("task"),
        model_code=line.model_code,
        settings=line.settings("task"),
    shell:
        RUN


# The model as a folder that Hugging Face's transformers loads, with equal logits, and whatever reads such folders.
rule export_model:
    input:
        notebook=ancient("notebooks/10_export.ipynb"),
        manifests=[
            "results/models/{corpus}/{tokenizer}/{model}/manifest.json",
            "results/tokenizers/{corpus}/{tokenizer}/manifest.json",
        ],
    output:
        manifest="results/exports/{corpus}/{tokenizer}/{model}/manifest.json",
        run="results/exports/{corpus}/{tokenizer}/{model}/run.json",
        weights="results/exports/{corpus}/{tokenizer}/{model}/model.safetensors",
    log:
        text="results/logs/exports/{corpus}/{tokenizer}/{model}/10_export.log",
        notebook="results/logs/exports/{corpus}/{tokenizer}/{model}/10_export.ipynb",
    conda:
        "../../envs/pileline.yaml"
    threads: 1
    resources:
        mem_mb=line.model_memory,
        runtime=60,
    params:
        *line.code("export"),
        copied=line.module_code("pileline.export.modeling_pileline"),
        model_code=line.model_code,
        settings=line.settings("export"),
    shell:
        RUN
