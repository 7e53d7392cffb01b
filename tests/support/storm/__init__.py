"""
The chaos driver: a nested tree of 60 processes, random deaths, and witnesses that do not depend on regrow.

`forest` is the tree, `lives` its daemon from one life to the next, `witness` what the kernel shows, `ledger` what was
printed and what was logged, `gauges` descriptors and memory, `driver` the storm, `crashes` its special cases, and
`command` the run from a command line.
"""
