"""The port before the application: a few answers of its own while the engine loads and the server is imported."""
