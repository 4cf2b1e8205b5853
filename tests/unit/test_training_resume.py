"""Training that is killed: the same bits when it is run again, from whole checkpoints alone."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pileline import models, training
from pileline.training import checkpoint, derived, loop
from pileline.training.group import Group

from tests.unit import small_models
from tests.unit.test_training import END, SMALL, Dropping, Killed, Memory, Size, V, folders, same, trained, weights


@pytest.mark.parametrize(
    ("kind", "plan"),
    [
        ("residual", {"accumulate": 2, "patience": 2}),
        ("transformer-2017", {"optimizer": "adam", "rate": 0.01, "beta2": 0.98}),
        ("lstm", {"optimizer": "momentum", "patience": 1}),
        ("mlp", {"optimizer": "rmsprop", "momentum": 0.5, "weight_decay": 0.01}),
    ],
)
def test_every_kind_ends_with_the_same_bits_after_a_stop(tmp_path, monkeypatch, kind, plan):
    """And with every optimizer's memory; `transformer` and muon, and a kind of one's own, are above."""
    monkeypatch.setattr(loop.live, "peak", lambda *_: 1e9)  # measured for the screen alone
    changes = {} if kind == "mlp" else {"dropout": 0.2}
    settled = derived.Settled(steps=7, warmup=2, validations=7, **plan)

    def go(name, stop=-1):
        class Stopping(Memory):
            def batch_at(self, step):
                if step == stop:
                    raise Killed
                return super().batch_at(step)

        model = small_models.built(kind, **changes).to("cpu")
        held_out = Memory(seed=4)
        outcome = loop.run(model, Stopping(), held_out, settled, 1, 1, *folders(tmp_path, name), checkpoint_seconds=0)
        return weights(model), outcome

    straight = go("straight")
    for stop in (2, 4):  # the second time it goes on from where the first had gone on to
        with contextlib.suppress(Killed):  # early stopping may come before
            go("broken", stop)
    resumed = go("broken")
    assert same(straight[0], resumed[0])
    assert straight[1] == resumed[1]


SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.unit.test_training import Memory, trained
from pileline.training import derived
kill = int(sys.argv[3])

class Killing(Memory):
    def batch_at(self, step):
        if step == kill:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch_at(step)

folder = [Path(sys.argv[2]) / part for part in ("output", "scratch")]
model, _ = trained(folder, derived.Settled(steps=8, warmup=2), Killing(), drops=True)
model.save(folder[0])
"""


@pytest.mark.parametrize(("stop", "drops"), [(1, False), (4, True), (5, True), (5, False), (9, False)])
def test_a_run_that_stops_anywhere_ends_with_the_same_bits(tmp_path, stop, drops):
    """5 is the border of an epoch."""
    plan = derived.Settled(steps=12, warmup=2, accumulate=2, l2=0.01, patience=5)
    straight, expected = trained(folders(tmp_path, "straight"), plan, None, Memory(seed=4), drops=drops)

    class Stopping(Memory):
        def batch_at(self, step):
            if step == stop:
                raise Killed
            return super().batch_at(step)

    broken = folders(tmp_path, "broken")
    with pytest.raises(Killed):
        trained(broken, plan, Stopping(), Memory(seed=4), drops=drops)
    torch.manual_seed(99)  # whatever else draws from torch's own generator does not matter
    np.random.seed(99)
    resumed, outcome = trained(broken, plan, None, Memory(seed=4), drops=drops)
    assert same(weights(straight), weights(resumed))
    assert outcome == expected
    logs = [(folder / "output/training.jsonl").read_bytes() for folder in (tmp_path / "straight", tmp_path / "broken")]
    assert logs[0] == logs[1]


def test_kill_9_then_again_gives_the_same_files(tmp_path):
    root = str(Path(__file__).parents[2])
    straight, _ = trained(folders(tmp_path, "straight"), derived.Settled(steps=8, warmup=2), drops=True)
    straight.save(tmp_path / "straight/output")
    folders(tmp_path, "killed")

    def start(kill):
        command = [sys.executable, "-c", SCRIPT, root, str(tmp_path / "killed"), str(kill)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root}/workflow"}
        return subprocess.run(command, env=environment, cwd=root, capture_output=True, check=False)

    assert start(5).returncode == -signal.SIGKILL  # when the first epoch of 5 steps has just ended
    assert not (tmp_path / "killed/output/model.safetensors").exists()
    again = start(-1)
    assert again.returncode == 0
    assert b"resumed after step 5" in again.stdout
    for name in ("model.safetensors", "training.jsonl"):
        found, expected = ((tmp_path / run / "output" / name).read_bytes() for run in ("killed", "straight"))
        assert found == expected


def test_random_numbers_are_functions_of_seed_step_part_and_process(tmp_path):
    run = loop.Run(Dropping(Size(), V, END), derived.Settled(), 1, 1, "", tmp_path, Group())

    def drawn(seed, step, part, rank):
        run.seed, run.step, run.group.rank = seed, step, rank
        run.draw(part)
        return torch.rand(4).tolist()

    places = [(1, 0, 0, 0), (2, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1)]
    found = [drawn(*place) for place in places]
    assert found == [drawn(*place) for place in places]
    assert len({tuple(numbers) for numbers in found}) == len(places)


def test_dropout_is_off_while_the_validation_split_is_looked_at(tmp_path):
    run = loop.Run(Dropping(Size(), V, END), derived.Settled(), 1, 1, "", tmp_path, Group())
    assert run.validate(Memory()) == run.validate(Memory())
    inputs, targets = map(torch.from_numpy, Memory().batch_at(0))
    assert run.network.loss(inputs, targets) != run.network.loss(inputs, targets)  # and on again


def test_a_checkpoint_of_another_run_is_not_continued(tmp_path, capsys):
    folder = folders(tmp_path)
    trained(folder, derived.Settled(steps=3))
    for plan, seed in ((derived.Settled(steps=4), 1), (derived.Settled(steps=3), 2)):
        model, _ = trained(folder, plan, seed=seed)
        assert "starting anew" in capsys.readouterr().out
        fresh, _ = trained(folders(tmp_path, f"fresh-{plan.steps}-{seed}"), plan, seed=seed)
        assert same(weights(model), weights(fresh))


@pytest.mark.parametrize("other", ["torch", "threads", "data", "precision", "code", "machine"])
def test_what_else_decides_the_weights_is_part_of_a_run(monkeypatch, other):
    model, plan = models.build(SMALL, V, END, 1), derived.Settled()

    def identity(threads=1, precision="float32", data="a"):
        return checkpoint.run_identity(model, plan, 1, threads, precision, data)

    before, changes = identity(), {}
    if other == "torch":
        monkeypatch.setattr(torch, "__version__", "2.12.0")
    elif other == "code":
        monkeypatch.setattr(checkpoint, "code_identity", lambda modules: "other")
    elif other == "machine":
        monkeypatch.setattr(checkpoint, "_cpu_name", lambda: "other")
    else:
        changes = {other: {"threads": 2, "data": "b", "precision": "bfloat16"}[other]}
    assert identity(**changes) != before
    monkeypatch.undo()
    assert identity() == before


def test_an_ended_run_takes_no_further_step(tmp_path):
    folder = folders(tmp_path)
    first, outcome = trained(folder, derived.Settled(steps=3))
    again, repeated = trained(folder, derived.Settled(steps=3))
    assert same(weights(first), weights(again))
    assert outcome == repeated


def test_a_checkpoint_is_whole_or_the_one_before(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, "a", {"step": 1})

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    for owner, name in ((torch, "save"), (os, "fsync"), (Path, "replace")):
        with monkeypatch.context() as broken:
            broken.setattr(owner, name, fail)
            with pytest.raises(
                training.TrainingError, match=r"written \(No space left on device\), its disk has .* MB left; mend that"
            ):
                checkpoint.save(tmp_path, "a", {"step": 2})
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-000000001.pt"]
    assert checkpoint.load(tmp_path, "a")["step"] == 1


def test_the_last_checkpoints_are_kept_and_a_damaged_one_is_passed_over(tmp_path, capsys):
    plan = derived.Settled(steps=9, checkpoints=2)
    straight, _ = trained(folders(tmp_path, "straight"), plan)

    class Stopping(Memory):
        def batch_at(self, step):
            if step == 6:
                raise Killed
            return super().batch_at(step)

    broken = folders(tmp_path, "broken")
    with pytest.raises(Killed):
        trained(broken, plan, Stopping())
    kept = sorted(path.name for path in broken[1].glob("checkpoint-*"))
    assert kept == ["checkpoint-000000005.pt", "checkpoint-000000006.pt"]
    (broken[1] / kept[1]).write_bytes((broken[1] / kept[1]).read_bytes()[:1000])
    resumed, _ = trained(broken, plan)
    assert "cannot be read" in (said := capsys.readouterr().out)
    assert "resumed after step 5" in said
    assert same(weights(straight), weights(resumed))


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error")], ids=["memory", "disk"])
def test_a_checkpoint_that_cannot_be_read_now_is_kept(tmp_path, monkeypatch, error):
    def fail(*_, **__):
        raise error

    checkpoint.save(tmp_path, "a", {"step": 1})
    with monkeypatch.context() as broken:
        broken.setattr(torch, "load", fail)
        with pytest.raises(type(error)):
            checkpoint.load(tmp_path, "a")
    assert checkpoint.load(tmp_path, "a")["step"] == 1


def test_a_full_disk_under_the_log_is_told(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(training.TrainingError, match=r"training\.jsonl cannot be written \(No space left on device\)"):
        trained(folders(tmp_path), derived.Settled(steps=2))


def test_two_runs_in_one_folder_would_mix_their_logs(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PATIENCE", 0.0)
    folder = folders(tmp_path)
    with (
        checkpoint.alone(folder[1]),
        pytest.raises(training.TrainingError, match=r"another run writes in .*scratch; wait until it has ended"),
    ):
        trained(folder, derived.Settled(steps=1))
    assert list(folder[1].iterdir()) == []
    assert trained(folder, derived.Settled(steps=1))[1].steps == 1


@pytest.mark.parametrize("damage", ["flipped", "other", "list", "zeros", "cut", "name"])
def test_a_checkpoint_of_other_bytes_is_no_checkpoint(tmp_path, damage, capsys):
    for step in (1, 2):
        checkpoint.save(tmp_path, "a", {"step": step, "network": torch.zeros(1000)}, keep=2)
    last = tmp_path / "checkpoint-000000002.pt"
    if damage == "flipped":
        content = bytearray(last.read_bytes())
        content[content.index(bytes(400)) + 200] ^= 1  # among the weights
        last.write_bytes(content)
    elif damage == "cut":
        content = last.read_bytes()
        last.write_bytes(content[:500] + content[600:])
    elif damage == "name":  # in the archive's list of its parts, which has no checksum
        content = bytearray(last.read_bytes())
        content[content.rindex(b"PK\x01\x02") + 50] ^= 0x80
        last.write_bytes(content)
    elif damage == "zeros":
        last.write_bytes(bytes(last.stat().st_size))
    else:
        torch.save({"other": {"step": 2}, "list": [1]}[damage], last)
    assert checkpoint.load(tmp_path, "a")["step"] == 1
    assert "cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("gone", "content"), [("training.jsonl", b""), ("training.jsonl", b"another\n" * 500), ("best.pt", b"")]
)
def test_a_run_whose_other_files_are_gone_starts_anew(tmp_path, gone, content, capsys):
    plan, held_out = derived.Settled(steps=6, patience=2, validations=6, matrix_rate=0.3), Memory(seed=4)
    straight, outcome = trained(folders(tmp_path, "straight"), plan, validation=held_out)
    folder = folders(tmp_path)
    for _ in range(2):
        again, repeated = trained(folder, plan, validation=held_out)
        assert same(weights(straight), weights(again))
        assert outcome == repeated
        (folder[1] / gone).write_bytes(content)
    trained(folder, plan, validation=held_out)
    assert f"{gone} is not there: starting anew" in capsys.readouterr().out


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"identity": "a", "x": Evil()}, tmp_path / "checkpoint-000000001.pt")
    assert checkpoint.load(tmp_path, "a") is None
    assert not (tmp_path / "owned").exists()


def test_code_identity_ignores_comments_and_sees_changes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "made_for_a_test.py"
    found = []
    for text in ("x = 1\n", "# why\nx = 1\n", "x = 2\n"):
        file.write_text("x = 0\n")
        __import__("made_for_a_test")
        file.write_text(text)
        found.append(checkpoint.code_identity(["made_for_a_test"]))
    assert found[0] == found[1] != found[2]
