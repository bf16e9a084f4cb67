"""Saying in one dialect what was said in another, where that can be done without loss."""
