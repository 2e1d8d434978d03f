"""PostgreSQL servers: who is connected and for how long, named statements, single rows, and backups.

The client library is imported only when a target is used.
"""
