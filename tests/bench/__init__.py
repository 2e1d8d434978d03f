"""What the service costs: rates, delays, memory and start-up, measured beside a bare server in the same run."""
