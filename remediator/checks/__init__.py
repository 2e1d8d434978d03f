"""Lint of rules that are right but unwise, one check per file; ``check_rules`` in the catalogue's order runs them."""
