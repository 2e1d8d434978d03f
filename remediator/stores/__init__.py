"""Adapters of the store's port, one file each; what two of them share stands in files that begin with an underscore."""
