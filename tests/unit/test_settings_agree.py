"""The schema of config.yaml and the library know the same settings, with the same defaults."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from pileline import checks, models
from pileline.deduplication import Method
from pileline.training import Plan

FRAME = {"kind", "threads", "device", "seed"}  # settings that the frame takes out before the library sees them


def defaults(section: str, kind: str) -> dict[str, Any]:
    properties = checks.schema()["$defs"][section][kind]["properties"]
    return {name: entry.get("default") for name, entry in properties.items() if name not in FRAME}


@pytest.mark.parametrize("kind", sorted(checks.schema()["$defs"]["models"]))
def test_models_have_the_settings_of_the_schema(kind: str) -> None:
    model = models.resolve(kind)
    plan = {field.name for field in fields(Plan)} if model.learns_by == "gradient" else set()
    assert set(defaults("models", kind)) == model.setting_names() | plan


@pytest.mark.parametrize(
    "kind", [kind for kind in sorted(models.REGISTRY) if models.resolve(kind).learns_by == "gradient"]
)
def test_the_plan_of_training_has_the_defaults_of_the_schema(kind: str) -> None:
    schema, usual = defaults("models", kind), models.resolve(kind).training_defaults
    plan = Plan.of(usual, set())
    assert {field.name: getattr(plan, field.name) for field in fields(Plan)} == {
        field.name: schema[field.name] for field in fields(Plan)
    }


@pytest.mark.parametrize("kind", [kind for kind in sorted(models.REGISTRY) if kind != "ngram"])
def test_shapes_have_the_defaults_of_the_schema(kind: str) -> None:
    schema, shape = defaults("models", kind), models.resolve(kind).shape_class
    assert {field.name: field.default for field in fields(shape)} == {
        field.name: schema[field.name] for field in fields(shape)
    }


def test_kinds_differ_in_the_defaults_of_training_alone() -> None:
    kinds = checks.schema()["$defs"]["models"]
    for name, entry in checks.schema()["$defs"]["training"].items():
        found = [kinds[kind]["properties"][name] for kind in kinds if name in kinds[kind]["properties"]]
        assert [each | {"default": None} for each in found] == [entry | {"default": None}] * len(found)


def test_minhash_has_the_defaults_of_the_schema() -> None:
    made = Method.from_dict({"kind": "minhash"})
    assert {name: getattr(made, name) for name in defaults("deduplications", "minhash")} == defaults(
        "deduplications", "minhash"
    )


def test_every_kind_of_model_in_the_schema_is_registered() -> None:
    assert set(models.REGISTRY) == set(checks.schema()["$defs"]["models"])


def test_every_kind_of_model_lives_where_the_fingerprint_looks_for_it() -> None:
    for kind, place in models.REGISTRY.items():
        assert place.startswith(f"pileline.models.{kind.replace('-', '_')}:")
