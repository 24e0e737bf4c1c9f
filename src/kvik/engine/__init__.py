"""The engine's loop, and the process around it. Knows requests and steps, never text and never a tensor."""
