"""Units of systemd that the settings list: look at them and restart them."""
