"""Keys, what each may do, and which route needs what. Knows no handler."""
