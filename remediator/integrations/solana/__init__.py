"""Solana: pay a named wallet with ``solana.top_up``, and look at balances, endpoints and transactions."""
