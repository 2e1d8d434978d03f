"""Pools of RPC endpoints that a service may use: which of them is well."""
