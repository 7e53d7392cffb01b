"""
The pure supervisor: every decision regrow takes about its processes, and nothing that acts on them.

Modules here import value tools and the vocabulary only; a test holds that.
"""
