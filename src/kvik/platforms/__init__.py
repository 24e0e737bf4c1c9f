"""What the machine is and has: cores, memory. Asked at the start, never during a step."""
