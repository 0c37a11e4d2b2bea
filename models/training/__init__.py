"""The training loop, distillation, folds."""
