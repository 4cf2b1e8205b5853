"""What unit tests of several files share."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
from pileline import fingerprint

from tests.conftest import default_config

DEFAULT = default_config()


@pytest.fixture
def raw() -> dict[str, Any]:
    """The default configuration as it is read, to change."""
    found: dict[str, Any] = copy.deepcopy(DEFAULT)
    return found


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one core, on which networks as small as those of the tests are faster than on two."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def code_unknown() -> Iterator[None]:
    """What fingerprints remember of code is of no other test's folder, and of none when the test has ended."""

    def forget() -> None:
        for remembered in (fingerprint.pins, fingerprint.own_code, fingerprint.module_code):
            remembered.cache_clear()

    forget()
    yield
    forget()
