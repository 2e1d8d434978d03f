"""Kubernetes clusters: look with ``kubernetes.deployment``, scale with ``kubernetes.scale``.

The client library takes more than a second to import, so it is imported only when a target is used.
"""
