"""`kvik run-batch`: OpenAI batch files through the server's own application, without a socket."""
