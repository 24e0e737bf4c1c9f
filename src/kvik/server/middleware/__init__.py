"""What is done to every request and response, as plain ASGI: nothing here reads a body or buffers an answer."""
