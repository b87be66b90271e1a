"""The demo page and its web server on loopback."""
