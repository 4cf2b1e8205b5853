"""What the notebooks say of a training, by what the model learns by, and which of its files they keep."""

from __future__ import annotations

from pathlib import Path

from pileline import training
from pileline.training import Outcome

from tests.unit.small_models import built

COMMON = {"epochs": 1.5, "final_training_loss": None, "validation_loss": 2.3456, "threads": 1}


def test_what_does_not_apply_is_left_out() -> None:
    outcome = Outcome(steps=3, tokens_seen=12_345, device="cpu", precision="float64", **COMMON)
    assert training.facts(model := built("ngram"), outcome) == {
        "kind": "ngram",
        "learns by": "counts",
        "parameters": f"{model.parameters_count:,}",
        "tokens seen, epochs": "12,345, 1.50",
        "device, precision": "cpu, float64",
        "validation loss, nats a token": "2.346",
    }


def test_steps_are_told_with_what_they_cost() -> None:
    outcome = Outcome(
        steps=1200,
        tokens_seen=2_457_600,
        device="cuda",
        precision="bfloat16",
        optimizer={"name": "muon", "schedule": "wsd"},
        batch_tokens=2048,
        best_step=1000,
        stopped_early=True,
        compiled=True,
        packing={"packing": "best_fit", "cut_share": 0.0, "efficiency": 0.9876},
        **COMMON,
    )
    told = training.facts(built("lstm"), outcome)
    assert told["optimizer; schedule"] == "muon; wsd"
    assert told["steps"] == "1,200 of 2,048 tokens"
    assert told["steps skipped as spikes"] == "0"
    assert told["best"] == "stopped early, weights of step 1,000"
    assert (told["documents cut by blocks"], told["places with a token"]) == ("0.0%", "98.8%")
    assert told["device, precision"] == "cuda, bfloat16, compiled"


def test_files_are_all_but_those_that_hold_times(tmp_path: Path) -> None:
    for name in ("config.json", "ngram/ngram.npz", "events/tfevents.1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert training.files(tmp_path) == ["config.json", "ngram/ngram.npz"]
