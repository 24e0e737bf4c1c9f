"""One model on several devices of a machine: who has which part of a tensor, and how the parts are put together."""
