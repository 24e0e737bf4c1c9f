"""How messages cross the wall: bytes and sockets. Knows the messages' types and nothing of what they mean."""
