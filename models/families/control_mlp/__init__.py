"""Multilayer perceptron that imitates a signal controller."""
