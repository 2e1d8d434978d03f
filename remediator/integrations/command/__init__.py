"""Programs of this host that the operator has named in the settings: run one with ``command.run``."""
