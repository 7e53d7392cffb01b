"""
The supervisor core on a fake kernel with virtual time: random trees, random faults, invariants after every step.

`python -m tests.sim` runs it at length; the tests under tests/sim run a seeded portion.
"""
