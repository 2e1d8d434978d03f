"""Processes of Node.js that pm2 keeps running: look at them, restart, scale, stop and start them."""
