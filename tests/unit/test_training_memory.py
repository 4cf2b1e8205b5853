"""Memory that training keeps from step to step."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
import numpy as np
from pileline.training import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        arrays = [np.ones(1 << 20) for _ in range(8)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
print(min(faults() for _ in range(3)))  # the system may look at pages now and then
memory.keep()
faults()
print(min(faults() for _ in range(3)))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc can be told to keep memory"
)
def test_what_a_step_has_freed_serves_the_next() -> None:
    printed = subprocess.run([sys.executable, "-c", STEPS], check=True, stdout=subprocess.PIPE, text=True).stdout
    before, after = map(int, printed.split())
    pages = 4 * 8 * (8 << 20) >> 12  # at most so many, if all are mapped anew
    assert after < pages / 100
    assert after < before / 2
