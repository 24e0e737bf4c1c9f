"""Routes of the development mode: what operators and developers ask of a running server."""
