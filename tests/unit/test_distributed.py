"""Several processes: the same curve as one, by DDP and FSDP; the same bits after a stop; errors told; no orphans."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from pileline import manifest, models, training
from pileline.models.transformer import Transformer
from pileline.training import derived, distributed, launch, loop, muon, worker
from pileline.training.group import Group
from safetensors.torch import load_file

from tests.conftest import LONGEST, wait_for_end
from tests.unit.small_corpora import write_shards

ROOT = Path(__file__).parents[2]
V, END = 40, 0
# A width that two processes cannot share evenly, wide and high matrices, and a table of which few rows are seen.
SMALL = {"kind": "transformer", "layers": 2, "heads": 1, "width": 18, "mlp": 3, "context": 8, "bigrams": 17}
STEPS, EPOCH = 5, 3
CASES = {
    "ddp-muon": {"distribution": "ddp", "optimizer": "muon"},
    "ddp-dropout": {"distribution": "ddp", "optimizer": "adamw", "rate": 0.01, "dropout": 0.2},
    "fsdp-muon": {"distribution": "fsdp", "optimizer": "muon"},
    "fsdp-momentum": {"distribution": "fsdp", "optimizer": "momentum", "rate": 0.01},
}
TRACKED = {  # with a network that remembers what it has seen
    "ddp-tracked": {"distribution": "ddp", "optimizer": "adamw", "rate": 0.01},
    "fsdp-tracked": {"distribution": "fsdp", "optimizer": "adamw", "rate": 0.01},
}
STOPPED = ("ddp-dropout", "fsdp-muon", *TRACKED)
EXACT = ("ddp-muon", "fsdp-muon", "fsdp-momentum")  # each process draws its own dropout, so it is not one process's


class Tracking(Transformer):
    """A transformer that keeps a running mean of its hidden states and a number, as a BatchNorm does, and uses them."""

    def make(self):
        network = super().make()
        network.register_buffer("mean", torch.zeros(self.shape.width))
        network.register_buffer("passes", torch.zeros((), dtype=torch.int64))
        hidden = network.hidden

        def tracked(tokens):
            found = hidden(tokens)
            if network.training:
                network.mean.lerp_(found.detach().mean(dim=(0, 1)), 0.3)
                network.passes.add_(1)
            return found - network.mean

        network.hidden = tracked
        return network


class Memory:
    """Batches of a stream in memory, of which each process of a group has its rows; the last of odd rows is padded."""

    def __init__(self, group, seed=3, stop=-1, batch=6, context=8, epoch_steps=EPOCH):
        self.group, self.batch, self.context, self.epoch_steps, self.stop = group, batch, context, epoch_steps, stop
        self.tokens = np.random.default_rng(seed).integers(1, V, epoch_steps * batch * context + 1)

    def batch_at(self, step):
        if step == self.stop:
            raise InterruptedError
        starts = (step % self.epoch_steps * self.batch + np.arange(self.batch)) * self.context
        rows = self.tokens[starts[:, None] + np.arange(self.context + 1)]
        inputs, targets = rows[:, :-1], rows[:, 1:].copy()
        targets[::4, 5:] = -100  # the first process has more padding than the second
        mine = slice(*(rank * self.batch // self.group.ranks for rank in (self.group.rank, self.group.rank + 1)))
        return inputs[mine], targets[mine]


def trained(folder, group, stop=-1, dropout=0.0, **changes):
    """Train in this process as one of the group; None if it stopped at step `stop`."""
    muon.multiplies_bfloat16 = lambda device: False  # its rounding would hide what is compared
    places = [folder / part for part in ("output", "scratch")]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    kind = Tracking if "tracked" in folder.name else Transformer
    model = kind.build(SMALL | {"dropout": dropout}, V, END, 1).to("cpu")
    same = {"steps": STEPS, "warmup": 1, "accumulate": 2, "l2": 0.01, "precision": "float32"}
    rates = {"matrix_rate": 0.01, "embedding_rate": 0.01}  # low: Adam's first steps make much of small differences
    plan = derived.Settled(**same, **rates, processes=group.ranks, **changes)
    batches, held_out = Memory(group, stop=stop), Memory(group, seed=4)
    often = 0 if stop > 0 else 1e9  # a checkpoint after every step, or after the last alone
    try:
        outcome = loop.run(model, batches, held_out, plan, 1, 1, *places, checkpoint_seconds=often, group=group)
    except InterruptedError:
        return None
    launch.save_weights(group.weights(model.network), folder / f"{group.rank}.safetensors")
    return outcome


def run_cases(folder):
    """What each process of torchrun does."""
    faulthandler.dump_traceback_later(LONGEST - 10, exit=True)
    with distributed.group("ddp", "cpu") as replicated:
        groups = {"ddp": replicated, "fsdp": distributed.Sharded()}
        for name, changes in (CASES | TRACKED).items():
            group = groups[changes["distribution"]]
            trained(folder / name, group, **changes)
            if name in STOPPED:
                assert trained(folder / f"{name}-stopped", group, stop=EPOCH, **changes) is None
                torch.manual_seed(99 + group.rank)
                trained(folder / f"{name}-stopped", group, **changes)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """The folder in which two processes left what they trained."""
    folder = tmp_path_factory.mktemp("cases")
    code = f"from tests.unit import test_distributed as t; t.run_cases(t.Path({str(folder)!r}))"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}/workflow"}
    subprocess.run([*command, sys.executable, "-c", code], check=True, cwd=ROOT, env=environment, timeout=LONGEST)
    return folder


def curve(folder):
    return [json.loads(line) for line in (folder / "output/training.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", EXACT)
def test_two_processes_take_the_steps_of_one(cases, tmp_path, monkeypatch, name):
    monkeypatch.setattr(muon, "multiplies_bfloat16", muon.multiplies_bfloat16)  # `trained` changes it
    trained(tmp_path, Group(), **CASES[name])
    one, two = curve(tmp_path), curve(cases / name)
    assert [record["tokens"] for record in one] == [record["tokens"] for record in two]
    for key in ("loss", "gradient_norm"):
        assert [r[key] for r in two] == pytest.approx([r[key] for r in one], rel=2e-4)
    assert two[-1]["validation_loss"] == pytest.approx(one[-1]["validation_loss"], rel=2e-4)
    assert two[-1]["loss"] != two[0]["loss"]
    weights, expected = load_file(cases / name / "0.safetensors"), load_file(tmp_path / "0.safetensors")
    assert weights.keys() == expected.keys()
    for key in weights:
        torch.testing.assert_close(weights[key], expected[key], rtol=0, atol=2e-3, msg=key)


@pytest.mark.parametrize("name", [*CASES, *TRACKED])
def test_processes_end_with_one_model(cases, name):
    first, second = (load_file(cases / name / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", STOPPED)
def test_several_processes_that_stop_end_with_the_same_bits(cases, name):
    straight, stopped = (load_file(cases / folder / "0.safetensors") for folder in (name, f"{name}-stopped"))
    assert all(torch.equal(straight[key], stopped[key]) for key in straight)
    assert curve(cases / name) == curve(cases / f"{name}-stopped")


# ---------------------------------------------------------------------------------- as the stage does it


TINY = {"kind": "transformer", "layers": 1, "heads": 1, "width": 16, "context": 16, "batch_tokens": 64, "steps": 8}


COUNTS = {"train": 60, "validation": 20}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Shards of counted lines, by bytes."""
    parts = {split: [f"line {n} of {count}\n" * 4 for n in range(count)] for split, count in COUNTS.items()}
    return write_shards(tmp_path_factory.mktemp("corpus"), parts, {"kind": "byte"})


def on_shards(corpus, folder, **changes):
    shards, tokenizer = corpus
    settings = TINY | changes
    places = [folder / part for part in ("output", "scratch")]
    for place in places:
        place.mkdir(parents=True)
    model = models.build(settings, tokenizer.vocabulary_size, tokenizer.end, 1)
    outcome = training.train(model, shards, settings, 1, "cpu", 1, *places, tokenizer.decode)
    return model, outcome


def test_the_stage_starts_its_processes_and_takes_their_model(corpus, tmp_path, capsys):
    changes = {"optimizer": "adamw", "samples": 1, "precision": "float32"}
    one, expected = on_shards(corpus, tmp_path / "one", **changes)
    capsys.readouterr()
    two, found = on_shards(corpus, tmp_path / "two", processes=2, **changes)
    assert "── after step 8" in capsys.readouterr().out  # what processes say is heard, and tokens are text there
    assert (expected.processes, found.processes) == (1, 2)
    assert [r["loss"] for r in found.curve] == pytest.approx([r["loss"] for r in expected.curve], rel=1e-4)
    assert found.validation_loss == pytest.approx(expected.validation_loss, rel=1e-4)
    assert found.tokens_seen == expected.tokens_seen
    for (name, a), b in zip(one.network.state_dict().items(), two.network.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-3, msg=name)
    assert not (tmp_path / "two/scratch" / launch.FOLDER).exists()
    assert (tmp_path / "two/output/training.jsonl").exists()
    manifest.canonical_json(found.metrics())


def test_an_error_of_a_process_is_raised_where_training_was_asked_for(corpus, tmp_path, monkeypatch):
    def run(processes, folder, threads):
        """One process of two that could not share a row, here instead of below torchrun."""
        monkeypatch.setenv("RANK", "1")
        with pytest.raises(SystemExit):
            worker.main(folder)
        return 1

    monkeypatch.setattr(launch, "_run", run)
    monkeypatch.setattr(worker, "_end_with_launcher", lambda: None)
    monkeypatch.setattr(worker.distributed, "group", lambda *_: contextlib.nullcontext(Half()))
    with pytest.raises(training.TrainingError, match=r"process 1: .* 1 rows of 16 tokens for 2 processes"):
        on_shards(corpus, tmp_path, processes=2, batch_tokens=16)


class Half(Group):
    """The second process of two."""

    rank, ranks = 1, 2


def test_a_model_that_is_shared_out_is_moved_by_its_layers():
    model, group = models.build(SMALL, V, END, 1), object.__new__(distributed.Sharded)
    group.place(model, "cuda")
    assert (model.device, group.device) == ("cuda", "cuda")
    assert {parameter.device.type for parameter in model.network.parameters()} == {"cpu"}
    Group().place(model, "cpu")
    assert model.device == "cpu"


def test_processes_that_say_nothing_are_explained(tmp_path, corpus, monkeypatch):
    monkeypatch.setattr(launch, "_run", lambda *_: -9)
    with pytest.raises(training.TrainingError, match=r"status -9, see their output above.* raise accumulate"):
        on_shards(corpus, tmp_path, processes=2)


def test_processes_end_with_the_one_that_started_them(corpus, tmp_path):
    folder = str(tmp_path / "run")
    code = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from tests.unit import test_distributed as t\n"
        "from pileline.tokenizer import Tokenizer\n"
        "shards = pathlib.Path(sys.argv[2])\n"
        "corpus = shards, Tokenizer.load(shards.parent / 'tokenizer')\n"
        "t.on_shards(corpus, pathlib.Path(sys.argv[3]), processes=2, steps=10**6)\n"
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}/workflow"}
    command = [sys.executable, "-c", code, str(ROOT), str(corpus[0]), folder]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as started:
        for line in started.stdout:
            if line.startswith("training:"):  # steps are being taken
                break
        below = psutil.Process(started.pid).children(recursive=True)
        assert sum(launch.WORKER in process.cmdline() for process in below) >= 2
        started.send_signal(signal.SIGKILL)
    wait_for_end(below)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@pytest.mark.parametrize("distribution", ["ddp", "fsdp"])
def test_two_gpus_take_the_steps_of_one(corpus, tmp_path, distribution):
    shards, tokenizer = corpus
    found = {}
    for name, changes in (("one", {}), ("two", {"processes": 2, "distribution": distribution})):
        settings = TINY | {"precision": "float32"} | changes
        places = [tmp_path / name / part for part in ("output", "scratch")]
        for place in places:
            place.mkdir(parents=True)
        model = models.build(settings, tokenizer.vocabulary_size, tokenizer.end, 1)
        found[name] = training.train(model, shards, settings, 1, "cuda", 1, *places)
    losses = {name: [record["loss"] for record in outcome.curve] for name, outcome in found.items()}
    assert losses["two"] == pytest.approx(losses["one"], rel=1e-3)
    assert found["two"].device == "cuda"


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(training.TrainingError, match="1 GPUs, too few for process 1; lower processes"),
        distributed.group("ddp", "cuda"),
    ):
        pass
