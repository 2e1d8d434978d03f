"""Status pages that speak the API of Atlassian Statuspage: tell customers with ``statuspage.update``."""
