"""The HTTP face: the webhook, the API, health and metrics. It asks the store and the service, and decides nothing."""
