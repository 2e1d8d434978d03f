"""Services of one Docker Compose project: look at them, restart, recreate, scale, stop, start, and shut all down."""
