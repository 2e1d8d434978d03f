"""Mail to people with ``email.send``, handed to one SMTP server."""
