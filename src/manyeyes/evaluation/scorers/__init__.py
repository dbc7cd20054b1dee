"""Metrics as pure functions over text and boxes; no files, no models.

One file per metric: `vqa`, `exact_match`, `pope`, `rec`, and for captions `cider`, `bleu`, `rouge`
and `meteor` (which runs a Java program) on the tokens of `ptb`. Item scores are shares 0..1;
benchmarks turn them into percentages.
"""
