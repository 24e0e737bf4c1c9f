"""Measuring servers from outside: prompts, a light client, statistics, pictures, child processes. Knows no engine."""
