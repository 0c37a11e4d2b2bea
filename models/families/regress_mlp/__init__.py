"""Multilayer perceptron on the features."""
