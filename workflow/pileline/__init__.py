"""Pileline: raw text to an evaluated language model, one parameterized notebook a stage."""
