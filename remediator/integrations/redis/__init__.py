"""Redis servers, alone, behind Sentinel or as a cluster: queue lengths, fail-overs, and keys that are named exactly.

The client library is imported only when a target is used.
"""
