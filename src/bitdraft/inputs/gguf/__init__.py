"""GGUF files: what they hold, their tokenizers, and files in other formats made of them."""
