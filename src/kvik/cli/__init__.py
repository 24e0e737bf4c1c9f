"""The doors of the command line. Light to import: `kvik --help` must be instant."""
