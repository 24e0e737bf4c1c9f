"""What an answer may be, as a grammar: from a request's wish to the tokens that may come next. Imports no torch.

In the API process `GrammarCompiler` checks wishes and writes them in llguidance's notation; in the engine process
`MatcherFactory` and `Preparer` make a `Constraint` of that notation for each request, over the model's vocabulary.
"""
