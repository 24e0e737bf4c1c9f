"""The HTTP server's old door."""
