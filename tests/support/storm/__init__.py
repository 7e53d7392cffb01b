"""
The chaos driver: a nested tree of 60 processes, random deaths, and witnesses that do not depend on regrow.

`forest` is the tree, `lives` its daemon from one life to the next, `witness` what the kernel shows, `ledger` what was
printed and what was logged, `gauges` and `growth` descriptors and memory, `garden` all of these together and what must
hold of them, `driver` the storm, `crashes` the worst moments one by one, and `command` the run from a command line.
"""
