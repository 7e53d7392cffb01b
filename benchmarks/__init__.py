"""
What regrow costs, each figure beside the floor that the machine allows, measured in the same run.

`benchmarks/run` or `python -m benchmarks`; see README.md.
"""
