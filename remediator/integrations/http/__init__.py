"""Any service with an HTTP API: look with ``http.get``, act with ``http.post``, ``put``, ``patch`` and ``delete``."""
