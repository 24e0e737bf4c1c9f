"""/v1/responses: conversations as items, with a store, events, and answers made in the background."""
