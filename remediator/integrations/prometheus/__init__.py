"""Prometheus, and what speaks its HTTP API: look at metrics with ``prometheus.query``."""
