"""Checkpoints, tokenizers and texts, checked before anything is measured."""
