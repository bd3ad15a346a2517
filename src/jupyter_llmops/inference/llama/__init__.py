"""Answers of GGUF files through llama.cpp."""
