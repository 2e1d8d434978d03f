"""Replicas on one real PostgreSQL beside one real Redis, and everything done to them that can happen to them."""
