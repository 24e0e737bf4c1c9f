"""torch.compile of models: graphs for any number of tokens, kept on disk."""
