"""Pure computation: paths in, paths out."""
