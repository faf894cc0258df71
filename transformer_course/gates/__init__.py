"""The checkers of the exercises, made from the chapters."""
