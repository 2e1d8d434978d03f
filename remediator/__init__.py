"""Remediator: alerts become guarded, audited actions; this file holds only the version."""

__version__ = "0.1.0"
