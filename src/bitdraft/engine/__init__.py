"""Decoding and scoring over token ids; knows no text."""
