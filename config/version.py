"""The one place that says which version this is. It imports nothing."""

VERSION = "0.1.0"
