"""Exercises and their checkers, one module for each chapter; made from `nbs/exercises`."""
