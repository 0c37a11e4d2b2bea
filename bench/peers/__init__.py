"""The peers of `bench.serving`: the same model, served as other people would."""
