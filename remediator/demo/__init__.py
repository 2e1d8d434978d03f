"""The demonstration: a small real service that gets into trouble, and the stage on which it is put right."""
