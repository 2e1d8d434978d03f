"""TLS certificates, as servers present them or as they stand in files: when they expire, and renewing them."""
