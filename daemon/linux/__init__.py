"""System calls: how the decisions of the core are carried out on Linux."""
