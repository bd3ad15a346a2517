"""Fixtures of several unit tests."""

from model_fixtures import default_model, engine, models_folder, tiny_folder, tiny_gguf

__all__ = ["default_model", "engine", "models_folder", "tiny_folder", "tiny_gguf"]
