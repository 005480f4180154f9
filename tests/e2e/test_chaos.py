# SPDX-License-Identifier: Apache-2.0
"""test_chaos.py - the short version of chaos.py; the long one is `make chaos`."""
import random

import chaos


def test_nothing_shows(tmp_path):
    chaos.run(tmp_path, events=60000, faults=8, seed=random.SystemRandom().randrange(1, 1_000_000), minutes=0.8)
