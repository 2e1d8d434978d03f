"""The parts of the API server's stand-in: what it keeps, how it patches, who may, and what its controllers do."""
