"""The demo checkpoint: a tokenizer and two sets of weights, all written by formula."""
